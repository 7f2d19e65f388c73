-- How many changes there are, and which transaction is the first of those that are left alone.
SELECT
    pg_snapshot_xmin(pg_current_snapshot())::text AS horizon,
    (SELECT count(*) FROM afresh.change_log) AS changes,
    pg_total_relation_size('afresh.change_log') AS bytes
