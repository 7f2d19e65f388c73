-- Is the pack learning in place and right? One row for each check, by name and definition, and then the counts.
--
-- How the indexes are counted. There are 37 on the six tables and the two views, primary keys among them, as
-- pg_indexes lists them:
--     26 on the tables besides their primary keys, 6 primary keys, and 5 on the views (3 and 2).
-- By table they are 4, 4, 6, 6, 5 and 3: those of the primary key, of plain columns, of vectors (HNSW, one in each of
-- two tables) and of what a document holds (GIN, one). That leaves out the three partial ones and the one that a
-- unique constraint stands on (one item of the queue for each source); with these four the tables have 32.
--
-- How the columns are counted. conversation_feedback and owner_corrections have ten columns each. The queue has fifteen
-- and the audit log eight: a count of thirteen and of seven is met with for them, beside lists that name fifteen
-- and eight, and it is the lists that are kept to.
--
-- What the catalogue says is compared without its casts and without `public.`, so that the search path plays no part.
-- The figures of the two views are asked for by ts_stat, a function of every PostgreSQL that takes a statement as text
-- and hands back the words in its answer: so a view that is missing or not populated makes its own checks fail, and not
-- this whole query. Whether each view equals its live definition can be wrong for a moment while a change is being
-- refreshed: look again after that.
WITH tables (table_name, columns, listed_indexes) AS (
    VALUES
        ('conversation_feedback', 10, 4), ('owner_corrections', 10, 4), ('learning_queue', 15, 6),
        ('response_analytics', 10, 6), ('voice_transcripts', 10, 5), ('learning_audit_log', 8, 3)
),
views (view_name, columns, indexes) AS (
    VALUES
        ('daily_learning_metrics',
         'date, shop_id, source_type, status, count, avg_confidence, first_item, last_item', 3),
        ('response_performance_metrics',
         'date, response_type, total_responses, avg_engagement, conversion_rate, avg_response_time', 2)
),
columns (table_name, column_name, definition) AS (
    VALUES
        ('conversations', 'id', 'uuid'),
        ('conversations', 'shop_id', 'integer'),
        ('knowledge_base', 'id', 'uuid'),
        ('knowledge_base', 'shop_id', 'integer'),
        ('knowledge_base', 'content', 'text'),
        ('knowledge_base', 'category', 'text'),
        ('knowledge_base', 'embedding', 'vector(768)'),
        ('knowledge_base', 'source', 'text'),
        ('knowledge_base', 'source_id', 'uuid'),
        ('knowledge_base', 'metadata', 'jsonb'),
        ('conversation_feedback', 'id', 'uuid, not null, default gen_random_uuid()'),
        ('conversation_feedback', 'conversation_id', 'uuid, not null'),
        ('conversation_feedback', 'feedback_type', 'text, not null'),
        ('conversation_feedback', 'rating', 'integer'),
        ('conversation_feedback', 'reason', 'text'),
        ('conversation_feedback', 'metadata', 'jsonb, not null, default ''{}'''),
        ('conversation_feedback', 'created_at', 'timestamp with time zone, not null, default now()'),
        ('conversation_feedback', 'shop_id', 'integer'),
        ('conversation_feedback', 'response_text', 'text'),
        ('conversation_feedback', 'user_id', 'uuid'),
        ('owner_corrections', 'id', 'uuid, not null, default gen_random_uuid()'),
        ('owner_corrections', 'conversation_id', 'uuid, not null'),
        ('owner_corrections', 'original_response', 'text, not null'),
        ('owner_corrections', 'corrected_answer', 'text, not null'),
        ('owner_corrections', 'priority', 'text, not null, default ''normal'''),
        ('owner_corrections', 'correction_context', 'text'),
        ('owner_corrections', 'metadata', 'jsonb, not null, default ''{}'''),
        ('owner_corrections', 'created_at', 'timestamp with time zone, not null, default now()'),
        ('owner_corrections', 'applied_at', 'timestamp with time zone'),
        ('owner_corrections', 'corrected_by', 'uuid'),
        ('learning_queue', 'id', 'uuid, not null, default gen_random_uuid()'),
        ('learning_queue', 'status', 'character varying, not null, default ''pending'''),
        ('learning_queue', 'source_type', 'character varying, not null'),
        ('learning_queue', 'source_id', 'uuid'),
        ('learning_queue', 'shop_id', 'integer'),
        ('learning_queue', 'proposed_content', 'text, not null'),
        ('learning_queue', 'category', 'text'),
        ('learning_queue', 'embedding', 'vector(768)'),
        ('learning_queue', 'confidence_score', 'integer, not null, default 50'),
        ('learning_queue', 'metadata', 'jsonb, not null, default ''{}'''),
        ('learning_queue', 'created_at', 'timestamp with time zone, not null, default now()'),
        ('learning_queue', 'reviewed_at', 'timestamp with time zone'),
        ('learning_queue', 'applied_at', 'timestamp with time zone'),
        ('learning_queue', 'updated_at', 'timestamp with time zone, not null, default now()'),
        ('learning_queue', 'reviewed_by', 'uuid'),
        ('response_analytics', 'id', 'uuid, not null, default gen_random_uuid()'),
        ('response_analytics', 'conversation_id', 'uuid, not null'),
        ('response_analytics', 'response_text', 'text, not null'),
        ('response_analytics', 'response_type', 'text, not null'),
        ('response_analytics', 'user_engagement_score', 'numeric(5,2)'),
        ('response_analytics', 'led_to_conversion', 'boolean, not null, default false'),
        ('response_analytics', 'response_time_ms', 'integer'),
        ('response_analytics', 'ab_test_variant', 'text'),
        ('response_analytics', 'metrics', 'jsonb, not null, default ''{}'''),
        ('response_analytics', 'created_at', 'timestamp with time zone, not null, default now()'),
        ('voice_transcripts', 'id', 'uuid, not null, default gen_random_uuid()'),
        ('voice_transcripts', 'conversation_id', 'uuid'),
        ('voice_transcripts', 'transcript', 'text, not null'),
        ('voice_transcripts', 'processed_summary', 'text'),
        ('voice_transcripts', 'embedding', 'vector(768)'),
        ('voice_transcripts', 'sentiment', 'text, not null, default ''neutral'''),
        ('voice_transcripts', 'entities', 'jsonb, not null, default ''{}'''),
        ('voice_transcripts', 'learning_insights', 'jsonb, not null, default ''{}'''),
        ('voice_transcripts', 'metadata', 'jsonb, not null, default ''{}'''),
        ('voice_transcripts', 'created_at', 'timestamp with time zone, not null, default now()'),
        ('learning_audit_log', 'id', 'uuid, not null, default gen_random_uuid()'),
        ('learning_audit_log', 'action', 'text, not null'),
        ('learning_audit_log', 'table_name', 'text, not null'),
        ('learning_audit_log', 'record_id', 'uuid, not null'),
        ('learning_audit_log', 'old_values', 'jsonb'),
        ('learning_audit_log', 'new_values', 'jsonb'),
        ('learning_audit_log', 'performed_by', 'text, not null, default SESSION_USER'),
        ('learning_audit_log', 'performed_at', 'timestamp with time zone, not null, default now()')
),
constraints (table_name, constraint_name, definition) AS (
    VALUES
        ('conversation_feedback', 'conversation_feedback_feedback_type_check',
         'CHECK ((feedback_type = ANY (ARRAY[''thumbs_up'', ''thumbs_down'', ''rating'', ''comment''])))'),
        ('conversation_feedback', 'conversation_feedback_metadata_check',
         'CHECK ((jsonb_typeof(metadata) = ''object''))'),
        ('conversation_feedback', 'conversation_feedback_rating_check', 'CHECK (((rating >= 1) AND (rating <= 5)))'),
        ('conversation_feedback', 'conversation_feedback_rating_given',
         'CHECK (((feedback_type <> ''rating'') OR (rating IS NOT NULL)))'),
        ('conversation_feedback', 'conversation_feedback_shop_id_check', 'CHECK ((shop_id >= 0))'),
        ('conversation_feedback', 'conversation_feedback_conversation_id_fkey',
         'FOREIGN KEY (conversation_id) REFERENCES conversations(id) ON DELETE CASCADE'),
        ('conversation_feedback', 'conversation_feedback_pkey', 'PRIMARY KEY (id)'),
        ('owner_corrections', 'owner_corrections_corrected_answer_check', 'CHECK ((btrim(corrected_answer) <> ''''))'),
        ('owner_corrections', 'owner_corrections_metadata_check', 'CHECK ((jsonb_typeof(metadata) = ''object''))'),
        ('owner_corrections', 'owner_corrections_priority_check',
         'CHECK ((priority = ANY (ARRAY[''low'', ''normal'', ''high'', ''urgent''])))'),
        ('owner_corrections', 'owner_corrections_conversation_id_fkey',
         'FOREIGN KEY (conversation_id) REFERENCES conversations(id) ON DELETE CASCADE'),
        ('owner_corrections', 'owner_corrections_pkey', 'PRIMARY KEY (id)'),
        ('learning_queue', 'learning_queue_confidence_score_check',
         'CHECK (((confidence_score >= 0) AND (confidence_score <= 100)))'),
        ('learning_queue', 'learning_queue_metadata_check', 'CHECK ((jsonb_typeof(metadata) = ''object''))'),
        ('learning_queue', 'learning_queue_proposed_content_check', 'CHECK ((btrim(proposed_content) <> ''''))'),
        ('learning_queue', 'learning_queue_shop_id_check', 'CHECK ((shop_id >= 0))'),
        ('learning_queue', 'learning_queue_source_type_check',
         'CHECK (((source_type) = ANY ((ARRAY[''feedback'', ''correction'', ''transcript'', ''analytics'', '
         '''manual'']))))'),
        ('learning_queue', 'learning_queue_status_check',
         'CHECK (((status) = ANY ((ARRAY[''pending'', ''approved'', ''rejected'', ''applied'', ''duplicate'', '
         '''failed'']))))'),
        ('learning_queue', 'learning_queue_pkey', 'PRIMARY KEY (id)'),
        ('learning_queue', 'learning_queue_source_key', 'UNIQUE (source_type, source_id)'),
        ('response_analytics', 'response_analytics_metrics_check', 'CHECK ((jsonb_typeof(metrics) = ''object''))'),
        ('response_analytics', 'response_analytics_response_time_ms_check', 'CHECK ((response_time_ms >= 0))'),
        ('response_analytics', 'response_analytics_response_type_check',
         'CHECK ((response_type = ANY (ARRAY[''answer'', ''recommendation'', ''clarification'', ''handoff'', '
         '''fallback''])))'),
        ('response_analytics', 'response_analytics_user_engagement_score_check',
         'CHECK (((user_engagement_score >= (0)) AND (user_engagement_score <= (100))))'),
        ('response_analytics', 'response_analytics_conversation_id_fkey',
         'FOREIGN KEY (conversation_id) REFERENCES conversations(id) ON DELETE CASCADE'),
        ('response_analytics', 'response_analytics_pkey', 'PRIMARY KEY (id)'),
        ('voice_transcripts', 'voice_transcripts_entities_check',
         'CHECK ((jsonb_typeof(entities) = ANY (ARRAY[''object'', ''array''])))'),
        ('voice_transcripts', 'voice_transcripts_learning_insights_check',
         'CHECK ((jsonb_typeof(learning_insights) = ANY (ARRAY[''object'', ''array''])))'),
        ('voice_transcripts', 'voice_transcripts_metadata_check', 'CHECK ((jsonb_typeof(metadata) = ''object''))'),
        ('voice_transcripts', 'voice_transcripts_sentiment_check',
         'CHECK ((sentiment = ANY (ARRAY[''positive'', ''neutral'', ''negative'', ''mixed''])))'),
        ('voice_transcripts', 'voice_transcripts_conversation_id_fkey',
         'FOREIGN KEY (conversation_id) REFERENCES conversations(id) ON DELETE SET NULL'),
        ('voice_transcripts', 'voice_transcripts_pkey', 'PRIMARY KEY (id)'),
        ('learning_audit_log', 'learning_audit_log_action_check',
         'CHECK ((action = ANY (ARRAY[''queued'', ''updated'', ''reopened'', ''approved'', ''rejected'', '
         '''applied'', ''duplicate'', ''failed'', ''correction_applied''])))'),
        ('learning_audit_log', 'learning_audit_log_pkey', 'PRIMARY KEY (id)')
),
indexes (table_name, index_name, definition) AS (
    VALUES
        ('conversation_feedback', 'conversation_feedback_pkey', 'unique, btree (id)'),
        ('conversation_feedback', 'idx_feedback_conversation', 'btree (conversation_id, created_at DESC)'),
        ('conversation_feedback', 'idx_feedback_created', 'btree (created_at DESC)'),
        ('conversation_feedback', 'idx_feedback_type', 'btree (feedback_type, rating)'),
        ('owner_corrections', 'idx_corrections_conversation', 'btree (conversation_id, created_at DESC)'),
        ('owner_corrections', 'idx_corrections_created', 'btree (created_at DESC)'),
        ('owner_corrections', 'idx_corrections_pending', 'btree (created_at) WHERE (applied_at IS NULL)'),
        ('owner_corrections', 'idx_corrections_priority', 'btree (priority, created_at DESC)'),
        ('owner_corrections', 'owner_corrections_pkey', 'unique, btree (id)'),
        ('learning_queue', 'idx_learning_created', 'btree (created_at DESC, id)'),
        ('learning_queue', 'idx_learning_embedding', 'hnsw (embedding vector_cosine_ops)'),
        ('learning_queue', 'idx_learning_pending',
         'btree (confidence_score DESC, created_at) WHERE (status = ''pending'')'),
        ('learning_queue', 'idx_learning_reviewer', 'btree (reviewed_by, reviewed_at DESC)'),
        ('learning_queue', 'idx_learning_shop', 'btree (shop_id, status, created_at DESC)'),
        ('learning_queue', 'idx_learning_status', 'btree (status, created_at, id)'),
        ('learning_queue', 'learning_queue_pkey', 'unique, btree (id)'),
        ('learning_queue', 'learning_queue_source_key', 'unique, btree (source_type, source_id)'),
        ('response_analytics', 'idx_analytics_conversation', 'btree (conversation_id)'),
        ('response_analytics', 'idx_analytics_created', 'btree (created_at DESC)'),
        ('response_analytics', 'idx_analytics_engagement', 'btree (user_engagement_score DESC)'),
        ('response_analytics', 'idx_analytics_type', 'btree (response_type, created_at DESC)'),
        ('response_analytics', 'idx_analytics_variant', 'btree (ab_test_variant, led_to_conversion)'),
        ('response_analytics', 'response_analytics_pkey', 'unique, btree (id)'),
        ('voice_transcripts', 'idx_transcripts_conversation', 'btree (conversation_id)'),
        ('voice_transcripts', 'idx_transcripts_embedding', 'hnsw (embedding vector_cosine_ops)'),
        ('voice_transcripts', 'idx_transcripts_entities', 'gin (entities)'),
        ('voice_transcripts', 'idx_transcripts_negative', 'btree (created_at DESC) WHERE (sentiment = ''negative'')'),
        ('voice_transcripts', 'idx_transcripts_sentiment', 'btree (sentiment, created_at DESC)'),
        ('voice_transcripts', 'voice_transcripts_pkey', 'unique, btree (id)'),
        ('learning_audit_log', 'idx_audit_performed', 'btree (performed_at DESC)'),
        ('learning_audit_log', 'idx_audit_record', 'btree (table_name, record_id, performed_at DESC)'),
        ('learning_audit_log', 'learning_audit_log_pkey', 'unique, btree (id)'),
        ('daily_learning_metrics', 'idx_daily_learning_metrics_key',
         'unique, btree (date, shop_id, source_type, status)'),
        ('daily_learning_metrics', 'idx_daily_learning_metrics_shop', 'btree (shop_id, date DESC)'),
        ('daily_learning_metrics', 'idx_daily_learning_metrics_status', 'btree (status, date DESC)'),
        ('response_performance_metrics', 'idx_response_performance_metrics_key', 'unique, btree (date, response_type)'),
        ('response_performance_metrics', 'idx_response_performance_metrics_type', 'btree (response_type, date DESC)'),
        ('knowledge_base', 'idx_knowledge_embedding', 'hnsw (embedding vector_cosine_ops)'),
        ('knowledge_base', 'idx_knowledge_shop', 'btree (shop_id)'),
        ('knowledge_base', 'idx_knowledge_text', 'btree (md5(lower(btrim(content))))')
),
functions (function_name, arguments, result) AS (
    VALUES
        ('trigger_learning_from_negative_feedback', '', 'trigger'),
        ('trigger_learning_from_corrections', '', 'trigger'),
        ('update_learning_queue_timestamp', '', 'trigger'),
        ('check_similar_knowledge',
         'p_shop_id integer, p_content text, p_embedding vector, p_threshold numeric DEFAULT 0.85',
         'TABLE(knowledge_id uuid, content text, category text, similarity numeric)'),
        ('batch_process_learning', 'p_batch_size integer DEFAULT 100', 'integer')
),
triggers (trigger_name, table_name, definition) AS (
    VALUES
        ('trg_feedback_learning', 'conversation_feedback',
         'AFTER INSERT, for each row: trigger_learning_from_negative_feedback()'),
        ('trg_corrections_learning', 'owner_corrections',
         'AFTER INSERT, for each row: trigger_learning_from_corrections()'),
        ('trg_learning_queue_updated_at', 'learning_queue',
         'BEFORE UPDATE, for each row: update_learning_queue_timestamp()')
),
watched (table_name) AS (
    VALUES ('learning_queue'), ('response_analytics'), ('knowledge_base')
),
embedded (table_name, text_column) AS (
    VALUES
        ('knowledge_base', 'content'), ('learning_queue', 'proposed_content'), ('voice_transcripts', 'transcript')
),
-- Every index that is there on the tables and the views, whether it is one of ours or not.
present_indexes AS MATERIALIZED (
    SELECT
        relation.relname AS table_name,
        own.relname AS index_name,
        method.amname AS method,
        index.indisprimary AS is_primary,
        index.indpred IS NOT NULL AS is_partial,
        tied.oid IS NOT NULL AND NOT index.indisprimary AS is_constraint,
        CASE WHEN index.indisvalid THEN '' ELSE 'invalid, ' END
        || CASE WHEN index.indisunique THEN 'unique, ' ELSE '' END
        || regexp_replace(
            regexp_replace(
                regexp_replace(
                    regexp_replace(pg_get_indexdef(index.indexrelid), '^.*? USING ', ''),
                    '\((\w+)\)::text', '\1', 'g'
                ), '::(text|character varying|jsonb|numeric)(\[\])?', '', 'g'
            ), '\w+\.(vector_cosine_ops)', '\1'
        ) AS definition
    FROM pg_catalog.pg_index AS index
    JOIN pg_catalog.pg_class AS own ON own.oid = index.indexrelid
    JOIN pg_catalog.pg_class AS relation ON relation.oid = index.indrelid
    JOIN pg_catalog.pg_am AS method ON method.oid = own.relam
    LEFT JOIN pg_catalog.pg_constraint AS tied ON tied.conindid = index.indexrelid AND tied.contype IN ('p', 'u', 'x')
        AND tied.conrelid = index.indrelid
    WHERE relation.relnamespace = to_regnamespace('public')
      AND (
          relation.relname IN (SELECT tables.table_name FROM tables)
          OR relation.relname IN (SELECT views.view_name FROM views)
          OR relation.relname = 'knowledge_base'
      )
),
-- The same without those of the prerequisite.
counted_indexes AS (
    SELECT * FROM present_indexes WHERE table_name <> 'knowledge_base'
),
present_functions AS MATERIALIZED (
    SELECT
        function.oid,
        function.proname::text AS function_name,
        regexp_replace(pg_get_function_arguments(function.oid), '\w+\.vector', 'vector') AS arguments,
        pg_get_function_result(function.oid) AS result,
        language.lanname AS language,
        EXISTS (
            SELECT FROM unnest(function.proconfig) AS setting
            WHERE setting LIKE 'search_path=pg_catalog, %' AND setting LIKE '%pg_temp'
        ) AS is_pinned,
        function.prosrc AS source
    FROM pg_catalog.pg_proc AS function
    JOIN pg_catalog.pg_language AS language ON language.oid = function.prolang
    WHERE function.pronamespace = to_regnamespace('public')
      AND function.proname IN (SELECT functions.function_name FROM functions)
),
present_triggers AS MATERIALIZED (
    SELECT
        trigger.tgname::text AS trigger_name,
        relation.relname::text AS table_name,
        concat_ws(' ',
            CASE WHEN trigger.tgtype & 2 <> 0 THEN 'BEFORE' ELSE 'AFTER' END,
            (
                SELECT string_agg(event.name, ' OR ' ORDER BY event.bit)
                FROM (VALUES (4, 'INSERT'), (8, 'DELETE'), (16, 'UPDATE'), (32, 'TRUNCATE')) AS event (bit, name)
                WHERE trigger.tgtype & event.bit <> 0
            )
        )
        || CASE WHEN trigger.tgtype & 1 <> 0 THEN ', for each row: ' ELSE ', for each statement: ' END
        || present_functions.function_name || '()'
        || CASE WHEN trigger.tgqual IS NULL AND cardinality(trigger.tgattr::int2[]) = 0 THEN '' ELSE ', not always' END
        || CASE WHEN trigger.tgenabled IN ('O', 'A') THEN '' ELSE ', disabled' END AS definition
    FROM pg_catalog.pg_trigger AS trigger
    JOIN pg_catalog.pg_class AS relation ON relation.oid = trigger.tgrelid
    JOIN present_functions ON present_functions.oid = trigger.tgfoid
    WHERE NOT trigger.tgisinternal
),
-- What can be read at all: the views that exist and are populated, with how they differ from their live definitions.
readable AS MATERIALIZED (
    SELECT
        views.view_name,
        matview.ispopulated,
        matview.ispopulated AND to_regclass('public.' || views.view_name || '_live') IS NOT NULL AS ready
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
                'SELECT array_to_tsvector(ARRAY[count(*)::text]) '
                'FROM ((TABLE public.%1$I EXCEPT ALL TABLE public.%2$I) '
                'UNION ALL (TABLE public.%2$I EXCEPT ALL TABLE public.%1$I)) AS different',
                readable.view_name, readable.view_name || '_live'
            )) AS answer
        ) END AS differences
    FROM readable
),
counts (place, what, expected, found) AS (
    SELECT 1, 'tables', 6, count(*) FILTER (
        WHERE EXISTS (
            SELECT FROM pg_catalog.pg_class AS relation
            WHERE relation.oid = to_regclass('public.' || tables.table_name) AND relation.relkind IN ('r', 'p')
        )
    ) FROM tables
    UNION ALL SELECT 2, 'indexes', 37, count(*) FROM counted_indexes
    UNION ALL SELECT 3, 'functions', 5, count(*) FROM present_functions
    UNION ALL SELECT 4, 'triggers', 3, count(*) FROM present_triggers
    UNION ALL SELECT 5, 'materialized views', 2, count(ispopulated) FROM readable
    UNION ALL
    SELECT 6, 'indexes on the tables besides their primary keys', 26, count(*)
    FROM counted_indexes WHERE NOT is_primary AND table_name IN (SELECT tables.table_name FROM tables)
    UNION ALL SELECT 7, 'primary keys', 6, count(*) FROM counted_indexes WHERE is_primary
    UNION ALL SELECT 8, 'partial indexes', 3, count(*) FROM counted_indexes WHERE is_partial
    UNION ALL SELECT 9, 'indexes of unique constraints', 1, count(*) FROM counted_indexes WHERE is_constraint
    UNION ALL SELECT 10, 'HNSW indexes on the tables', 2, count(*) FROM counted_indexes WHERE method = 'hnsw'
    UNION ALL SELECT 11, 'GIN indexes', 1, count(*) FROM counted_indexes WHERE method = 'gin'
    UNION ALL
    SELECT 12, 'indexes on the materialized views', 5, count(*)
    FROM counted_indexes WHERE table_name IN (SELECT views.view_name FROM views)
    UNION ALL
    SELECT 13, 'indexes on ' || views.view_name, views.indexes, (
        SELECT count(*) FROM counted_indexes AS present WHERE present.table_name = views.view_name
    ) FROM views
    UNION ALL
    SELECT 14, 'indexes on ' || tables.table_name || ', without partial ones and unique constraints',
           tables.listed_indexes, (
        SELECT count(*)
        FROM counted_indexes AS present
        WHERE present.table_name = tables.table_name AND NOT present.is_partial AND NOT present.is_constraint
    ) FROM tables
    UNION ALL
    SELECT 15, 'columns of ' || tables.table_name, tables.columns, (
        SELECT count(*)
        FROM pg_catalog.pg_attribute AS present
        WHERE present.attrelid = to_regclass('public.' || tables.table_name)
          AND present.attnum > 0 AND NOT present.attisdropped
    ) FROM tables
),
checks (part, place, "check", expected, found, ok) AS (
    SELECT 1, 'vector', 'extension vector', '0.8 or later', coalesce(present.version, 'missing'),
           coalesce(string_to_array(substring(present.version FROM '^\d+\.\d+'), '.')::integer[] >= ARRAY[0, 8], false)
    FROM (SELECT max(extension.extversion) AS version
          FROM pg_catalog.pg_extension AS extension WHERE extension.extname = 'vector') AS present

    UNION ALL
    SELECT 2, tables.table_name, 'table ' || tables.table_name, 'a table',
           CASE relation.relkind WHEN 'r' THEN 'a table' WHEN 'p' THEN 'a partitioned table' ELSE 'missing' END,
           coalesce(relation.relkind, 'x') = 'r'
    FROM tables
    LEFT JOIN pg_catalog.pg_class AS relation ON relation.oid = to_regclass('public.' || tables.table_name)

    UNION ALL
    SELECT 3, columns.table_name || ' ' || columns.column_name,
           'column ' || columns.table_name || '.' || columns.column_name,
           columns.definition,
           coalesce(present.definition, 'missing'),
           CASE
               WHEN columns.table_name IN (SELECT tables.table_name FROM tables)
                   THEN coalesce(present.definition, '') = columns.definition
               -- Of a table that was there before, only the type is asked for.
               ELSE coalesce(regexp_replace(
                   regexp_replace(split_part(present.definition, ', ', 1), '^character varying.*', 'text'),
                   '^smallint$', 'integer'
               ), '') = columns.definition
           END
    FROM columns
    LEFT JOIN LATERAL (
        SELECT concat_ws(
            ', ',
            regexp_replace(format_type(attribute.atttypid, attribute.atttypmod), '^.*\.', ''),
            CASE WHEN attribute.attnotnull THEN 'not null' END,
            'default ' || regexp_replace(
                pg_get_expr(by_default.adbin, by_default.adrelid),
                '::(text|character varying|jsonb|numeric)(\[\])?', '', 'g'
            )
        ) AS definition
        FROM pg_catalog.pg_attribute AS attribute
        LEFT JOIN pg_catalog.pg_attrdef AS by_default
            ON by_default.adrelid = attribute.attrelid AND by_default.adnum = attribute.attnum
        WHERE attribute.attrelid = to_regclass('public.' || columns.table_name)
          AND attribute.attname = columns.column_name AND NOT attribute.attisdropped
    ) AS present ON true

    UNION ALL
    SELECT 4, constraints.table_name || ' ' || constraints.constraint_name,
           'constraint ' || constraints.constraint_name,
           constraints.table_name || ': ' || constraints.definition,
           coalesce(constraints.table_name || ': ' || present.definition, 'missing'),
           coalesce(present.definition, '') = constraints.definition
    FROM constraints
    LEFT JOIN LATERAL (
        SELECT replace(regexp_replace(
            pg_get_constraintdef(constraint_.oid), '::(text|character varying|jsonb|numeric)(\[\])?', '', 'g'
        ), 'public.', '') AS definition
        FROM pg_catalog.pg_constraint AS constraint_
        WHERE constraint_.conname = constraints.constraint_name
          AND constraint_.conrelid = to_regclass('public.' || constraints.table_name)
    ) AS present ON true

    UNION ALL
    SELECT 5, indexes.table_name || ' ' || indexes.index_name, 'index ' || indexes.index_name,
           indexes.table_name || ': ' || indexes.definition,
           coalesce(present.table_name || ': ' || present.definition, 'missing'),
           coalesce(present.table_name = indexes.table_name AND present.definition = indexes.definition, false)
    FROM indexes
    LEFT JOIN present_indexes AS present ON present.index_name = indexes.index_name

    UNION ALL
    SELECT 6, functions.function_name, 'function ' || functions.function_name,
           format('(%s) returns %s, plpgsql, pinned search path', functions.arguments, functions.result),
           coalesce(present.description, 'missing'),
           coalesce(present.description, '')
               = format('(%s) returns %s, plpgsql, pinned search path', functions.arguments, functions.result)
    FROM functions
    LEFT JOIN LATERAL (
        SELECT string_agg(
            format('(%s) returns %s, %s, %s', f.arguments, f.result, f.language,
                CASE WHEN f.is_pinned THEN 'pinned search path' ELSE 'search path not pinned' END),
            '; ' ORDER BY f.arguments
        ) AS description
        FROM present_functions AS f WHERE f.function_name = functions.function_name
    ) AS present ON true

    UNION ALL
    SELECT 7, 'skip locked', 'batch_process_learning passes over what others have taken', 'SKIP LOCKED',
           CASE WHEN present.skips THEN 'SKIP LOCKED' ELSE 'missing' END, coalesce(present.skips, false)
    FROM (
        SELECT bool_and(source LIKE '%FOR UPDATE SKIP LOCKED%') AS skips
        FROM present_functions WHERE function_name = 'batch_process_learning'
    ) AS present

    UNION ALL
    SELECT 8, triggers.trigger_name, 'trigger ' || triggers.trigger_name,
           triggers.table_name || ': ' || triggers.definition,
           coalesce(present.table_name || ': ' || present.definition, 'missing'),
           coalesce(present.table_name = triggers.table_name AND present.definition = triggers.definition, false)
    FROM triggers
    LEFT JOIN present_triggers AS present ON present.trigger_name = triggers.trigger_name

    UNION ALL
    SELECT 9, readable.view_name, 'materialized view ' || readable.view_name, 'populated',
           CASE WHEN readable.ispopulated THEN 'populated' WHEN NOT readable.ispopulated THEN 'not populated'
                ELSE 'missing' END,
           coalesce(readable.ispopulated, false)
    FROM readable

    UNION ALL
    SELECT 10, views.view_name, 'columns of ' || views.view_name, views.columns, coalesce(present.columns, 'missing'),
           coalesce(present.columns = views.columns, false)
    FROM views
    LEFT JOIN LATERAL (
        SELECT string_agg(attribute.attname::text, ', ' ORDER BY attribute.attnum) AS columns
        FROM pg_catalog.pg_attribute AS attribute
        WHERE attribute.attrelid = to_regclass('public.' || views.view_name) AND attribute.attnum > 0
          AND NOT attribute.attisdropped
    ) AS present ON true

    UNION ALL
    -- A change of any of these is what refreshes the views, and makes answers stale, between two refreshes by time.
    SELECT 11, watched.table_name, 'watch on ' || watched.table_name,
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
    -- A text that is new or another one waits for its embedding.
    SELECT 12, embedded.table_name, 'embeddings follow ' || embedded.table_name || '.' || embedded.text_column,
           'INSERT, UPDATE',
           coalesce(present.events, 'nothing'),
           coalesce(present.events, '') = 'INSERT, UPDATE'
    FROM embedded
    LEFT JOIN LATERAL (
        SELECT string_agg(DISTINCT event.name, ', ' ORDER BY event.name) AS events
        FROM pg_catalog.pg_trigger AS trigger
        JOIN (VALUES (4, 'INSERT'), (16, 'UPDATE')) AS event (bit, name) ON trigger.tgtype & event.bit <> 0
        WHERE trigger.tgrelid = to_regclass('public.' || embedded.table_name)
          AND trigger.tgfoid = to_regprocedure('afresh.queue_embedding()')
          AND split_part(encode(trigger.tgargs, 'escape'), '\000', 1) = embedded.text_column
          AND trigger.tgenabled IN ('O', 'A')
    ) AS present ON true

    UNION ALL
    SELECT 13, figures.view_name, figures.view_name || ' equals ' || figures.view_name || '_live',
           '0 rows differ', coalesce(figures.differences || ' rows differ', 'cannot be read'),
           coalesce(figures.differences = 0, false)
    FROM figures

    UNION ALL
    SELECT 14, to_char(counts.place, 'FM00') || counts.what, 'count: ' || counts.what,
           counts.expected::text, counts.found::text, counts.expected = counts.found
    FROM counts
)
SELECT "check", expected, found, ok
FROM checks
ORDER BY part, place;
