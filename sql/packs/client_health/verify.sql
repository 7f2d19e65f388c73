-- Is the pack client_health in place and right? One row for each check.
--
-- The figures of the two views are asked for by ts_stat, a function of every PostgreSQL that takes a statement as
-- text and hands back the words in its answer: so a view that is missing or not populated makes its own checks fail,
-- and not this whole query. Whether each view equals its live definition can be wrong for a moment while a change is
-- being refreshed: look again after that.
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
    SELECT 5, view_name, 'rows in ' || view_name,
           CASE WHEN view_name = 'client_health_summary' THEN coalesce(clients::text, 'one for each client')
                ELSE coalesce('at least ' || clients, 'one for each client and year') END,
           coalesce(rows::text, 'cannot be read'),
           coalesce(CASE WHEN view_name = 'client_health_summary' THEN rows = clients ELSE rows >= clients END, false)
    FROM figures

    UNION ALL
    SELECT 6, view_name, view_name || ' equals ' || view_name || '_live',
           '0 rows differ',
           coalesce(differences || ' rows differ', 'cannot be read'),
           coalesce(differences = 0, false)
    FROM figures
)
SELECT "check", expected, found, ok
FROM checks
ORDER BY part, place;
