SELECT
    asked.name AS asked,
    CASE WHEN c.oid IS NOT NULL THEN pg_catalog.format('%I.%I', n.nspname, c.relname) END AS name,
    c.relkind::text AS kind
FROM pg_catalog.unnest($1::text[]) AS asked (name)
LEFT JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(asked.name)
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
