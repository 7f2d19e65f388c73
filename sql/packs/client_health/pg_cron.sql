-- A schedule for pg_cron: both summaries, every five minutes. Optional, and no part of the migrations.
--
-- Afresh needs none of this: it refreshes the summaries when a table changes, and every five minutes besides (`every` in
-- pack.toml). This is for databases that are to be refreshed while no Afresh is running, or whose operators want all
-- schedules in one place. With both, `afresh doctor` says that the same view is refreshed twice.
--
--     psql -1 -v ON_ERROR_STOP=1 -f pg_cron.sql mydatabase
--
-- in the database that pg_cron works in (its setting cron.database_name), as a role that may refresh the summaries. It
-- may be run again: a job of the same name and user is replaced. To take the schedule away:
--
--     SELECT cron.unschedule('refresh_client_health_summary');
--     SELECT cron.unschedule('refresh_event_compliance_summary');
--
-- To see how the runs went:
--
--     SELECT j.jobname, r.status, r.return_message, r.start_time, r.end_time
--     FROM cron.job AS j JOIN cron.job_run_details AS r USING (jobid)
--     WHERE j.jobname LIKE 'refresh_%' ORDER BY r.start_time DESC LIMIT 10;

DO $$
DECLARE
    view_name text;
BEGIN
    IF to_regnamespace('cron') IS NULL
        AND EXISTS (SELECT FROM pg_catalog.pg_available_extensions AS e WHERE e.name = 'pg_cron')
    THEN
        CREATE EXTENSION pg_cron;
    END IF;
    -- Before version 1.4 a job's name was of type name.
    IF to_regprocedure('cron.schedule(text, text, text)') IS NULL
        AND to_regprocedure('cron.schedule(name, text, text)') IS NULL
    THEN
        RAISE EXCEPTION 'pg_cron is not installed in the database %, so nothing was scheduled', current_database()
            USING ERRCODE = 'feature_not_supported',
            HINT = 'Afresh refreshes both summaries every five minutes without it. If you want pg_cron all the same: '
                || 'install it on the server (1.3 or later), add it to shared_preload_libraries, set '
                || 'cron.database_name to this database, restart, CREATE EXTENSION pg_cron, and run this again.';
    END IF;

    FOREACH view_name IN ARRAY ARRAY['client_health_summary', 'event_compliance_summary'] LOOP
        IF to_regclass('public.' || view_name) IS NULL THEN
            RAISE EXCEPTION 'there is no view public.% to schedule', view_name
                USING ERRCODE = 'undefined_table', HINT = 'First: afresh migrate up --pack client_health';
        END IF;
        PERFORM cron.schedule(
            'refresh_' || view_name,
            '*/5 * * * *',
            format('REFRESH MATERIALIZED VIEW CONCURRENTLY public.%I', view_name)
        );
    END LOOP;
END
$$;
