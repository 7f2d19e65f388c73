SELECT j.jobid, j.schedule, j.command, pg_catalog.format('SELECT cron.unschedule(%s);', j.jobid) AS unschedule
FROM cron.job AS j
WHERE j.active AND j.command ~* 'refresh\s+materialized\s+view'
ORDER BY j.jobid
