SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE t.tgfoid = pg_catalog.to_regprocedure('public.notify_event_refresh()')
ORDER BY 1
