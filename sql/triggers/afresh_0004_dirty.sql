-- The views that lack a change
-- depends: afresh_0003_bell

-- migrate: apply

CREATE SEQUENCE afresh.generation;

COMMENT ON SEQUENCE afresh.generation IS
    'Numbers the marks in afresh.dirty.';

-- One row for a view and a slot. Whoever takes changes out of the log puts a mark here in the same transaction; a refresh
-- reads the marks of its view before its snapshot is taken, and removes, in its own transaction, exactly those whose
-- generation is still the one it read. Each mark draws a new generation: so a change that arrives during a refresh stays.
-- The slots keep apart what the refresh in flight will make good and what came after it began, and the marks of one leader
-- from those of the next: so none waits for a lock that another holds, frozen.
CREATE TABLE afresh.dirty (
    view_name text NOT NULL,
    slot int NOT NULL,
    generation bigint NOT NULL DEFAULT pg_catalog.nextval('afresh.generation'),
    tables text [] NOT NULL,
    keys jsonb,
    since timestamptz NOT NULL,
    PRIMARY KEY (view_name, slot)
)
-- Rows are changed in place, often.
WITH (fillfactor = 30, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);

ALTER SEQUENCE afresh.generation OWNED BY afresh.dirty.generation;

COMMENT ON TABLE afresh.dirty IS
    'Views that lack a change which the service has taken out of afresh.change_log.';
COMMENT ON COLUMN afresh.dirty.tables IS
    'The tables that changed.';
COMMENT ON COLUMN afresh.dirty.keys IS
    'The keys of the changes, as a JSON array of objects; NULL means unknown: all.';
COMMENT ON COLUMN afresh.dirty.since IS
    'When the oldest of these changes was heard of.';

-- migrate: rollback

DROP TABLE afresh.dirty;
