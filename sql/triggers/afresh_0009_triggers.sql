-- The triggers that tell of changes, one row each
-- depends: afresh_0008_notify_event_refresh

-- migrate: apply

-- What is watched, and how, is written nowhere but in the triggers themselves, where it cannot disagree with what
-- happens, and where pg_dump, a restore and ALTER TABLE ... RENAME carry it along. This view reads it from there.
CREATE VIEW afresh.triggers AS
SELECT
    t.tgrelid::pg_catalog.regclass AS target,
    t.tgname AS trigger_name,
    m.by_watch,
    CASE WHEN m.by_watch THEN a.arguments[2:] ELSE ARRAY[]::pg_catalog.text[] END AS keys,
    -- What the watch was asked for. A row-level trigger notifies all the same.
    CASE WHEN m.by_watch AND a.arguments[1] LIKE 'afresh.log%' THEN 'log' ELSE 'notify' END AS capture,
    CASE WHEN (t.tgtype & 1) <> 0 THEN 'row' ELSE 'statement' END AS level,
    -- The bits of tgtype are fixed: 1 row, 2 before, 4 insert, 8 delete, 16 update, 32 truncate, 64 instead.
    ARRAY(
        SELECT e.operation
        FROM (VALUES (4, 'INSERT'), (16, 'UPDATE'), (8, 'DELETE'), (32, 'TRUNCATE')) AS e (bit, operation)
        WHERE (t.tgtype & e.bit) <> 0
    ) AS operations,
    -- Whether it hears of every such operation: it may be bound to a condition or to an UPDATE of some columns.
    t.tgqual IS NULL AND pg_catalog.cardinality(t.tgattr::pg_catalog.int2[]) = 0 AND (t.tgtype & 66) = 0
        AS unconditional,
    -- Whether it sees the rows, by transition tables.
    t.tgoldtable IS NOT NULL OR t.tgnewtable IS NOT NULL AS sees_rows,
    -- O: fires except in replication; A: always; R: in replication only; D: never
    t.tgenabled AS enabled
FROM pg_catalog.pg_trigger AS t
-- tgargs is a bytea in which a zero byte ends each argument; convert_from() takes no zero bytes, so it is cut first.
CROSS JOIN LATERAL (
    SELECT
        pg_catalog.array_agg(
            pg_catalog.convert_from(pg_catalog.decode(p.part, 'hex'), pg_catalog.getdatabaseencoding()) ORDER BY p.n
        ) AS arguments
    FROM pg_catalog.unnest(
        pg_catalog.string_to_array(
            pg_catalog.regexp_replace(pg_catalog.encode(t.tgargs, 'hex'), '(..)', '\1 ', 'g'), '00 '
        )
    ) WITH ORDINALITY AS p (part, n)
    WHERE p.n <= t.tgnargs
) AS a
-- Made by afresh.watch (and not by hand): the first argument says so.
CROSS JOIN LATERAL (
    SELECT
        coalesce(
            a.arguments[1]
            IN ('afresh.log', 'afresh.log without rows', 'afresh.notify', 'afresh.notify without rows'),
            false
        ) AS by_watch
) AS m
WHERE t.tgfoid = 'public.notify_event_refresh()'::pg_catalog.regprocedure;

COMMENT ON VIEW afresh.triggers IS
    'Every trigger that executes notify_event_refresh(), whoever made it; afresh.watched is the view to look at first.';

GRANT SELECT ON afresh.triggers TO public;

-- migrate: rollback

DROP VIEW afresh.triggers;
