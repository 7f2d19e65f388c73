-- When each job was run last
-- depends: afresh_0015_notify_catalogue_change

-- migrate: apply

-- A job is run in a transaction that locks its row, skips it where another one has it, and moves `due` on: so of two
-- leaders one runs it, and a crash undoes the job and its row alike.
CREATE TABLE afresh.jobs (
    name text PRIMARY KEY,
    due timestamptz NOT NULL,
    ran_at timestamptz,
    seconds double precision,
    failures integer NOT NULL DEFAULT 0,
    problem text
);

COMMENT ON TABLE afresh.jobs IS
    'The jobs of the settings and the packs: for which of its times each was run last, and what became of that.';
COMMENT ON COLUMN afresh.jobs.due IS
    'The newest time of its schedule for which it was run; at first, when it was first heard of.';
COMMENT ON COLUMN afresh.jobs.failures IS
    'How often it has failed in a row.';

-- migrate: rollback

DROP TABLE afresh.jobs;
