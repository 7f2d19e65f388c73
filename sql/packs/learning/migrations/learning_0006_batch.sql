-- batch_process_learning: approved items become knowledge
-- depends: learning_0005_similarity

-- migrate: apply

SELECT pg_catalog.set_config('search_path', concat_ws(
    ', ', nullif(current_setting('search_path'), ''), quote_ident(namespace.nspname)
), true)
FROM pg_catalog.pg_extension AS extension
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = extension.extnamespace
WHERE extension.extname = 'vector';

-- Takes up to p_batch_size approved items, the oldest first, and passes over those that another session has taken
-- (FOR UPDATE SKIP LOCKED), so that any number of sessions may work at once and none waits. Each item ends as
--   applied    it is an entry of the knowledge base now; the correction that it came from, if any, is applied too
--   duplicate  the knowledge base holds something at least 0.85 similar, which its metadata names. The correction
--              stays pending: the entry that it resembles may be the very one that is wrong, which a person must see
--   failed     something refused it; the error is in its metadata, and it can be reviewed again
-- and whatever becomes of one touches no other: each has a subtransaction of its own. Returned is how many were
-- applied or found to be duplicates.
--
-- Two kinds are left approved for a later run, and not counted. An item without an embedding cannot be compared with
-- anything, and waits until it has one. And where two sessions work at once, an item waits for an older approved one
-- that resembles it and is in another session's hands: neither sees what the other has not committed, and both would
-- become knowledge. What fails for a reason that is not the item's (a deadlock, a full disk) stays approved as well.
CREATE FUNCTION public.batch_process_learning(p_batch_size integer DEFAULT 100) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    performer_before text := coalesce(current_setting('learning.performed_by', true), '');
    taken uuid[];
    newest timestamptz;
    other_ids uuid[];
    other_embeddings vector[];
    other_moments timestamptz[];
    other_shops integer[];
    item_id uuid;
    item record;
    twin record;
    new_id uuid;
    processed integer := 0;
    error_state text;
    error_message text;
    error_detail text;
