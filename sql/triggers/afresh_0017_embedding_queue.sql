-- The rows whose text has changed since their embedding was made
-- depends: afresh_0016_jobs

-- migrate: apply

-- A row is put in by a trigger, in the writer's transaction, and taken out in the one that stores the embedding, which
-- looks whether the text is still the one that was embedded. Whoever takes rows in hand moves `not_before` on, so that
-- others leave them alone for as long; should he die, they are due again. One row of a table can be here several times.
CREATE TABLE afresh.embedding_queue (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    target regclass NOT NULL,
    text_column text NOT NULL,
    key jsonb NOT NULL,
    at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    failures integer NOT NULL DEFAULT 0,
    problem text
)
WITH (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);

CREATE INDEX embedding_queue_due ON afresh.embedding_queue (target, text_column, id);

COMMENT ON TABLE afresh.embedding_queue IS
    'Rows that wait for the embedding of their text; see afresh.watch_embedding.';
COMMENT ON SEQUENCE afresh.embedding_queue_id_seq IS
    'Numbers the rows of afresh.embedding_queue.';
COMMENT ON COLUMN afresh.embedding_queue.key IS
    'The primary key of the row, as a JSON object.';
COMMENT ON COLUMN afresh.embedding_queue.not_before IS
    'Not to be taken in hand before this moment: somebody has it, or it has failed.';

-- The trigger runs with the writer's rights. He may name a row, and no more; what he could name falsely is embedded once
-- too often.
GRANT INSERT (target, text_column, key) ON afresh.embedding_queue TO public;

-- migrate: rollback

DROP TABLE afresh.embedding_queue;
