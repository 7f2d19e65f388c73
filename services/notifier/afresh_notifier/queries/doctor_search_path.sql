-- The search path with which our role's own sessions begin in this database (ours has another one): what is said for the
-- role here, for the role, for the database, or for all, in this order; or PostgreSQL's own.
SELECT
    CURRENT_USER::text AS role,
    coalesce(
        (
            SELECT substr(entry.setting, length('search_path=') + 1)
            FROM pg_catalog.pg_db_role_setting AS s
            CROSS JOIN LATERAL unnest(s.setconfig) AS entry (setting)
            WHERE entry.setting LIKE 'search_path=%'
                AND s.setrole IN (0, (SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname = CURRENT_USER))
                AND s.setdatabase IN (
                    0, (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database())
                )
            ORDER BY s.setrole = 0, s.setdatabase = 0
            LIMIT 1
        ),
        (SELECT p.boot_val FROM pg_catalog.pg_settings AS p WHERE p.name = 'search_path')
    ) AS search_path,
    format('ALTER ROLE %I IN DATABASE %I SET search_path = public;', CURRENT_USER, current_database()) AS mend
