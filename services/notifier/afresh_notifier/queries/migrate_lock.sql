SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtext('afresh migrate'), 1)
