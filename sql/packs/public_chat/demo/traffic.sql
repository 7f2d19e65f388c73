-- One random thing that happens in an hour: a visitor comes, says something more, or books; a house changes a price. The
-- oldest conversations make room for new ones, so that there are about as many however long this runs.
DO $$
DECLARE
    chance double precision := random();
    house uuid;
    visit public.prospective_sessions;
    said text := (ARRAY[
        'Do you have a sea view?', 'For two adults and a child', 'And something with a pool?', 'From 3 to 7 June',
        '¿Hay desayuno?', 'Para cuatro personas'
    ])[1 + floor(random() * 6)::integer];
BEGIN
    SELECT t.tenant_id INTO house FROM public.tenant_registry AS t WHERE t.is_active ORDER BY random() LIMIT 1;
    IF house IS NULL THEN
        RETURN;
    END IF;
    SELECT s.* INTO visit
    FROM public.prospective_sessions AS s
    WHERE s.tenant_id = house AND s.status = 'active' AND s.expires_at > now()
    ORDER BY s.created_at DESC
    OFFSET floor(random() * 20)::integer
    LIMIT 1
    FOR UPDATE SKIP LOCKED;

    IF chance < 0.55 AND visit.session_id IS NOT NULL THEN
        UPDATE public.prospective_sessions
        SET conversation_history = conversation_history
                || jsonb_build_array(jsonb_build_object('role', 'user', 'content', said, 'at', now())),
            travel_intent = public.merge_travel_intent(travel_intent, public.extract_travel_intent(said, current_date))
        WHERE session_id = visit.session_id;
    ELSIF chance < 0.65 AND visit.session_id IS NOT NULL THEN
        WITH booked AS (
            INSERT INTO public.guest_reservations (tenant_id, check_in_date, check_out_date, adults)
            VALUES (house, current_date + 30, current_date + 33, 2)
            RETURNING id
        )
        UPDATE public.prospective_sessions
        SET status = 'converted', conversion_date = now(), converted_to_reservation_id = (SELECT id FROM booked)
        WHERE session_id = visit.session_id;
    ELSIF chance < 0.75 THEN
        UPDATE public.accommodation_units_public
        SET pricing = jsonb_set(
            pricing, '{base_price_night}', to_jsonb(greatest(20, coalesce((pricing ->> 'base_price_night')::numeric, 80) + 5 - floor(random() * 11)::integer))
        )
        WHERE id = (SELECT u.id FROM public.accommodation_units_public AS u WHERE u.tenant_id = house ORDER BY random() LIMIT 1);
    ELSE
        WITH gone AS (
            DELETE FROM public.prospective_sessions
            WHERE session_id IN (
                SELECT s.session_id FROM public.prospective_sessions AS s
                WHERE s.tenant_id = house ORDER BY s.created_at DESC OFFSET 200
            )
            RETURNING tenant_id, converted_to_reservation_id
        )
        DELETE FROM public.guest_reservations AS r
        USING gone
        WHERE r.tenant_id = gone.tenant_id AND r.id = gone.converted_to_reservation_id;
        INSERT INTO public.prospective_sessions (tenant_id, conversation_history, travel_intent, utm_tracking)
        VALUES (
            house, jsonb_build_array(jsonb_build_object('role', 'user', 'content', said, 'at', now())),
            public.extract_travel_intent(said, current_date), '{"utm_source": "newsletter"}'
        );
    END IF;
END
$$
