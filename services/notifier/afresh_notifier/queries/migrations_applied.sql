-- What pogo-migrate has written down: which migrations of which scope are in this database.
SELECT schema_name AS ledger, migration_id AS migration
FROM public._pogo_migration
ORDER BY schema_name, migration_id
