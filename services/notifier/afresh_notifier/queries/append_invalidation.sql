SELECT afresh.append_invalidation($1, $2, $3, $4, $5)
