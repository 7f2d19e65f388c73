-- Every watched table, with the topmost table of its partition or inheritance tree, and all its ancestors and descendants.
WITH RECURSIVE
watched AS (
    SELECT DISTINCT t.tgrelid AS oid
    FROM pg_catalog.pg_trigger t
    WHERE t.tgfoid = pg_catalog.to_regprocedure('public.notify_event_refresh()')
),
ancestor (oid, above, distance) AS (
    SELECT w.oid, w.oid, 0 FROM watched w
    UNION
    SELECT a.oid, i.inhparent, a.distance + 1 FROM ancestor a JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.above
),
descendant (oid, below) AS (
    SELECT w.oid, w.oid FROM watched w
    UNION
    SELECT d.oid, i.inhrelid FROM descendant d JOIN pg_catalog.pg_inherits i ON i.inhparent = d.below
),
named AS (
    SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
)
SELECT
    named.name,
    (
        SELECT r.name FROM ancestor a JOIN named r ON r.oid = a.above
        WHERE a.oid = watched.oid ORDER BY a.distance DESC, r.oid LIMIT 1
    ) AS root,
    ARRAY(
        SELECT k.name FROM named k
        WHERE k.oid IN (
            SELECT a.above FROM ancestor a WHERE a.oid = watched.oid
            UNION
            SELECT d.below FROM descendant d WHERE d.oid = watched.oid
        ) AND k.oid <> watched.oid
        ORDER BY 1
    ) AS kin,
    EXISTS (
        SELECT FROM pg_catalog.pg_trigger t
        WHERE t.tgrelid = watched.oid
            AND t.tgfoid = pg_catalog.to_regprocedure('public.notify_event_refresh()')
            AND t.tgenabled <> 'D'
            AND ((t.tgtype & 1) <> 0 OR pg_catalog.substr(t.tgargs, 1, 10) <> 'afresh.log'::bytea)
    ) AS notified,
    (
        SELECT pg_catalog.string_agg(
            pg_catalog.format('%s-%s-%s', c.xmin, t.oid, t.xmin), ' ' ORDER BY t.oid
        )
        FROM pg_catalog.pg_trigger t
        JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
        WHERE t.tgrelid = watched.oid AND t.tgfoid = pg_catalog.to_regprocedure('public.notify_event_refresh()')
    ) AS triggers
FROM watched
JOIN named ON named.oid = watched.oid
ORDER BY 1
