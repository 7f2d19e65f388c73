-- Append an invalidation: its offset, what tells the log from others, and a position that covers all that was committed before.
SELECT appended.id, (SELECT e.epoch FROM afresh.log_epoch AS e) AS epoch, pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS lsn
FROM afresh.append_invalidation($1, $2, $3, $4, $5) AS appended (id)
