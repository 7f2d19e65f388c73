SELECT pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtext('afresh refresh'), $1::oid::int8::bit(32)::int)
