-- What our role lacks to install the engine and packs, as the statements that give it; and the role that has installed
-- the engine already, where that is another one whose rights we do not have.
SELECT
    pg_catalog.array_remove(
        ARRAY[
            CASE
                WHEN e.oid IS NULL AND NOT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')
                    THEN pg_catalog.format('GRANT CREATE ON DATABASE %I TO %I;', pg_catalog.current_database(), CURRENT_USER)
            END,
            CASE
                WHEN NOT pg_catalog.has_schema_privilege(p.oid, 'USAGE')
                    OR NOT pg_catalog.has_schema_privilege(p.oid, 'CREATE')
                    THEN pg_catalog.format('GRANT USAGE, CREATE ON SCHEMA public TO %I;', CURRENT_USER)
            END
        ],
        NULL
    ) AS statements,
    CASE WHEN NOT pg_catalog.pg_has_role(e.nspowner, 'USAGE') THEN pg_catalog.pg_get_userbyid(e.nspowner)::text END AS owner
FROM pg_catalog.pg_namespace AS p
LEFT JOIN pg_catalog.pg_namespace AS e ON e.nspname = 'afresh'
WHERE p.nspname = 'public'
