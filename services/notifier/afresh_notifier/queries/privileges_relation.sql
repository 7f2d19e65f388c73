-- Whether our role may watch these tables and refresh these views, and the statements that would let it. A watch sets its
-- triggers to fire ALWAYS, which is for a table's owner; a refresh is for the view's owner, and from PostgreSQL 17 on for
-- whoever has MAINTAIN. To be a member of a superuser's role is never proposed: it would give far more than is needed.
SELECT
    c.oid,
    CURRENT_USER::text AS role,
    s.may_look AND (s.owned OR s.maintains) AS may,
    pg_catalog.array_remove(
        ARRAY[
            CASE WHEN NOT s.may_look THEN pg_catalog.format('GRANT USAGE ON SCHEMA %I TO %I;', n.nspname, CURRENT_USER) END,
            CASE
                WHEN s.owned OR s.maintains THEN NULL
                WHEN c.relkind = 'm' AND v.newer
                    THEN pg_catalog.format('GRANT MAINTAIN ON %I.%I TO %I;', n.nspname, c.relname, CURRENT_USER)
                WHEN NOT o.rolsuper THEN pg_catalog.format('GRANT %I TO %I;', o.rolname, CURRENT_USER)
                WHEN c.relkind = 'm'
                    THEN pg_catalog.format('ALTER MATERIALIZED VIEW %I.%I OWNER TO %I;', n.nspname, c.relname, CURRENT_USER)
                ELSE pg_catalog.format('ALTER TABLE %I.%I OWNER TO %I;', n.nspname, c.relname, CURRENT_USER)
            END
        ],
        NULL
    ) AS statements
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_roles AS o ON o.oid = c.relowner
-- The privilege exists from PostgreSQL 17 on; its name must not be a constant that an older server looks up.
CROSS JOIN (
    SELECT pg_catalog.current_setting('server_version_num')::int >= 170000 AS newer, 'MAINTAIN'::text AS privilege
) AS v
CROSS JOIN LATERAL (
    SELECT
        pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS may_look,
        pg_catalog.pg_has_role(c.relowner, 'USAGE') AS owned,
        c.relkind = 'm'
        AND CASE WHEN v.newer THEN pg_catalog.has_table_privilege(c.oid, v.privilege) ELSE false END AS maintains
) AS s
WHERE c.oid = ANY ($1::oid[])
