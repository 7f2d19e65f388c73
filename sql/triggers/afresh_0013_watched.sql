-- The list of what is watched
-- depends: afresh_0012_missing_triggers

-- migrate: apply

CREATE VIEW afresh.watched AS
-- Downwards from the roots of what was made by hand: does each member tell of INSERT, UPDATE and DELETE?
WITH RECURSIVE handmade (root, relid) AS (
    SELECT r.root, r.root::pg_catalog.oid
    FROM afresh.roots AS r
    WHERE NOT r.by_watch
    UNION
    SELECT h.root, i.inhrelid
    FROM handmade AS h
    INNER JOIN pg_catalog.pg_inherits AS i ON i.inhparent = h.relid
),

incomplete (root) AS (
    SELECT m.root
    FROM afresh.missing_triggers() AS m
    UNION
    SELECT h.root
    FROM handmade AS h
    INNER JOIN pg_catalog.pg_class AS c ON c.oid = h.relid AND c.relkind IN ('r', 'p')
    CROSS JOIN (VALUES ('INSERT'), ('UPDATE'), ('DELETE')) AS o (operation)
    WHERE
        NOT EXISTS (
            SELECT
            FROM afresh.triggers AS t
            WHERE
                t.target = h.relid
                AND o.operation = ANY (t.operations)
                AND t.unconditional
                AND t.enabled IN ('O', 'A')
        )
)

SELECT
    pg_catalog.format('%I.%I', n.nspname, c.relname) AS table_name,
    r.target,
    r.keys,
    -- A table of which even one trigger notifies can be missed: made by hand, or what a subscription writes.
    CASE
        WHEN EXISTS (
            SELECT FROM afresh.triggers AS t WHERE t.target = r.target AND (t.capture = 'notify' OR t.level = 'row')
        ) THEN 'notify'
        ELSE 'log'
    END AS capture,
    r.level,
    r.root,
    i.root IS NULL AS complete
FROM afresh.roots AS r
INNER JOIN pg_catalog.pg_class AS c ON c.oid = r.target
INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN incomplete AS i ON i.root = r.root;

COMMENT ON VIEW afresh.watched IS
    'Every table that tells Afresh of its changes: by afresh.watch or by a trigger made by hand.';
COMMENT ON COLUMN afresh.watched.table_name IS
    'Schema and name, quoted where they need it: as in the messages.';
COMMENT ON COLUMN afresh.watched.target IS
    'The table.';
COMMENT ON COLUMN afresh.watched.keys IS
    'The columns whose values go into the messages; empty for triggers made by hand.';
COMMENT ON COLUMN afresh.watched.capture IS
    'How a change is captured: log (a row in afresh.change_log, which outlives everything) or notify (the message itself carries it; what nobody hears is lost, and made good by refreshing all).';
COMMENT ON COLUMN afresh.watched.level IS
    'statement: one message for a statement; row: a trigger made by hand, one message for a table, operation and transaction.';
COMMENT ON COLUMN afresh.watched.root IS
    'The topmost table of its partition or inheritance tree that is watched in the same way: it is this one that afresh.watch and afresh.unwatch take.';
COMMENT ON COLUMN afresh.watched.complete IS
    'Whether every table of the root''s tree has all its triggers, and they are enabled; if not, call afresh.watch again with the same arguments. For triggers made by hand: whether INSERT, UPDATE and DELETE of every table of the tree are told (TRUNCATE takes a statement trigger).';

GRANT SELECT ON afresh.watched TO public;

-- migrate: rollback

DROP VIEW afresh.watched;
