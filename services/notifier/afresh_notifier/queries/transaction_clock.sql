-- When this transaction began, and what time it is.
SELECT pg_catalog.now() AS began, pg_catalog.clock_timestamp() AS now
