-- The jobs $1, each as of now where nobody has heard of it before; of the others, what is known.
INSERT INTO afresh.jobs (name, due)
SELECT n.name, pg_catalog.date_trunc('minute', pg_catalog.now()) FROM pg_catalog.unnest($1::text[]) AS n (name)
ON CONFLICT (name) DO NOTHING
