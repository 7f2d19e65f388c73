-- Take changes out of the log, oldest first, folded to one row a table. What another session is just taking is passed over:
-- if that one fails, a later look finds it. `horizon`: whatever was written by an older transaction has been seen by this
-- look, or is gone. `full`: there may be more.
--
-- Vacuum mostly meets an empty log, so that the planner expects a row or none, and would compare each with each. What is not
-- a join (IS TRUE) is looked up in a hash table whatever is expected, and the bounds keep it to the stretch that was seen.
-- Rows that are locked and never updated stay in their places.
WITH seen AS (
    SELECT c.ctid, c.xid
    FROM afresh.change_log AS c
    WHERE c.xid >= $1::text::xid8
    ORDER BY c.xid, c.id
    LIMIT $2
    FOR UPDATE SKIP LOCKED
),

taken AS (
    DELETE FROM afresh.change_log AS c
    WHERE
        c.xid >= $1::text::xid8
        AND c.xid <= (SELECT s.xid FROM seen AS s ORDER BY s.xid DESC LIMIT 1)
        AND (c.ctid IN (SELECT s.ctid FROM seen AS s)) IS TRUE
    RETURNING c.*
),

folded AS (
    SELECT
        t.target,
        count(*) AS changes,
        max(t.operation) AS operation,
        CASE WHEN count(DISTINCT t.keys) <= $3 AND count(t.keys) = count(*) THEN array_agg(DISTINCT t.keys) END AS keys,
        -- When it was committed, where the server tracks that.
        min(
            CASE
                WHEN current_setting('track_commit_timestamp')::boolean THEN pg_xact_commit_timestamp(t.xid::xid)
            END
        ) AS committed_at
    FROM taken AS t
    GROUP BY t.target
)

SELECT
    pg_snapshot_xmin(pg_current_snapshot())::text AS horizon,
    (SELECT count(*) FROM seen) >= $2 AS "full",
    -- No name: the table was dropped, and what hung on it with it.
    (
        SELECT format('%I.%I', n.nspname, c.relname)
        FROM pg_class AS c
        INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.oid = f.target
    ) AS table_name,
    coalesce(f.changes, 0) AS changes,
    f.operation,
    f.keys,
    f.committed_at
FROM (SELECT) AS one_row
LEFT JOIN folded AS f ON true
