-- Sample data: events under way all over the world, forty sessions each, and the contractors who attend them.
--
-- SET afresh.sample_size = '1000' beforehand asks for that many contractors; unset, it is 50. There is one event for
-- every ten of them, which four in five attend, and two hundred at most. Run it in one transaction. It refuses a database whose tables hold
-- rows, so it mixes with nobody's data and cannot run twice. The same size gives the same data, apart from the times: every
-- figure comes from a hash of the row's number, not from random(), so no plan and no order of rows can change it. The
-- views are not refreshed here: the watched tables tell the service, and `afresh refresh` does it by hand.
--
-- An event's sessions begin an hour apart, the first one four hours ago and the last in a day and a half, so that both
-- views hold rows all that time. They begin at minutes two, seven, twelve and so on after this one: nothing begins, ends or
-- gets another priority in the two minutes after this was loaded.

DO $$
DECLARE
    asked text := coalesce(nullif(current_setting('afresh.sample_size', true), ''), '50');
    full_table text;
    holds_rows boolean;
BEGIN
    IF asked !~ '^[0-9]{1,7}$' OR asked::integer < 1 THEN
        RAISE EXCEPTION 'afresh.sample_size is %, which is not a number of contractors', quote_literal(asked)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a whole number from 1 to 9999999.';
    END IF;
    PERFORM set_config('afresh.sample_size', asked, true), set_config('row_security', 'off', true);
    FOREACH full_table IN ARRAY ARRAY[
        'contractors', 'events', 'event_speakers', 'event_agenda_items', 'event_attendees'
    ] LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', full_table) INTO holds_rows;
        IF holds_rows THEN
            RAISE EXCEPTION 'sample data are for empty tables, and public.% holds rows', full_table
                USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Load them into a database of their own, or empty the tables of the pack event_sessions first.';
        END IF;
    END LOOP;
END
$$;

-- A number from 0 up to but not including 1, the same for the same row and purpose for ever.
CREATE FUNCTION pg_temp.draw(item bigint, purpose bigint) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT (hashint8extended(item, purpose) & 16777215) / 16777216.0::double precision';

-- So many of the names in which all are interested, chosen by a hash.
CREATE FUNCTION pg_temp.areas(item bigint, purpose bigint, wanted integer) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $function$
    SELECT coalesce(jsonb_agg(chosen.name ORDER BY chosen.rank), '[]')
    FROM (
        SELECT area.name, hashint8extended(item * 100 + area.n, purpose) AS rank
        FROM unnest(ARRAY[
            'Customer Service', 'Estimating', 'Financing', 'Fleet', 'Hiring', 'Leadership', 'Marketing', 'Pricing',
            'Safety', 'Sales', 'Software', 'Sustainability'
        ]) WITH ORDINALITY AS area (name, n)
        ORDER BY rank
        LIMIT wanted
    ) AS chosen
$function$;

-- Most know what they want to hear. Of the others, some have said nothing, and some have written what is no JSON.
INSERT INTO public.contractors (name, email, focus_areas, created_at, updated_at)
SELECT
    (ARRAY[
        'Adair', 'Blake', 'Carmen', 'Devon', 'Esther', 'Farah', 'Gus', 'Hollis', 'Imani', 'Jules', 'Kim', 'Lane', 'Mika',
        'Noel', 'Ola', 'Pat', 'Quinn', 'Robin', 'Sasha', 'Toni'
    ])[n % 20 + 1]
    || ' ' ||
    (ARRAY[
        'Abbott', 'Barnes', 'Cole', 'Dietrich', 'Eriksen', 'Flores', 'Grant', 'Hayashi', 'Iqbal', 'Jansen', 'Kowalski',
        'Larsen', 'Moreau', 'Ndlovu', 'Ortiz', 'Park', 'Quist', 'Rossi', 'Silva', 'Tamm', 'Usman', 'Vance', 'Weiss'
    ])[n % 23 + 1],
    'contractor' || n || '@example.com',
    CASE
        WHEN pg_temp.draw(n, 1) < 0.04 THEN NULL
        WHEN pg_temp.draw(n, 1) < 0.07 THEN '[]'
        WHEN pg_temp.draw(n, 1) < 0.09 THEN 'Sales, Marketing'
        WHEN pg_temp.draw(n, 1) < 0.10 THEN '["Sales"'
        WHEN pg_temp.draw(n, 1) < 0.11 THEN '{"first": "Sales"}'
        ELSE pg_temp.areas(n, 2, 1 + floor(pg_temp.draw(n, 3) * 4)::integer)::text
    END,
    now() - make_interval(days => 30 + floor(pg_temp.draw(n, 4) * 400)::integer),
    now() - make_interval(days => floor(pg_temp.draw(n, 5) * 30)::integer)
