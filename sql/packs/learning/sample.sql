-- Sample data: conversations of a quarter of a year, and what was learnt from them.
--
-- SET afresh.sample_size = '1000' beforehand asks for that many conversations; unset, it is 50. Run it in one
-- transaction. It refuses a database whose tables hold rows, so it mixes with nobody's data and cannot run twice. The
-- same size gives the same data, apart from the dates, which are counted back from now, and the ids of what the triggers
-- make: every figure comes from a hash of the conversation's number, not from random(), so no plan and no order of rows
-- can change it. The embeddings are made up: those of one topic point in about one direction, those of one text in
-- the same. The metrics are not refreshed here: the watched tables tell the service, and `afresh refresh` does it by hand.

DO $$
DECLARE
    asked text := coalesce(nullif(current_setting('afresh.sample_size', true), ''), '50');
    full_table text;
    holds_rows boolean;
BEGIN
    IF asked !~ '^[0-9]{1,7}$' OR asked::integer < 1 THEN
        RAISE EXCEPTION 'afresh.sample_size is %, which is not a number of conversations', quote_literal(asked)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a whole number from 1 to 9999999.';
    END IF;
    PERFORM set_config('afresh.sample_size', asked, true), set_config('row_security', 'off', true);
    FOREACH full_table IN ARRAY ARRAY[
        'conversations', 'knowledge_base', 'conversation_feedback', 'owner_corrections', 'learning_queue',
        'response_analytics', 'voice_transcripts', 'learning_audit_log'
    ] LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', full_table) INTO holds_rows;
        IF holds_rows THEN
            RAISE EXCEPTION 'sample data are for empty tables, and public.% holds rows', full_table
                USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Load them into a database of their own, or empty the tables of the pack learning first.';
        END IF;
    END LOOP;
END
$$;

SELECT pg_catalog.set_config('search_path', concat_ws(
    ', ', nullif(current_setting('search_path'), ''), quote_ident(namespace.nspname)
), true)
FROM pg_catalog.pg_extension AS extension
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = extension.extnamespace
WHERE extension.extname = 'vector';

SELECT pg_catalog.set_config('learning.performed_by', 'sample data', true);

-- A number from 0 up to but not including 1, the same for the same row and purpose for ever.
CREATE FUNCTION pg_temp.draw(item bigint, purpose bigint) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT (hashint8extended(item, purpose) & 16777215) / 16777216.0::double precision';

