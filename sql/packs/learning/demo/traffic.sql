-- One random change such as a working day brings. What is inserted replaces the oldest once there is much of it, so
-- that the tables stay about as large as they are, however long this runs.
DO $$
DECLARE
    chance double precision := random();
    talk record;
    many bigint;
BEGIN
    -- Ids are random, so the first one from a random place on is a random one, found by the index.
    SELECT c.id, c.shop_id INTO talk
    FROM public.conversations AS c WHERE c.id >= gen_random_uuid() ORDER BY c.id LIMIT 1;
    IF NOT FOUND THEN
        SELECT c.id, c.shop_id INTO talk FROM public.conversations AS c ORDER BY c.id LIMIT 1;
    END IF;
    IF talk.id IS NULL THEN
        RETURN;
    END IF;

    CASE
        WHEN chance < 0.35 THEN
            -- A response is given and measured.
            DELETE FROM public.response_analytics
            WHERE id IN (
                SELECT a.id FROM public.response_analytics AS a
                WHERE a.conversation_id = talk.id ORDER BY a.created_at DESC, a.id OFFSET 9
            );
            INSERT INTO public.response_analytics (
                conversation_id, response_text, response_type, user_engagement_score, led_to_conversion,
                response_time_ms, ab_test_variant
            )
            VALUES (
                talk.id, 'We open at nine.',
                (ARRAY['answer', 'answer', 'recommendation', 'clarification', 'handoff', 'fallback'])[
                    floor(random() * 6)::integer + 1],
                round((random() * 100)::numeric, 2), random() < 0.2, 200 + floor(random() * 3000)::integer,
                (ARRAY['A', 'B'])[floor(random() * 2)::integer + 1]
            );
        WHEN chance < 0.60 THEN
            -- Somebody says what he thinks.
            DELETE FROM public.conversation_feedback
            WHERE id IN (
                SELECT f.id FROM public.conversation_feedback AS f
                WHERE f.conversation_id = talk.id ORDER BY f.created_at DESC, f.id OFFSET 4
            );
            INSERT INTO public.conversation_feedback (conversation_id, feedback_type, rating, reason)
            VALUES (
                talk.id, CASE WHEN random() < 0.5 THEN 'thumbs_down' ELSE 'thumbs_up' END, NULL,
                'The opening hours are others on public holidays.'
            );
        WHEN chance < 0.75 THEN
            -- The owner puts an answer right.
            DELETE FROM public.owner_corrections
            WHERE id IN (
                SELECT c.id FROM public.owner_corrections AS c
                WHERE c.conversation_id = talk.id ORDER BY c.created_at DESC, c.id OFFSET 2
            );
            INSERT INTO public.owner_corrections (conversation_id, original_response, corrected_answer, priority)
            VALUES (
                talk.id, 'We are closed on Saturdays.', 'On Saturdays we are open from nine to one.',
                (ARRAY['low', 'normal', 'high', 'urgent'])[floor(random() * 4)::integer + 1]
            );
        WHEN chance < 0.95 THEN
            -- The surest item is reviewed.
            UPDATE public.learning_queue
            SET status = CASE WHEN random() < 0.6 THEN 'approved' ELSE 'rejected' END,
                reviewed_by = gen_random_uuid(), reviewed_at = clock_timestamp()
            WHERE id = (
                SELECT q.id FROM public.learning_queue AS q
                WHERE q.status = 'pending' ORDER BY q.confidence_score DESC, q.created_at LIMIT 1
                FOR UPDATE SKIP LOCKED
            );
        ELSE
            PERFORM public.batch_process_learning(10);
    END CASE;

    -- The queue, what was learnt and the log keep three items, two entries and ten lines for each conversation.
    SELECT 3 * greatest(count(*), 20) INTO many FROM public.conversations;
    DELETE FROM public.learning_queue
    WHERE id IN (SELECT q.id FROM public.learning_queue AS q ORDER BY q.created_at DESC, q.id OFFSET many LIMIT 20);
    DELETE FROM public.knowledge_base
    WHERE id IN (
        SELECT k.id FROM public.knowledge_base AS k
        WHERE k.source = 'learning' ORDER BY k.created_at DESC, k.id OFFSET many * 2 / 3 LIMIT 20
    );
    DELETE FROM public.learning_audit_log
    WHERE id IN (
        SELECT l.id FROM public.learning_audit_log AS l ORDER BY l.performed_at DESC, l.id OFFSET many * 10 / 3 LIMIT 20
    );
END
$$
