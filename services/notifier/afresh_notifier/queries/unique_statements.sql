-- The statements that look for a key in a relation's rows, with names quoted by the server.
SELECT
    pg_catalog.format(
        'SELECT pg_catalog.count(*) AS rows, ARRAY[%s]::pg_catalog.int8[] AS filled FROM %I.%I',
        (
            SELECT pg_catalog.string_agg(pg_catalog.format('pg_catalog.count(%I)', k.name), ', ' ORDER BY k.n)
            FROM pg_catalog.unnest($2::text[]) WITH ORDINALITY AS k (name, n)
        ),
        n.nspname, c.relname
    ) AS count_filled,
    pg_catalog.format(
        'SELECT NOT EXISTS (SELECT FROM %I.%I GROUP BY %s HAVING pg_catalog.count(*) > 1)', n.nspname, c.relname, k.list
    ) AS is_unique,
    pg_catalog.format(
        'SELECT EXISTS (SELECT FROM %I.%I AS r GROUP BY ROW(r.*)::pg_catalog.text HAVING pg_catalog.count(*) > 1)',
        n.nspname, c.relname
    ) AS repeats_rows,
    pg_catalog.format('CREATE UNIQUE INDEX ON %I.%I (%s);', n.nspname, c.relname, k.list) AS create_index
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT pg_catalog.string_agg(pg_catalog.quote_ident(k.name), ', ' ORDER BY k.n) AS list
    FROM pg_catalog.unnest($2::text[]) WITH ORDINALITY AS k (name, n)
) AS k
WHERE c.oid = $1::oid
