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
-- Up to five hundred entries that the shop can see are compared one by one, and none is missed. Where there are more, the
-- search goes through the HNSW index over all shops, and is left at the first entry that is not similar enough: usually
-- the very first. (To look at a shop's entries alone costs less by the planner's figures, which leave out that each
-- embedding is stored outside its row; with 2,000 of them it took tens of milliseconds.) iterative_scan lets the index
-- go on past its first candidates. Where a thousand similar ones are not enough, being of other shops, the shop's own are
-- compared after all.
CREATE FUNCTION public.check_similar_knowledge(
    p_shop_id integer, p_content text, p_embedding vector, p_threshold numeric DEFAULT 0.85
) RETURNS TABLE (knowledge_id uuid, content text, category text, similarity numeric)
LANGUAGE plpgsql STABLE
SET hnsw.iterative_scan = 'strict_order'
SET hnsw.ef_search = 100
SET enable_seqscan = off
SET enable_sort = off
AS $$
DECLARE
    shop integer := coalesce(p_shop_id, 0);
    threshold numeric := coalesce(p_threshold, 0.85);
    direction vector := CASE WHEN vector_norm(p_embedding) > 0 THEN p_embedding END;
    near record;
    seen integer := 0;
    finished boolean := false;
    one_by_one boolean;
    near_ids uuid[] := '{}';
    likenesses numeric[] := '{}';
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

    IF direction IS NOT NULL THEN
        SELECT count(*) <= 500 INTO one_by_one
        FROM (
            SELECT FROM public.knowledge_base AS known
            WHERE known.shop_id = shop OR known.shop_id = 0 OR known.shop_id IS NULL
            LIMIT 501
        ) AS visible;
        IF NOT one_by_one THEN
            FOR near IN
                SELECT
                    known.id,
                    coalesce(known.shop_id, 0) IN (0, shop) AS is_visible,
                    round(nullif(1 - (known.embedding <=> direction), 'NaN')::numeric, 6) AS likeness
                FROM public.knowledge_base AS known
                WHERE known.embedding IS NOT NULL
                ORDER BY known.embedding <=> direction
                LIMIT 1000
            LOOP
                finished := coalesce(near.likeness < threshold, true) OR cardinality(near_ids) = 10;
                EXIT WHEN finished;
                seen := seen + 1;
                IF near.is_visible THEN
                    near_ids := near_ids || near.id;
                    likenesses := likenesses || near.likeness;
                END IF;
            END LOOP;
            one_by_one := NOT finished AND seen = 1000 AND cardinality(near_ids) < 10;
        END IF;
        IF one_by_one THEN
            -- Adding 0 keeps the index out.
            SELECT coalesce(array_agg(own.id), '{}'), coalesce(array_agg(own.likeness), '{}')
            INTO near_ids, likenesses
            FROM (
                SELECT known.id, round(nullif(1 - (known.embedding <=> direction), 'NaN')::numeric, 6) AS likeness
                FROM public.knowledge_base AS known
                WHERE known.embedding IS NOT NULL
                  AND (known.shop_id = shop OR known.shop_id = 0 OR known.shop_id IS NULL)
                ORDER BY (known.embedding <=> direction) + 0
                LIMIT 10
            ) AS own;
        END IF;
    END IF;

    RETURN QUERY
    WITH same AS MATERIALIZED (
        SELECT known.id, 1.0::numeric AS likeness
        FROM public.knowledge_base AS known
        WHERE md5(lower(btrim(known.content))) = md5(lower(btrim(p_content)))
          AND (known.shop_id = shop OR known.shop_id = 0 OR known.shop_id IS NULL)
        LIMIT 10
    ),
    found AS (
        SELECT either.id, max(either.likeness) AS likeness
        FROM (
            SELECT same.id, same.likeness FROM same
            UNION ALL
            SELECT each.id, each.likeness FROM unnest(near_ids, likenesses) AS each (id, likeness)
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
