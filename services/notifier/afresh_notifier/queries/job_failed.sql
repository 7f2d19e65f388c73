-- The job failed, for the reason $2; it is still due.
UPDATE afresh.jobs
SET failures = failures OPERATOR(pg_catalog.+) 1, problem = $2::text
WHERE name OPERATOR(pg_catalog.=) $1::text
