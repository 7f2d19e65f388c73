-- Is the pack event_sessions in place and right? One row for each check.
--
-- What tables and views hold is asked for by ts_stat, a function of every PostgreSQL that takes a statement as text and
-- hands back the words in its answer: so something that is missing makes its own checks fail, and not this whole query. Whether
-- each view equals its live definition can be wrong for a moment while a change, or a session's beginning, is being refreshed:
-- look again after that. Where no service runs, it is wrong as soon as the clock has moved on: refresh first.
WITH tables (table_name, columns) AS (
    VALUES
        ('contractors', 'created_at timestamptz, email text, focus_area_names text[], focus_areas text, id int4, name text, '
            'updated_at timestamptz'),
        ('events', 'created_at timestamptz, id int4, location text, name text, timezone text, updated_at timestamptz'),
        ('event_speakers', 'company text, created_at timestamptz, event_id int4, focus_areas jsonb, id int4, name text, '
            'session_description text, session_end timestamp, session_location text, session_time timestamp, '
            'session_title text, updated_at timestamptz'),
        ('event_agenda_items', 'created_at timestamptz, description text, end_time timestamp, event_id int4, '
            'focus_areas jsonb, id int4, item_type text, location text, speaker_id int4, start_time timestamp, status text, '
            'title text, updated_at timestamptz'),
        ('event_attendees', 'contractor_id int4, event_id int4, id int4, registered_at timestamptz')
),
views (view_name, columns) AS (
    VALUES
        ('mv_sessions_now', 'session_id int4, event_id int4, speaker_name text, session_title text, session_time timestamp, '
            'session_end timestamp, session_location text, session_description text, focus_areas jsonb, contractor_id int4, '
            'event_name text, event_timezone text, relevance_score int4, focus_area_match_count int8, '
            'session_starts_at timestamptz, session_ends_at timestamptz'),
        ('mv_sessions_next_60', 'session_id int4, event_id int4, speaker_name text, session_title text, '
            'session_time timestamp, session_end timestamp, session_location text, session_description text, '
            'focus_areas jsonb, contractor_id int4, event_name text, event_timezone text, minutes_until_start numeric, '
            'match_count int8, priority_score int8, session_starts_at timestamptz, session_ends_at timestamptz')
),
functions (signature, wanted) AS (
    VALUES
        ('focus_area_names(text)', 'immutable, returns text[], search_path=pg_catalog, pg_temp'),
        ('is_event_timezone(text)', 'stable, returns boolean, search_path=pg_catalog, pg_temp'),
        ('notify_event_refresh()', 'volatile, returns trigger, search_path=pg_catalog, pg_temp')
),
constraints (table_name, constraint_name, wanted) AS (
    VALUES
        ('contractors', 'contractors_pkey', 'PRIMARY KEY (id)'),
        ('events', 'events_pkey', 'PRIMARY KEY (id)'),
        ('events', 'events_timezone_is_known', 'CHECK (is_event_timezone(timezone))'),
        ('event_speakers', 'event_speakers_pkey', 'PRIMARY KEY (id)'),
        ('event_speakers', 'event_speakers_event', 'FOREIGN KEY (event_id) REFERENCES events(id) ON DELETE CASCADE'),
        ('event_agenda_items', 'event_agenda_items_pkey', 'PRIMARY KEY (id)'),
        ('event_agenda_items', 'event_agenda_items_event',
            'FOREIGN KEY (event_id) REFERENCES events(id) ON DELETE CASCADE'),
        ('event_agenda_items', 'event_agenda_items_speaker',
            'FOREIGN KEY (speaker_id) REFERENCES event_speakers(id) ON DELETE SET NULL'),
        ('event_agenda_items', 'event_agenda_items_start_time_in_range', 'CHECK of start_time'),
        ('event_agenda_items', 'event_agenda_items_end_time_in_range', 'CHECK of end_time'),
        ('event_attendees', 'event_attendees_pkey', 'PRIMARY KEY (id)'),
        ('event_attendees', 'event_attendees_once', 'UNIQUE (event_id, contractor_id)'),
        ('event_attendees', 'event_attendees_event', 'FOREIGN KEY (event_id) REFERENCES events(id) ON DELETE CASCADE'),
        ('event_attendees', 'event_attendees_contractor',
            'FOREIGN KEY (contractor_id) REFERENCES contractors(id) ON DELETE CASCADE')
),
indexes (index_name, wanted) AS (
    VALUES
        ('idx_sessions_now_session_contractor', 'unique, on mv_sessions_now (session_id, contractor_id)'),
        ('idx_sessions_now_contractor_event_relevance',
            'on mv_sessions_now (contractor_id, event_id, relevance_score DESC)'),
        ('idx_sessions_next_60_session_contractor', 'unique, on mv_sessions_next_60 (session_id, contractor_id)'),
        ('idx_sessions_next_60_contractor_event_priority',
            'on mv_sessions_next_60 (contractor_id, event_id, priority_score DESC)'),
        ('idx_agenda_sessions_start', 'on event_agenda_items (start_time) WHERE ((item_type = ''session''::text) '
            'AND (status = ANY (ARRAY[''scheduled''::text, ''confirmed''::text, ''tentative''::text])))'),
        ('idx_agenda_sessions_end', 'on event_agenda_items (end_time, start_time) WHERE ((item_type = ''session''::text) '
            'AND (status = ANY (ARRAY[''scheduled''::text, ''confirmed''::text, ''tentative''::text])))'),
        ('idx_agenda_items_event', 'on event_agenda_items (event_id)'),
        ('idx_agenda_items_speaker', 'on event_agenda_items (speaker_id)'),
        ('idx_event_speakers_event', 'on event_speakers (event_id)'),
        ('idx_event_attendees_contractor', 'on event_attendees (contractor_id)')
),
-- What each view stands on: sessions come from the agenda.
sources (view_name, wanted) AS (
    VALUES
        ('event_sessions', 'event_agenda_items, event_speakers, events'),
        ('mv_sessions_now_live', 'contractors, event_attendees, event_sessions'),
        ('mv_sessions_next_60_live', 'contractors, event_attendees, event_sessions'),
        ('mv_sessions_now', 'mv_sessions_now_live'),
        ('mv_sessions_next_60', 'mv_sessions_next_60_live')
),
-- Whether what the figures below ask for can be asked for at all.
present AS MATERIALIZED (
    SELECT
        views.view_name,
        views.columns,
        matview.ispopulated,
        coalesce(matview.ispopulated, false) AND whole.is_there AND shape.columns = views.columns AS readable,
        shape.columns AS found,
        shape.lasting
    FROM views
    LEFT JOIN pg_catalog.pg_matviews AS matview
        ON matview.schemaname = 'public' AND matview.matviewname = views.view_name
    LEFT JOIN LATERAL (
        SELECT
            string_agg(column_.attname || ' ' || type.typname, ', ' ORDER BY column_.attnum) AS columns,
            -- Without what is another figure at each moment.
            string_agg(quote_ident(column_.attname), ', ' ORDER BY column_.attnum)
                FILTER (WHERE column_.attname <> 'minutes_until_start') AS lasting
        FROM pg_catalog.pg_attribute AS column_
        JOIN pg_catalog.pg_type AS type ON type.oid = column_.atttypid
        WHERE column_.attrelid = to_regclass('public.' || views.view_name)
          AND column_.attnum > 0 AND NOT column_.attisdropped
    ) AS shape ON true
    CROSS JOIN (
        SELECT count(to_regclass('public.' || name)) = 8 AS is_there
        FROM unnest(ARRAY[
            'contractors', 'events', 'event_speakers', 'event_agenda_items', 'event_attendees', 'event_sessions',
            'mv_sessions_now_live', 'mv_sessions_next_60_live'
        ]) AS name
    ) AS whole
),
questions (part, place, title, wanted, statement, ready) AS (
    SELECT 10, view_name, view_name || ' equals ' || view_name || '_live', '0 rows differ',
           format(
               'SELECT array_to_tsvector(ARRAY[count(*)::text]) FROM ('
               '(SELECT %1$s FROM public.%2$I EXCEPT ALL SELECT %1$s FROM public.%3$I) UNION ALL '
               '(SELECT %1$s FROM public.%3$I EXCEPT ALL SELECT %1$s FROM public.%2$I)) AS different',
               lasting, view_name, view_name || '_live'
           ),
           readable
    FROM present

    UNION ALL
    -- No fewer rows than the same sessions would have if only those with a speaker were seen.
    SELECT 11, view_name, view_name || ' is not confined to sessions with a speaker', '0 rows are missing',
           format(
               'SELECT array_to_tsvector(ARRAY[greatest(0, ('
               'SELECT count(*) FROM public.%2$I AS v JOIN public.event_agenda_items AS i ON i.id = v.session_id '
               'JOIN public.event_speakers AS s ON s.id = i.speaker_id) - (SELECT count(*) FROM public.%1$I))::text])',
               view_name, view_name || '_live'
           ),
           readable
    FROM present

    UNION ALL
    -- Every focus area of the agenda item and of its speaker is among those of the session, and there are no others.
    SELECT 13, view_name, 'focus areas in ' || view_name || ' come from agenda and speaker', '0 rows differ',
           format(
               'SELECT array_to_tsvector(ARRAY[count(*)::text]) FROM (SELECT v.focus_areas, '
               'CASE jsonb_typeof(i.focus_areas) WHEN ''array'' THEN i.focus_areas ELSE ''[]'' END '
               '|| CASE jsonb_typeof(s.focus_areas) WHEN ''array'' THEN s.focus_areas ELSE ''[]'' END AS both_ '
               'FROM public.%I AS v JOIN public.event_agenda_items AS i ON i.id = v.session_id '
               'LEFT JOIN public.event_speakers AS s ON s.id = i.speaker_id) AS pair '
               'WHERE ARRAY(SELECT DISTINCT x FROM jsonb_array_elements_text(pair.both_) AS x ORDER BY 1) '
               '<> ARRAY(SELECT x FROM jsonb_array_elements_text(pair.focus_areas) AS x ORDER BY 1)',
               view_name
           ),
           readable
    FROM present

    UNION ALL
    SELECT 14, 'agenda', 'event_sessions holds the sessions of the agenda, each once', '0 rows differ',
           'SELECT array_to_tsvector(ARRAY[count(*)::text]) FROM (SELECT id FROM public.event_agenda_items '
           'WHERE item_type = ''session'' AND status IN (''scheduled'', ''confirmed'', ''tentative'') '
           'AND start_time IS NOT NULL AND end_time IS NOT NULL) AS item '
           'FULL JOIN public.event_sessions AS session ON session.session_id = item.id '
           'WHERE item.id IS NULL OR session.session_id IS NULL',
           to_regclass('public.event_agenda_items') IS NOT NULL AND to_regclass('public.event_sessions') IS NOT NULL

    UNION ALL
    SELECT 15, 'json', 'focus areas that are broken JSON count as none', '0 are something',
           'SELECT array_to_tsvector(ARRAY[count(public.focus_area_names(broken))::text]) '
           'FROM unnest(ARRAY[''Sales, Marketing'', ''["Sales"'', ''{"a": 1}'', ''"Sales"'', ''null'', '''', ''["\u0000"]'']) '
           'AS broken',
           to_regprocedure('public.focus_area_names(text)') IS NOT NULL

    UNION ALL
    SELECT 16, 'zones', 'unknown time zones are refused', '0 are taken',
           'SELECT array_to_tsvector(ARRAY[count(*) FILTER (WHERE public.is_event_timezone(zone))::text]) '
           'FROM unnest(ARRAY[''Nowhere/Else'', ''Europe/Pari'', '''', ''Nowhere/Far+100'', ''IST'']) AS zone',
           to_regprocedure('public.is_event_timezone(text)') IS NOT NULL
),
-- `ready` is in a CASE of its own, so that nothing is asked for that is not there.
answers AS MATERIALIZED (
    SELECT
        questions.part, questions.place, questions.title, questions.wanted,
        CASE WHEN questions.ready THEN (SELECT answer.word FROM ts_stat(questions.statement) AS answer) END AS found
    FROM questions
),
counts AS MATERIALIZED (
    SELECT
        kind.place,
        kind.label || present.view_name AS title,
        CASE WHEN readable THEN (
            SELECT answer.word FROM ts_stat(format(
                'SELECT array_to_tsvector(ARRAY[count(*)::text]) FROM public.%I AS v %s', view_name, kind.held
            )) AS answer
        ) END AS held,
        CASE WHEN readable THEN (
            SELECT answer.word FROM ts_stat(format(
                'SELECT array_to_tsvector(ARRAY[count(*)::text]) FROM public.%I AS v %s', view_name || '_live', kind.wanted
            )) AS answer
        ) END AS wanted
    FROM present
    CROSS JOIN (
        VALUES
            ('1', 'rows in ', '', ''),
            (
                '2', 'rows without a speaker in ', 'WHERE v.speaker_name IS NULL',
                'JOIN public.event_agenda_items AS i ON i.id = v.session_id WHERE i.speaker_id IS NULL'
            )
    ) AS kind (place, label, held, wanted)
),
checks (part, place, "check", expected, found, ok) AS (
    SELECT 1, tables.table_name, 'table ' || tables.table_name, tables.columns, coalesce(shape.columns, 'missing'),
           coalesce(shape.columns = tables.columns, false)
    FROM tables
    LEFT JOIN LATERAL (
        SELECT string_agg(
            column_.attname || ' ' || CASE WHEN type.typname = '_text' THEN 'text[]' ELSE type.typname END, ', '
            ORDER BY column_.attname
        ) AS columns
        FROM pg_catalog.pg_attribute AS column_
        JOIN pg_catalog.pg_type AS type ON type.oid = column_.atttypid
        WHERE column_.attrelid = to_regclass('public.' || tables.table_name)
          AND column_.attnum > 0 AND NOT column_.attisdropped
    ) AS shape ON true

    UNION ALL
    SELECT 2, functions.signature, 'function ' || functions.signature, functions.wanted,
           coalesce(present.description, 'missing'), coalesce(present.description = functions.wanted, false)
    FROM functions
    LEFT JOIN LATERAL (
        SELECT CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END
            || ', returns ' || pg_catalog.format_type(p.prorettype, NULL)
            || coalesce(', ' || (SELECT c FROM unnest(p.proconfig) AS c WHERE c LIKE 'search_path=%'), '') AS description
        FROM pg_catalog.pg_proc AS p
        WHERE p.oid = to_regprocedure('public.' || functions.signature)
    ) AS present ON true

    UNION ALL
    SELECT 3, constraints.table_name || constraints.constraint_name, 'constraint ' || constraints.constraint_name,
           constraints.table_name || ': ' || constraints.wanted,
           coalesce(present.definition, 'missing'),
           coalesce(present.definition = constraints.table_name || ': ' || constraints.wanted, false)
    FROM constraints
    LEFT JOIN LATERAL (
        SELECT constraints.table_name || ': ' || CASE
            -- How a date is written depends on the session.
            WHEN constraints.wanted LIKE 'CHECK of %' AND c.contype = 'c' AND c.convalidated THEN 'CHECK of ' || (
                SELECT string_agg(a.attname, ', ')
                FROM pg_catalog.pg_attribute AS a
                WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
            )
            ELSE replace(pg_get_constraintdef(c.oid), 'public.', '')
        END AS definition
        FROM pg_catalog.pg_constraint AS c
        WHERE c.conname = constraints.constraint_name
          AND c.conrelid = to_regclass('public.' || constraints.table_name)
    ) AS present ON true

    UNION ALL
    SELECT 4, sources.view_name, 'view ' || sources.view_name, 'reads ' || sources.wanted,
           coalesce('reads ' || present.names, 'missing'), coalesce(present.names = sources.wanted, false)
    FROM sources
    LEFT JOIN LATERAL (
        SELECT string_agg(DISTINCT relation.relname::text, ', ' ORDER BY relation.relname::text) AS names
        FROM pg_catalog.pg_rewrite AS rule
        JOIN pg_catalog.pg_depend AS depends
            ON depends.classid = 'pg_catalog.pg_rewrite'::regclass AND depends.objid = rule.oid
            AND depends.refclassid = 'pg_catalog.pg_class'::regclass AND depends.refobjid <> rule.ev_class
        JOIN pg_catalog.pg_class AS relation ON relation.oid = depends.refobjid
        WHERE rule.ev_class = to_regclass('public.' || sources.view_name)
    ) AS present ON true

    UNION ALL
    SELECT 5, view_name, 'materialized view ' || view_name, 'populated, ' || columns,
           CASE WHEN ispopulated THEN 'populated, ' || found WHEN NOT ispopulated THEN 'not populated' ELSE 'missing' END,
           coalesce(ispopulated AND found = columns, false)
    FROM present

    UNION ALL
    SELECT 6, indexes.index_name, 'index ' || indexes.index_name, indexes.wanted,
           coalesce(present.description, 'missing'), coalesce(present.description = indexes.wanted, false)
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
    SELECT 7, '', 'trigger trigger_event_agenda_items_refresh',
           'AFTER INSERT OR DELETE OR UPDATE ON event_agenda_items FOR EACH ROW EXECUTE FUNCTION notify_event_refresh()',
           coalesce(max(present.definition), 'missing'),
           coalesce(max(present.definition)
               = 'AFTER INSERT OR DELETE OR UPDATE ON event_agenda_items FOR EACH ROW EXECUTE FUNCTION notify_event_refresh()',
               false)
    FROM (
        SELECT CASE WHEN trigger.tgenabled IN ('O', 'A') THEN '' ELSE 'disabled, ' END || replace(
            substring(pg_get_triggerdef(trigger.oid) FROM 'AFTER .*$'), 'public.', ''
        ) AS definition
        FROM pg_catalog.pg_trigger AS trigger
        WHERE trigger.tgrelid = to_regclass('public.event_agenda_items')
          AND trigger.tgname = 'trigger_event_agenda_items_refresh'
    ) AS present

    UNION ALL
    -- A change of any of these tables is what refreshes the views between two refreshes by time.
    SELECT 8, tables.table_name, 'watch on ' || tables.table_name,
           'DELETE, INSERT, TRUNCATE, UPDATE',
           coalesce(present.events, 'nothing'),
           coalesce(present.events, '') = 'DELETE, INSERT, TRUNCATE, UPDATE'
    FROM tables
    LEFT JOIN LATERAL (
        SELECT string_agg(DISTINCT event.name, ', ' ORDER BY event.name) AS events
        FROM pg_catalog.pg_trigger AS trigger
        JOIN (VALUES (4, 'INSERT'), (8, 'DELETE'), (16, 'UPDATE'), (32, 'TRUNCATE')) AS event (bit, name)
            ON trigger.tgtype & event.bit <> 0
        WHERE trigger.tgrelid = to_regclass('public.' || tables.table_name)
          AND trigger.tgfoid = to_regprocedure('public.notify_event_refresh()')
          AND trigger.tgtype & 1 = 0
          AND trigger.tgqual IS NULL AND cardinality(trigger.tgattr::int2[]) = 0
          AND trigger.tgenabled IN ('O', 'A')
    ) AS present ON true

    UNION ALL
    SELECT 9, place || title, title, coalesce(wanted, 'as many as in its live definition'),
           coalesce(held, 'cannot be read'), coalesce(held = wanted, false)
    FROM counts

    UNION ALL
    SELECT part, place, title, wanted,
           coalesce(found || substring(wanted FROM 2), 'cannot be read'), coalesce(found = '0', false)
    FROM answers
)
SELECT "check", expected, found, ok
FROM checks
ORDER BY part, place;
