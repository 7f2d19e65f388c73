-- Whether there is anything to take: see `take_changes`. The first in order, and not any: for any one the planner would walk
-- through the table, past all that is deleted and cannot be vacuumed yet.
SELECT
    (
        SELECT c.id
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
        LIMIT 1
    ) IS NOT NULL
    OR (
        SELECT c.id
        FROM afresh.change_log AS c
        WHERE c.xid >= greatest(pg_snapshot_xmax($1::text::pg_snapshot), $2::text::xid8)
        ORDER BY c.xid, c.id
        LIMIT 1
    ) IS NOT NULL AS something,
    pg_current_snapshot()::text AS snapshot
