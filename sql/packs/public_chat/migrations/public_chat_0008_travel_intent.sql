-- What a message says of a journey: dates, guests and wishes, in English and in Spanish
-- depends: public_chat_0007_match_accommodations_public

-- migrate: apply

-- Everything here takes any text whatever and fails at none: what it does not understand it passes over. Before a regular
-- expression stands, where it can, a plain look for a word without which it cannot match: PostgreSQL keeps 32 compiled
-- expressions for each session, and compiling those that are not among them costs more than all the rest.

-- A date, or NULL where there is no such day. Years from 2000 to 2100.
CREATE FUNCTION public.public_chat_date(year integer, month integer, day integer) RETURNS date
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN year BETWEEN 2000 AND 2100 AND month BETWEEN 1 AND 12 AND day BETWEEN 1 AND 31
            AND day <= extract(day FROM make_date(year, month, 1) + interval '1 month' - interval '1 day')
        THEN make_date(year, month, day)
    END
$$;

COMMENT ON FUNCTION public.public_chat_date(integer, integer, integer) IS 'That day, or NULL where there is none';

-- A date out of an intent, in which a client may have put anything.
CREATE FUNCTION public.public_chat_date(written text) RETURNS date
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN written ~ '^\d{4}-\d\d-\d\d$' THEN public.public_chat_date(
        substr(written, 1, 4)::integer, substr(written, 6, 2)::integer, substr(written, 9, 2)::integer
    ) END
$$;

COMMENT ON FUNCTION public.public_chat_date(text) IS 'The day that 2026-03-12 names, or NULL where it names none';