CREATE FUNCTION pg_temp.made_id(kind text, item bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT md5(kind || item)::uuid';

-- What people ask about, four texts to a topic.
CREATE TEMPORARY TABLE sample_texts ON COMMIT DROP AS
SELECT
    (subject.number - 1) * 4 + aspect.number - 1 AS number,
    format(aspect.sentence, subject.name) AS text,
    subject.name AS topic,
    (
        SELECT array_agg(
            pg_temp.draw(subject.number * 1000 + place, 1) - 0.5
            + 0.7 * (pg_temp.draw((subject.number * 10 + aspect.number) * 1000 + place, 2) - 0.5)
            ORDER BY place
        )
        FROM generate_series(1, 768) AS place
    )::vector(768) AS embedding
FROM unnest(ARRAY[
    'opening hours', 'delivery', 'returns', 'invoices', 'appointments', 'winter tyres', 'storage of wheels',
    'brake service', 'air conditioning', 'inspection', 'gift vouchers', 'payment by card', 'parking', 'loan cars',
    'guarantees', 'spare parts', 'discounts', 'telephone hours', 'cancellations', 'online booking', 'fleet customers',
    'wheel alignment', 'oil changes', 'batteries'
]) WITH ORDINALITY AS subject (name, number)
CROSS JOIN unnest(ARRAY[
    'About %s: on public holidays it is different from other days.',
    'About %s: a customer needs no appointment, but should call before he comes.',
    'About %s: the price on the web page is the one that holds.',
    'About %s: questions are answered by the branch itself and not by the head office.'
]) WITH ORDINALITY AS aspect (sentence, number);

CREATE TEMPORARY TABLE sample_conversations ON COMMIT DROP AS
SELECT
    n AS number,
    pg_temp.made_id('conversation', n) AS id,
    CASE
        WHEN pg_temp.draw(n, 11) < 0.10 THEN NULL
        WHEN pg_temp.draw(n, 11) < 0.15 THEN 0
        ELSE 1 + floor(pg_temp.draw(n, 12) * (2 + sqrt(current_setting('afresh.sample_size')::integer)))::integer
    END AS shop_id,
    CASE
        WHEN pg_temp.draw(n, 13) < 0.25 THEN 'voice' WHEN pg_temp.draw(n, 13) < 0.35 THEN 'email' ELSE 'chat'
    END AS channel,
    now() - make_interval(secs => 3600 + floor(pg_temp.draw(n, 14) * 90 * 86400)) AS began
FROM generate_series(1, current_setting('afresh.sample_size')::bigint) AS n;

ANALYZE pg_temp.sample_texts, pg_temp.sample_conversations;

INSERT INTO public.conversations (id, shop_id, customer_name, channel, status, created_at, updated_at)
SELECT
    id,
    shop_id,
    (ARRAY['Amara', 'Ben', 'Chloe', 'Daniel', 'Elena', 'Farid', 'Grace', 'Hiro', 'Isla', 'Jonas'])[
        floor(pg_temp.draw(number, 15) * 10)::integer + 1],
    channel,
    CASE
        WHEN pg_temp.draw(number, 16) < 0.1 THEN 'open' WHEN pg_temp.draw(number, 16) < 0.4 THEN 'handed_off'
        ELSE 'closed'
    END,
    began,
    began + interval '30 minutes'
FROM sample_conversations
ORDER BY number;

-- What was known before anything was learnt: some of the texts, for all shops or for one; a few entries are still
-- without their embedding.
INSERT INTO public.knowledge_base (id, shop_id, content, category, embedding, source, created_at, updated_at)
SELECT
    pg_temp.made_id('knowledge', number),
    CASE WHEN pg_temp.draw(number, 22) < 0.4 THEN NULL WHEN pg_temp.draw(number, 22) < 0.5 THEN 0 ELSE 1 END,
    text,
    topic,
    CASE WHEN pg_temp.draw(number, 23) < 0.95 THEN embedding END,
    CASE WHEN pg_temp.draw(number, 24) < 0.7 THEN 'manual' ELSE 'import' END,
    now() - interval '100 days',
    now() - interval '100 days'
FROM sample_texts
WHERE pg_temp.draw(number, 21) < 0.3
ORDER BY number;

-- Up to three reactions to each conversation, of every kind; negative ones go into the queue by the trigger.
INSERT INTO public.conversation_feedback (
    id, conversation_id, feedback_type, rating, reason, created_at, response_text, user_id
)
SELECT
    pg_temp.made_id('feedback', item),
    conversation.id,
    kind.name,
    CASE
        WHEN kind.name = 'rating' OR pg_temp.draw(item, 33) < 0.3
            THEN 1 + floor(pg_temp.draw(item, 34) * 5)::integer
    END,
    CASE WHEN pg_temp.draw(item, 35) < 0.8 THEN wording.text END,
    conversation.began + make_interval(mins => k),
    CASE WHEN pg_temp.draw(item, 36) < 0.5 THEN 'You will find that on our web page.' END,
    CASE WHEN pg_temp.draw(item, 37) < 0.5 THEN pg_temp.made_id('user', conversation.number) END
FROM sample_conversations AS conversation
CROSS JOIN LATERAL generate_series(1, floor(pg_temp.draw(conversation.number, 31) * 4)::integer) AS k
CROSS JOIN LATERAL (SELECT conversation.number * 10 + k AS item) AS numbered
CROSS JOIN LATERAL (
    SELECT (ARRAY['thumbs_up', 'thumbs_down', 'thumbs_down', 'rating', 'comment'])[
        floor(pg_temp.draw(item, 32) * 5)::integer + 1] AS name
) AS kind
JOIN sample_texts AS wording ON wording.number = floor(pg_temp.draw(item, 38) * 96)::integer;

INSERT INTO public.owner_corrections (
    id, conversation_id, original_response, corrected_answer, priority, correction_context, created_at, corrected_by
)
SELECT
    pg_temp.made_id('correction', conversation.number),
    conversation.id,
    'I am not sure, please ask in the branch.',
    wording.text,
    (ARRAY['low', 'normal', 'high', 'urgent'])[floor(pg_temp.draw(conversation.number, 42) * 4)::integer + 1],
    CASE WHEN pg_temp.draw(conversation.number, 43) < 0.5 THEN 'A customer had been told something else.' END,
    conversation.began + interval '20 minutes',
    pg_temp.made_id('owner', coalesce(conversation.shop_id, 0))
FROM sample_conversations AS conversation
JOIN sample_texts AS wording ON wording.number = floor(pg_temp.draw(conversation.number, 44) * 96)::integer
WHERE pg_temp.draw(conversation.number, 41) < 0.35;

-- Telephone calls; the conversations of some are gone.
INSERT INTO public.voice_transcripts (
    id, conversation_id, transcript, processed_summary, embedding, sentiment, entities, learning_insights, created_at
)
SELECT
    pg_temp.made_id('transcript', conversation.number),
    CASE WHEN pg_temp.draw(conversation.number, 51) < 0.9 THEN conversation.id END,
    'Good morning. ' || wording.text || ' Thank you, goodbye.',
    CASE WHEN pg_temp.draw(conversation.number, 52) < 0.8 THEN 'A question about ' || wording.topic END,
    CASE WHEN pg_temp.draw(conversation.number, 53) < 0.8 THEN wording.embedding END,
    (ARRAY['positive', 'neutral', 'neutral', 'negative', 'mixed'])[
        floor(pg_temp.draw(conversation.number, 54) * 5)::integer + 1],
    jsonb_build_object('topic', wording.topic, 'shop', coalesce(conversation.shop_id, 0)),
    CASE WHEN pg_temp.draw(conversation.number, 55) < 0.3 THEN jsonb_build_object('gap', wording.topic) ELSE '{}' END,
    conversation.began + interval '15 minutes'
FROM sample_conversations AS conversation
JOIN sample_texts AS wording ON wording.number = floor(pg_temp.draw(conversation.number, 56) * 96)::integer
WHERE conversation.channel = 'voice';

-- What did not come by a trigger: proposals from calls and from the figures, and those of people.
INSERT INTO public.learning_queue (
    source_type, source_id, shop_id, proposed_content, category, confidence_score, created_at
)
SELECT
    kind.name,
    CASE kind.name
        WHEN 'transcript' THEN pg_temp.made_id('transcript', conversation.number)
        WHEN 'analytics' THEN pg_temp.made_id('analytics', conversation.number * 10 + 1)
    END,
    conversation.shop_id,
    wording.text,
    wording.topic,
    floor(pg_temp.draw(conversation.number, 62) * 101)::integer,
    conversation.began + interval '40 minutes'
FROM sample_conversations AS conversation
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN conversation.channel = 'voice' THEN 'transcript'
        WHEN pg_temp.draw(conversation.number, 61) < 0.15 THEN 'analytics'
        WHEN pg_temp.draw(conversation.number, 61) < 0.30 THEN 'manual'
    END AS name
) AS kind
JOIN sample_texts AS wording ON wording.number = floor(pg_temp.draw(conversation.number, 63) * 96)::integer
WHERE kind.name IS NOT NULL;

