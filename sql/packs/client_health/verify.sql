-- Is the pack client_health in place and right? One row for each check.
--
-- The figures of the two views, and what the formulas say, are asked for by ts_stat, a function of every PostgreSQL that
-- takes a statement as text and hands back the words in its answer: so a view or function that is missing makes its own
-- checks fail, and not this whole query. Whether each view equals its live definition can be wrong for a moment while a
-- change is being refreshed: look again after that.
--
-- Tables that were there before the pack are under no policies of ours unless their owner has asked for them: of such a
-- table it is only said that it is left to him.
WITH views (view_name, key) AS (
    VALUES ('client_health_summary', 'client_name'), ('event_compliance_summary', 'client_name, year')
),
indexes (view_name, index_name, is_unique, columns) AS (
    VALUES
        ('client_health_summary', 'idx_client_health_client_name', true, '(client_name)'),
        ('client_health_summary', 'idx_client_health_segment', false, '(segment)'),
        ('client_health_summary', 'idx_client_health_cse', false, '(cse)'),
        ('client_health_summary', 'idx_client_health_status', false, '(status)'),
        ('client_health_summary', 'idx_client_health_score', false, '(health_score DESC)'),
        ('event_compliance_summary', 'idx_event_compliance_client_year', true, '(client_name, year)'),
        ('event_compliance_summary', 'idx_event_compliance_year', false, '(year)'),
        ('event_compliance_summary', 'idx_event_compliance_segment', false, '(segment)'),
        ('event_compliance_summary', 'idx_event_compliance_status', false, '(overall_status)'),
        ('event_compliance_summary', 'idx_event_compliance_score', false, '(overall_compliance_score DESC)')
),
base_indexes (table_name, index_name, columns) AS (
    VALUES
        ('nps_responses', 'idx_nps_responses_client_date', '(client_name, response_date DESC) INCLUDE (score)'),
        ('unified_meetings', 'idx_unified_meetings_client_date', '(client_name, meeting_date DESC)'),
        ('actions', 'idx_actions_client_status', '("Client", "Status", "Due_Date")'),
        ('segmentation_events', 'idx_segmentation_events_client_year',
         '(client_name, event_year, event_type_id) INCLUDE (completed)'),
        ('segmentation_event_compliance', 'idx_segmentation_compliance_client_year',
         '(client_name, year, event_type_id)')
),
-- What each formula is asked, and what it must answer.
formulas (signature, question, answer) AS (
    VALUES
        ('nps_score(bigint, bigint, bigint)',
         $$public.nps_score(2, 1, 3)::numeric(5, 2), coalesce(public.nps_score(0, 0, 0), 0)$$, '33.33, 0'),
        ('action_is_open(text)',
         $$public.action_is_open('In Progress'), public.action_is_open('Done'), public.action_is_open('CANCELED')$$,
         't, f, f'),
        ('action_is_completed(text)',
         $$public.action_is_completed('Open'), public.action_is_completed('DONE'), public.action_is_completed('Cancelled')$$,
         'f, t, f'),
        ('client_health_nps_part(numeric)',
         $$public.client_health_nps_part(-100)::int, public.client_health_nps_part(NULL), public.client_health_nps_part(100)::int$$,
         '0, 50, 100'),
        ('client_health_engagement_part(bigint, bigint, integer)',
         $$public.client_health_engagement_part(0, 0, NULL), public.client_health_engagement_part(1, 1, 75)::numeric(5, 2), $$
         || $$public.client_health_engagement_part(4, 3, 30)::int$$, '50, 41.67, 100'),
        ('client_health_compliance_part(numeric)',
         $$public.client_health_compliance_part(80), public.client_health_compliance_part(NULL)$$, '80, 50'),
        ('client_health_actions_part(bigint, bigint, bigint)',
         $$public.client_health_actions_part(4, 1, 9)::int, public.client_health_actions_part(0, 0, 1), $$
         || $$public.client_health_actions_part(0, 0, 0)$$, '75, 100, 50'),
        ('client_health_score(numeric, numeric, numeric, numeric)',
         $$public.client_health_score(100, 0, 0, 0), public.client_health_score(0, 100, 0, 0), $$
         || $$public.client_health_score(0, 0, 100, 0), public.client_health_score(0, 0, 0, 100)$$,
         '25.00, 25.00, 30.00, 20.00'),
        ('client_health_status(numeric)',
         $$public.client_health_status(70), public.client_health_status(69.99), public.client_health_status(50), $$
         || $$public.client_health_status(49.99)$$, 'healthy, at-risk, at-risk, critical'),
        ('compliance_percentage(bigint, bigint)',
         $$public.compliance_percentage(2, 4)::int, public.compliance_percentage(3, 2)::int, $$
         || $$coalesce(public.compliance_percentage(1, 0), -1)$$, '50, 150, -1'),
        ('compliance_status(numeric)',
         $$public.compliance_status(49.99), public.compliance_status(99.99), public.compliance_status(100), $$
         || $$public.compliance_status(100.01), public.compliance_status(NULL)$$,
         'critical, at-risk, compliant, exceeded, not-required'),
        ('overall_compliance_score(bigint, bigint)',
         $$public.overall_compliance_score(1, 3), coalesce(public.overall_compliance_score(0, 0), -1)$$, '33.33, -1')
),
-- The functions that read a client's records, and the view that each is for.
figure_functions (name, used_by) AS (
    VALUES
        ('client_nps', 'client_health_summary_live'), ('client_meetings', 'client_health_summary_live'),
        ('client_actions', 'client_health_summary_live'), ('client_compliance', 'client_health_summary_live'),
        ('client_event_types', 'event_compliance_summary_live')
),
claim_functions (signature, body) AS (
    VALUES
        ('client_health_claim(text)',
         $$RETURN ((NULLIF(current_setting('request.jwt.claims'::text, true), ''::text))::jsonb ->> name)$$),
        ('client_health_sees_all()',
         $$RETURN COALESCE((COALESCE(client_health_claim('user_role'::text), client_health_claim('role'::text)) $$
         || $$= 'manager'::text), false)$$),
        ('client_health_own_cse()',
         $$RETURN CASE WHEN (COALESCE(client_health_claim('user_role'::text), client_health_claim('role'::text)) $$
         || $$= 'cse'::text) THEN NULLIF(client_health_claim('cse'::text), ''::text) ELSE NULL::text END$$),
        ('client_health_owns_summary()',
         $$RETURN (EXISTS (SELECT FROM pg_class c WHERE ((c.oid = ANY (ARRAY[$$
         || $$(to_regclass('client_health_summary'::text))::oid, (to_regclass('event_compliance_summary'::text))::oid])) $$
         || $$AND pg_has_role(c.relowner, 'USAGE'::text))))$$)
),
protecting_functions (signature) AS (
    VALUES ('client_health_protect(regclass)'), ('client_health_unprotect(regclass)')
),
roles (role_name) AS (
    VALUES ('anon'), ('authenticated'), ('service_role')
),
protected (table_name, kind, column_name) AS (
    VALUES
        ('nps_clients', 'clients', 'cse'), ('nps_responses', 'records', 'client_name'),
        ('unified_meetings', 'records', 'client_name'), ('actions', 'records', '"Client"'),
        ('segmentation_events', 'records', 'client_name'), ('segmentation_event_compliance', 'records', 'client_name'),
        ('segmentation_tiers', 'reference', NULL), ('segmentation_event_types', 'reference', NULL),
        ('tier_event_requirements', 'reference', NULL)
),
-- Whether the policies are due on a table: where it is of the pack's making, or its owner has asked for them.
owed AS (
    SELECT
        protected.table_name, protected.kind, protected.column_name, relation.oid, relation.relrowsecurity, relation.relacl,
        relation.oid IS NULL
        OR coalesce(obj_description(relation.oid, 'pg_class'), '') LIKE '%made by the Afresh pack client_health%'
        OR EXISTS (
            SELECT FROM pg_catalog.pg_policy AS p
            WHERE p.polrelid = relation.oid AND p.polname = 'client_health_service_role'
        ) AS due
    FROM protected
    LEFT JOIN pg_catalog.pg_class AS relation ON relation.oid = to_regclass('public.' || protected.table_name)
),
policies (kind, name, command, role, condition) AS (
    VALUES
        ('any', 'manager', 'ALL', 'authenticated', 'SELECT client_health_sees_all()'),
        ('clients', 'cse', 'SELECT', 'authenticated', '$column = SELECT client_health_own_cse()'),
        ('clients', 'cse_update', 'UPDATE', 'authenticated', '$column = SELECT client_health_own_cse()'),
        ('records', 'cse', 'ALL', 'authenticated',
         '$column IN SELECT c.client_name FROM nps_clients c WHERE c.cse = SELECT client_health_own_cse()'),
        ('reference', 'everybody', 'SELECT', 'authenticated', 'true'),
        ('any', 'service_role', 'ALL', 'service_role', 'true'),
        ('any', 'summary_owner', 'SELECT', 'public', 'SELECT client_health_owns_summary()')
),
-- Without brackets, names of columns given by PostgreSQL, casts between kinds of text, and the schema: what is left is
-- the same in every version and for every type of column.
present_policies AS (
    SELECT
        policy.schemaname, policy.tablename, policy.policyname,
        concat_ws(
            ' ',
            'FOR', policy.cmd, 'TO', array_to_string(policy.roles, ', '),
            'USING ' || plain.qual, 'WITH CHECK ' || plain.with_check,
            CASE WHEN policy.permissive <> 'PERMISSIVE' THEN '(restrictive)' END
        ) AS description
    FROM pg_catalog.pg_policies AS policy
    CROSS JOIN LATERAL (
        SELECT
            max(text.value) FILTER (WHERE text.kind = 'qual') AS qual,
            max(text.value) FILTER (WHERE text.kind = 'with_check') AS with_check
        FROM (
            SELECT
                condition.kind,
                btrim(regexp_replace(
                    regexp_replace(
                        replace(condition.value, '()', '[]'), 'public\.| AS client_health_\w+|::[a-z ]+|[()]', '', 'g'
                    ), '\s+', ' ', 'g'
                )) AS value
            FROM (VALUES ('qual', policy.qual), ('with_check', policy.with_check)) AS condition (kind, value)
        ) AS text
    ) AS plain
),
closed (view_name, options, grants) AS (
    VALUES
        ('client_health_summary', '', 'service_role: SELECT'),
        ('client_health_summary_live', 'security_invoker=true; ', 'service_role: SELECT'),
        ('event_compliance_summary', '', 'service_role: SELECT'),
        ('event_compliance_summary_live', 'security_invoker=true; ', 'service_role: SELECT'),
        ('my_client_health', 'security_barrier=true; ', 'authenticated: SELECT'),
        ('my_event_compliance', 'security_barrier=true; ', 'authenticated: SELECT')
),
-- What everybody and the three roles have been granted on each relation.
grants AS (
    SELECT
        per_role.oid,
        string_agg(per_role.grantee || ': ' || per_role.privileges, '; ' ORDER BY per_role.grantee) AS description
    FROM (
        SELECT
            c.oid,
            CASE given.grantee WHEN 0 THEN 'everybody' ELSE pg_get_userbyid(given.grantee) END::text AS grantee,
            string_agg(DISTINCT given.privilege_type, ', ' ORDER BY given.privilege_type) AS privileges
        FROM pg_catalog.pg_class AS c
        CROSS JOIN LATERAL aclexplode(c.relacl) AS given
        WHERE c.relnamespace = to_regnamespace('public')
            AND (given.grantee = 0 OR pg_get_userbyid(given.grantee) IN ('anon', 'authenticated', 'service_role'))
            AND given.grantee <> c.relowner
        GROUP BY 1, 2
    ) AS per_role
    GROUP BY per_role.oid
),
foreign_keys (table_name, constraint_name, column_name) AS (
    VALUES
        ('nps_responses', 'fk_nps_responses_client', 'client_name'),
        ('unified_meetings', 'fk_unified_meetings_client', 'client_name'),
        ('actions', 'fk_actions_client', '"Client"'),
        ('segmentation_events', 'fk_segmentation_events_client', 'client_name'),
        ('segmentation_event_compliance', 'fk_event_compliance_client', 'client_name')
),
watched (table_name) AS (
    VALUES
        ('nps_clients'), ('nps_responses'), ('unified_meetings'), ('actions'), ('segmentation_events'),
        ('segmentation_event_compliance'), ('segmentation_tiers'), ('segmentation_event_types'),
        ('tier_event_requirements')
),
-- What can be read at all: the views that exist and are populated, with what they hold and how they differ from their
-- live definitions.
readable AS MATERIALIZED (
    SELECT
        views.view_name,
        matview.ispopulated AND to_regclass('public.' || views.view_name || '_live') IS NOT NULL
            AND to_regclass('public.nps_clients') IS NOT NULL AS ready,
        matview.ispopulated
    FROM views
    LEFT JOIN pg_catalog.pg_matviews AS matview
        ON matview.schemaname = 'public' AND matview.matviewname = views.view_name
),
figures AS MATERIALIZED (
    SELECT
        readable.view_name,
        CASE WHEN readable.ready THEN (
            SELECT answer.word::bigint
            FROM ts_stat(format(
                'SELECT array_to_tsvector(ARRAY[count(*)::text]) FROM public.%I', readable.view_name
            )) AS answer
        ) END AS rows,
        CASE WHEN readable.ready THEN (
            SELECT answer.word::bigint
            FROM ts_stat(
                'SELECT array_to_tsvector(ARRAY[count(client_name)::text]) FROM public.nps_clients'
            ) AS answer
        ) END AS clients,
        CASE WHEN readable.ready THEN (
            SELECT answer.word::bigint
            FROM ts_stat(format(
                'SELECT array_to_tsvector(ARRAY[count(*)::text]) '
                'FROM ((TABLE public.%1$I EXCEPT ALL TABLE public.%2$I) '
                'UNION ALL (TABLE public.%2$I EXCEPT ALL TABLE public.%1$I)) AS different',
                readable.view_name, readable.view_name || '_live'
            )) AS answer
        ) END AS differences
    FROM readable
),
formula_answers AS MATERIALIZED (
    SELECT
        formulas.signature,
        formulas.answer,
        CASE WHEN function.oid IS NOT NULL THEN concat_ws(
            ', ',
            language.lanname,
            CASE function.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END,
            CASE WHEN function.proisstrict THEN 'strict' END,
            CASE WHEN function.prosecdef THEN 'security definer' END,
            function.proconfig::text
        ) END AS manner,
        CASE WHEN function.oid IS NOT NULL THEN (
            SELECT said.word
            FROM ts_stat(format(
                'SELECT array_to_tsvector(ARRAY[coalesce(nullif(concat_ws(%L, %s), %L), %L)])',
                ', ', formulas.question, '', 'NULL'
            )) AS said
        ) END AS said
    FROM formulas
    LEFT JOIN pg_catalog.pg_proc AS function ON function.oid = to_regprocedure('public.' || formulas.signature)
    LEFT JOIN pg_catalog.pg_language AS language ON language.oid = function.prolang
),
cron_jobs AS MATERIALIZED (
    SELECT CASE WHEN EXISTS (
        SELECT FROM pg_catalog.pg_class AS c
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = 'cron'
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'jobname'
        WHERE c.relname = 'job' AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
    ) THEN (
        SELECT string_agg(said.word, ', ' ORDER BY said.word)
        FROM ts_stat($$
            SELECT array_to_tsvector(ARRAY[j.jobname::text || ' ' || j.schedule::text]) FROM cron.job AS j
            WHERE j.active AND j.jobname IN ('refresh_client_health_summary', 'refresh_event_compliance_summary')
        $$) AS said
    ) END AS found
),
checks (part, place, "check", expected, found, ok) AS (
    SELECT 1, view_name, 'materialized view ' || view_name, 'populated',
           CASE WHEN ispopulated THEN 'populated' WHEN NOT ispopulated THEN 'not populated' ELSE 'missing' END,
           coalesce(ispopulated, false)
    FROM readable

    UNION ALL
    SELECT 2, indexes.view_name || indexes.index_name, 'index ' || indexes.index_name,
           CASE WHEN indexes.is_unique THEN 'unique, on ' ELSE 'on ' END || indexes.view_name || ' ' || indexes.columns,
           coalesce(present.description, 'missing'),
           coalesce(present.description, '')
               = CASE WHEN indexes.is_unique THEN 'unique, on ' ELSE 'on ' END
                   || indexes.view_name || ' ' || indexes.columns
    FROM indexes
    LEFT JOIN LATERAL (
        SELECT CASE WHEN index.indisvalid THEN '' ELSE 'invalid, ' END
            || CASE WHEN index.indisunique THEN 'unique, ' ELSE '' END
            || 'on ' || relation.relname || ' ' || substring(pg_get_indexdef(index.indexrelid) FROM '\(.*$')
            AS description
        FROM pg_catalog.pg_index AS index
        JOIN pg_catalog.pg_class AS relation ON relation.oid = index.indrelid
        WHERE index.indexrelid = to_regclass('public.' || indexes.index_name)
    ) AS present ON true

    UNION ALL
    SELECT 2, 'z' || base_indexes.index_name, 'index ' || base_indexes.index_name,
           'on ' || base_indexes.table_name || ' ' || base_indexes.columns,
           coalesce(present.description, 'missing'),
           coalesce(present.description = 'on ' || base_indexes.table_name || ' ' || base_indexes.columns, false)
    FROM base_indexes
    LEFT JOIN LATERAL (
        SELECT CASE WHEN index.indisvalid THEN '' ELSE 'invalid, ' END
            || 'on ' || relation.relname || ' ' || substring(pg_get_indexdef(index.indexrelid) FROM '\(.*$')
            AS description
        FROM pg_catalog.pg_index AS index
        JOIN pg_catalog.pg_class AS relation ON relation.oid = index.indrelid
        WHERE index.indexrelid = to_regclass('public.' || base_indexes.index_name)
    ) AS present ON true

    UNION ALL
    SELECT 3, foreign_keys.constraint_name, 'foreign key ' || foreign_keys.constraint_name,
           rule.wanted,
           coalesce(replace(present.definition, 'REFERENCES public.', 'REFERENCES '), 'missing'),
           coalesce(replace(present.definition, 'REFERENCES public.', 'REFERENCES ') = rule.wanted, false)
    FROM foreign_keys
    CROSS JOIN LATERAL (
        SELECT format(
            '%s: FOREIGN KEY (%s) REFERENCES nps_clients(client_name) ON UPDATE CASCADE ON DELETE RESTRICT',
            foreign_keys.table_name, foreign_keys.column_name
        ) AS wanted
    ) AS rule
    LEFT JOIN LATERAL (
        SELECT relation.relname || ': ' || pg_get_constraintdef(constraint_.oid) AS definition
        FROM pg_catalog.pg_constraint AS constraint_
        JOIN pg_catalog.pg_class AS relation ON relation.oid = constraint_.conrelid
        WHERE constraint_.conname = foreign_keys.constraint_name
          AND constraint_.conrelid = to_regclass('public.' || foreign_keys.table_name)
    ) AS present ON true

    UNION ALL
    -- A change of any of these tables is what refreshes the views between two refreshes by time.
    SELECT 4, watched.table_name, 'watch on ' || watched.table_name,
           'DELETE, INSERT, TRUNCATE, UPDATE',
           coalesce(present.events, 'nothing'),
           coalesce(present.events, '') = 'DELETE, INSERT, TRUNCATE, UPDATE'
    FROM watched
    LEFT JOIN LATERAL (
        SELECT string_agg(DISTINCT event.name, ', ' ORDER BY event.name) AS events
        FROM pg_catalog.pg_trigger AS trigger
        JOIN (VALUES (4, 'INSERT'), (8, 'DELETE'), (16, 'UPDATE'), (32, 'TRUNCATE')) AS event (bit, name)
            ON trigger.tgtype & event.bit <> 0
        WHERE trigger.tgrelid = to_regclass('public.' || watched.table_name)
          AND trigger.tgfoid = to_regprocedure('public.notify_event_refresh()')
          AND trigger.tgqual IS NULL AND cardinality(trigger.tgattr::int2[]) = 0
          AND trigger.tgenabled IN ('O', 'A')
    ) AS present ON true

    UNION ALL
    -- Strict, with settings or with another's rights, it would be called for each row instead of being put in place.
    SELECT 5, signature, 'function ' || signature,
           'sql, immutable: ' || answer,
           coalesce(manner || ': ' || said, 'missing'),
           coalesce(manner = 'sql, immutable' AND said = answer, false)
    FROM formula_answers

    UNION ALL
    SELECT 6, figure_functions.name, 'function ' || figure_functions.name,
           'sql, stable, used by ' || figure_functions.used_by,
           coalesce(present.description, 'missing'),
           coalesce(present.description = 'sql, stable, used by ' || figure_functions.used_by, false)
    FROM figure_functions
    LEFT JOIN LATERAL (
        SELECT concat_ws(
            ', ',
            language.lanname,
            CASE function.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END,
            CASE WHEN function.proisstrict THEN 'strict' END,
            CASE WHEN function.prosecdef THEN 'security definer' END,
            function.proconfig::text,
            CASE WHEN EXISTS (
                SELECT FROM pg_catalog.pg_rewrite AS rule
                JOIN pg_catalog.pg_depend AS uses
                    ON uses.classid = 'pg_catalog.pg_rewrite'::regclass AND uses.objid = rule.oid
                    AND uses.refclassid = 'pg_catalog.pg_proc'::regclass AND uses.refobjid = function.oid
                WHERE rule.ev_class = to_regclass('public.' || figure_functions.used_by)
            ) THEN 'used by ' || figure_functions.used_by ELSE 'not used by ' || figure_functions.used_by END
        ) AS description
        FROM pg_catalog.pg_proc AS function
        JOIN pg_catalog.pg_language AS language ON language.oid = function.prolang
        WHERE function.pronamespace = to_regnamespace('public') AND function.proname = figure_functions.name
            AND function.proretset
        ORDER BY description DESC
        LIMIT 1
    ) AS present ON true

    UNION ALL
    SELECT 7, claim_functions.signature, 'function ' || claim_functions.signature,
           claim_functions.body,
           coalesce(present.body, 'missing'),
           coalesce(present.body = claim_functions.body, false)
    FROM claim_functions
    LEFT JOIN LATERAL (
        SELECT concat_ws(
            ', ',
            coalesce(
                replace(regexp_replace(
                    replace(pg_get_function_sqlbody(function.oid), 'public.', ''), '\s+', ' ', 'g'
                ), '( ', '('),
                'not an SQL expression'
            ),
            CASE WHEN function.prosecdef THEN 'security definer' END,
            function.proconfig::text
        ) AS body
        FROM pg_catalog.pg_proc AS function
        WHERE function.oid = to_regprocedure('public.' || claim_functions.signature)
    ) AS present ON true

    UNION ALL
    SELECT 8, protecting_functions.signature, 'function ' || protecting_functions.signature,
           'plpgsql, search_path=pg_catalog, pg_temp',
           coalesce(present.description, 'missing'),
           coalesce(present.description = 'plpgsql, search_path=pg_catalog, pg_temp', false)
    FROM protecting_functions
    LEFT JOIN LATERAL (
        SELECT concat_ws(
            ', ',
            language.lanname,
            CASE WHEN function.prosecdef THEN 'security definer' END,
            array_to_string(function.proconfig, ', '),
            CASE WHEN EXISTS (
                SELECT FROM aclexplode(coalesce(function.proacl, acldefault('f', function.proowner))) AS given
                WHERE given.grantee = 0 OR pg_get_userbyid(given.grantee) IN ('anon', 'authenticated')
            ) THEN 'for everybody' END
        ) AS description
        FROM pg_catalog.pg_proc AS function
        JOIN pg_catalog.pg_language AS language ON language.oid = function.prolang
        WHERE function.oid = to_regprocedure('public.' || protecting_functions.signature)
    ) AS present ON true

    UNION ALL
    SELECT 9, roles.role_name, 'role ' || roles.role_name,
           CASE roles.role_name WHEN 'service_role' THEN 'there' ELSE 'there, bound by policies' END,
           coalesce(present.description, 'missing'),
           coalesce(present.description LIKE
               CASE roles.role_name WHEN 'service_role' THEN 'there%' ELSE 'there, bound by policies' END, false)
    FROM roles
    LEFT JOIN LATERAL (
        SELECT CASE WHEN r.rolsuper OR r.rolbypassrls THEN 'there, bound by nothing'
                    WHEN roles.role_name = 'service_role' THEN 'there' ELSE 'there, bound by policies' END AS description
        FROM pg_catalog.pg_roles AS r
        WHERE r.rolname = roles.role_name
    ) AS present ON true

    UNION ALL
    SELECT 10, owed.table_name, 'row-level security on ' || owed.table_name,
           CASE WHEN owed.due THEN 'enabled' ELSE 'left to its owner' END,
           CASE WHEN owed.oid IS NULL THEN 'missing' WHEN NOT owed.due THEN 'left to its owner'
                WHEN owed.relrowsecurity THEN 'enabled' ELSE 'disabled' END,
           CASE WHEN owed.due THEN coalesce(owed.relrowsecurity, false) ELSE true END
    FROM owed

    UNION ALL
    SELECT 11, owed.table_name || ' ' || policies.name,
           'policy client_health_' || policies.name || ' on ' || owed.table_name,
           CASE WHEN owed.due THEN rule.wanted ELSE 'left to its owner' END,
           CASE WHEN owed.due THEN coalesce(replace(present.description, '[]', '()'), 'missing') ELSE 'left to its owner' END,
           CASE WHEN owed.due THEN coalesce(replace(present.description, '[]', '()') = rule.wanted, false) ELSE true END
    FROM owed
    JOIN policies ON policies.kind IN ('any', owed.kind)
    CROSS JOIN LATERAL (
        SELECT 'FOR ' || policies.command || ' TO ' || policies.role || ' USING ' || filled.condition
            || CASE WHEN policies.command <> 'SELECT' THEN ' WITH CHECK ' || filled.condition ELSE '' END AS wanted
        FROM (SELECT replace(policies.condition, '$column', coalesce(owed.column_name, ''))) AS filled (condition)
    ) AS rule
    LEFT JOIN present_policies AS present
        ON present.schemaname = 'public' AND present.tablename = owed.table_name
        AND present.policyname = 'client_health_' || policies.name

    UNION ALL
    -- A policy more would let in whom these keep out.
    SELECT 12, owed.table_name, 'other policies on ' || owed.table_name,
           'none',
           CASE WHEN owed.oid IS NULL THEN 'missing' WHEN NOT owed.due THEN 'left to its owner'
                ELSE coalesce(strangers.names, 'none') END,
           owed.oid IS NOT NULL AND (NOT owed.due OR strangers.names IS NULL)
    FROM owed
    LEFT JOIN LATERAL (
        SELECT string_agg(p.polname, ', ' ORDER BY p.polname) AS names
        FROM pg_catalog.pg_policy AS p
        WHERE p.polrelid = owed.oid AND p.polpermissive
            AND p.polname NOT IN (
                SELECT 'client_health_' || policies.name FROM policies WHERE policies.kind IN ('any', owed.kind)
            )
    ) AS strangers ON true

    UNION ALL
    -- What service_role may beyond reading and writing grows with PostgreSQL's versions.
    SELECT 13, owed.table_name, 'grants on ' || owed.table_name,
           CASE WHEN owed.due THEN 'authenticated: DELETE, INSERT, SELECT, UPDATE; service_role: all' ELSE 'left to its owner' END,
           CASE WHEN owed.oid IS NULL THEN 'missing' WHEN NOT owed.due THEN 'left to its owner'
                ELSE coalesce(given.description, 'nothing') END,
           owed.oid IS NOT NULL
           AND (NOT owed.due OR coalesce(
               given.description = 'authenticated: DELETE, INSERT, SELECT, UPDATE; service_role: all', false
           ))
    FROM owed
    LEFT JOIN LATERAL (
        SELECT regexp_replace(
            grants.description, 'service_role: DELETE, INSERT, (MAINTAIN, )?REFERENCES, SELECT, TRIGGER, TRUNCATE, UPDATE',
            'service_role: all'
        ) AS description
        FROM grants WHERE grants.oid = owed.oid
    ) AS given ON true

    UNION ALL
    SELECT 14, closed.view_name, 'grants on ' || closed.view_name,
           rule.wanted,
           coalesce(present.description, 'missing'),
           coalesce(present.description = rule.wanted, false)
    FROM closed
    CROSS JOIN LATERAL (
        SELECT CASE WHEN current_setting('server_version_num')::integer < 150000
            AND closed.options LIKE 'security_invoker%' THEN '' ELSE closed.options END || closed.grants AS wanted
    ) AS rule
    LEFT JOIN LATERAL (
        SELECT coalesce(array_to_string(relation.reloptions, ', ') || '; ', '')
            || coalesce(grants.description, 'nothing') AS description
        FROM pg_catalog.pg_class AS relation
        LEFT JOIN grants ON grants.oid = relation.oid
        WHERE relation.oid = to_regclass('public.' || closed.view_name)
    ) AS present ON true

    UNION ALL
    -- pg_cron.sql is optional; where it was run, both jobs are to be there.
    SELECT 15, '', 'jobs of pg_cron',
           CASE WHEN found IS NULL THEN 'none: none is needed' ELSE both_jobs END,
           coalesce(found, 'none: none is needed'),
           coalesce(found = both_jobs, true)
    FROM cron_jobs
    CROSS JOIN (
        SELECT 'refresh_client_health_summary */5 * * * *, refresh_event_compliance_summary */5 * * * *' AS both_jobs
    ) AS wanted

    UNION ALL
    SELECT 16, view_name, 'rows in ' || view_name,
           CASE WHEN view_name = 'client_health_summary' THEN coalesce(clients::text, 'one for each client')
                ELSE coalesce('at least ' || clients, 'one for each client and year') END,
           coalesce(rows::text, 'cannot be read'),
           coalesce(CASE WHEN view_name = 'client_health_summary' THEN rows = clients ELSE rows >= clients END, false)
    FROM figures

    UNION ALL
    SELECT 17, view_name, view_name || ' equals ' || view_name || '_live',
           '0 rows differ',
           coalesce(differences || ' rows differ', 'cannot be read'),
           coalesce(differences = 0, false)
    FROM figures
)
SELECT "check", expected, found, ok
FROM checks
ORDER BY part, place;
