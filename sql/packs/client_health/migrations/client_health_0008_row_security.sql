-- Who may read and write which rows: roles, claims, and row-level security on the tables that the pack made
-- depends: client_health_0007_watch

-- migrate: apply

-- Three roles, under the names that PostgREST and Supabase use for them. They belong to the whole cluster, so they are
-- made only where they are missing, and taking the pack away leaves them.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['anon', 'authenticated', 'service_role'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = role_name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN
                    NULL; -- somebody made it at the same moment, for another database of the cluster perhaps
                WHEN insufficient_privilege THEN
                    RAISE EXCEPTION 'there is no role %, and % may not make it', role_name, current_user
                        USING ERRCODE = 'undefined_object',
                        HINT = 'Let somebody who may run this, and migrate again: CREATE ROLE anon NOLOGIN; '
                            || 'CREATE ROLE authenticated NOLOGIN; CREATE ROLE service_role NOLOGIN;';
            END;
        END IF;
    END LOOP;
END
$$;

-- Who asks is said by the claims of his token, which whoever checked the token puts into the setting
-- request.jwt.claims for the transaction (as PostgREST does):
--
--     {"user_role": "manager"}                          all clients
--     {"user_role": "cse", "cse": "Amara Okafor"}       the clients whose cse that is, exactly so written
--
-- Without user_role the claim role counts, in which PostgREST expects the database's role. No claims, an empty name,
-- anything that is no text or another role: nothing. Claims that are no JSON are an error, and nothing is read or
-- written: they are a fault of who sets them, which should not look like an empty database.

CREATE FUNCTION public.client_health_claim(name text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> name;

COMMENT ON FUNCTION public.client_health_claim(text) IS
    'A claim of who asks, from the setting request.jwt.claims; NULL without it';

CREATE FUNCTION public.client_health_sees_all() RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(
    coalesce(public.client_health_claim('user_role'), public.client_health_claim('role')) = 'manager', false
);

COMMENT ON FUNCTION public.client_health_sees_all() IS
    'Whether who asks claims to be a manager, who may see and change the records of all clients';

CREATE FUNCTION public.client_health_own_cse() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE
    WHEN coalesce(public.client_health_claim('user_role'), public.client_health_claim('role')) = 'cse'
        THEN nullif(public.client_health_claim('cse'), '')
END;

COMMENT ON FUNCTION public.client_health_own_cse() IS
    'The name under which who asks looks after clients (nps_clients.cse); NULL where he claims no such role';

-- A refresh reads the tables as the owner of the summary. Where that is neither the tables' owner nor a superuser, the
-- policies would leave him a summary of nothing, without any error: so he reads every row, where he has been granted
-- the tables at all. It is no more than what he owns tells him.
CREATE FUNCTION public.client_health_owns_summary() RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN EXISTS (
    SELECT FROM pg_catalog.pg_class AS c
    WHERE c.oid IN (to_regclass('public.client_health_summary'), to_regclass('public.event_compliance_summary'))
        AND pg_has_role(c.relowner, 'USAGE')
);

COMMENT ON FUNCTION public.client_health_owns_summary() IS
    'Whether the current role owns one of the summaries, or has the rights of who does: a refresh reads with these';

-- Puts a table of the pack under its policies. What each table has is listed here, once.
--
-- The conditions stand in sub-selects of their own, so that PostgreSQL asks for the claims once for each statement and
-- not for each row. Those of the records ask nps_clients themselves and do not lean on its policies, which are not
-- there where that table is the user's own.
CREATE FUNCTION public.client_health_protect(target regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    ours constant name[] := ARRAY[
        'client_health_manager', 'client_health_cse', 'client_health_cse_update', 'client_health_everybody',
        'client_health_service_role', 'client_health_summary_owner'
    ];
    short_name text;
    own boolean;
    policy record;
    sequence_name text;
BEGIN
    SELECT c.relname INTO short_name
    FROM pg_class AS c
    WHERE c.oid = target AND c.relnamespace = to_regnamespace('public');
    IF short_name IS NULL OR short_name <> ALL (ARRAY[
        'nps_clients', 'nps_responses', 'unified_meetings', 'actions', 'segmentation_events',
        'segmentation_event_compliance', 'segmentation_tiers', 'segmentation_event_types', 'tier_event_requirements'
    ]) THEN
        RAISE EXCEPTION '% is none of the tables of the pack client_health', target
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Its tables are listed in docs/packs/client_health.md.';
    END IF;

    SELECT EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = target AND p.polname = ANY (ours)) INTO own;
    IF NOT own AND (
        (SELECT c.relrowsecurity FROM pg_class AS c WHERE c.oid = target)
        OR EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = target)
    ) THEN
        RAISE EXCEPTION '% has row-level security of its own', target
            USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Policies add up: those of the pack would let in whom yours keep out. Drop yours and disable row '
                || 'level security first, or keep the table as it is.';
    END IF;

    FOR policy IN
        SELECT
            w.name,
            w.command,
            w.role,
            replace(w.condition, '$own', format(
                CASE short_name
                    WHEN 'nps_clients' THEN '%1$I = (SELECT public.client_health_own_cse())'
                    ELSE '%1$I IN (SELECT c.client_name FROM public.nps_clients AS c '
                        || 'WHERE c.cse = (SELECT public.client_health_own_cse()))'
                END,
                CASE short_name WHEN 'nps_clients' THEN 'cse' WHEN 'actions' THEN 'Client' ELSE 'client_name' END
            )) AS condition,
            w.comment
        FROM (VALUES
            ('manager', 'ALL', 'authenticated', 'any', '(SELECT public.client_health_sees_all())',
             'Who claims to be a manager reads and writes every row'),
            ('cse', 'SELECT', 'authenticated', 'clients', '$own',
             'A CSE reads his own clients'),
            ('cse_update', 'UPDATE', 'authenticated', 'clients', '$own',
             'A CSE changes his own clients, who stay his: he gives none away, and takes none'),
            ('cse', 'ALL', 'authenticated', 'records', '$own',
             'A CSE reads and writes the records of his own clients, and moves none to a client who is not his'),
            ('everybody', 'SELECT', 'authenticated', 'reference', 'true',
             'Tiers, event types and requirements are the same for all: whoever has logged in reads them'),
            ('service_role', 'ALL', 'service_role', 'any', 'true',
             'Jobs and imports that answer for themselves read and write every row'),
            ('summary_owner', 'SELECT', 'public', 'any', '(SELECT public.client_health_owns_summary())',
             'Who owns a summary reads, where he was granted the table, all that a refresh of it must read')
        ) AS w (name, command, role, kind, condition, comment)
        WHERE w.kind IN ('any', CASE
            WHEN short_name = 'nps_clients' THEN 'clients'
            WHEN short_name IN ('segmentation_tiers', 'segmentation_event_types', 'tier_event_requirements')
                THEN 'reference'
            ELSE 'records'
        END)
    LOOP
        EXECUTE format('DROP POLICY IF EXISTS %I ON %s', 'client_health_' || policy.name, target);
        EXECUTE format(
            'CREATE POLICY %I ON %s FOR %s TO %s USING (%s)',
            'client_health_' || policy.name, target, policy.command, policy.role, policy.condition
        ) || CASE WHEN policy.command <> 'SELECT' THEN format(' WITH CHECK (%s)', policy.condition) ELSE '' END;
        EXECUTE format('COMMENT ON POLICY %I ON %s IS %L', 'client_health_' || policy.name, target, policy.comment);
    END LOOP;

    -- Policies say nothing of TRUNCATE, of triggers or of foreign keys to a table, so these are not given; some hosts give
    -- them to everybody by default.
    EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, anon, authenticated, service_role', target);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO authenticated', target);
    EXECUTE format('GRANT ALL ON %s TO service_role', target);
    FOR sequence_name IN
        SELECT d.objid::regclass::text
        FROM pg_depend AS d
        JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = target
            AND d.deptype IN ('a', 'i')
        ORDER BY 1
    LOOP
        EXECUTE format('REVOKE ALL ON SEQUENCE %s FROM PUBLIC, anon, authenticated, service_role', sequence_name);
        EXECUTE format('GRANT USAGE ON SEQUENCE %s TO authenticated, service_role', sequence_name);
    END LOOP;
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
END
$function$;

