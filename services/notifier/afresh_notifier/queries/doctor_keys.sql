-- The keys that changes of a table carry, beside those that are wanted, and the statement that makes them so.
SELECT
    w.table_name AS name,
    w.level,
    w.keys,
    pg_catalog.format('SELECT afresh.watch(%L, %L);', w.root, wanted.keys) AS mend
FROM unnest($1::text[], $2::text[]) AS wanted (name, keys)
JOIN afresh.watched AS w ON w.table_name = wanted.name
WHERE NOT (w.keys @> wanted.keys::text[] AND w.keys <@ wanted.keys::text[])
ORDER BY w.table_name
