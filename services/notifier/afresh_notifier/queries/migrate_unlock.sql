SELECT pg_catalog.pg_advisory_unlock(pg_catalog.hashtext('afresh migrate'), 1)
