-- Take in hand at most $3 rows of the tables $1 whose texts in the column $2 wait for embeddings, for $4 seconds.
WITH due AS (
    SELECT q.id
    FROM afresh.embedding_queue AS q
    WHERE q.target = ANY ($1::oid[]) AND q.text_column = $2::text AND q.not_before <= now()
    ORDER BY q.id
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)
UPDATE afresh.embedding_queue AS q
SET not_before = now() + $4::double precision * interval '1 second'
FROM due
WHERE q.id = due.id
RETURNING q.id, q.key::text AS key, q.failures
