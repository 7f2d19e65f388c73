-- The relations that names mean, as SQL would read them with `public` as the search path; a name that means nothing, or
-- something that we may not look into, is no error.
SELECT
    asked.name AS asked,
    CASE WHEN c.oid IS NOT NULL THEN pg_catalog.format('%I.%I', n.nspname, c.relname) END AS name,
    c.relkind::text AS kind,
    c.oid
FROM pg_catalog.unnest($1::text[]) AS asked (name)
CROSS JOIN LATERAL pg_catalog.parse_ident(asked.name) AS part (names)
LEFT JOIN pg_catalog.pg_namespace n
    ON n.nspname = CASE WHEN pg_catalog.cardinality(part.names) > 1 THEN part.names[1] ELSE 'public' END
LEFT JOIN pg_catalog.pg_class c
    ON c.relnamespace = n.oid AND c.relname = part.names[pg_catalog.cardinality(part.names)]
