-- What the service knew when it last looked
-- depends: afresh_0006_lease

-- migrate: apply

-- Views that were made, redefined or watched anew while no instance was running, and patterns that the settings changed
-- in between, are found by comparing with this.
CREATE TABLE afresh.known (
    kind text NOT NULL CHECK (kind IN ('view', 'table')),
    name text NOT NULL,
    state text NOT NULL,
    PRIMARY KEY (kind, name)
);

COMMENT ON TABLE afresh.known IS
    'The views and tables that the service has dealt with, as they were then; what differs is refreshed, or told.';

-- migrate: rollback

DROP TABLE afresh.known;
