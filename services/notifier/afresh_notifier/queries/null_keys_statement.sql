-- The statement that tells which of these columns hold a NULL, with names quoted by the server.
SELECT pg_catalog.format(
    'SELECT pg_catalog.array_remove(ARRAY[%s], NULL) FROM %I.%I',
    (
        SELECT pg_catalog.string_agg(
            pg_catalog.format('CASE WHEN pg_catalog.bool_or(%I IS NULL) THEN %L END', k.name, k.name), ', '
        )
        FROM pg_catalog.unnest($2::text[]) AS k (name)
    ),
    n.nspname, c.relname
)
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = $1::oid
