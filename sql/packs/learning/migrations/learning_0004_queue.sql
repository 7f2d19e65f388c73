-- What fills the learning queue and keeps its record: three functions and their triggers
-- depends: learning_0003_tables

-- migrate: apply

-- Negative is a thumb down, or two points or fewer, whatever the kind of feedback. A reason makes the item worth more:
-- confidence 60, without one 40. The item dates from the feedback.
CREATE FUNCTION public.trigger_learning_from_negative_feedback() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    reason text := nullif(btrim(NEW.reason), '');
    item record;
BEGIN
    IF NEW.feedback_type = 'thumbs_down' OR NEW.rating <= 2 THEN
        INSERT INTO public.learning_queue (
            source_type, source_id, shop_id, proposed_content, category, confidence_score, metadata, created_at
        )
        SELECT
            'feedback',
            NEW.id,
            coalesce(NEW.shop_id, conversation.shop_id),
            coalesce(reason, 'Negative feedback without a reason')
                || coalesce(E'\nResponse: ' || nullif(btrim(NEW.response_text), ''), ''),
            coalesce(NEW.metadata ->> 'category', 'feedback'),
            CASE WHEN reason IS NULL THEN 40 ELSE 60 END,
            jsonb_strip_nulls(jsonb_build_object(
                'conversation_id', NEW.conversation_id,
                'feedback_type', NEW.feedback_type,
                'rating', NEW.rating
            )),
            NEW.created_at
        FROM public.conversations AS conversation
        WHERE conversation.id = NEW.conversation_id
        ON CONFLICT (source_type, source_id) DO NOTHING
        RETURNING id, status, source_type, source_id, confidence_score INTO item;
        IF FOUND THEN
            INSERT INTO public.learning_audit_log (action, table_name, record_id, new_values, performed_by)
            VALUES (
                'queued', 'learning_queue', item.id, to_jsonb(item) - 'id',
                coalesce(
                    nullif(current_setting('learning.performed_by', true), ''), NEW.user_id::text, session_user::text
                )
            );
        END IF;
    END IF;
    RETURN NULL;
END
$$;

-- The owner's priority is the item's confidence.
CREATE FUNCTION public.trigger_learning_from_corrections() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
BEGIN
    INSERT INTO public.learning_queue (
        source_type, source_id, shop_id, proposed_content, category, confidence_score, metadata, created_at
    )
    SELECT
        'correction',
        NEW.id,
        conversation.shop_id,
        NEW.corrected_answer,
        coalesce(NEW.metadata ->> 'category', 'correction'),
        CASE NEW.priority WHEN 'urgent' THEN 95 WHEN 'high' THEN 90 WHEN 'normal' THEN 75 ELSE 60 END,
        jsonb_strip_nulls(jsonb_build_object(
            'conversation_id', NEW.conversation_id,
            'priority', NEW.priority,
            'original_response', NEW.original_response,
            'correction_context', NEW.correction_context
        )),
        NEW.created_at
    FROM public.conversations AS conversation
    WHERE conversation.id = NEW.conversation_id
    ON CONFLICT (source_type, source_id) DO NOTHING
    RETURNING id, status, source_type, source_id, confidence_score INTO item;
    IF FOUND THEN
        INSERT INTO public.learning_audit_log (action, table_name, record_id, new_values, performed_by)
        VALUES (
            'queued', 'learning_queue', item.id, to_jsonb(item) - 'id',
            coalesce(
                nullif(current_setting('learning.performed_by', true), ''), NEW.corrected_by::text, session_user::text
            )
        );
    END IF;
    RETURN NULL;
END
$$;

-- Every UPDATE of an item goes through here, whoever makes it, so this is where the item's rules are kept:
--   * updated_at is the moment of the update, by the clock that runs on inside a transaction.
--   * applied and duplicate are final. A review (one that sets reviewed_at) is of a pending or a failed item.
--   * A status brings its dates with it: approved and rejected reviewed_at, applied applied_at; pending takes the
--     review back.
--   * Text that changed makes the embedding void, unless the new one comes with it.
--   * What changed is written into the audit log. Embeddings are not: they follow from the text.
CREATE FUNCTION public.update_learning_queue_timestamp() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    turned boolean := NEW.status <> OLD.status;
    changed record;
