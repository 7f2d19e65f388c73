-- Whether there is anything to take; `horizon` is that of `take_changes`. The first in order, and not any: for any one the
-- planner would walk through the table, past all that is deleted and cannot be vacuumed yet.
SELECT
    (
        SELECT c.id
        FROM afresh.change_log AS c
        WHERE c.xid >= $1::text::xid8
        ORDER BY c.xid, c.id
        LIMIT 1
    ) IS NOT NULL AS something,
    pg_snapshot_xmin(pg_current_snapshot())::text AS horizon
