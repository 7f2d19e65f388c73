-- What must be known of a materialized view at the moment of its refresh, and the statements that carry it out, with
-- names quoted by the server. ``turn`` is whether we have it: of two Afresh processes that refresh one view, each takes
-- the snapshot of its REFRESH, which is a later statement, after it has the turn, and keeps that until its commit.
SELECT
    pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtext('afresh refresh'), m.oid::int8::bit(32)::int) AS turn,
    m.relispopulated AS populated,
    EXISTS (
        SELECT FROM pg_catalog.pg_index i
        WHERE i.indrelid = m.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
            AND i.indpred IS NULL AND i.indexprs IS NULL
    ) AS usable_index,
    pg_catalog.format('REFRESH MATERIALIZED VIEW CONCURRENTLY %I.%I', n.nspname, m.relname) AS concurrently,
    pg_catalog.format('REFRESH MATERIALIZED VIEW %I.%I', n.nspname, m.relname) AS plain
FROM pg_catalog.pg_class m
JOIN pg_catalog.pg_namespace n ON n.oid = m.relnamespace
WHERE m.oid = $1::oid AND m.relkind = 'm'
