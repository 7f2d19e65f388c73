-- Fold some of the oldest changes to one row a table, keys unknown; those that transactions since $1 wrote are left. How
-- they are deleted: see `take_changes`.
WITH seen AS (
    SELECT c.ctid, c.xid
    FROM afresh.change_log AS c
    WHERE c.xid < $1::text::xid8
    ORDER BY c.xid, c.id
    LIMIT $2
    FOR UPDATE SKIP LOCKED
),

taken AS (
    DELETE FROM afresh.change_log AS c
    WHERE
        c.xid <= (SELECT s.xid FROM seen AS s ORDER BY s.xid DESC LIMIT 1)
        AND (c.ctid IN (SELECT s.ctid FROM seen AS s)) IS TRUE
    RETURNING c.*
),

folded AS (
    INSERT INTO afresh.change_log (at, target, operation, rows)
    SELECT min(t.at), t.target, 'UPDATE', sum(t.rows)::bigint
    FROM taken AS t
    WHERE EXISTS (SELECT FROM pg_class AS c WHERE c.oid = t.target)
    GROUP BY t.target
    RETURNING target
)

SELECT (SELECT count(*) FROM taken) AS taken, (SELECT count(*) FROM folded) AS folded
