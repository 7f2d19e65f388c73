DELETE FROM afresh.embedding_queue AS q WHERE q.id = ANY ($1::bigint[])
