-- What must be known of a materialized view at the moment of its refresh, and the statements that carry it out, with
-- names quoted by the server. The search path is for functions that a view calls and that do not qualify what they name;
-- from PostgreSQL 17 on a refresh has one of its own.
SELECT
    m.relispopulated AS populated,
    EXISTS (
        SELECT FROM pg_catalog.pg_index i
        WHERE i.indrelid = m.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
            AND i.indpred IS NULL AND i.indexprs IS NULL
    ) AS usable_index,
    pg_catalog.format(
        'SET LOCAL search_path = public; REFRESH MATERIALIZED VIEW CONCURRENTLY %I.%I', n.nspname, m.relname
    ) AS concurrently,
    pg_catalog.format('SET LOCAL search_path = public; REFRESH MATERIALIZED VIEW %I.%I', n.nspname, m.relname) AS plain
FROM pg_catalog.pg_class m
JOIN pg_catalog.pg_namespace n ON n.oid = m.relnamespace
WHERE m.oid = $1::oid AND m.relkind = 'm'