BEGIN
    NEW.updated_at := clock_timestamp();

    IF turned AND OLD.status IN ('applied', 'duplicate') THEN
        RAISE EXCEPTION 'learning item % is % and cannot become %', OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'check_violation',
            HINT = 'Knowledge is taken back in the knowledge base, or corrected by a new item.';
    END IF;
    IF NEW.reviewed_at IS DISTINCT FROM OLD.reviewed_at AND NEW.reviewed_at IS NOT NULL
        AND OLD.status NOT IN ('pending', 'failed')
    THEN
        RAISE EXCEPTION 'learning item % is % already and cannot be reviewed', OLD.id, OLD.status
            USING ERRCODE = 'check_violation',
            HINT = 'Only pending and failed items are reviewed. Set one back to pending first to judge it anew.';
    END IF;

    IF turned AND NEW.status IN ('approved', 'rejected') THEN
        NEW.reviewed_at := CASE
            WHEN NEW.reviewed_at IS DISTINCT FROM OLD.reviewed_at THEN NEW.reviewed_at ELSE NEW.updated_at
        END;
    ELSIF turned AND NEW.status = 'pending' THEN
        NEW.reviewed_at := NULL;
        NEW.reviewed_by := NULL;
    ELSIF turned AND NEW.status = 'applied' THEN
        NEW.applied_at := coalesce(NEW.applied_at, NEW.updated_at);
    END IF;

    IF NEW.proposed_content <> OLD.proposed_content AND NEW.embedding IS NOT DISTINCT FROM OLD.embedding THEN
        NEW.embedding := NULL;
    END IF;

    SELECT jsonb_object_agg(key, was.value) AS old_values, jsonb_object_agg(key, becomes.value) AS new_values
    INTO changed
    FROM jsonb_each(jsonb_build_object(
        'status', OLD.status, 'shop_id', OLD.shop_id, 'proposed_content', OLD.proposed_content,
        'category', OLD.category, 'confidence_score', OLD.confidence_score, 'metadata', OLD.metadata,
        'reviewed_by', OLD.reviewed_by, 'reviewed_at', OLD.reviewed_at, 'applied_at', OLD.applied_at
    )) AS was
    JOIN jsonb_each(jsonb_build_object(
        'status', NEW.status, 'shop_id', NEW.shop_id, 'proposed_content', NEW.proposed_content,
        'category', NEW.category, 'confidence_score', NEW.confidence_score, 'metadata', NEW.metadata,
        'reviewed_by', NEW.reviewed_by, 'reviewed_at', NEW.reviewed_at, 'applied_at', NEW.applied_at
    )) AS becomes USING (key)
    WHERE was.value <> becomes.value;

    IF changed.new_values IS NOT NULL THEN
        INSERT INTO public.learning_audit_log (action, table_name, record_id, old_values, new_values, performed_by)
        VALUES (
            CASE WHEN NOT turned THEN 'updated' WHEN NEW.status = 'pending' THEN 'reopened' ELSE NEW.status END,
            'learning_queue',
            NEW.id,
            changed.old_values,
            changed.new_values,
            coalesce(
                CASE WHEN turned AND NEW.status IN ('approved', 'rejected') THEN NEW.reviewed_by::text END,
                nullif(current_setting('learning.performed_by', true), ''),
                session_user::text
            )
        );
    END IF;
    RETURN NEW;
END
$$;

-- Comparing two embeddings takes pgvector's operator, wherever that is.
DO $$
BEGIN
    EXECUTE format(
        'ALTER FUNCTION public.update_learning_queue_timestamp() SET search_path = pg_catalog, %I, pg_temp',
        (SELECT namespace.nspname
         FROM pg_catalog.pg_extension AS extension
         JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = extension.extnamespace
         WHERE extension.extname = 'vector')
    );
END
$$;

COMMENT ON FUNCTION public.trigger_learning_from_negative_feedback() IS
    'A thumb down, or two points or fewer, becomes an item of the learning queue';
COMMENT ON FUNCTION public.trigger_learning_from_corrections() IS
    'An owner''s correction becomes an item of the learning queue, as sure as its priority';
COMMENT ON FUNCTION public.update_learning_queue_timestamp() IS
    'Sets updated_at, keeps the rules of an item''s status, and writes what changed into the audit log';

CREATE TRIGGER trg_feedback_learning
AFTER INSERT ON public.conversation_feedback
FOR EACH ROW EXECUTE FUNCTION public.trigger_learning_from_negative_feedback();

CREATE TRIGGER trg_corrections_learning
AFTER INSERT ON public.owner_corrections
FOR EACH ROW EXECUTE FUNCTION public.trigger_learning_from_corrections();

CREATE TRIGGER trg_learning_queue_updated_at
BEFORE UPDATE ON public.learning_queue
FOR EACH ROW EXECUTE FUNCTION public.update_learning_queue_timestamp();

-- migrate: rollback

SET LOCAL lock_timeout = '2s';

DROP TRIGGER IF EXISTS trg_feedback_learning ON public.conversation_feedback;
DROP TRIGGER IF EXISTS trg_corrections_learning ON public.owner_corrections;
DROP TRIGGER IF EXISTS trg_learning_queue_updated_at ON public.learning_queue;
DROP FUNCTION IF EXISTS public.trigger_learning_from_negative_feedback();
DROP FUNCTION IF EXISTS public.trigger_learning_from_corrections();
DROP FUNCTION IF EXISTS public.update_learning_queue_timestamp();
