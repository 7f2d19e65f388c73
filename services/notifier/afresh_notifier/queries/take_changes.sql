-- Take changes out of the log, oldest first, folded to one row a table: those of transactions that were running when the
-- snapshot $1 was taken and have ended since, and those of transactions that have begun since (from the transaction $2 on).
-- What another session is just taking is passed over: if that one fails, a later look finds it. `full`: there may be more.
--
-- Vacuum mostly meets an empty log, so that the planner expects a row or none, and would compare each with each. What is not
-- a join (IS TRUE) is looked up in a hash table whatever is expected, and the bounds keep it to the stretches that were seen.
-- Rows that are locked and never updated stay in their places.
WITH older AS (
    SELECT c.ctid, c.xid
    FROM afresh.change_log AS c
    WHERE
        c.xid = ANY (
            ARRAY(
                SELECT x.xid
                FROM pg_snapshot_xip($1::text::pg_snapshot) AS x (xid)
                WHERE pg_xact_status(x.xid) IS DISTINCT FROM 'in progress'
            )
        )
    ORDER BY c.xid, c.id
    LIMIT $3
    FOR UPDATE SKIP LOCKED
),

newer AS (
    SELECT c.ctid, c.xid
    FROM afresh.change_log AS c
    WHERE c.xid >= greatest(pg_snapshot_xmax($1::text::pg_snapshot), $2::text::xid8)
    ORDER BY c.xid, c.id
    LIMIT $3
    FOR UPDATE SKIP LOCKED
),

taken_older AS (
    DELETE FROM afresh.change_log AS c
    WHERE
        c.xid = ANY (ARRAY(SELECT o.xid FROM older AS o))
        AND (c.ctid IN (SELECT o.ctid FROM older AS o)) IS TRUE
    RETURNING c.*
),

taken_newer AS (
    DELETE FROM afresh.change_log AS c
    WHERE
        c.xid >= greatest(pg_snapshot_xmax($1::text::pg_snapshot), $2::text::xid8)
        AND c.xid <= (SELECT n.xid FROM newer AS n ORDER BY n.xid DESC LIMIT 1)
        AND (c.ctid IN (SELECT n.ctid FROM newer AS n)) IS TRUE
    RETURNING c.*
),

folded AS (
    SELECT
        t.target,
        count(*) AS changes,
        CASE WHEN count(DISTINCT t.keys) <= $4 AND count(t.keys) = count(*) THEN array_agg(DISTINCT t.keys) END AS keys,
        -- When it was committed, where the server tracks that.
        min(
            CASE
                WHEN current_setting('track_commit_timestamp')::boolean THEN pg_xact_commit_timestamp(t.xid::xid)
            END
        ) AS committed_at
    FROM (TABLE taken_older UNION ALL TABLE taken_newer) AS t
    GROUP BY t.target
)

SELECT
    pg_current_snapshot()::text AS snapshot,
    (SELECT n.xid FROM newer AS n ORDER BY n.xid DESC LIMIT 1)::text AS last,
    (SELECT count(*) FROM older) >= $3 OR (SELECT count(*) FROM newer) >= $3 AS "full",
    -- No name: the table was dropped, and what hung on it with it.
    (
        SELECT format('%I.%I', n.nspname, c.relname)
        FROM pg_class AS c
        INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.oid = f.target
    ) AS table_name,
    coalesce(f.changes, 0) AS changes,
    f.keys,
    f.committed_at
FROM (SELECT) AS one_row
LEFT JOIN folded AS f ON true
