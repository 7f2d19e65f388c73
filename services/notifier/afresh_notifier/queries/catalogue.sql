-- Every materialized view, with all that it hangs on: read from the rules of views and from the bodies of functions
-- that PostgreSQL keeps parsed (BEGIN ATOMIC), through plain views and such functions, down to tables and to other
-- materialized views, where the walk ends. A table stands for its whole partition or inheritance tree: ancestors and
-- descendants are listed with it. `fingerprint` changes when the content may have changed without a row having been
-- written or told, or what was heard may be of an old name: a redefined view or function, a rewritten, renamed or
-- differently watched table, a partition that came or went. The rows' xmin tells of what was changed there and back.
WITH RECURSIVE
materialized AS (
    SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, c.relispopulated AS populated
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'm'
),
refers (class, object, to_class, to_object) AS (
    SELECT 'pg_catalog.pg_class'::regclass::oid, r.ev_class, d.refclassid, d.refobjid
    FROM pg_catalog.pg_rewrite r
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
    WHERE r.ev_type = '1'
        AND r.ev_class >= 16384
        AND d.refclassid IN ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass)
        AND NOT (d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = r.ev_class)
    UNION
    SELECT 'pg_catalog.pg_proc'::regclass::oid, p.oid, d.refclassid, d.refobjid
    FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid
    WHERE p.prosqlbody IS NOT NULL
        AND p.oid >= 16384
        AND d.refclassid IN ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass)
),
reach (view, class, object) AS (
    SELECT m.oid, f.to_class, f.to_object
    FROM materialized m
    JOIN refers f ON f.class = 'pg_catalog.pg_class'::regclass AND f.object = m.oid
    UNION
    SELECT reach.view, f.to_class, f.to_object
    FROM reach
    JOIN refers f ON f.class = reach.class AND f.object = reach.object
    LEFT JOIN materialized m ON reach.class = 'pg_catalog.pg_class'::regclass AND m.oid = reach.object
    WHERE m.oid IS NULL
),
leaf AS (
    SELECT reach.view, c.oid, c.relkind
    FROM reach
    JOIN pg_catalog.pg_class c ON reach.class = 'pg_catalog.pg_class'::regclass AND c.oid = reach.object
    WHERE c.relkind IN ('r', 'p', 'f', 'm')
),
descendant (view, oid) AS (
    SELECT leaf.view, leaf.oid FROM leaf WHERE leaf.relkind <> 'm'
    UNION
    SELECT d.view, i.inhrelid FROM descendant d JOIN pg_catalog.pg_inherits i ON i.inhparent = d.oid
),
ancestor (view, oid) AS (
    SELECT leaf.view, leaf.oid FROM leaf WHERE leaf.relkind <> 'm'
    UNION
    SELECT a.view, i.inhparent FROM ancestor a JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.oid
),
member AS (
    SELECT tree.view, c.oid, c.relkind, c.relfilenode, c.xmin AS version,
        pg_catalog.format('%I.%I', n.nspname, c.relname) AS name,
        EXISTS (
            SELECT FROM pg_catalog.pg_trigger t
            WHERE t.tgrelid = c.oid AND t.tgfoid = pg_catalog.to_regprocedure('public.notify_event_refresh()')
        ) AS watched,
        -- A trigger that was made, dropped, disabled or enabled: something may have been missed while it was not there.
        (
            SELECT pg_catalog.string_agg(t.oid::text || '-' || t.xmin::text, ' ' ORDER BY t.oid) FROM pg_catalog.pg_trigger t
            WHERE t.tgrelid = c.oid AND t.tgfoid = pg_catalog.to_regprocedure('public.notify_event_refresh()')
        ) AS triggers
    FROM (SELECT view, oid FROM descendant UNION SELECT view, oid FROM ancestor) tree
    JOIN pg_catalog.pg_class c ON c.oid = tree.oid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
),
called AS (
    SELECT reach.view, p.oid, p.xmin AS version, p.prosrc, p.prosqlbody, p.provolatile, l.lanname
    FROM reach
    JOIN pg_catalog.pg_proc p ON reach.class = 'pg_catalog.pg_proc'::regclass AND p.oid = reach.object
    JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    WHERE p.oid >= 16384
)
SELECT
    m.oid,
    m.name,
    m.populated,
    EXISTS (
        SELECT FROM pg_catalog.pg_index i
        WHERE i.indrelid = m.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
            AND i.indpred IS NULL AND i.indexprs IS NULL
    ) AS usable_index,
    ARRAY(SELECT DISTINCT member.name FROM member WHERE member.view = m.oid AND relkind <> 'f' ORDER BY 1) AS tables,
    ARRAY(SELECT DISTINCT member.name FROM member WHERE member.view = m.oid AND relkind = 'f' ORDER BY 1)
        AS foreign_tables,
    ARRAY(
        SELECT DISTINCT member.name FROM member
        WHERE member.view = m.oid AND relkind <> 'f' AND NOT watched
            AND EXISTS (SELECT FROM descendant d WHERE d.view = m.oid AND d.oid = member.oid)
        ORDER BY 1
    ) AS unwatched,
    ARRAY(
        SELECT parent.name FROM leaf JOIN materialized parent ON parent.oid = leaf.oid
        WHERE leaf.view = m.oid ORDER BY 1
    ) AS parents,
    ARRAY(
        SELECT DISTINCT called.oid::regprocedure::text FROM called
        WHERE called.view = m.oid AND prosqlbody IS NULL AND provolatile <> 'i' AND lanname NOT IN ('c', 'internal')
        ORDER BY 1
    ) AS opaque_functions,
    pg_catalog.md5(pg_catalog.concat_ws(
        '|',
        m.oid,
        (
            SELECT pg_catalog.string_agg(r.xmin::text || pg_catalog.md5(r.ev_action::text), ',' ORDER BY r.oid)
            FROM pg_catalog.pg_rewrite r
            WHERE r.ev_type = '1' AND (
                r.ev_class = m.oid
                OR r.ev_class IN (
                    SELECT reach.object FROM reach
                    JOIN pg_catalog.pg_class c ON c.oid = reach.object AND c.relkind = 'v'
                    WHERE reach.view = m.oid AND reach.class = 'pg_catalog.pg_class'::regclass
                )
            )
        ),
        (
            SELECT pg_catalog.string_agg(
                pg_catalog.format('%s:%s:%s:%s:%s', oid, version, relfilenode, name, triggers), ',' ORDER BY oid
            )
            FROM member WHERE member.view = m.oid
        ),
        (
            SELECT pg_catalog.string_agg(
                version::text || pg_catalog.md5(pg_catalog.concat(prosrc, prosqlbody::text)), ',' ORDER BY oid
            )
            FROM called WHERE called.view = m.oid
        ),
        (
            SELECT pg_catalog.string_agg(i.indexrelid::text, ',' ORDER BY i.indexrelid)
            FROM pg_catalog.pg_index i
            WHERE i.indrelid = m.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
        )
    )) AS fingerprint
FROM materialized m
ORDER BY m.oid