BEGIN
    IF p_batch_size IS NULL OR p_batch_size < 1 THEN
        RAISE EXCEPTION 'a batch of % items cannot be', coalesce(p_batch_size::text, 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number of items from 1 on; 100 to 1000 do well.';
    END IF;
    PERFORM set_config('learning.performed_by', 'batch_process_learning', true);

    SELECT array_agg(oldest.id ORDER BY oldest.created_at, oldest.id), max(oldest.created_at) INTO taken, newest
    FROM (
        SELECT queued.id, queued.created_at
        FROM public.learning_queue AS queued
        WHERE queued.status = 'approved' AND queued.embedding IS NOT NULL
        ORDER BY queued.created_at, queued.id
        LIMIT p_batch_size
        FOR UPDATE SKIP LOCKED
    ) AS oldest;

    -- Older than some of ours and not ours: so another session has them. They are few, as many as others have taken, and
    -- are compared one by one: what the index gives is nearly always all, and nearly is not enough here.
    SELECT
        array_agg(queued.id), array_agg(queued.embedding), array_agg(queued.created_at),
        array_agg(coalesce(queued.shop_id, 0))
    INTO other_ids, other_embeddings, other_moments, other_shops
    FROM public.learning_queue AS queued
    WHERE queued.status = 'approved' AND queued.embedding IS NOT NULL
      AND queued.created_at <= newest AND queued.id <> ALL (taken);

    FOREACH item_id IN ARRAY coalesce(taken, '{}') LOOP
        BEGIN
            SELECT queued.* INTO item FROM public.learning_queue AS queued WHERE queued.id = item_id;
            IF vector_norm(item.embedding) = 0 THEN
                RAISE EXCEPTION 'the embedding is all zeros, which is similar to nothing'
                    USING ERRCODE = 'data_exception', DETAIL = 'The model has made nothing of this text.';
            END IF;

            -- Before the look into the knowledge base, never after it: what the other session commits in between is
            -- then seen there.
            CONTINUE WHEN other_ids IS NOT NULL AND EXISTS (
                SELECT FROM unnest(other_ids, other_embeddings, other_moments, other_shops)
                    AS other (id, embedding, created_at, shop_id)
                WHERE (other.created_at, other.id) < (item.created_at, item.id)
                  AND other.shop_id IN (0, coalesce(item.shop_id, 0))
                  AND other.embedding <=> item.embedding <= 0.1500005
                  AND (SELECT queued.status FROM public.learning_queue AS queued WHERE queued.id = other.id)
                      = 'approved'
            );

            SELECT alike.knowledge_id, alike.similarity INTO twin
            FROM public.check_similar_knowledge(item.shop_id, item.proposed_content, item.embedding, 0.85) AS alike
            LIMIT 1;
            IF FOUND THEN
                UPDATE public.learning_queue AS queued
                SET status = 'duplicate',
                    metadata = (queued.metadata - 'error')
                        || jsonb_build_object('duplicate_of', twin.knowledge_id, 'similarity', twin.similarity)
                WHERE queued.id = item_id;
                processed := processed + 1;
                CONTINUE;
            END IF;

            INSERT INTO public.knowledge_base (shop_id, content, category, embedding, source, source_id, metadata)
            VALUES (
                item.shop_id, item.proposed_content, item.category, item.embedding, 'learning', item.id,
                jsonb_build_object('source_type', item.source_type, 'confidence_score', item.confidence_score)
            )
            RETURNING id INTO new_id;

            UPDATE public.learning_queue AS queued
            SET status = 'applied', applied_at = clock_timestamp(),
                metadata = (queued.metadata - 'error') || jsonb_build_object('knowledge_id', new_id)
            WHERE queued.id = item_id;

            IF item.source_type = 'correction' THEN
                WITH applied AS (
                    UPDATE public.owner_corrections AS correction
                    SET applied_at = clock_timestamp()
                    WHERE correction.id = item.source_id AND correction.applied_at IS NULL
                    RETURNING correction.id, correction.applied_at
                )
                INSERT INTO public.learning_audit_log (
                    action, table_name, record_id, old_values, new_values, performed_by
                )
                SELECT
                    'correction_applied', 'owner_corrections', applied.id,
                    jsonb_build_object('applied_at', NULL),
                    jsonb_build_object('applied_at', applied.applied_at, 'knowledge_id', new_id),
                    'batch_process_learning'
                FROM applied;
            END IF;
            processed := processed + 1;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS error_state = RETURNED_SQLSTATE, error_message = MESSAGE_TEXT,
                error_detail = PG_EXCEPTION_DETAIL;
            IF error_state ~ '^(40|53|55|57|58)' THEN
                RAISE WARNING 'learning item % stays approved: %', item_id, error_message;
            ELSE
                UPDATE public.learning_queue AS queued
                SET status = 'failed',
                    metadata = queued.metadata || jsonb_build_object('error', jsonb_strip_nulls(jsonb_build_object(
                        'sqlstate', error_state, 'message', error_message, 'detail', nullif(error_detail, ''),
                        'at', clock_timestamp()
                    )))
                WHERE queued.id = item_id;
            END IF;
        END;
    END LOOP;

    PERFORM set_config('learning.performed_by', performer_before, true);
    RETURN processed;
END
$$;

DO $$
BEGIN
    EXECUTE format(
        'ALTER FUNCTION public.batch_process_learning(integer) SET search_path = pg_catalog, %I, pg_temp',
        (SELECT namespace.nspname
         FROM pg_catalog.pg_extension AS extension
         JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = extension.extnamespace
         WHERE extension.extname = 'vector')
    );
END
$$;

COMMENT ON FUNCTION public.batch_process_learning(integer) IS
    'Makes up to so many approved items knowledge, or duplicates; returns how many. Any number may run at once';

-- migrate: rollback

DROP FUNCTION IF EXISTS public.batch_process_learning(integer);
