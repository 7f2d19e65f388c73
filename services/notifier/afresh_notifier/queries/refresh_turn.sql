-- Whether we have the turn at refreshing this view. A statement of its own, before what is asked of the view: of two Afresh
-- processes each looks, and takes the snapshot of its REFRESH, after the other has committed.
SELECT pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtext('afresh refresh'), $1::oid::int8::bit(32)::int)
