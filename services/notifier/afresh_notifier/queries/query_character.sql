-- What holds until the end of a query's transaction: settings for policies to read, and the role as which it is run.
SELECT pg_catalog.count(pg_catalog.set_config(s.name, s.value, true))
FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS s (name, value)
