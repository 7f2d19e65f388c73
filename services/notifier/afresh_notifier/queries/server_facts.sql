SELECT
    pg_catalog.current_setting('server_version_num')::int AS version,
    pg_catalog.pg_is_in_recovery() AS standby,
    pg_catalog.to_regprocedure('public.notify_event_refresh()') IS NOT NULL
        AND pg_catalog.to_regprocedure('afresh.watch(regclass,text[],text)') IS NOT NULL AS installed,
    -- Whether we may do with Afresh's own tables what serving takes; false where they are not there.
    coalesce(
        (
            SELECT pg_catalog.bool_and(
                pg_catalog.has_table_privilege(t.oid, 'SELECT') AND pg_catalog.has_table_privilege(t.oid, 'DELETE')
            )
            FROM pg_catalog.pg_class AS t
            WHERE t.oid IN (
                pg_catalog.to_regclass('afresh.change_log'),
                pg_catalog.to_regclass('afresh.dirty'),
                pg_catalog.to_regclass('afresh.invalidation_log'),
                pg_catalog.to_regclass('afresh.lease'),
                pg_catalog.to_regclass('afresh.known')
            )
        ),
        false
    ) AS allowed,
    CURRENT_USER::text AS role,
    EXISTS (
        SELECT FROM pg_catalog.pg_event_trigger
        WHERE evtname = 'afresh_catalogue_change' AND evtenabled IN ('O', 'A')
    ) AS event_trigger