-- Two to seven responses in each conversation; a few were not measured.
INSERT INTO public.response_analytics (
    id, conversation_id, response_text, response_type, user_engagement_score, led_to_conversion, response_time_ms,
    ab_test_variant, metrics, created_at
)
SELECT
    pg_temp.made_id('analytics', item),
    conversation.id,
    'You will find that on our web page.',
    (ARRAY['answer', 'answer', 'answer', 'recommendation', 'clarification', 'handoff', 'fallback'])[
        floor(pg_temp.draw(item, 72) * 7)::integer + 1],
    CASE WHEN pg_temp.draw(item, 73) < 0.9 THEN round((pg_temp.draw(item, 74) * 100)::numeric, 2) END,
    pg_temp.draw(item, 75) < 0.18,
    CASE WHEN pg_temp.draw(item, 76) < 0.95 THEN 150 + floor(4000 * power(pg_temp.draw(item, 77), 3))::integer END,
    (ARRAY['A', 'B', NULL])[floor(pg_temp.draw(item, 78) * 3)::integer + 1],
    jsonb_build_object('tokens', 20 + floor(pg_temp.draw(item, 79) * 400)::integer),
    conversation.began + make_interval(mins => k)
FROM sample_conversations AS conversation
CROSS JOIN LATERAL generate_series(1, 2 + floor(pg_temp.draw(conversation.number, 71) * 6)::integer) AS k
CROSS JOIN LATERAL (SELECT conversation.number * 10 + k AS item) AS numbered;

-- What became of the items. Their source, shop and text tell them apart, as their ids are the server's.
CREATE TEMPORARY TABLE sample_items ON COMMIT DROP AS
SELECT
    item.*,
    CASE
        WHEN item.chance < 0.10 THEN 'rejected'
        WHEN item.chance < 0.30 THEN 'approved'
        WHEN item.wording IS NULL OR item.chance < 0.50 OR NOT item.embedded THEN 'pending'
        WHEN item.chance < 0.55 THEN 'failed'
        WHEN item.known OR row_number() OVER (
            PARTITION BY item.shop, item.wording, item.embedded AND item.chance >= 0.55
            ORDER BY item.created_at, item.key
        ) > 1 THEN 'duplicate'
        ELSE 'applied'
    END AS outcome
