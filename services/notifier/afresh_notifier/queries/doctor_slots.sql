-- Replication slots that nobody reads and for which the server keeps its write-ahead log.
SELECT
    s.slot_name::text AS name,
    pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.restart_lsn)::int8 AS retained,
    pg_catalog.pg_size_pretty(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.restart_lsn)) AS size,
    pg_catalog.format('SELECT pg_drop_replication_slot(%L);', s.slot_name) AS drop_slot
FROM pg_catalog.pg_replication_slots AS s
WHERE NOT s.active AND s.restart_lsn IS NOT NULL
    AND pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.restart_lsn) >= $1::int8
ORDER BY s.slot_name
