-- Where autovacuum is at work on the relation $1, wait $2 ms longer for its lock than `deadlock_timeout`: to whoever has
-- waited that long it gives way (a server where that is very long is not waited for). Of other roles' sessions we may not see what they are, but only autovacuum's have no user.
SELECT pg_catalog.set_config('lock_timeout', (s.setting::integer + $2)::text, true)
FROM pg_catalog.pg_settings AS s
WHERE s.name = 'deadlock_timeout' AND s.setting::integer <= 10000 AND EXISTS (
    SELECT FROM pg_catalog.pg_locks AS l
    JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.granted AND l.relation = $1 AND a.usesysid IS NULL
        AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())
)
