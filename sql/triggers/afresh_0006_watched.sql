-- The list of what is watched
-- depends: afresh_0005_missing_triggers

-- migrate: apply

CREATE VIEW afresh.watched AS
WITH RECURSIVE told AS (
    -- One row a table. What afresh.watch made counts before what somebody made by hand.
    SELECT DISTINCT ON (t.target)
        t.target,
        t.by_watch,
        t.keys,
        t.level
    FROM afresh.triggers AS t
    ORDER BY t.target, t.by_watch DESC, t.level DESC, t.trigger_name
),

-- Upwards from every such table.
lineage (target, ancestor, distance) AS (
    SELECT t.target, t.target::pg_catalog.oid, 0
    FROM told AS t
    UNION ALL
    SELECT l.target, i.inhparent, l.distance + 1
    FROM lineage AS l
    INNER JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = l.ancestor
),

-- The topmost table above it that tells in the same way; afresh.covering_watch has the same order.
rooted AS (
    SELECT DISTINCT ON (t.target)
        t.target,
        t.by_watch,
        t.keys,
        t.level,
        r.target AS root,
        r.keys AS root_keys
    FROM told AS t
    INNER JOIN lineage AS l ON l.target = t.target
    INNER JOIN told AS r ON r.target = l.ancestor AND r.by_watch = t.by_watch
    ORDER BY t.target, l.distance DESC, l.ancestor
),

-- Downwards from the roots of what was made by hand: does each member tell of INSERT, UPDATE and DELETE?
handmade (root, relid) AS (
    SELECT DISTINCT r.root, r.root::pg_catalog.oid
    FROM rooted AS r
    WHERE NOT r.by_watch
    UNION
    SELECT h.root, i.inhrelid
    FROM handmade AS h
    INNER JOIN pg_catalog.pg_inherits AS i ON i.inhparent = h.relid
),

roots AS (
    SELECT
        r.root,
        r.by_watch,
        CASE
            WHEN r.by_watch
                THEN NOT EXISTS (
                    SELECT FROM afresh.missing_triggers(r.root, r.root_keys)
                )
            ELSE NOT EXISTS (
                SELECT
                FROM handmade AS h
                INNER JOIN pg_catalog.pg_class AS c ON c.oid = h.relid AND c.relkind IN ('r', 'p')
                CROSS JOIN (VALUES ('INSERT'), ('UPDATE'), ('DELETE')) AS o (operation)
                WHERE
                    h.root = r.root
                    AND NOT EXISTS (
                        SELECT
                        FROM afresh.triggers AS t
                        WHERE
                            t.target = h.relid
                            AND o.operation = ANY (t.operations)
                            AND t.unconditional
                            AND t.enabled IN ('O', 'A')
                    )
            )
        END AS complete
    FROM (SELECT DISTINCT d.root, d.by_watch, d.root_keys FROM rooted AS d) AS r
)

SELECT
    pg_catalog.format('%I.%I', n.nspname, c.relname) AS table_name,
    r.target,
    r.keys,
    'notify'::pg_catalog.text AS capture,
    r.level,
    r.root,
    s.complete
FROM rooted AS r
INNER JOIN roots AS s ON s.root = r.root AND s.by_watch = r.by_watch
INNER JOIN pg_catalog.pg_class AS c ON c.oid = r.target
INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace;

COMMENT ON VIEW afresh.watched IS
    'Every table that tells Afresh of its changes: by afresh.watch or by a trigger made by hand.';
COMMENT ON COLUMN afresh.watched.table_name IS
    'Schema and name, quoted where they need it: as in the messages.';
COMMENT ON COLUMN afresh.watched.target IS
    'The table.';
COMMENT ON COLUMN afresh.watched.keys IS
    'The columns whose values go into the messages; empty for triggers made by hand.';
COMMENT ON COLUMN afresh.watched.capture IS
    'How a change is captured: notify (the message itself carries it).';
COMMENT ON COLUMN afresh.watched.level IS
    'statement: one message for a statement; row: a trigger made by hand, one message for a table, operation and transaction.';
COMMENT ON COLUMN afresh.watched.root IS
    'The topmost table of its partition or inheritance tree that is watched in the same way: it is this one that afresh.watch and afresh.unwatch take.';
COMMENT ON COLUMN afresh.watched.complete IS
    'Whether every table of the root''s tree has all its triggers, and they are enabled; if not, call afresh.watch(root, keys) again. For triggers made by hand: whether INSERT, UPDATE and DELETE of every table of the tree are told (TRUNCATE takes a statement trigger).';

GRANT SELECT ON afresh.watched TO public;

-- migrate: rollback

DROP VIEW afresh.watched;
