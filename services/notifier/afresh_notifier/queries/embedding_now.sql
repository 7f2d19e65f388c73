-- Whatever has failed of the tables $1 and their texts in $2 may be tried again at once.
UPDATE afresh.embedding_queue AS q SET not_before = now()
WHERE q.target = ANY ($1::oid[]) AND q.text_column = $2::text AND q.problem IS NOT NULL AND q.not_before > now()