FROM generate_series(1, current_setting('afresh.sample_size')::bigint) AS n
ORDER BY n;

INSERT INTO public.events (name, location, timezone)
SELECT
    place.city || ' ' || (ARRAY['Contractors'' Forum', 'Builders'' Summit', 'Trade Days', 'Roofing Expo', 'HVAC Congress'])[
        n / 12 % 5 + 1] || CASE WHEN n > 60 THEN ' ' || (n - 1) / 60 + 1 ELSE '' END,
    place.city,
    place.timezone
FROM generate_series(1, (current_setting('afresh.sample_size')::integer + 9) / 10) AS n
JOIN (
    VALUES
        (0, 'Denver', 'America/Denver'), (1, 'Chicago', 'America/Chicago'), (2, 'New York', 'America/New_York'),
        (3, 'St. John''s', 'America/St_Johns'), (4, 'London', 'Europe/London'), (5, 'Berlin', 'Europe/Berlin'),
        (6, 'Nairobi', 'Africa/Nairobi'), (7, 'Mumbai', 'Asia/Kolkata'), (8, 'Kathmandu', 'Asia/Kathmandu'),
        (9, 'Tokyo', 'Asia/Tokyo'), (10, 'Adelaide', 'Australia/Adelaide'), (11, 'Auckland', 'Pacific/Auckland')
) AS place (number, city, timezone) ON place.number = n % 12
ORDER BY n;

CREATE TEMPORARY TABLE sample_events ON COMMIT DROP AS
SELECT row_number() OVER (ORDER BY id) AS number, id, timezone FROM public.events;

CREATE TEMPORARY TABLE sample_sessions ON COMMIT DROP AS
SELECT
    event.number * 100 + slot AS item,
    event.id AS event_id,
    slot,
    (ARRAY[
        'Winning the second bid', 'Crews that stay', 'A price for every season', 'From the field to the books',
        'Safer by Friday', 'The customer calls back', 'Selling without pressure', 'Financing a big job',
        'Estimates that hold', 'Software on the roof', 'Leading from the van', 'Building green, for profit'
    ])[(event.number + slot * 5) % 12 + 1] AS title,
    'Hall ' || chr(65 + (slot % 4)) AS location,
    starts_at AT TIME ZONE event.timezone AS start_time,
    (starts_at + interval '45 minutes') AT TIME ZONE event.timezone AS end_time,
    -- Every third one has no speaker.
    CASE
        WHEN (event.number + slot) % 3 <> 0 THEN 1 + floor(pg_temp.draw(event.number * 100 + slot, 12) * 12)::integer
    END AS speaker
FROM sample_events AS event
CROSS JOIN generate_series(0, 39) AS slot
CROSS JOIN LATERAL (
    SELECT date_trunc('minute', now())
        + make_interval(hours => slot - 4, mins => 2 + 5 * (event.number * 7 % 12)::integer) AS starts_at
) AS timed;

ANALYZE pg_temp.sample_events, pg_temp.sample_sessions;

