-- Every table that tells of its changes, and the top of its tree
-- depends: afresh_0010_covering_watch

-- migrate: apply

CREATE VIEW afresh.roots AS
WITH RECURSIVE told AS (
    -- One row a table. What afresh.watch made counts before what somebody made by hand.
    SELECT DISTINCT ON (t.target)
        t.target,
        t.by_watch,
        t.keys,
        t.capture,
        t.level
    FROM afresh.triggers AS t
    ORDER BY t.target, t.by_watch DESC, t.level DESC, t.trigger_name
),

lineage AS (
    SELECT t.*, t.target::pg_catalog.oid AS ancestor, 0 AS distance
    FROM told AS t
    UNION ALL
    SELECT l.target, l.by_watch, l.keys, l.capture, l.level, i.inhparent, l.distance + 1
    FROM lineage AS l
    INNER JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = l.ancestor
)

-- Among the tables above it (and itself), the topmost that tells in the same way: the order is that of
-- afresh.covering_watch.
SELECT DISTINCT ON (l.target)
    l.target,
    l.by_watch,
    l.keys,
    l.capture,
    l.level,
    r.target AS root,
    r.keys AS root_keys,
    r.capture AS root_capture
FROM lineage AS l
INNER JOIN told AS r ON r.target = l.ancestor AND r.by_watch = l.by_watch
ORDER BY l.target, l.distance DESC, l.ancestor;

COMMENT ON VIEW afresh.roots IS
    'Every table that tells Afresh of its changes, with the topmost table of its tree that does so in the same way; afresh.watched is the view to look at first.';

GRANT SELECT ON afresh.roots TO public;

-- migrate: rollback

DROP VIEW afresh.roots;
