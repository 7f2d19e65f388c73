-- Which instance leads
-- depends: afresh_0005_invalidation_log

-- migrate: apply

-- One row a term; the highest term counts, until it expires by this server's clock. Whoever takes over adds a row, and
-- so waits for no lock that the old leader's session may hold, frozen or behind a dead network.
CREATE TABLE afresh.lease (
    term bigint PRIMARY KEY,
    holder text NOT NULL,
    expires timestamptz NOT NULL
)
WITH (fillfactor = 30, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);

COMMENT ON TABLE afresh.lease IS
    'The instances that led, by term; the newest leads until its lease expires, and renews it each second.';

-- migrate: rollback

DROP TABLE afresh.lease;
