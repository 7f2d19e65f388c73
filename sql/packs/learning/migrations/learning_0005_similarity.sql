-- check_similar_knowledge: what the knowledge base holds already that is like a text
-- depends: learning_0004_queue

-- migrate: apply

SELECT pg_catalog.set_config('search_path', concat_ws(
    ', ', nullif(current_setting('search_path'), ''), quote_ident(namespace.nspname)
), true)
FROM pg_catalog.pg_extension AS extension
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = extension.extnamespace
WHERE extension.extname = 'vector';

-- The search's setting below can be given by others than a superuser only in a session that has loaded pgvector.
SELECT '[1]'::vector AS loaded;

CREATE INDEX idx_knowledge_embedding ON public.knowledge_base USING hnsw (embedding vector_cosine_ops);
CREATE INDEX idx_knowledge_text ON public.knowledge_base (md5(lower(btrim(content))));
CREATE INDEX idx_knowledge_shop ON public.knowledge_base (shop_id);

-- Knowledge of a shop is searched together with what holds for every shop (shop_id NULL or 0). Who asks for no shop,
-- with NULL or 0, is shown what holds for every shop and no shop's own: what one shop knows is no duplicate of what all
-- are to know, and is none of the others' business.
--
-- Similarity is the cosine of the two embeddings, rounded to six decimals, so that one of 0.85 is not lost to how a
-- vector's numbers are stored. An entry of the same text, but for case and blanks around it, has 1 even while its
-- embedding, or that of the text asked for, is not there yet. An embedding of zeros has no direction, and counts as
-- none. At most ten entries, the most similar first.
--
-- The search by embedding goes through the HNSW index wherever that is cheaper than to look at all entries of a shop;
-- the plan is made for each call, since shops are of all sizes. strict_order lets the index go on where its first
-- candidates are all of other shops.
CREATE FUNCTION public.check_similar_knowledge(
    p_shop_id integer, p_content text, p_embedding vector, p_threshold numeric DEFAULT 0.85
) RETURNS TABLE (knowledge_id uuid, content text, category text, similarity numeric)
LANGUAGE plpgsql STABLE
SET hnsw.iterative_scan = 'strict_order'
SET plan_cache_mode = 'force_custom_plan'
AS $$
DECLARE
    shop integer := coalesce(p_shop_id, 0);
    threshold numeric := coalesce(p_threshold, 0.85);
    direction vector := CASE WHEN vector_norm(p_embedding) > 0 THEN p_embedding END;
BEGIN
    IF threshold NOT BETWEEN -1 AND 1 THEN
        RAISE EXCEPTION 'a similarity of % cannot be', threshold
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a threshold from -1 to 1, such as 0.85.';
    END IF;
    IF vector_dims(p_embedding) <> 768 THEN
        RAISE EXCEPTION 'the embedding has % dimensions, and those of the knowledge base have 768',
            vector_dims(p_embedding)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use the model that the knowledge base''s are made with.';
    END IF;

    RETURN QUERY
    WITH same AS MATERIALIZED (
        SELECT known.id, 1.0::numeric AS likeness
        FROM public.knowledge_base AS known
        WHERE md5(lower(btrim(known.content))) = md5(lower(btrim(p_content)))
          AND (known.shop_id = shop OR known.shop_id = 0 OR known.shop_id IS NULL)
        LIMIT 10
    ),
    near AS MATERIALIZED (
        SELECT known.id, known.embedding <=> direction AS distance
        FROM public.knowledge_base AS known
        WHERE direction IS NOT NULL AND known.embedding IS NOT NULL
          AND (known.shop_id = shop OR known.shop_id = 0 OR known.shop_id IS NULL)
        ORDER BY known.embedding <=> direction
        LIMIT 10
    ),
    found AS (
        SELECT either.id, max(either.likeness) AS likeness
        FROM (
            SELECT same.id, same.likeness FROM same
            UNION ALL
            SELECT near.id, round((1 - near.distance)::numeric, 6) FROM near WHERE near.distance <> 'NaN'
        ) AS either
        WHERE either.likeness >= threshold
        GROUP BY either.id
    )
    SELECT known.id, known.content::text, known.category::text, found.likeness
    FROM found
    JOIN public.knowledge_base AS known ON known.id = found.id
    ORDER BY found.likeness DESC, known.id
    LIMIT 10;
END
$$;

DO $$
BEGIN
    EXECUTE format(
        'ALTER FUNCTION public.check_similar_knowledge(integer, text, vector, numeric) '
        'SET search_path = pg_catalog, %I, pg_temp',
        (SELECT namespace.nspname
         FROM pg_catalog.pg_extension AS extension
         JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = extension.extnamespace
         WHERE extension.extname = 'vector')
    );
END
$$;

COMMENT ON FUNCTION public.check_similar_knowledge(integer, text, vector, numeric) IS
    'Knowledge of a shop, and of all shops, that is at least so similar to a text and its embedding';

-- migrate: rollback

SET LOCAL lock_timeout = '2s';

SELECT pg_catalog.set_config('search_path', concat_ws(
    ', ', nullif(current_setting('search_path'), ''), quote_ident(namespace.nspname)
), true)
FROM pg_catalog.pg_extension AS extension
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = extension.extnamespace
WHERE extension.extname = 'vector';

DROP FUNCTION IF EXISTS public.check_similar_knowledge(integer, text, vector, numeric);
DROP INDEX IF EXISTS public.idx_knowledge_shop;
DROP INDEX IF EXISTS public.idx_knowledge_text;
DROP INDEX IF EXISTS public.idx_knowledge_embedding;
