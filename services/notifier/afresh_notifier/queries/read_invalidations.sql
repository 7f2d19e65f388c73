-- The invalidations after an offset, the newest $2 of them, with what tells the log from others. The position is one that
-- covers them all, since it is asked for when they can be seen. At least one row.
SELECT
    concat_ws(
        '-',
        to_hex((SELECT c.system_identifier FROM pg_control_system() AS c)),
        ltrim(substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8), '0'),
        (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()),
        left((SELECT i.incarnation FROM afresh.log_identity AS i)::text, 8)
    ) AS epoch,
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
