-- The chat: a message comes in, the session is begun or continued, and units are found
-- depends: public_chat_0008_travel_intent

-- migrate: apply

SELECT set_config('search_path', concat_ws(', ', nullif(current_setting('search_path'), ''), quote_ident(n.nspname)), true)
FROM pg_catalog.pg_extension AS e
JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'vector';

CREATE FUNCTION public.public_chat_wishes(wishes jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(wish #>> '{}'), '{}')
    FROM jsonb_array_elements(CASE WHEN jsonb_typeof(wishes) = 'array' THEN wishes ELSE '[]' END) AS wish
    WHERE jsonb_typeof(wish) = 'string'
$$;

COMMENT ON FUNCTION public.public_chat_wishes(jsonb) IS 'A list of wishes out of an intent, whatever is in there';

-- The units to speak of. First those that the search finds and that have room for all: among them those come first that
-- offer the most of what was asked for by name and the least of what was ruled out. Where the search finds none, or none
-- that offers anything asked for by name, those that do offer it (`named`); where there are none of these either, the
-- newest; and where no unit has room for so many, the largest. `matched_by` says which.
--
-- The threshold is low: an embedding made of words alone puts a question of five words and a page about a room not near
-- each other. What is asked for by name decides then.
CREATE FUNCTION public.public_chat_units(
    house uuid, intent jsonb, query_embedding vector(1024), OUT matched_by text, OUT units jsonb
) RETURNS record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    shown constant integer := 4;
    looked_at constant integer := 24;
    threshold constant double precision := 0.02;
    -- A unit for six is not what four are looking for, if there is one for four that is as near.
    beds_too_many constant double precision := 0.03;
    guests constant integer := coalesce(public.public_chat_whole_number(intent -> 'guests', 1), 1);
    check_in constant date := public.public_chat_date(intent ->> 'check_in');
    check_out constant date := public.public_chat_date(intent ->> 'check_out');
    wanted constant text[] := public.public_chat_wishes(intent -> 'preferences');
    unwanted constant text[] := public.public_chat_wishes(intent -> 'not_wanted');
    similarities jsonb;
    chosen uuid[];
    fulfilled bigint;
BEGIN
    SELECT coalesce(jsonb_object_agg(m.id, m.similarity), '{}') INTO similarities
    FROM public.match_accommodations_public(query_embedding, house, threshold, looked_at) AS m;

    SELECT array_agg(best.id ORDER BY best.place), max(best.fulfilled) INTO chosen, fulfilled
    FROM (
        SELECT
            u.id,
            judged.fulfilled,
            row_number() OVER (
                ORDER BY judged.fulfilled - judged.ruled_out DESC,
                    (similarities ->> u.id::text)::double precision
                        - beds_too_many * CASE WHEN intent ? 'guests' THEN coalesce(u.capacity - guests, 0) ELSE 0 END DESC,
                    u.id
            ) AS place
        FROM jsonb_object_keys(similarities) AS near (id)
        JOIN public.accommodation_units_public AS u ON u.id = near.id::uuid
        CROSS JOIN LATERAL (
            SELECT
                (SELECT count(*) FROM unnest(u.features) AS f WHERE f = ANY (wanted)) AS fulfilled,
                (SELECT count(*) FROM unnest(u.features) AS f WHERE f = ANY (unwanted)) AS ruled_out
        ) AS judged
        WHERE u.is_active AND u.is_bookable AND coalesce(u.capacity, guests) >= guests
        ORDER BY place
        LIMIT shown
    ) AS best;
    matched_by := CASE WHEN fulfilled > 0 OR fulfilled = 0 AND wanted = '{}' THEN 'search' END;

    IF matched_by IS NULL THEN
        SELECT array_agg(best.id ORDER BY best.place), max(best.fulfilled) INTO chosen, fulfilled
        FROM (
            SELECT
                u.id,
                judged.fulfilled,
                row_number() OVER (
                    ORDER BY judged.fulfilled - judged.ruled_out DESC, u.created_at DESC, u.id
                ) AS place
            FROM public.accommodation_units_public AS u
            CROSS JOIN LATERAL (
                SELECT
                    CASE WHEN u.features && wanted
                        THEN (SELECT count(*) FROM unnest(u.features) AS f WHERE f = ANY (wanted)) ELSE 0 END AS fulfilled,
                    CASE WHEN u.features && unwanted
                        THEN (SELECT count(*) FROM unnest(u.features) AS f WHERE f = ANY (unwanted)) ELSE 0 END AS ruled_out
            ) AS judged
            WHERE u.tenant_id = house AND u.is_active AND u.is_bookable AND coalesce(u.capacity, guests) >= guests
            ORDER BY place
            LIMIT shown
        ) AS best;
        matched_by := CASE WHEN fulfilled > 0 THEN 'named' WHEN fulfilled = 0 THEN 'newest' END;
    END IF;

    IF matched_by IS NULL THEN
        SELECT array_agg(best.id ORDER BY best.capacity DESC, best.id) INTO chosen
        FROM (
            SELECT u.id, u.capacity
            FROM public.accommodation_units_public AS u
            WHERE u.tenant_id = house AND u.is_active AND u.is_bookable
            ORDER BY u.capacity DESC, u.id
            LIMIT shown
        ) AS best;
        matched_by := CASE WHEN chosen IS NULL THEN 'nothing' ELSE 'largest' END;
    END IF;

    SELECT coalesce(jsonb_agg(
        jsonb_build_object(
            'id', u.id, 'name', u.name, 'unitType', u.unit_type, 'capacity', u.capacity,
            'shortDescription', u.short_description, 'highlights', to_jsonb(u.highlights), 'amenities', u.amenities,
            'fulfils', (SELECT coalesce(jsonb_agg(w), '[]') FROM unnest(wanted) AS w WHERE w = ANY (u.features)),
            'similarity', round((similarities ->> u.id::text)::numeric, 4),
            'pricing', u.pricing, 'totalPrice', public.accommodation_price(u.pricing, check_in, check_out),
            'photos', u.photos, 'virtualTourUrl', u.virtual_tour_url
        ) ORDER BY array_position(chosen, u.id)
    ), '[]')
    INTO units
    FROM public.accommodation_units_public AS u
    WHERE u.id = ANY (chosen);
END
$$;

COMMENT ON FUNCTION public.public_chat_units(uuid, jsonb, vector) IS
    'The units to tell a visitor of, best first, and how they were found: search, named, newest, largest, or nothing';

-- The answer where no chat model writes one: what was understood, the units, and what is still to be said.
CREATE FUNCTION public.public_chat_answer(intent jsonb, matched_by text, units jsonb) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat_ws(
        E'\n',
        CASE
            WHEN matched_by IN ('search', 'named') THEN CASE WHEN spanish THEN 'Esto es lo que mejor encaja' ELSE 'These fit best' END || asked.for_whom || ':'
            WHEN matched_by = 'newest' THEN CASE
                WHEN spanish THEN 'No he encontrado nada que encaje exactamente' || asked.for_whom || '. Estas son nuestras opciones más recientes:'
                ELSE 'I found nothing that matches exactly' || asked.for_whom || '. These are our newest:'
            END
            WHEN matched_by = 'largest' THEN CASE
                WHEN spanish THEN 'Ninguno de nuestros alojamientos tiene sitio para ' || (intent ->> 'guests') || ' personas. Estos son los más grandes; quizá dos de ellos:'
                ELSE 'None of our units has room for ' || (intent ->> 'guests') || ' guests. These are the largest; perhaps two of them:'
            END
            ELSE CASE WHEN spanish THEN 'Ahora mismo no hay nada disponible para reservar.' ELSE 'There is nothing to be booked at the moment.' END
        END,
        (
            SELECT string_agg(
                concat_ws(
                    ' ',
                    unit.place || '. ' || (unit.value ->> 'name') || ':',
                    unit.value ->> 'shortDescription',
                    CASE
                        WHEN jsonb_typeof(unit.value -> 'totalPrice') = 'number' THEN concat_ws(
                            ' ', '(' || (unit.value #>> '{pricing,currency}'),
                            trim_scale((unit.value ->> 'totalPrice')::numeric)
                                || CASE WHEN spanish THEN ' en total)' ELSE ' in all)' END
                        )
                        WHEN jsonb_typeof(unit.value #> '{pricing,base_price_night}') = 'number' THEN concat_ws(
                            ' ', CASE WHEN spanish THEN '(desde' ELSE '(from' END, unit.value #>> '{pricing,currency}',
                            trim_scale((unit.value #>> '{pricing,base_price_night}')::numeric)
                                || CASE WHEN spanish THEN ' por noche)' ELSE ' a night)' END
                        )
                    END
                ), E'\n' ORDER BY unit.place
            )
            FROM jsonb_array_elements(units) WITH ORDINALITY AS unit (value, place)
        ),
        CASE
            WHEN matched_by = 'nothing' THEN NULL
            WHEN NOT intent ? 'check_in' AND NOT intent ? 'guests' THEN
                CASE WHEN spanish THEN '¿Qué fechas tiene pensadas, y para cuántas personas?' ELSE 'Which dates do you have in mind, and for how many?' END
            WHEN NOT intent ? 'check_in' THEN
                CASE WHEN spanish THEN '¿Qué fechas tiene pensadas?' ELSE 'Which dates do you have in mind?' END
            WHEN NOT intent ? 'check_out' THEN
                CASE WHEN spanish THEN '¿Cuántas noches?' ELSE 'For how many nights?' END
            WHEN NOT intent ? 'guests' THEN
                CASE WHEN spanish THEN '¿Para cuántas personas?' ELSE 'For how many?' END
        END
    )
    FROM (SELECT coalesce(intent ->> 'language', 'en') = 'es' AS spanish) AS tongue
    CROSS JOIN LATERAL (
        SELECT coalesce(
            CASE WHEN intent ? 'guests' THEN CASE WHEN spanish THEN ' para ' ELSE ' for ' END || (intent ->> 'guests') END, ''
        ) || coalesce(
            CASE
                WHEN intent ? 'check_in' AND intent ? 'check_out' THEN
                    CASE WHEN spanish THEN ' del ' ELSE ' from ' END || (intent ->> 'check_in')
                    || CASE WHEN spanish THEN ' al ' ELSE ' to ' END || (intent ->> 'check_out')
                WHEN intent ? 'check_in' THEN CASE WHEN spanish THEN ' desde el ' ELSE ' from ' END || (intent ->> 'check_in')
            END, ''
        ) AS for_whom
    ) AS asked
$$;

COMMENT ON FUNCTION public.public_chat_answer(jsonb, text, jsonb) IS
    'The answer composed from the units that were found, in English or Spanish';

-- What a chat model is given: who it speaks for, what it may speak of, and the conversation.
CREATE FUNCTION public.public_chat_messages(house_name text, today date, intent jsonb, matched_by text, units jsonb, history jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_array(jsonb_build_object('role', 'system', 'content', concat_ws(
        E'\n',
        'You answer visitors of ' || house_name || ', who ask about places to stay. Today is ' || today || '.',
        'Speak only of the units below, of nothing that is not written there, and never of other houses. Quote prices as given.',
        'Answer in the language of the visitor''s last message, briefly. Ask for dates or the number of guests where they are missing.',
        CASE matched_by
            WHEN 'newest' THEN 'Nothing matched what was asked for: say so, and offer these instead.'
            WHEN 'largest' THEN 'No unit has room for so many guests: say so, and offer these instead.'
            WHEN 'nothing' THEN 'Nothing can be booked at the moment: say so.'
        END,
        'What the visitor has said so far: ' || intent::text,
        'Units, as JSON: ' || (
            SELECT coalesce(jsonb_agg(unit.value - ARRAY['photos', 'id', 'similarity'] ORDER BY unit.place), '[]')::text
            FROM jsonb_array_elements(units) WITH ORDINALITY AS unit (value, place)
        )
    ))) || (
        SELECT coalesce(
            jsonb_agg(jsonb_build_object('role', said.value -> 'role', 'content', said.value -> 'content') ORDER BY said.place),
            '[]'
        )
        FROM jsonb_array_elements(history) WITH ORDINALITY AS said (value, place)
        WHERE said.value ->> 'role' IN ('user', 'assistant') AND jsonb_typeof(said.value -> 'content') = 'string'
    )
$$;

COMMENT ON FUNCTION public.public_chat_messages(text, date, jsonb, text, jsonb, jsonb) IS
    'The messages for a chat model: the house, the units and what is known, then the conversation';

-- Runs with the caller's rights, so that the policies hold whatever is in here. A visitor without a cookie gets one; one
-- who brings a cookie must have been let in with it (request.cookie_id), or he is refused.
CREATE FUNCTION public.public_chat(
    message text,
    cookie_id text,
    house uuid,
    utm jsonb,
    query_embedding vector(1024),
    OUT "cookieId" text,
    OUT "sessionId" uuid,
    OUT created boolean,
    OUT "expiresAt" timestamptz,
    OUT "travelIntent" jsonb,
    OUT "matchedBy" text,
    OUT units jsonb,
    OUT answer text,
    OUT messages jsonb
) RETURNS record
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    longest constant integer := 2000;
    place record;
    session public.prospective_sessions;
    said jsonb;
    heard jsonb;
BEGIN
    IF coalesce(public.public_chat_plain(left(message, longest + 1)), '') = '' THEN
        RAISE EXCEPTION 'the message is empty' USING ERRCODE = 'invalid_parameter_value', HINT = 'Send a text in "message".';
    ELSIF char_length(message) > longest THEN
        RAISE EXCEPTION 'the message has % characters, and may have %', char_length(message), longest
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Say it in fewer words, or in several messages.';
    ELSIF public_chat.cookie_id !~ '^[A-Za-z0-9_-]{16,128}$' THEN
        RAISE EXCEPTION 'the cookie is none of ours'
            USING ERRCODE = 'invalid_parameter_value',
            HINT = 'A cookie is 16 to 128 letters, digits, - and _. Leave cookieId out to get one.';
    ELSIF jsonb_typeof(utm) NOT IN ('object', 'null') OR pg_column_size(utm) > 8192 THEN
        RAISE EXCEPTION 'utm is not an object of a few entries'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Send {"utm_source": "…", "utm_campaign": "…"}, or leave it out.';
    END IF;
    SELECT h.name, h.today INTO place FROM public.public_chat_house(house) AS h;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such tenant' USING ERRCODE = 'foreign_key_violation', HINT = 'Look at tenantId.';
    END IF;

    "cookieId" := public_chat.cookie_id;
    IF "cookieId" IS NULL THEN
        "cookieId" := gen_random_uuid()::text;
        PERFORM set_config('request.cookie_id', "cookieId", true);
    END IF;
    said := jsonb_build_array(jsonb_build_object('role', 'user', 'content', message, 'at', now()));
    heard := public.extract_travel_intent(message, place.today);
    utm := CASE WHEN jsonb_typeof(utm) = 'object' THEN utm ELSE '{}' END;

    -- Two first messages at once: one makes the session, the other waits for it and continues it.
    INSERT INTO public.prospective_sessions AS s (tenant_id, cookie_id, conversation_history, travel_intent, utm_tracking)
    VALUES (house, "cookieId", said, public.merge_travel_intent('{}', heard), utm)
    ON CONFLICT (cookie_id) WHERE status = 'active' DO NOTHING
    RETURNING s.* INTO session;
    created := FOUND;
    IF NOT created THEN
        SELECT s.* INTO session
        FROM public.prospective_sessions AS s
        WHERE s.cookie_id = "cookieId" AND s.status = 'active'
        FOR UPDATE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the conversation has ended this moment'
                USING ERRCODE = 'serialization_failure', HINT = 'Send the message again.';
        ELSIF session.tenant_id <> house THEN
            RAISE EXCEPTION 'this conversation is with another tenant'
                USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave cookieId out to begin one with this tenant.';
        END IF;
        created := session.expires_at <= now();
        UPDATE public.prospective_sessions AS s
        SET conversation_history = CASE WHEN created THEN said ELSE s.conversation_history || said END,
            travel_intent = public.merge_travel_intent(CASE WHEN created THEN '{}' ELSE s.travel_intent END, heard),
            -- What brought the visitor here first is what counts, until a new conversation begins.
            utm_tracking = CASE WHEN created THEN utm ELSE utm || s.utm_tracking END
        WHERE s.session_id = session.session_id
        RETURNING s.* INTO session;
    END IF;

    "sessionId" := session.session_id;
    "expiresAt" := session.expires_at;
    "travelIntent" := session.travel_intent;
    SELECT u.matched_by, u.units INTO "matchedBy", units
    FROM public.public_chat_units(house, session.travel_intent, query_embedding) AS u;
    answer := public.public_chat_answer(session.travel_intent, "matchedBy", units);
    messages := public.public_chat_messages(
        place.name, place.today, session.travel_intent, "matchedBy", units, session.conversation_history
    );
END
$$;

COMMENT ON FUNCTION public.public_chat(text, text, uuid, jsonb, vector) IS
    'A visitor''s message: begins or continues the session, and answers with units and what to say of them';

-- After the answer is final: it is the conversation's next message.
CREATE FUNCTION public.public_chat_answered(answered jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- The cookie may be new, and then the request did not bring it.
    IF public.public_chat_cookie_id() IS NULL THEN
        PERFORM set_config('request.cookie_id', coalesce(answered ->> 'cookieId', ''), true);
    END IF;
    UPDATE public.prospective_sessions
    SET conversation_history = conversation_history
        || jsonb_build_array(jsonb_build_object('role', 'assistant', 'content', left(answered ->> 'answer', 8000), 'at', now()))
    WHERE cookie_id = answered ->> 'cookieId' AND session_id = (answered ->> 'sessionId')::uuid AND status = 'active'
        AND answered ->> 'answer' <> '';
END
$$;

COMMENT ON FUNCTION public.public_chat_answered(jsonb) IS
    'Appends the answer to the conversation; given the row that public_chat made, with the final answer in it';

-- migrate: rollback

SELECT set_config('search_path', concat_ws(', ', nullif(current_setting('search_path'), ''), quote_ident(n.nspname)), true)
FROM pg_catalog.pg_extension AS e
JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'vector';

DROP FUNCTION public.public_chat_answered(jsonb);
DROP FUNCTION public.public_chat(text, text, uuid, jsonb, vector);
DROP FUNCTION public.public_chat_messages(text, date, jsonb, text, jsonb, jsonb);
DROP FUNCTION public.public_chat_answer(jsonb, text, jsonb);
DROP FUNCTION public.public_chat_units(uuid, jsonb, vector);
DROP FUNCTION public.public_chat_wishes(jsonb);
