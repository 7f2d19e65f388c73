-- The job was run for the time $2, which took $3 seconds.
UPDATE afresh.jobs
SET due = greatest(due, $2::timestamptz), ran_at = pg_catalog.now(), seconds = $3::double precision, failures = 0, problem = NULL
WHERE name OPERATOR(pg_catalog.=) $1::text
