-- A conversation becomes a reservation
-- depends: public_chat_0009_chat

-- migrate: apply

-- SECURITY DEFINER: a visitor may write no reservation and set no session's status, except in this way. The cookie has to
-- be the request's own as well as the argument's, so that nobody converts what he cannot read. Dates, guests and unit
-- that are not given are those of the conversation. What the reservation costs is what the unit's prices say.
CREATE FUNCTION public.convert_prospective_session(
    cookie_id text,
    guest_name text DEFAULT NULL,
    guest_email text DEFAULT NULL,
    guest_phone text DEFAULT NULL,
    unit_id uuid DEFAULT NULL,
    check_in date DEFAULT NULL,
    check_out date DEFAULT NULL,
    adults integer DEFAULT NULL,
    children integer DEFAULT NULL,
    OUT "sessionId" uuid,
    OUT "reservationId" uuid,
    OUT "reservationCode" text,
    OUT status text,
    OUT "checkIn" date,
    OUT "checkOut" date,
    OUT guests jsonb,
    OUT "unitName" text,
    OUT "totalPrice" numeric,
    OUT currency text
) RETURNS record
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    session public.prospective_sessions;
    unit public.accommodation_units_public;
    today date;
    said_adults integer;
    said_children integer;
BEGIN
    IF cookie_id IS NULL OR cookie_id IS DISTINCT FROM public.public_chat_cookie_id() THEN
        RAISE EXCEPTION 'there is no such conversation' USING ERRCODE = 'no_data_found', HINT = 'Look at cookieId.';
    END IF;
    SELECT s.* INTO session
    FROM public.prospective_sessions AS s
    WHERE s.cookie_id = convert_prospective_session.cookie_id AND s.status = 'active' AND s.expires_at > now()
    FOR UPDATE;
    IF NOT FOUND THEN
        IF EXISTS (
            SELECT FROM public.prospective_sessions AS s
            WHERE s.cookie_id = convert_prospective_session.cookie_id AND s.status = 'converted'
        ) THEN
            RAISE EXCEPTION 'this conversation has become a reservation already'
                USING ERRCODE = 'unique_violation', HINT = 'To book once more, begin with a new message.';
        END IF;
        RAISE EXCEPTION 'there is no such conversation'
            USING ERRCODE = 'no_data_found', HINT = 'It may have expired: conversations end seven days after the last message.';
    END IF;

    -- The date in the house; where the house takes part no more, nothing can be booked.
    SELECT h.today INTO today FROM public.public_chat_house(session.tenant_id) AS h;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the house takes no reservations here at the moment' USING ERRCODE = 'foreign_key_violation';
    END IF;
    "checkIn" := coalesce(check_in, public.public_chat_date(session.travel_intent ->> 'check_in'));
    "checkOut" := coalesce(check_out, public.public_chat_date(session.travel_intent ->> 'check_out'));
    IF "checkIn" IS NULL OR "checkOut" IS NULL THEN
        RAISE EXCEPTION 'the dates are missing'
            USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Send checkIn and checkOut, or let the visitor say both in the chat first.';
    ELSIF NOT isfinite("checkIn") OR NOT isfinite("checkOut") OR "checkOut" <= "checkIn"
        OR "checkOut" - "checkIn" > 90 OR "checkIn" < today
    THEN
        RAISE EXCEPTION 'nobody can stay from % to %', "checkIn", "checkOut"
            USING ERRCODE = 'invalid_parameter_value',
            HINT = 'The arrival is today or later, and the departure after it, by ninety nights at the most.';
    END IF;

    said_adults := coalesce(
        adults, public.public_chat_whole_number(session.travel_intent -> 'adults', 1),
        public.public_chat_whole_number(session.travel_intent -> 'guests', 1), 1
    );
    said_children := coalesce(children, public.public_chat_whole_number(session.travel_intent -> 'children'), 0);
    IF said_adults NOT BETWEEN 1 AND 50 OR said_children NOT BETWEEN 0 AND 50 THEN
        RAISE EXCEPTION 'a reservation is for 1 to 50 adults and up to 50 children' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF char_length(guest_name) > 200 OR char_length(guest_email) > 320 OR char_length(guest_phone) > 50 THEN
        RAISE EXCEPTION 'guestName, guestEmail or guestPhone is too long' USING ERRCODE = 'invalid_parameter_value';
    ELSIF btrim(guest_email) !~ '^[^@[:space:]]+@[^@[:space:]]+$' AND btrim(guest_email) <> '' THEN
        RAISE EXCEPTION 'guestEmail is no address' USING ERRCODE = 'invalid_parameter_value', HINT = 'name@example.com';
    END IF;
    IF unit_id IS NOT NULL THEN
        SELECT u.* INTO unit
        FROM public.accommodation_units_public AS u
        WHERE u.id = unit_id AND u.tenant_id = session.tenant_id AND u.is_active AND u.is_bookable;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no such unit to be booked' USING ERRCODE = 'foreign_key_violation', HINT = 'Look at unitId.';
        END IF;
        IF public.public_chat_whole_number(unit.amenities -> 'capacity', 1) < said_adults + said_children THEN
            RAISE EXCEPTION '% has room for % guests', unit.name, unit.amenities ->> 'capacity'
                USING ERRCODE = 'invalid_parameter_value', HINT = 'Choose a larger unit, or leave unitId out.';
        END IF;
    END IF;

    "totalPrice" := public.accommodation_price(unit.pricing, "checkIn", "checkOut");
    currency := unit.pricing ->> 'currency';
    INSERT INTO public.guest_reservations AS r (
        tenant_id, accommodation_unit_id, public_unit_id, guest_name, guest_email, guest_phone, check_in_date, check_out_date,
        adults, children, total_price, currency, preferences
    )
    VALUES (
        session.tenant_id, unit.source_unit_id, unit.id, nullif(btrim(guest_name), ''), nullif(btrim(guest_email), ''),
        nullif(btrim(guest_phone), ''), "checkIn", "checkOut", said_adults, said_children, "totalPrice", currency,
        CASE WHEN jsonb_typeof(session.travel_intent -> 'preferences') = 'array'
            THEN session.travel_intent -> 'preferences' ELSE '[]' END
    )
    RETURNING r.id, r.reservation_code, r.status INTO "reservationId", "reservationCode", status;
    UPDATE public.prospective_sessions AS s
    SET status = 'converted', converted_to_reservation_id = "reservationId", conversion_date = now()
    WHERE s.session_id = session.session_id;
    "sessionId" := session.session_id;
    "unitName" := unit.name;
    guests := jsonb_build_object('adults', said_adults, 'children', said_children);
END
$$;

COMMENT ON FUNCTION public.convert_prospective_session(text, text, text, text, uuid, date, date, integer, integer) IS
    'Makes a pending reservation of the visitor''s own conversation, once';

REVOKE ALL ON FUNCTION public.convert_prospective_session(text, text, text, text, uuid, date, date, integer, integer)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.convert_prospective_session(text, text, text, text, uuid, date, date, integer, integer)
    TO anon, authenticated, service_role;

-- migrate: rollback

DROP FUNCTION public.convert_prospective_session(text, text, text, text, uuid, date, date, integer, integer);
