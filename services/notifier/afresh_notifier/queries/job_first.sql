-- The jobs $1 where there is nothing known of them: as they were last seen ($2), or, never heard of before, as of now.
INSERT INTO afresh.jobs (name, due)
SELECT n.name, coalesce(n.due, pg_catalog.date_trunc('minute', pg_catalog.now()))
FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::timestamptz[])) AS n (name, due)
ON CONFLICT (name) DO NOTHING
