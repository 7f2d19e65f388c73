-- How many rows of the tables $1 wait for embeddings of their texts in $2, counted up to $3; and of these, how many have
-- failed, and of one the reason.
SELECT count(*) AS rows, count(w.problem) AS failed, min(w.problem) AS problem
FROM (
    SELECT q.problem
    FROM afresh.embedding_queue AS q
    WHERE q.target = ANY ($1::oid[]) AND q.text_column = $2::text
    LIMIT $3::bigint
) AS w
