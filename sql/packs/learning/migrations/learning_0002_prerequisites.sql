-- What the learning pipeline stands on: conversations, and the knowledge base that it teaches
-- depends: learning_0001_vector

-- migrate: apply

-- pgvector may be in a schema of its own.
SELECT pg_catalog.set_config('search_path', concat_ws(
    ', ', nullif(current_setting('search_path'), ''), quote_ident(namespace.nspname)
), true)
FROM pg_catalog.pg_extension AS extension
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = extension.extnamespace
WHERE extension.extname = 'vector';

-- A system that has these two tables already keeps them as they are; what is made here carries a mark, by which taking
-- the pack away again knows it.
DO $$
BEGIN
    IF to_regclass('public.conversations') IS NULL THEN
        CREATE TABLE public.conversations (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            shop_id integer CHECK (shop_id >= 0),
            customer_name text,
            channel text NOT NULL DEFAULT 'chat' CHECK (channel IN ('chat', 'voice', 'email')),
            status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'handed_off', 'closed')),
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now()
        );
        COMMENT ON TABLE public.conversations IS
            'Conversations between customers and the assistant (made by the Afresh pack learning)';
        COMMENT ON COLUMN public.conversations.shop_id IS 'Whose conversation it is; NULL or 0: no shop in particular';
    END IF;
    IF to_regclass('public.knowledge_base') IS NULL THEN
        CREATE TABLE public.knowledge_base (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            shop_id integer CHECK (shop_id >= 0),
            content text NOT NULL CHECK (btrim(content) <> ''),
            category text,
            embedding vector(768),
            source text NOT NULL DEFAULT 'manual' CHECK (source IN ('manual', 'import', 'learning')),
            source_id uuid,
            metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now()
        );
        COMMENT ON TABLE public.knowledge_base IS
            'What the assistant knows (made by the Afresh pack learning)';
        COMMENT ON COLUMN public.knowledge_base.shop_id IS 'For which shop it holds; NULL or 0: for every shop';
        COMMENT ON COLUMN public.knowledge_base.source IS
            'Where it comes from: written by hand, imported, or learnt from the learning queue';
        COMMENT ON COLUMN public.knowledge_base.source_id IS 'Of what was learnt: the item of the learning queue';
    END IF;
END
$$;

-- Tables that were here before must have what the pipeline reads and writes: all that is missing is in one report.
DO $$
DECLARE
    problems text;
BEGIN
    SELECT string_agg(
        CASE
            WHEN relation.relkind NOT IN ('r', 'p') THEN format('public.%s is not a table', needed.table_name)
            WHEN present.attname IS NULL THEN
                format('public.%s has no column %I (%s)', needed.table_name, needed.column_name, needed.types[1])
            ELSE format(
                'public.%s.%I is of type %s, where %s is needed',
                needed.table_name, needed.column_name, kind.name, needed.types[1]
            )
        END, E'\n' ORDER BY needed.place
    ) INTO problems
    FROM (VALUES
        (1, 'conversations', 'id', ARRAY['uuid']),
        (2, 'conversations', 'shop_id', ARRAY['integer', 'smallint']),
        (3, 'knowledge_base', 'id', ARRAY['uuid']),
        (4, 'knowledge_base', 'shop_id', ARRAY['integer']),
        (5, 'knowledge_base', 'content', ARRAY['text', 'character varying']),
        (6, 'knowledge_base', 'category', ARRAY['text', 'character varying']),
        (7, 'knowledge_base', 'embedding', ARRAY['vector(768)']),
        (8, 'knowledge_base', 'source', ARRAY['text', 'character varying']),
        (9, 'knowledge_base', 'source_id', ARRAY['uuid']),
        (10, 'knowledge_base', 'metadata', ARRAY['jsonb'])
    ) AS needed (place, table_name, column_name, types)
    JOIN pg_catalog.pg_class AS relation ON relation.oid = to_regclass('public.' || needed.table_name)
    LEFT JOIN pg_catalog.pg_attribute AS present
        ON present.attrelid = relation.oid AND present.attname = needed.column_name AND present.attnum > 0
            AND NOT present.attisdropped
    CROSS JOIN LATERAL (
        SELECT regexp_replace(format_type(present.atttypid, present.atttypmod), '^.*\.', '') AS name
    ) AS kind
    WHERE relation.relkind NOT IN ('r', 'p') OR present.attname IS NULL
        OR CASE WHEN kind.name LIKE 'vector%' THEN kind.name ELSE regexp_replace(kind.name, '\(.*$', '') END
            <> ALL (needed.types);
    IF problems IS NOT NULL THEN
        RAISE EXCEPTION 'the learning pipeline cannot stand on the tables that are there'
            USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = problems,
            HINT = 'Add the columns (ALTER TABLE … ADD COLUMN …) or change their types, then migrate again.';
    END IF;
END
$$;

-- migrate: rollback

-- Each goes only if the pack made it, it is empty and nothing else depends on it; otherwise it stays, and a notice
-- says why. The lock comes before the look, so that no row arrives between the two.
DO $$
DECLARE
    table_name text;
    holds_rows boolean;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true), set_config('row_security', 'off', true);
    FOREACH table_name IN ARRAY ARRAY['knowledge_base', 'conversations'] LOOP
        IF to_regclass('public.' || table_name) IS NULL THEN
            CONTINUE;
        END IF;
        IF coalesce(obj_description(to_regclass('public.' || table_name), 'pg_class'), '')
            NOT LIKE '%(made by the Afresh pack learning)'
        THEN
            RAISE NOTICE 'public.% stays: it was there before the pack learning', table_name;
            CONTINUE;
        END IF;
        EXECUTE format('LOCK TABLE public.%I IN ACCESS EXCLUSIVE MODE', table_name);
        EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', table_name) INTO holds_rows;
        IF holds_rows THEN
            RAISE NOTICE 'public.% stays: it holds rows', table_name;
            CONTINUE;
        END IF;
        BEGIN
            EXECUTE format('DROP TABLE public.%I', table_name);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            RAISE NOTICE 'public.% stays: other objects depend on it', table_name;
        END;
    END LOOP;
END
$$;
