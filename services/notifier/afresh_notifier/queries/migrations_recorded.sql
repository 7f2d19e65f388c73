-- Whether anything was ever migrated here, in the form that is read now.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_attribute
    WHERE attrelid = pg_catalog.to_regclass('public._pogo_migration') AND attname = 'schema_name' AND NOT attisdropped
)
