-- How many rows of the tables $1 wait for embeddings of their texts in $2, at most 10,000; and of these, how many have failed.
SELECT count(*) AS rows, count(w.problem) AS failed, min(w.problem) AS problem
FROM (
    SELECT q.problem
    FROM afresh.embedding_queue AS q
    WHERE q.target = ANY ($1::oid[]) AND q.text_column = $2::text
    LIMIT 10000
) AS w
