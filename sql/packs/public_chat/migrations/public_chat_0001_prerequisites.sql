-- What the pack stands on: the extension vector, and the three roles that requests are made as
-- depends:

-- migrate: apply

-- The extension stays when the pack goes: other tables may have vectors by then. Where somebody has it in a schema of
-- its own (`extensions`, say) it is used there; the later steps look it up.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'vector') THEN
        RAISE EXCEPTION 'the pack public_chat needs the extension pgvector, which this server does not have'
            USING ERRCODE = 'feature_not_supported',
            HINT = 'Install pgvector 0.5 or later (Debian: postgresql-<version>-pgvector; image: pgvector/pgvector), '
                'then migrate again.';
    END IF;
    CREATE EXTENSION IF NOT EXISTS vector;
    IF string_to_array((SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'vector'), '.')::integer[]
        < ARRAY[0, 5]
    THEN
        RAISE EXCEPTION 'the pack public_chat needs pgvector 0.5 or later, and this database has %',
            (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'vector')
            USING ERRCODE = 'feature_not_supported', HINT = 'ALTER EXTENSION vector UPDATE, then migrate again.';
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'the pack public_chat needs the extension vector, and % may not create it', current_user
        USING ERRCODE = 'insufficient_privilege',
        HINT = 'Let a superuser run CREATE EXTENSION vector in this database, then migrate again.';
END
$$;

-- anon is every visitor, authenticated a tenant's staff (which tenant is in the token's claims), service_role a server of
-- the operator's own. They belong to the cluster, not to this database: other databases may use them, so they stay when
-- the pack goes. None can log in; a program's login is made a member of them (GRANT anon TO my_login). A user who makes
-- them here and is no superuser becomes one.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['anon', 'authenticated', 'service_role'] LOOP
        IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
            CONTINUE;
        END IF;
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
                EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
            END IF;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                RAISE NOTICE 'the role % has just been made by somebody else', wanted;
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'the pack public_chat needs the role %, and % may not create roles', wanted, current_user
                    USING ERRCODE = 'insufficient_privilege',
                    HINT = 'Let somebody who may run CREATE ROLE anon NOLOGIN; CREATE ROLE authenticated NOLOGIN; '
                        'CREATE ROLE service_role NOLOGIN; then migrate again.';
        END;
    END LOOP;
END
$$;

-- migrate: rollback

-- The extension and the roles stay: see above.
SELECT 1;
