SELECT pg_catalog.to_regtype($1::text)::oid