COMMENT ON FUNCTION public.client_health_protect(regclass) IS
    'Gives a table of the pack client_health its policies and grants and enables row-level security; may be run again. '
    'Grants to PUBLIC, anon, authenticated and service_role are replaced';

-- The grants go first, so that at no time a table lies open to who was held back by the policies.
CREATE FUNCTION public.client_health_unprotect(target regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    ours constant name[] := ARRAY[
        'client_health_manager', 'client_health_cse', 'client_health_cse_update', 'client_health_everybody',
        'client_health_service_role', 'client_health_summary_owner'
    ];
    policy_name name;
    sequence_name text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = target AND p.polname = ANY (ours)) THEN
        RETURN;
    END IF;
    EXECUTE format('REVOKE ALL ON %s FROM anon, authenticated, service_role', target);
    FOR sequence_name IN
        SELECT d.objid::regclass::text
        FROM pg_depend AS d
        JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = target
            AND d.deptype IN ('a', 'i')
        ORDER BY 1
    LOOP
        EXECUTE format('REVOKE ALL ON SEQUENCE %s FROM anon, authenticated, service_role', sequence_name);
    END LOOP;
    FOR policy_name IN
        SELECT p.polname FROM pg_policy AS p WHERE p.polrelid = target AND p.polname = ANY (ours)
    LOOP
        EXECUTE format('DROP POLICY %I ON %s', policy_name, target);
    END LOOP;
    IF NOT EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = target) THEN
        EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', target);
    END IF;