CREATE FUNCTION public.public_chat_number(word text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN word ~ '^\d{1,4}$' THEN word::integer
        WHEN word IN ('a', 'an', 'one', 'un', 'una', 'uno') THEN 1
        WHEN word IN ('two', 'dos', 'both', 'ambos') THEN 2
        WHEN word IN ('three', 'tres') THEN 3
        WHEN word IN ('four', 'cuatro') THEN 4
        WHEN word IN ('five', 'cinco') THEN 5
        WHEN word IN ('six', 'seis') THEN 6
        WHEN word IN ('seven', 'siete') THEN 7
        WHEN word IN ('eight', 'ocho') THEN 8
        WHEN word IN ('nine', 'nueve') THEN 9
        WHEN word IN ('ten', 'diez') THEN 10
        WHEN word IN ('eleven', 'once') THEN 11
        WHEN word IN ('twelve', 'doce') THEN 12
        WHEN word IN ('fourteen', 'catorce') THEN 14
        WHEN word IN ('fifteen', 'quince') THEN 15
        WHEN word IN ('twenty', 'veinte') THEN 20
    END
$$;

COMMENT ON FUNCTION public.public_chat_number(text) IS 'A number written as a word in English or Spanish, or in digits';

-- Dates are marked where they stand, each as <year-month-day>, the year empty where it is not said; what is left of the
-- text is then read for guests and nights without taking "from 2 to 4 May" for either. Numbers before numbers are days
-- before months (12/3 is the twelfth of March) unless the second cannot be a month.
CREATE FUNCTION public.public_chat_mark_dates(plain text, today date) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    months constant text := 'jan(?:uary)?|ene(?:ro)?|feb(?:ruary|rero)?|march|marzo|apr(?:il)?|abr(?:il)?|mayo?|june?|junio|july?|julio|aug(?:ust)?|ago(?:sto)?|sept?(?:ember|iembre)?|setiembre|oct(?:ober|ubre)?|nov(?:ember|iembre)?|dec(?:ember)?|dic(?:iembre)?';
    weekdays constant text[] := ARRAY[
        'monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday',
        'lunes', 'martes', 'miercoles', 'jueves', 'viernes', 'sabado', 'domingo'
    ];
    small constant text := '(\d{1,2}|one|two|three|four|five|six|seven|eight|nine|ten|una?|dos|tres|cuatro|cinco|seis|siete|ocho|nueve|diez)';
    day constant text := '(\d{1,2})(?:st|nd|rd|th|ro|o)?(?!\d)';
    year constant text := '(?:,? (?:of |del? )?(20\d\d)\M)?';
    till constant text := '(?: ?- ?| (?:to|until|till|til|through|thru|and|y|e|al?|hasta) (?:the |el |dia )*)';
    nobody constant text := '(?! (?:adult|people|person|guest|child|kid|nin[oa]|pax|huesped|night|noche|day|dia|room|hab))';
    weekday integer := extract(isodow FROM today);
    marked text := replace(replace(plain, '<', ' '), '24/7', ' ');
    word text;
    part text[];
BEGIN
    -- In digits.
    IF marked LIKE '%20__-%' OR marked LIKE '%20__/%' OR marked LIKE '%20__.%' THEN
        marked := regexp_replace(marked, '\m(20\d\d)[-/.](\d{1,2})[-/.](\d{1,2})(?!\d)(?:t[\d:.]+z?)?', '<\1-\2-\3>', 'g');
    END IF;
    IF marked LIKE '%_-_%20__%' OR marked LIKE '%_/_%20__%' OR marked LIKE '%_._%20__%' THEN
        marked := regexp_replace(marked, '(?<![-<\d/.])(\d{1,2})[-/.](\d{1,2})[-/.](20\d\d)(?!\d)', '<\3-\2-\1>', 'g');
    END IF;
    IF marked LIKE '%/%' THEN
        marked := regexp_replace(marked, '(?<![-<\d/.])(\d{1,2})/(\d{1,2})/(\d\d)(?![\d/])', '<20\3-\2-\1>', 'g');
        marked := regexp_replace(marked, '(?<![-<\d/.])(\d{1,2})/(\d{1,2})(?![\d/])', '<-\2-\1>', 'g');
    END IF;

    -- By the month's name. "mar" is a month only beside a day, and the sea where an article stands before it.
    IF marked LIKE '%mar%' THEN
        marked := regexp_replace(
            marked,
            '(?<=\d(?:st|nd|rd|th)? (?:de |of )?)mar\M\.?|(?<!\m(?:al|el|del|la|vistas?|a|hacia|de) )\mmar\M\.?(?= (?:the )?\d)',
            '#03#', 'g'
        );
    END IF;
    FOR part IN
        SELECT DISTINCT told.parts FROM regexp_matches(marked, '\m(' || months || ')\M', 'g') AS told (parts)
    LOOP
        -- Three letters tell the months apart; the two languages have four of them differently.
        word := CASE left(part[1], 3)
            WHEN 'ene' THEN 'jan' WHEN 'abr' THEN 'apr' WHEN 'ago' THEN 'aug' WHEN 'dic' THEN 'dec' WHEN 'set' THEN 'sep'
            ELSE left(part[1], 3)
        END;
        marked := regexp_replace(
            marked, '\m' || part[1] || '\M\.?',
            '#' || lpad(((strpos('janfebmaraprmayjunjulaugsepoctnovdec', word) + 2) / 3)::text, 2, '0') || '#', 'g'
        );
    END LOOP;
    IF marked LIKE '%#%' THEN
        marked := regexp_replace(
            marked, '\m' || day || till || day || ' ?(?:of |de )?#(\d\d)#' || year, '<\4-\3-\1> to <\4-\3-\2>', 'g'
        );
        marked := regexp_replace(
            marked, '#(\d\d)# ?(?:the )?' || day || till || day || nobody || '(?! ?(?:of |de )?#)' || year,
            '<\4-\1-\2> to <\4-\1-\3>', 'g'
        );
        marked := regexp_replace(marked, '\m' || day || ' ?(?:of |de |del )?#(\d\d)#' || year, '<\3-\2-\1>', 'g');
        marked := regexp_replace(marked, '#(\d\d)# ?(?:the )?' || day || nobody || year, '<\3-\1-\2>', 'g');
    END IF;

    -- From today on.
    IF marked LIKE '%tomorrow%' OR marked LIKE '%manana%' THEN
        marked := regexp_replace(
            marked, '\m(?:day after tomorrow|pasado manana)\M', to_char(today + 2, '"<"YYYY-MM-DD">"'), 'g'
        );
        marked := regexp_replace(
            marked, '\mtomorrow\M|(?<!\m(?:la|de) )\mmanana\M', to_char(today + 1, '"<"YYYY-MM-DD">"'), 'g'
        );
    END IF;
    IF marked LIKE '%today%' OR marked LIKE '%tonight%' OR marked LIKE '%hoy%' OR marked LIKE '%esta noche%' THEN
        marked := regexp_replace(
            marked, '\m(?:today|tonight|hoy|esta noche)\M', to_char(today, '"<"YYYY-MM-DD">"'), 'g'
        );
    END IF;
    IF marked LIKE '%this weekend%' OR marked LIKE '%este fin%' THEN
        -- From the coming Friday to its Sunday.
        marked := regexp_replace(
            marked, '\m(?:this weekend|este (?:fin de semana|finde))\M',
            to_char(today + (12 - weekday) % 7, '"<"YYYY-MM-DD"> to "')
                || to_char(today + (12 - weekday) % 7 + 2, '"<"YYYY-MM-DD">"'),
            'g'
        );
    END IF;
    FOR number IN 1..14 LOOP
        CONTINUE WHEN strpos(marked, weekdays[number]) = 0;
        -- The next such day, a week from today where it is today's.
        marked := regexp_replace(
            marked, '\m(?:on|this|next|from|until|el|este|proximo|del|al|hasta el)(?: proximo)? ' || weekdays[number] || '\M',
            ' ' || to_char(today + ((number - 1) % 7 + 7 - weekday) % 7 + 1, '"<"YYYY-MM-DD">"'), 'g'
        );
    END LOOP;
    IF marked ~ '\m(?:in|en|dentro de) \w+ (?:days|dias|weeks?|semanas?)\M' THEN
        part := regexp_match(marked, '\m(?:in|en|dentro de) ' || small || ' (days|dias|weeks?|semanas?)\M');
        IF part IS NOT NULL THEN
            marked := regexp_replace(
                marked, '\m(?:in|en|dentro de) ' || small || ' (?:days|dias|weeks?|semanas?)\M',
                to_char(
                    today + public.public_chat_number(part[1]) * CASE WHEN part[2] ~ '^[ws]' THEN 7 ELSE 1 END,
                    '"<"YYYY-MM-DD">"'
                )
            );
        END IF;
    END IF;
    RETURN marked;
END
$$;

COMMENT ON FUNCTION public.public_chat_mark_dates(text, date) IS
    'A plain text with each date in it written as <2026-03-12>, or <-03-12> where no year is said';

-- The first date is the arrival, unless words before it say that it is the departure; the second is the departure. A
-- date without a year is the next one from today on (a departure: the next one after the arrival), and what is past is
-- nothing that can be booked. Stays are of ninety nights at the most.
CREATE FUNCTION public.extract_travel_dates(marked text, today date) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    longest constant integer := 90;
    number constant text := '(\d{1,2}|one|two|three|four|five|six|seven|eight|nine|ten|una?|dos|tres|cuatro|cinco|seis|siete|ocho|nueve|diez)';
    leaving constant text := '(?:\muntil|\mtill|\mtil|\mleav\w*|\mdepart\w*|\mcheck(?:ing)?[ -]?out|\mhasta|\msalida|\msali[mre]\w*|\msalgo|\mregres\w*|\mvolvemos|\mnos vamos)(?: (?:is|on|the|el|dia|del?|a|es|seria|would|be|date|:))*:? *$';
    mention text[];
    y integer;
    m integer;
    d integer;
    guess date;
    arrival date;
    departure date;
    arrival_has_year boolean;
    mentions integer := 0;
    nights integer;
    part text[];
BEGIN
    FOR mention IN SELECT told.parts FROM regexp_matches(marked, '([^<]*)<(\d{0,4})-(\d{1,2})-(\d{1,2})>', 'g') AS told (parts) LOOP
        y := nullif(mention[2], '')::integer;
        m := mention[3]::integer;
        d := mention[4]::integer;
        IF m > 12 THEN
            m := mention[4]::integer;
            d := mention[3]::integer;
        END IF;
        mentions := mentions + 1;
        IF arrival IS NULL AND departure IS NULL AND mention[1] !~ leaving
            AND (mentions = 1 OR mention[1] !~ '^ ?(?:to|-) ?$')
        THEN
            arrival := public.public_chat_date(y, m, d);
            arrival_has_year := y IS NOT NULL;
            FOR later IN 0..8 LOOP
                EXIT WHEN arrival_has_year OR arrival >= today;
                arrival := public.public_chat_date(extract(year FROM today)::integer + later, m, d);
            END LOOP;
            IF arrival < today AND NOT arrival_has_year THEN
                arrival := NULL;
            END IF;
        ELSIF departure IS NULL THEN
            guess := public.public_chat_date(y, m, d);
            IF y IS NULL THEN
                FOR later IN 0..8 LOOP
                    EXIT WHEN guess > coalesce(arrival, today);
                    guess := public.public_chat_date(extract(year FROM coalesce(arrival, today))::integer + later, m, d);
                END LOOP;
            ELSIF arrival IS NOT NULL AND NOT arrival_has_year THEN
                -- "28 December to 2 January 2027": the year is said once, and for the second.
                arrival := (
                    SELECT max(candidate) FROM generate_series(y - 1, y) AS years (year)
                    CROSS JOIN LATERAL public.public_chat_date(
                        years.year, extract(month FROM arrival)::integer, extract(day FROM arrival)::integer
                    ) AS candidate
                    WHERE candidate < guess
                );
            END IF;
            departure := guess;
        END IF;
    END LOOP;
    IF arrival < today THEN
        arrival := NULL;
        departure := NULL;
    END IF;
    IF departure <= coalesce(arrival, today) OR departure - arrival > longest THEN
        departure := NULL;
    END IF;

    -- How long. "A night" and "a day" are what a price is for, unless it is "for a night".
    IF arrival IS NULL OR departure IS NULL THEN
        IF marked LIKE ANY (ARRAY['%night%', '%noche%', '%day%', '%dia%', '%week%', '%semana%']) THEN
            part := regexp_match(
                marked,
                '\m' || number || '(?: more| full| mas)?(?: |-)(nights?|noches?|days?|dias?|weeks?|semanas?)\M(?! ago)(?! a week)'
                '|\m(?:a couple of|un par de) ((?:nights|days|noches|dias))\M|\mfor a (night|day|week)\M'
            );
        END IF;
        nights := CASE
            WHEN part[2] IS NOT NULL THEN public.public_chat_number(part[1]) * CASE WHEN part[2] ~ '^[ws]' THEN 7 ELSE 1 END
            WHEN part[3] IS NOT NULL THEN 2
            WHEN part[4] = 'week' THEN 7
            WHEN part[4] IS NOT NULL THEN 1
        END;
        IF nights NOT BETWEEN 1 AND longest THEN
            nights := NULL;
        END IF;
        IF arrival IS NOT NULL THEN
            departure := arrival + nights;
        ELSIF departure - nights >= today THEN
            arrival := departure - nights;
        END IF;
    END IF;
    RETURN jsonb_strip_nulls(jsonb_build_object(
        'check_in', arrival, 'check_out', departure, 'nights', coalesce(departure - arrival, nights)
    ));
END
$$;

COMMENT ON FUNCTION public.extract_travel_dates(text, date) IS
    'check_in, check_out and nights, as far as a text with marked dates says them';

-- "Two adults and a child" is three guests, "for four" is four; "for two with a baby" is two adults and a child, while "a
-- family of four with two children" is two of each. One number for all of them stands for adults until more is said.
CREATE FUNCTION public.extract_travel_guests(marked text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    most constant integer := 50;
    exact constant text := '\d{1,2}|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|uno|dos|tres|cuatro|cinco|seis|siete|ocho|nueve|diez|once|doce|quince|veinte';
    kind constant text := '(?: (?:more|other|young|small|little|pequen[oa]s?|mas))?';
    stretch text := marked;
    adults integer;
    children integer;
    guests integer;
    part text[];
BEGIN
    IF stretch LIKE '%<%' THEN
        stretch := regexp_replace(stretch, '<[^>]*>', ' | ', 'g');
    END IF;
    -- Years of age are no numbers of guests.
    IF stretch LIKE ANY (ARRAY['%year%', '%ano%', '%month%', '%mes%']) THEN
        stretch := regexp_replace(stretch, '\m(?:' || exact || ')[ -](?:years?|anos?|months?|meses)(?:[ -]olds?)?\M', ' ', 'g');
    END IF;

    SELECT
        sum(public.public_chat_number(told.parts[1])) FILTER (WHERE told.parts[2] IS NOT NULL),
        sum(public.public_chat_number(told.parts[1])) FILTER (WHERE told.parts[3] IS NOT NULL)
    INTO adults, children
    FROM regexp_matches(
        stretch,
        '\m(' || exact || '|an?|una?|both|ambos)' || kind || ' +(?:(adults?|adult[oa]s?|grown[ -]?ups?|mayores)\M'
        '|(child(?:ren)?|kids?|nin[oa]s?|hij[oa]s?|menor(?:es)?|bebes?|bab(?:y|ies)|infants?|toddlers?|sons?|daughters?|teenagers?)\M(?! cots?| beds?))',
        'g'
    ) AS told (parts);

    -- All together. Of several ways of saying it the clearest counts; each group holds its number.
    SELECT ARRAY[coalesce(
        (array_agg(told.parts[1]) FILTER (WHERE told.parts[1] IS NOT NULL))[1],
        (array_agg(told.parts[2]) FILTER (WHERE told.parts[2] IS NOT NULL))[1],
        (array_agg(told.parts[3]) FILTER (WHERE told.parts[3] IS NOT NULL))[1],
        (array_agg(told.parts[5]) FILTER (WHERE told.parts[5] IS NOT NULL))[1]
    ), (array_agg(told.parts[4]) FILTER (WHERE told.parts[4] IS NOT NULL))[1]]
    INTO part
    FROM regexp_matches(
        stretch,
        '\m(?:part(?:y|ies)|famil(?:y|ies)|group|familia|grupo) (?:of|de) (' || exact || ')\M'
        '|\m(' || exact || '|una?)' || kind || ' (?:people|persons?|guests?|travel?lers?|pax|personas?|huesped(?:es)?|viajer[oa]s?|(?<!\m(?:one|1) )of us)\M'
        '|\m(?:we are|we''re|we will be|we''ll be|there are|there will be|there''ll be|somos|seremos|seriamos|vamos) (' || exact || ')\M(?! (?:noche|night|dia|day|semana|week|hora|hour|kilo|minut))'
        '|\m(?:with|con)(?: my| mis)? (' || exact || ') (?:friends|amig[oa]s)\M'
        '|\m(?:for|para) (?!one|uno|1\M)(' || exact || ')\M(?!-?[\d:/$%€.]\d?)(?! ?(?:night|noche|day|dia|week|semana|month|mes|hour|hora|minut|room|bed|hab|cuarto|cama|unit|apart|dollar|usd|eur|peso|cop|am\M|pm\M|o''clock|h\M|%|\$|€|thing|cosa))',
        'g'
    ) AS told (parts);
    guests := coalesce(public.public_chat_number(part[1]), public.public_chat_number(part[2]) + 1);
    IF guests IS NULL AND adults IS NULL THEN
        part := regexp_match(
            stretch,
            '(\mcouples?\M(?! of)|\mpareja\M|\mmy (?:wife|husband|girlfriend|boyfriend|partner)\M|\mmi (?:espos[oa]|marido|mujer|novi[oa])\M|\mhoneymoon\M|\mluna de miel\M|\mboth of us\M|\mnosotros dos\M)'
            '|(\m(?:just|only) me\M|\m(?:by myself|on my own)\M|\msolo (?:yo|travel\w+)\M|\mviaj\w+ sol[oa]\M|\mvoy sol[oa]\M|\mtravel\w* alone\M)'
        );
        adults := CASE WHEN part[1] IS NOT NULL THEN 2 WHEN part[2] IS NOT NULL THEN 1 END;
    END IF;

    adults := CASE WHEN adults BETWEEN 1 AND most THEN adults END;
    children := CASE WHEN children BETWEEN 0 AND most THEN children END;
    guests := CASE WHEN guests BETWEEN 1 AND most THEN guests END;
    IF adults IS NULL AND children IS NOT NULL AND guests IS NOT NULL THEN
        IF guests > children
            AND stretch ~ '\m(?:family of|familia de|including|of (?:them|whom)|inclu\w+|de ellos|entre ellos)\M'
        THEN
            adults := guests - children;
        ELSE
            adults := guests;
        END IF;
    END IF;
    IF adults IS NOT NULL THEN
        guests := adults + coalesce(children, 0);
    END IF;
    RETURN jsonb_strip_nulls(jsonb_build_object('guests', guests, 'adults', adults, 'children', children));
END
$$;

COMMENT ON FUNCTION public.extract_travel_guests(text) IS
    'guests, adults and children, as far as a text with marked dates says them';

CREATE FUNCTION public.extract_travel_intent(message text, today date) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_strip_nulls(
        public.extract_travel_dates(marked.text, today)
        || public.extract_travel_guests(marked.text)
        || jsonb_build_object(
            'preferences', (SELECT to_jsonb(p) FROM public.public_chat_preferences(plain.text) AS p WHERE p <> '{}'),
            'not_wanted', (SELECT to_jsonb(p) FROM public.public_chat_preferences(plain.text, false) AS p WHERE p <> '{}'),
            'language', public.public_chat_language(plain.text)
        )
    )
    FROM (SELECT coalesce(public.public_chat_plain(message), '')) AS plain (text)
    CROSS JOIN LATERAL (SELECT public.public_chat_mark_dates(plain.text, today)) AS marked (text)
$$;

COMMENT ON FUNCTION public.extract_travel_intent(text, date) IS
    'What a message says of a journey: check_in, check_out, nights, guests, adults, children, preferences, not_wanted, language; any text is taken';

-- What is said later holds. A part that is only what it should be is taken over, so that an intent that somebody has
-- written by other means harms nothing.
CREATE FUNCTION public.merge_travel_intent(known jsonb, heard jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    longest constant integer := 90;
    before constant jsonb := CASE WHEN jsonb_typeof(known) = 'object' THEN known ELSE '{}' END;
    arrival date := coalesce(public.public_chat_date(heard ->> 'check_in'), public.public_chat_date(before ->> 'check_in'));
    departure date := coalesce(
        public.public_chat_date(heard ->> 'check_out'),
        CASE WHEN NOT heard ? 'nights' OR heard ? 'check_in' THEN public.public_chat_date(before ->> 'check_out') END
    );
    nights integer := coalesce(
        public.public_chat_whole_number(heard -> 'nights', 1), public.public_chat_whole_number(before -> 'nights', 1)
    );
    adults integer := public.public_chat_whole_number(heard -> 'adults', 1);
    children integer := public.public_chat_whole_number(heard -> 'children');
    guests integer := public.public_chat_whole_number(heard -> 'guests', 1);
BEGIN
    IF heard ? 'check_out' AND NOT heard ? 'check_in' AND departure <= arrival THEN
        -- "Until 2 January", said by itself, was the next one from today; the arrival may be before the one after that.
        departure := departure + interval '1 year';
    END IF;
    IF heard ? 'check_in' AND NOT heard ? 'check_out' THEN
        departure := CASE WHEN departure > arrival AND departure - arrival <= longest AND NOT heard ? 'nights'
            THEN departure ELSE arrival + nights END;
    ELSIF departure IS NULL OR departure <= arrival OR departure - arrival > longest THEN
        departure := arrival + nights;
    END IF;

    IF adults IS NULL AND children IS NOT NULL THEN
        -- "And a child", after the adults: they stay as many.
        adults := coalesce(
            public.public_chat_whole_number(before -> 'adults', 1), public.public_chat_whole_number(before -> 'guests', 1)
        );
    ELSIF adults IS NOT NULL AND children IS NULL THEN
        children := public.public_chat_whole_number(before -> 'children');
    ELSIF adults IS NULL AND guests IS NULL THEN
        adults := public.public_chat_whole_number(before -> 'adults', 1);
        children := public.public_chat_whole_number(before -> 'children');
        guests := public.public_chat_whole_number(before -> 'guests', 1);
    END IF;
    IF adults IS NOT NULL THEN
        guests := adults + coalesce(children, 0);
    END IF;

    RETURN before - ARRAY[
        'check_in', 'check_out', 'nights', 'guests', 'adults', 'children', 'preferences', 'not_wanted', 'language'
    ] || jsonb_strip_nulls(jsonb_build_object(
        'check_in', arrival, 'check_out', departure, 'nights', coalesce(departure - arrival, nights),
        'guests', guests, 'adults', adults, 'children', children,
        'preferences', public.merge_travel_wishes(before -> 'preferences', heard -> 'preferences', heard -> 'not_wanted'),
        'not_wanted', public.merge_travel_wishes(before -> 'not_wanted', heard -> 'not_wanted', heard -> 'preferences'),
        'language', coalesce(
            heard ->> 'language', CASE WHEN before ->> 'language' IN ('en', 'es') THEN before ->> 'language' END
        )
    ));
END
$$;

COMMENT ON FUNCTION public.merge_travel_intent(jsonb, jsonb) IS
    'What is known of a journey, with what a new message says of it';

CREATE FUNCTION public.merge_travel_wishes(before jsonb, added jsonb, withdrawn jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_agg(wish.preference ORDER BY wish.place)
    FROM (
        SELECT item.value AS preference, min(list.place * 1000 + item.place) AS place
        FROM (VALUES (1, before), (2, added)) AS list (place, items)
        CROSS JOIN LATERAL jsonb_array_elements(
            CASE WHEN jsonb_typeof(list.items) = 'array' THEN list.items ELSE '[]' END
        ) WITH ORDINALITY AS item (value, place)
        WHERE jsonb_typeof(item.value) = 'string' AND item.place <= 100
            AND NOT coalesce(withdrawn @> item.value, false)
        GROUP BY item.value
    ) AS wish
$$;

COMMENT ON FUNCTION public.merge_travel_wishes(jsonb, jsonb, jsonb) IS
    'Two lists of wishes as one, without those that have been withdrawn; NULL where none is left';

-- Each night at the rate of the season it is in, and at the base price otherwise. The first season in the list that has a
-- night in it holds. NULL where the base price is not known, or the dates are not.
CREATE FUNCTION public.accommodation_price(pricing jsonb, check_in date, check_out date) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT sum(coalesce(
        (
            SELECT (season.value ->> 'price_night')::numeric
            FROM jsonb_array_elements(
                CASE WHEN jsonb_typeof(pricing -> 'seasonal') = 'array' THEN pricing -> 'seasonal' ELSE '[]' END
            ) WITH ORDINALITY AS season (value, place)
            WHERE jsonb_typeof(season.value -> 'price_night') = 'number'
                AND check_in + night BETWEEN public.public_chat_date(season.value ->> 'from')
                    AND public.public_chat_date(season.value ->> 'to')
            ORDER BY season.place
            LIMIT 1
        ),
        (pricing ->> 'base_price_night')::numeric
    ))
    FROM generate_series(0, check_out - check_in - 1) AS night
    WHERE jsonb_typeof(pricing -> 'base_price_night') = 'number'
$$;

COMMENT ON FUNCTION public.accommodation_price(jsonb, date, date) IS
    'What a stay costs: each night at its season''s rate, or at the base price';

-- migrate: rollback

DROP FUNCTION public.accommodation_price(jsonb, date, date);
DROP FUNCTION public.merge_travel_wishes(jsonb, jsonb, jsonb);
DROP FUNCTION public.merge_travel_intent(jsonb, jsonb);
DROP FUNCTION public.extract_travel_intent(text, date);
DROP FUNCTION public.extract_travel_guests(text);
DROP FUNCTION public.extract_travel_dates(text, date);
DROP FUNCTION public.public_chat_mark_dates(text, date);
DROP FUNCTION public.public_chat_number(text);
DROP FUNCTION public.public_chat_date(text);
DROP FUNCTION public.public_chat_date(integer, integer, integer);
