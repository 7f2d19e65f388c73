-- The log into which writers put their changes
-- depends: afresh_0001_schema

-- migrate: apply

-- A row is written by the trigger, in the writer's transaction: it commits or rolls back with the change it tells of.
-- The leader takes rows out, by DELETE ... RETURNING. It never asks for ids above the last one it saw: ids are drawn
-- before commits, so a lower one may come into sight later. It asks for the transactions that were running when it last
-- looked, and those that have begun since, which skips what was taken but cannot be vacuumed yet.
CREATE TABLE afresh.change_log (
    xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    target regclass NOT NULL,
    operation text NOT NULL,
    keys text,
    rows bigint,
    PRIMARY KEY (xid, id)
)
WITH (
    -- Rows live for milliseconds. Vacuum comes by number of dead rows, not by share of a table that is empty in between,
    -- and does not pause: it has little to do as long as it comes often.
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = -1,
    autovacuum_vacuum_cost_delay = 0,
    -- Statistics of a table that is empty whenever one looks help nobody.
    autovacuum_analyze_threshold = 2147483647,
    -- Giving pages back at the end takes a lock that stops every writer; they are used again anyway. afresh compact
    -- gives them back.
    vacuum_truncate = off
);

COMMENT ON TABLE afresh.change_log IS
    'Committed changes that the service has not taken yet; empty but for moments while it runs. The command afresh compact folds what has piled up to one row a table.';
COMMENT ON SEQUENCE afresh.change_log_id_seq IS
    'Numbers the rows of afresh.change_log.';
COMMENT ON COLUMN afresh.change_log.at IS
    'When the writer''s transaction began.';
COMMENT ON COLUMN afresh.change_log.keys IS
    'The keys of the rows, as a JSON array of objects; NULL means unknown: all.';
COMMENT ON COLUMN afresh.change_log.rows IS
    'How many rows the statement touched; NULL where nobody had to count them.';

-- The trigger runs with the writer's rights. A writer may add a change under his own transaction's number, and no more:
-- not read, not remove, not choose a number. (What he could say falsely, he could say by NOTIFY as well, and it costs a
-- refresh.)
GRANT INSERT (target, operation, keys, rows) ON afresh.change_log TO public;

-- migrate: rollback

DROP TABLE afresh.change_log;
