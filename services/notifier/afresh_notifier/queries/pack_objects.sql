-- What users have in the database, with what they say of it: tables, views, functions and policies. Left out is what belongs to
-- the engine, to the migration tool and to extensions.
WITH schemas AS (
    SELECT n.oid, n.nspname
    FROM pg_catalog.pg_namespace AS n
    WHERE n.nspname NOT IN ('afresh', 'information_schema') AND n.nspname !~ '^pg_'
), relations AS (
    SELECT c.oid, c.relkind, CASE WHEN s.nspname = 'public' THEN '' ELSE s.nspname || '.' END || c.relname AS name
    FROM pg_catalog.pg_class AS c
    INNER JOIN schemas AS s ON s.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition AND c.relname !~ '^_?pogo_'
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d WHERE d.objid = c.oid AND d.deptype = 'e')
), functions AS (
    SELECT
        p.oid,
        CASE WHEN s.nspname = 'public' THEN '' ELSE s.nspname || '.' END || p.proname AS name,
        p.prorettype,
        p.prokind
    FROM pg_catalog.pg_proc AS p
    INNER JOIN schemas AS s ON s.oid = p.pronamespace
    WHERE p.prokind IN ('f', 'p') AND NOT (s.nspname = 'public' AND p.proname = 'notify_event_refresh')
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d WHERE d.objid = p.oid AND d.deptype = 'e')
)
SELECT
    CASE r.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' ELSE 'table' END AS kind,
    r.name,
    '' AS detail,
    coalesce(pg_catalog.obj_description(r.oid, 'pg_class'), '') AS comment
FROM relations AS r
UNION ALL
SELECT
    CASE WHEN f.prorettype = 'trigger'::regtype THEN 'trigger function' ELSE 'function' END,
    f.name || '(' || pg_catalog.pg_get_function_identity_arguments(f.oid) || ')',
    coalesce(pg_catalog.pg_get_function_result(f.oid), ''),
    coalesce(pg_catalog.obj_description(f.oid, 'pg_proc'), '')
FROM functions AS f
UNION ALL
SELECT
    'policy',
    r.name || ': ' || p.polname,
    CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END
    || ' as ' || coalesce(
        (
            SELECT pg_catalog.string_agg(o.rolname::text, ', ' ORDER BY o.rolname)
            FROM pg_catalog.pg_roles AS o WHERE o.oid = ANY (p.polroles)
        ),
        'everybody'
    ),
    coalesce(pg_catalog.obj_description(p.oid, 'pg_policy'), '')
FROM pg_catalog.pg_policy AS p
INNER JOIN relations AS r ON r.oid = p.polrelid
ORDER BY 1, 2