-- Twelve an event, of whom some have no session, and some no fields of their own.
INSERT INTO public.event_speakers (
    event_id, name, company, focus_areas, session_title, session_location, session_time, session_end
)
SELECT
    event.id,
    (ARRAY['Ada', 'Bruno', 'Chen', 'Dora', 'Emil', 'Fatou', 'Goran', 'Hana', 'Igor', 'Joan', 'Kofi', 'Lena'])[n]
    || ' ' ||
    (ARRAY['Marsh', 'Novak', 'Olsen', 'Perez', 'Quaye', 'Reyes', 'Sato', 'Turner', 'Ueda', 'Voss', 'Wolf'])[
        (event.number + n) % 11 + 1],
    (ARRAY['Ridgeline', 'Copperleaf', 'Plumb & Co', 'Northlight', 'Keystone'])[(event.number * 3 + n) % 5 + 1],
    CASE
        WHEN pg_temp.draw(event.number * 100 + n, 21) < 0.10 THEN NULL
        WHEN pg_temp.draw(event.number * 100 + n, 21) < 0.14 THEN '"Sales"'
        ELSE pg_temp.areas(event.number * 100 + n, 22, 1 + floor(pg_temp.draw(event.number * 100 + n, 23) * 2)::integer)
    END,
    first.title,
    first.location,
    first.start_time,
    first.end_time
FROM sample_events AS event
CROSS JOIN generate_series(1, 12) AS n
LEFT JOIN (
    SELECT DISTINCT ON (event_id, speaker) * FROM sample_sessions ORDER BY event_id, speaker, slot
) AS first ON first.event_id = event.id AND first.speaker = n
ORDER BY event.number, n;

INSERT INTO public.event_agenda_items (
    event_id, speaker_id, title, description, location, start_time, end_time, focus_areas, item_type, status
)
SELECT
    session.event_id,
    speaker.id,
    session.title,
    'What works, what does not, and what it costs',
    session.location,
    session.start_time,
    session.end_time,
    CASE
        WHEN pg_temp.draw(session.item, 31) < 0.08 THEN '[]'
        WHEN pg_temp.draw(session.item, 31) < 0.11 THEN NULL
        WHEN pg_temp.draw(session.item, 31) < 0.13 THEN 'null'
        WHEN pg_temp.draw(session.item, 31) < 0.15 THEN '{"first": "Sales"}'
        ELSE pg_temp.areas(session.item, 32, 1 + floor(pg_temp.draw(session.item, 33) * 3)::integer)
    END,
    'session',
    CASE
        WHEN pg_temp.draw(session.item, 34) < 0.55 THEN 'scheduled'
        WHEN pg_temp.draw(session.item, 34) < 0.85 THEN 'confirmed'
        WHEN pg_temp.draw(session.item, 34) < 0.95 THEN 'tentative'
        ELSE 'cancelled'
    END
FROM sample_sessions AS session
LEFT JOIN (
    SELECT id, event_id, row_number() OVER (PARTITION BY event_id ORDER BY id) AS number FROM public.event_speakers
) AS speaker ON speaker.event_id = session.event_id AND speaker.number = session.speaker
ORDER BY session.item;

-- What else there is on an agenda: breaks between sessions, and a session whose time is not settled.
INSERT INTO public.event_agenda_items (event_id, title, location, start_time, end_time, item_type)
SELECT event_id, 'Coffee', 'Foyer', end_time, end_time + interval '15 minutes', 'break'
FROM sample_sessions
WHERE slot % 4 = 3
UNION ALL
SELECT id, 'To be announced', NULL, NULL, NULL, 'session' FROM sample_events;

INSERT INTO public.event_attendees (event_id, contractor_id, registered_at)
SELECT event.id, contractor.id, now() - make_interval(days => floor(pg_temp.draw(event.number, 41) * 60)::integer)
FROM sample_events AS event
CROSS JOIN (SELECT current_setting('afresh.sample_size')::bigint AS contractors) AS size
CROSS JOIN LATERAL generate_series(0, least((size.contractors * 4 + 4) / 5, 200) - 1) AS n
JOIN (SELECT row_number() OVER (ORDER BY id) - 1 AS number, id FROM public.contractors) AS contractor
    ON contractor.number = (event.number * 37 + n) % size.contractors
ORDER BY event.number, n;

DROP FUNCTION pg_temp.areas(bigint, bigint, integer);
DROP FUNCTION pg_temp.draw(bigint, bigint);

-- The planner needs figures before the first refresh, and autovacuum comes later than that.
ANALYZE public.contractors, public.events, public.event_speakers, public.event_agenda_items, public.event_attendees;
