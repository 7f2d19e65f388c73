-- What a person may have meant who misspelt a table or a view.
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind::text = ANY ($1::text[])
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'afresh')
    AND n.nspname !~ '^pg_(toast|temp)'
ORDER BY 1