FROM (
    SELECT
        queued.id, queued.created_at, queued.source_type, queued.source_id, keyed.key,
        coalesce(queued.shop_id, 0) AS shop,
        wording.number AS wording,
        pg_temp.draw(keyed.key, 81) AS chance,
        pg_temp.draw(keyed.key, 82) < 0.85 AS embedded,
        EXISTS (
            SELECT FROM public.knowledge_base AS entry
            WHERE entry.content = wording.text AND coalesce(entry.shop_id, 0) IN (0, coalesce(queued.shop_id, 0))
        ) AS known
    FROM public.learning_queue AS queued
    CROSS JOIN LATERAL (
        SELECT hashtextextended(
            concat_ws(' ', queued.source_type, queued.source_id, queued.shop_id, queued.proposed_content), 80
        ) AS key
    ) AS keyed
    LEFT JOIN sample_texts AS wording ON wording.text = split_part(queued.proposed_content, E'\n', 1)
) AS item;

ANALYZE pg_temp.sample_items;

UPDATE public.learning_queue AS queued
SET embedding = wording.embedding,
    status = CASE
        WHEN item.outcome = 'pending' THEN 'pending' WHEN item.outcome = 'rejected' THEN 'rejected' ELSE 'approved'
    END,
    reviewed_by = CASE WHEN item.outcome <> 'pending' THEN pg_temp.made_id('owner', item.shop) END,
    reviewed_at = CASE WHEN item.outcome <> 'pending' THEN least(queued.created_at + interval '5 hours', now()) END
FROM sample_items AS item
LEFT JOIN sample_texts AS wording ON wording.number = item.wording AND item.embedded
WHERE queued.id = item.id AND (item.outcome <> 'pending' OR wording.embedding IS NOT NULL);

SELECT pg_catalog.set_config('learning.performed_by', 'batch_process_learning', true);

INSERT INTO public.knowledge_base (
    id, shop_id, content, category, embedding, source, source_id, metadata, created_at, updated_at
)
SELECT
    pg_temp.made_id('learnt', item.key), queued.shop_id, queued.proposed_content, queued.category, queued.embedding,
    'learning', queued.id,
    jsonb_build_object('source_type', queued.source_type, 'confidence_score', queued.confidence_score),
    queued.reviewed_at, queued.reviewed_at
FROM sample_items AS item
JOIN public.learning_queue AS queued USING (id)
WHERE item.outcome = 'applied';

UPDATE public.learning_queue AS queued
SET status = item.outcome,
    applied_at = CASE WHEN item.outcome = 'applied' THEN queued.reviewed_at END,
    metadata = queued.metadata || CASE item.outcome
        WHEN 'applied' THEN jsonb_build_object('knowledge_id', pg_temp.made_id('learnt', item.key))
        WHEN 'duplicate' THEN jsonb_build_object('duplicate_of', entry.id, 'similarity', 1)
        ELSE jsonb_build_object('error', jsonb_build_object(
            'sqlstate', '23514', 'message', 'the knowledge base refused this text', 'at', queued.reviewed_at
        ))
    END
FROM sample_items AS item
LEFT JOIN LATERAL (
    SELECT known.id
    FROM public.knowledge_base AS known
    JOIN sample_texts AS wording ON wording.text = split_part(known.content, E'\n', 1)
    WHERE wording.number = item.wording AND coalesce(known.shop_id, 0) IN (0, item.shop)
    ORDER BY known.created_at, known.id
    LIMIT 1
) AS entry ON true
WHERE queued.id = item.id AND item.outcome IN ('applied', 'duplicate', 'failed');

UPDATE public.owner_corrections AS correction
SET applied_at = queued.applied_at
FROM public.learning_queue AS queued
WHERE queued.source_type = 'correction' AND queued.source_id = correction.id AND queued.status = 'applied';

INSERT INTO public.learning_audit_log (action, table_name, record_id, old_values, new_values, performed_by)
SELECT
    'correction_applied', 'owner_corrections', correction.id, jsonb_build_object('applied_at', NULL),
    jsonb_build_object('applied_at', correction.applied_at), 'batch_process_learning'
FROM public.owner_corrections AS correction
WHERE correction.applied_at IS NOT NULL;

SELECT pg_catalog.set_config('learning.performed_by', '', true);

DROP FUNCTION pg_temp.made_id(text, bigint);
DROP FUNCTION pg_temp.draw(bigint, bigint);

-- The planner needs figures before the first refresh, and autovacuum comes later than that.
ANALYZE public.conversations, public.knowledge_base, public.conversation_feedback, public.owner_corrections,
    public.learning_queue, public.response_analytics, public.voice_transcripts, public.learning_audit_log;
