-- The invalidations after an offset, the newest $2 of them, with what tells the log from others. The position is one that
-- covers them all, since it is asked for when they can be seen. At least one row.
SELECT
    (SELECT e.epoch FROM afresh.log_epoch AS e) AS epoch,
    pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS lsn,
    newest.id AS newest,
    l.id,
    l.patterns,
    l.tables,
    l.views,
    l.reason,
    l.at,
    extract(EPOCH FROM clock_timestamp() - l.written)::float8 AS age
FROM (SELECT coalesce(max(i.id), 0) AS id FROM afresh.invalidation_log AS i) AS newest
LEFT JOIN afresh.invalidation_log AS l ON l.id > greatest($1, newest.id - $2)
ORDER BY l.id