END
$function$;

COMMENT ON FUNCTION public.client_health_unprotect(regclass) IS
    'Takes the pack''s policies off a table, with all that anon, authenticated and service_role were granted on it; row-level '
    'security stays on if there are other policies. A table without policies of the pack is left alone';

REVOKE ALL ON FUNCTION public.client_health_protect(regclass) FROM PUBLIC, anon, authenticated;
REVOKE ALL ON FUNCTION public.client_health_unprotect(regclass) FROM PUBLIC, anon, authenticated;

-- Only the tables that the pack made are protected here, which nobody can have come to rely on. A table that was there
-- before has applications that read and write it, under roles and policies that we do not know: with row-level security
-- switched on behind their backs they would not fail, but find their tables empty. Its owner decides, with
--
--     SELECT public.client_health_protect('public.actions');
--
-- Nothing is FORCEd: the tables' owner, and whoever has his rights, is not held back by the policies. That is the role
-- that migrates, refreshes and serves.
DO $$
DECLARE
    table_name text;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    FOREACH table_name IN ARRAY ARRAY[
        'nps_clients', 'nps_responses', 'unified_meetings', 'actions', 'segmentation_events',
        'segmentation_event_compliance', 'segmentation_tiers', 'segmentation_event_types', 'tier_event_requirements'
    ] LOOP
        IF coalesce(obj_description(to_regclass('public.' || table_name), 'pg_class'), '')
            NOT LIKE '%made by the Afresh pack client_health%'
        THEN
            RAISE NOTICE 'public.% is not put under row-level security: it was there before the pack client_health',
                table_name
                USING HINT = format('If its owner wants the pack''s policies: SELECT public.client_health_protect(%L);',
                                    'public.' || table_name);
        ELSE
            PERFORM public.client_health_protect(to_regclass('public.' || table_name));
        END IF;
    END LOOP;
END
$$;

-- migrate: rollback

SET LOCAL lock_timeout = '2s';

SELECT public.client_health_unprotect(c.oid)
FROM pg_catalog.pg_class AS c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p');

DROP FUNCTION IF EXISTS public.client_health_unprotect(regclass);
DROP FUNCTION IF EXISTS public.client_health_protect(regclass);
DROP FUNCTION IF EXISTS public.client_health_owns_summary();
DROP FUNCTION IF EXISTS public.client_health_own_cse();
DROP FUNCTION IF EXISTS public.client_health_sees_all();
DROP FUNCTION IF EXISTS public.client_health_claim(text);
