SELECT
    pg_catalog.current_setting('server_version_num')::int AS version,
    pg_catalog.pg_is_in_recovery() AS standby,
    pg_catalog.to_regprocedure('public.notify_event_refresh()') IS NOT NULL
        AND pg_catalog.to_regprocedure('afresh.watch(regclass,text[],text)') IS NOT NULL AS installed,
    EXISTS (
        SELECT FROM pg_catalog.pg_event_trigger
        WHERE evtname = 'afresh_catalogue_change' AND evtenabled IN ('O', 'A')
    ) AS event_trigger
