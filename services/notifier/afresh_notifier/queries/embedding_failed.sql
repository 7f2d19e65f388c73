-- The rows $1 wait again, for $2 seconds, for the reason $3, which is $4 failures of theirs.
UPDATE afresh.embedding_queue AS q
SET not_before = now() + $2::double precision * interval '1 second', failures = q.failures + $4::integer, problem = $3::text
WHERE q.id = ANY ($1::bigint[])
