-- What the doctor must know of materialized views, beyond what they hang on.
WITH RECURSIVE reach (view, oid) AS (
    SELECT c.oid, c.oid
    FROM pg_catalog.pg_class AS c
    WHERE c.oid = ANY ($1::oid[])
    UNION
    SELECT reach.view, c.oid
    FROM reach
    JOIN pg_catalog.pg_rewrite AS r ON r.ev_class = reach.oid AND r.ev_type = '1'
    JOIN pg_catalog.pg_depend AS d
        ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
        AND d.refclassid = 'pg_catalog.pg_class'::regclass
    JOIN pg_catalog.pg_class AS c ON c.oid = d.refobjid AND c.relkind = 'v' AND c.oid >= 16384
)
SELECT
    m.oid,
    pg_catalog.format('%I.%I', n.nspname, m.relname) AS name,
    pg_catalog.has_table_privilege(m.oid, 'SELECT') AS may_read,
    pg_catalog.format('REFRESH MATERIALIZED VIEW %I.%I;', n.nspname, m.relname) AS populate,
    ARRAY(
        SELECT DISTINCT a.attname::text
        FROM pg_catalog.pg_index AS i
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = m.oid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = m.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
            AND i.indpred IS NULL AND i.indexprs IS NULL
        ORDER BY 1
    ) AS key_columns,
    ARRAY(
        SELECT pg_catalog.pg_get_viewdef(reach.oid) FROM reach WHERE reach.view = m.oid ORDER BY reach.oid
    ) AS definitions
FROM pg_catalog.pg_class AS m
JOIN pg_catalog.pg_namespace AS n ON n.oid = m.relnamespace
WHERE m.oid = ANY ($1::oid[]) AND m.relkind = 'm'
ORDER BY name
