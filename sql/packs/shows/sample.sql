-- Sample data: sessions of comedy and music evenings, past and to come, sold by Humanitix, by Eventbrite, or by both.
--
-- SET afresh.sample_size = '1000' beforehand asks for that many sessions; unset, it is 50. Run it in one transaction.
-- It refuses a database whose tables hold rows, so it mixes with nobody's data and cannot run twice. The same size gives the
-- same data, apart from the dates, which are counted from today: every figure comes from a hash of the row's number, not
-- from random(), so no plan and no order of rows can change it. The overview is not refreshed here: the watched tables tell
-- the service, and `afresh refresh` does it by hand.
--
-- Some rows are as providers send them on a bad day: amounts that are words, or negative, discounts that are no list, no
-- currency or another one, a time zone that is none, a name or a venue that is missing.

DO $$
DECLARE
    asked text := coalesce(nullif(current_setting('afresh.sample_size', true), ''), '50');
    full_table text;
    holds_rows boolean;
BEGIN
    IF asked !~ '^[0-9]{1,7}$' OR asked::integer < 1 THEN
        RAISE EXCEPTION 'afresh.sample_size is %, which is not a number of sessions', quote_literal(asked)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a whole number from 1 to 9999999.';
    END IF;
    PERFORM set_config('afresh.sample_size', asked, true), set_config('row_security', 'off', true);
    FOREACH full_table IN ARRAY ARRAY[
        'venues', 'profiles', 'events', 'event_spots', 'event_applications', 'events_htx', 'sessions_htx', 'customers_htx',
        'orders_htx', 'tickets_htx', 'orders_eventbrite', 'tickets_eventbrite', 'session_sources'
    ] LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM shows.%I)', full_table) INTO holds_rows;
        IF holds_rows THEN
            RAISE EXCEPTION 'sample data are for empty tables, and shows.% holds rows', full_table
                USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Load them into a database of their own, or empty the tables of the pack shows first.';
        END IF;
    END LOOP;
END
$$;

-- A number from 0 up to but not including 1, the same for the same row and purpose for ever.
CREATE FUNCTION pg_temp.draw(item bigint, purpose bigint) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT (hashint8extended(item, purpose) & 16777215) / 16777216.0::double precision';

CREATE FUNCTION pg_temp.id(kind text, number bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT md5(kind || number)::uuid';

-- As the providers write them: 24 letters and digits, and a long number.
CREATE FUNCTION pg_temp.htx(kind text, number bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT left(md5(kind || number), 24)';

CREATE FUNCTION pg_temp.eventbrite(number bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT (700000000000 + number * 7919)::text';

CREATE TEMPORARY TABLE sample_cities ON COMMIT DROP AS
SELECT *
FROM (VALUES
    (0, 'Sydney', 'NSW', 'Australia/Sydney', -33.87, 151.21),
    (1, 'Melbourne', 'VIC', 'Australia/Melbourne', -37.81, 144.96),
    (2, 'Brisbane', 'QLD', 'Australia/Brisbane', -27.47, 153.03),
    (3, 'Perth', 'WA', 'Australia/Perth', -31.95, 115.86),
    (4, 'Adelaide', 'SA', 'Australia/Adelaide', -34.93, 138.60),
    (5, 'Auckland', 'AUK', 'Pacific/Auckland', -36.85, 174.76)
) AS city (number, name, state, zone, lat, lng);

INSERT INTO shows.venues (id, name, address, city, state, country, postcode, lat, lng)
SELECT
    pg_temp.id('venue', n),
    (ARRAY['The Basement', 'Factory Theatre', 'Comedy Cellar', 'Town Hall', 'The Red Room', 'Laneway Bar', 'The Loft'])[
        n % 7 + 1] || CASE WHEN n > 6 THEN ' ' || n ELSE '' END,
    1 + floor(pg_temp.draw(n, 101) * 300)::integer || ' ' || (ARRAY['King', 'Queen', 'Station', 'High'])[n % 4 + 1]
        || ' Street',
    city.name,
    city.state,
    CASE WHEN city.number = 5 THEN 'NZ' ELSE 'AU' END,
    (2000 + n % 700)::text,
    city.lat + (pg_temp.draw(n, 102) - 0.5) / 10,
    city.lng + (pg_temp.draw(n, 103) - 0.5) / 10
FROM generate_series(0, least(199, 5 + current_setting('afresh.sample_size')::integer / 20)) AS n
JOIN sample_cities AS city ON city.number = n % 6;

INSERT INTO shows.profiles (id, name, stage_name, avatar_url, bio, instagram)
SELECT
    pg_temp.id('profile', n),
    first_name || ' ' || last_name,
    CASE WHEN n % 5 = 2 THEN first_name || ' the ' || (ARRAY['Great', 'Brief', 'Unready', 'Quiet'])[n % 4 + 1] END,
    CASE WHEN n % 3 <> 0 THEN 'https://img.example.com/people/' || n || '.jpg' END,
    CASE WHEN n % 4 <> 1 THEN 'Has been on stage since ' || 2000 + n % 24 || '.' END,
    CASE WHEN n % 2 = 0 THEN '@' || lower(first_name) || n END
FROM generate_series(0, least(1999, 19 + current_setting('afresh.sample_size')::integer / 2)) AS n
CROSS JOIN LATERAL (
    SELECT
        (ARRAY['Ada', 'Bruno', 'Cleo', 'Dev', 'Esme', 'Finn', 'Gia', 'Hugo', 'Ines', 'Jack'])[n % 10 + 1] AS first_name,
        (ARRAY['Archer', 'Blythe', 'Chan', 'Dutta', 'Egan', 'Ford', 'Grant'])[n / 10 % 7 + 1] AS last_name
) AS named;

-- One row for each session. Four in a row are one event's, a week apart; three in twenty are Eventbrite's alone, and as
-- many more are sold by both.
CREATE TEMPORARY TABLE sample_sessions ON COMMIT DROP AS
SELECT
    n,
    (n - 1) / 4 AS event,
    CASE WHEN n % 20 IN (3, 10, 17) THEN 'eventbrite' WHEN n % 20 IN (1, 6, 13, 18) THEN 'both' ELSE 'humanitix' END AS kind,
    venue.number AS venue,
    city.name AS city,
    city.state,
    city.zone,
    city.lat,
    city.lng,
    (now() AT TIME ZONE 'UTC')::date - 120 + floor(pg_temp.draw((n - 1) / 4, 111) * 300)::integer
        + 7 * ((n - 1) % 4)::integer + make_interval(mins => 1020 + 30 * floor(pg_temp.draw(n, 112) * 9)::integer)
        AS starts,
    (ARRAY['Comedy', 'Improv', 'Jazz', 'Open Mic', 'Cabaret', 'Storytelling'])[(n - 1) / 4 % 6 + 1] || ' '
        || (ARRAY['Night', 'Club', 'Gala', 'Sessions', 'After Dark'])[(n - 1) / 4 % 5 + 1]
        || CASE WHEN n > 120 THEN ' ' || (n - 1) / 4 / 30 + 1 ELSE '' END AS name
FROM generate_series(1, current_setting('afresh.sample_size')::bigint) AS n
CROSS JOIN LATERAL (
    SELECT ((n - 1) / 4 * 7 % least(200, 6 + current_setting('afresh.sample_size')::integer / 20))::integer AS number
) AS venue
JOIN sample_cities AS city ON city.number = venue.number % 6;

ANALYZE pg_temp.sample_sessions;

INSERT INTO shows.events_htx (id, source_id, name, organiser_name, status, timezone, url, banner_url, payload)
SELECT
    pg_temp.id('event', event),
    pg_temp.htx('event', event),
    CASE WHEN event % 7 <> 5 THEN name END,
    CASE WHEN event % 3 <> 0 THEN (ARRAY['Laugh House', 'Night Owls', 'Big Mic'])[event % 3 + 1] END,
    'published',
    zone,
    'https://events.humanitix.example.com/' || pg_temp.htx('event', event),
    CASE WHEN event % 4 <> 2 THEN 'https://img.example.com/banners/' || event || '.jpg' END,
    jsonb_build_object(
        'currency', CASE WHEN event % 5 = 3 THEN NULL ELSE 'AUD' END,
        'location', jsonb_build_object(
            'venueName', 'Pop-up at ' || city, 'address', '1 Harbour Road', 'city', city, 'region', state,
            'latLng', CASE WHEN event % 12 = 7 THEN '["somewhere"]' ELSE jsonb_build_array(lat, lng) END
        ),
        'banner', CASE
            WHEN event % 9 = 8 THEN '"none"'
            ELSE jsonb_build_object(
                'url', 'https://img.example.com/wide/' || event || '.jpg', 'alt', 'People on a stage', 'width', 1600,
                'height', 800
            )
        END,
        'recurrence', CASE WHEN event % 5 = 0 THEN '{"frequency": "weekly"}'::jsonb END
    )
FROM (
    SELECT DISTINCT ON (event) event, name, zone, city, state, lat, lng
    FROM sample_sessions
    WHERE kind <> 'eventbrite'
    ORDER BY event, n
) AS one;

INSERT INTO shows.sessions_htx (
    id, source_id, event_source_id, name, status, start_date, end_date, timezone, venue_id
)
SELECT
    pg_temp.id('session', n),
    pg_temp.htx('session', n),
    pg_temp.htx('event', event),
    CASE WHEN n % 3 = 1 THEN to_char(starts, 'FMDay FMDD FMMonth') END,
    CASE WHEN n % 33 = 32 THEN 'cancelled' ELSE 'published' END,
    starts AT TIME ZONE zone,
    CASE WHEN n % 10 <> 9 THEN (starts + interval '2 hours') AT TIME ZONE zone END,
    CASE WHEN n % 29 = 12 THEN 'Mars/Olympus_Mons' ELSE zone END,
    CASE WHEN event % 6 <> 1 THEN pg_temp.id('venue', venue) END
FROM sample_sessions
WHERE kind <> 'eventbrite';

-- The same evening entered twice: the bridge makes one of them.
INSERT INTO shows.sessions_htx (id, source_id, event_source_id, name, status, start_date, timezone)
SELECT
    pg_temp.id('twin', n), pg_temp.htx('twin', n), pg_temp.htx('event', event), 'Second release', 'published',
    starts AT TIME ZONE zone, zone
FROM sample_sessions
WHERE kind = 'humanitix' AND n % 31 = 15;

INSERT INTO shows.session_sources (
    canonical_source, canonical_session_source_id, source, source_session_id, source_event_id
)
SELECT
    'humanitix', pg_temp.htx('session', n), 'humanitix', pg_temp.htx('session', n), pg_temp.htx('event', event)
FROM sample_sessions
WHERE kind = 'both' OR kind = 'humanitix' AND n % 2 = 0
UNION ALL
SELECT
    'humanitix', pg_temp.htx('session', n), 'humanitix', pg_temp.htx('twin', n), pg_temp.htx('event', event)
FROM sample_sessions
WHERE kind = 'humanitix' AND n % 31 = 15;

-- Of Eventbrite's own sessions some have no time and no venue here: the older list has them.
INSERT INTO shows.session_sources (
    canonical_source, canonical_session_source_id, source, source_session_id, source_event_id, event_name, session_name,
    session_start, session_end, timezone, venue_id, event_url, banner_url
)
SELECT
    CASE WHEN kind = 'both' THEN 'humanitix' ELSE 'eventbrite' END,
    CASE WHEN kind = 'both' THEN pg_temp.htx('session', n) ELSE pg_temp.eventbrite(n) END,
    'eventbrite',
    pg_temp.eventbrite(n),
    CASE WHEN n % 4 <> 1 THEN pg_temp.eventbrite(1000000000 + event) END,
    name,
    to_char(starts, 'FMDay FMDD FMMonth'),
    CASE WHEN kind = 'both' OR n % 40 <> 10 THEN starts AT TIME ZONE zone END,
    CASE WHEN kind = 'both' OR n % 40 <> 10 THEN (starts + interval '2 hours') AT TIME ZONE zone END,
    zone,
    CASE WHEN kind = 'both' OR n % 40 <> 10 THEN pg_temp.id('venue', venue) END,
    'https://eventbrite.example.com/e/' || pg_temp.eventbrite(n),
    CASE WHEN n % 2 = 0 THEN 'https://img.example.com/eb/' || n || '.jpg' END
FROM sample_sessions
WHERE kind <> 'humanitix';

-- Four in five have a row in the older list, and those without a time of their own in any case. Where both sell it the row
-- knows it by either's id.
CREATE TEMPORARY TABLE sample_events ON COMMIT DROP AS
SELECT *, pg_temp.id('crm', n) AS id
FROM sample_sessions
WHERE n % 5 <> 2 OR kind = 'eventbrite' AND n % 40 = 10;

INSERT INTO shows.events (
    id, name, source, source_session_id, event_date, start_time, end_time, timezone, venue_id, promoter_id, status,
    event_url, banner_url, banner_metadata, spots, is_recurring, recurrence_pattern, series_id, created_at
)
SELECT
    one.id,
    one.name,
    source.name,
    CASE WHEN source.name = 'eventbrite' THEN pg_temp.eventbrite(n) ELSE pg_temp.htx('session', n) END,
    starts::date,
    starts::time,
    (starts + interval '2 hours')::time,
    zone,
    pg_temp.id('venue', venue),
    CASE WHEN n % 4 <> 0 THEN pg_temp.id('profile', event % 5) END,
    'open',
    'https://shows.example.com/' || n,
    'https://img.example.com/own/' || n || '.jpg',
    CASE WHEN n % 2 = 0 THEN '{"alt": "A microphone", "focus": "center"}'::jsonb END,
    CASE WHEN n % 3 = 0 THEN floor(pg_temp.draw(n, 121) * 5)::integer END,
    n % 4 = 0,
    CASE WHEN n % 4 = 0 THEN 'weekly' END,
    CASE WHEN n % 4 = 0 THEN pg_temp.id('series', event) END,
    now() - make_interval(days => 200)
FROM sample_events AS one
CROSS JOIN LATERAL (
    SELECT CASE WHEN kind = 'eventbrite' OR kind = 'both' AND n % 2 = 0 THEN 'eventbrite' ELSE 'humanitix' END AS name
) AS source;

-- Five spots and up to three who wait, for most; one in eight of the confirmed ones has lost its performer.
INSERT INTO shows.event_spots (id, event_id, spot_name, position, duration_minutes, performer_id, status)
SELECT
    pg_temp.id('spot', item),
    one.id,
    CASE WHEN place > 5 THEN NULL ELSE (ARRAY['MC', 'Opener', 'Feature', 'Feature', 'Headliner'])[place] END,
    place,
    CASE WHEN place <= 5 THEN (ARRAY[10, 7, 12, 15, 30])[place] END,
    CASE
        WHEN status.name IN ('confirmed', 'waitlist') AND pg_temp.draw(item, 132) < 0.88 OR status.name = 'offered'
            THEN pg_temp.id('profile', floor(pg_temp.draw(item, 133) * profiles.number)::bigint)
    END,
    status.name
FROM sample_events AS one
CROSS JOIN (SELECT count(*) AS number FROM shows.profiles) AS profiles
CROSS JOIN LATERAL generate_series(1, 5 + floor(pg_temp.draw(one.n, 131) * 4)::integer) AS place
CROSS JOIN LATERAL (SELECT one.n * 10 + place AS item) AS numbered
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN place > 5 THEN 'waitlist'
        WHEN pg_temp.draw(item, 134) < 0.62 THEN 'confirmed'
        WHEN pg_temp.draw(item, 134) < 0.90 THEN 'available'
        WHEN pg_temp.draw(item, 134) < 0.96 THEN 'offered'
        ELSE 'cancelled'
    END AS name
) AS status
WHERE one.n % 6 <> 3;

INSERT INTO shows.event_applications (id, event_id, profile_id, status, applied_at)
SELECT
    pg_temp.id('application', item),
    one.id,
    pg_temp.id('profile', floor(pg_temp.draw(item, 142) * profiles.number)::bigint),
    (ARRAY['pending', 'pending', 'accepted', 'declined', 'withdrawn'])[floor(pg_temp.draw(item, 143) * 5)::integer + 1],
    one.starts - make_interval(days => 10 + floor(pg_temp.draw(item, 144) * 60)::integer)
FROM sample_events AS one
CROSS JOIN (SELECT count(*) AS number FROM shows.profiles) AS profiles
CROSS JOIN LATERAL generate_series(1, floor(pg_temp.draw(one.n, 141) * 5)::integer) AS k
CROSS JOIN LATERAL (SELECT one.n * 10 + k AS item) AS numbered;

INSERT INTO shows.customers_htx (id, source_id, first_name, last_name, email)
SELECT
    pg_temp.id('customer', n),
    pg_temp.htx('customer', n),
    (ARRAY['Mia', 'Noah', 'Zoe', 'Liam', 'Ruby', 'Omar', 'Ivy', 'Theo'])[n % 8 + 1],
    (ARRAY['Nguyen', 'Smith', 'Kaur', 'Rossi', 'Brown'])[n % 5 + 1],
    'customer' || n || '@example.com'
FROM generate_series(1, current_setting('afresh.sample_size')::bigint) AS n;

-- Up to seven orders for each session and provider, of up to three tickets; one session in ten has sold nothing.
CREATE TEMPORARY TABLE sample_orders ON COMMIT DROP AS
SELECT
    one.n,
    one.event,
    provider.name AS provider,
    item,
    1 + floor(pg_temp.draw(item, 152) * 3)::integer AS tickets,
    (20 + 5 * floor(pg_temp.draw(item, 153) * 5))::numeric AS price,
    CASE WHEN pg_temp.draw(item, 154) < 0.3 THEN (ARRAY['EARLY', 'friends', 'VIP10'])[item % 3 + 1] END AS code,
    CASE
        WHEN pg_temp.draw(item, 155) < 0.05 THEN 'cancelled'
        WHEN pg_temp.draw(item, 155) < 0.08 THEN 'refunded'
        WHEN provider.name = 'humanitix' THEN 'complete'
        ELSE 'placed'
    END AS status,
    one.starts - make_interval(hours => 5 + floor(pg_temp.draw(item, 156) * 900)::integer) AS ordered_at
FROM sample_sessions AS one
CROSS JOIN LATERAL (VALUES ('humanitix', 0), ('eventbrite', 1)) AS provider (name, number)
CROSS JOIN LATERAL generate_series(
    1, CASE WHEN one.n % 10 = 4 THEN 0 ELSE floor(pg_temp.draw(one.n * 2 + provider.number, 151) * 8)::integer END
) AS k
CROSS JOIN LATERAL (SELECT (one.n * 2 + provider.number) * 10 + k AS item) AS numbered
WHERE one.kind IN ('both', provider.name);

INSERT INTO shows.orders_htx (
    id, source_id, session_source_id, event_source_id, customer_source_id, status, first_name, last_name, ordered_at,
    payload
)
SELECT
    pg_temp.id('order', item),
    pg_temp.htx('order', item),
    CASE WHEN n % 31 = 15 AND item % 2 = 0 AND twin.source_id IS NOT NULL THEN twin.source_id ELSE pg_temp.htx('session', n) END,
    pg_temp.htx('event', event),
    pg_temp.htx('customer', 1 + item % current_setting('afresh.sample_size')::bigint),
    status,
    CASE WHEN item % 4 <> 0 THEN (ARRAY['Kim', 'Lee', 'Max', 'Nia', 'Ola'])[item % 5 + 1] END,
    CASE WHEN item % 4 <> 0 THEN (ARRAY['Young', 'Abbott', 'Reid'])[item % 3 + 1] END,
    ordered_at,
    CASE WHEN item % 211 = 5 THEN '"lost in transit"'::jsonb ELSE jsonb_build_object(
        'currency', CASE WHEN item % 7 = 2 THEN NULL WHEN item % 41 = 9 THEN 'NZD' ELSE 'AUD' END,
        'totals', jsonb_build_object(
            'total', CASE
                WHEN item % 23 = 1 THEN to_jsonb((price * tickets)::text)
                WHEN item % 29 = 3 THEN '"free of charge"'
                WHEN item % 31 = 4 THEN '-12.5'
                ELSE to_jsonb(price * tickets - CASE WHEN code IS NULL THEN 0 ELSE 5 END)
            END,
            'refunds', CASE WHEN item % 19 = 6 THEN 10 ELSE 0 END,
            'humanitixFee', round(price * tickets * 0.0399, 2),
            'bookingFee', 0.30,
            'taxes', round(price * tickets / 11, 2)
        ),
        'discounts', CASE
            WHEN item % 37 = 8 THEN '"none"'
            WHEN code IS NOT NULL AND item % 2 = 0 THEN jsonb_build_array(jsonb_build_object('code', code, 'amount', 5))
            ELSE '[]'
        END
    ) END
FROM sample_orders
LEFT JOIN LATERAL (
    SELECT one.source_id FROM shows.sessions_htx AS one WHERE one.source_id = pg_temp.htx('twin', sample_orders.n)
) AS twin ON true
WHERE provider = 'humanitix';

-- A discount that the order does not list stands in its first ticket.
INSERT INTO shows.tickets_htx (
    id, source_id, order_source_id, session_source_id, event_source_id, ticket_type, status, payload
)
SELECT
    pg_temp.id('ticket', made.item * 10 + k),
    pg_temp.htx('ticket', made.item * 10 + k),
    placed.source_id,
    placed.session_source_id,
    placed.event_source_id,
    CASE WHEN k = 3 THEN 'Concession' ELSE 'General admission' END,
    placed.status,
    jsonb_build_object(
        'price', made.price,
        'discounts', CASE
            WHEN made.code IS NOT NULL AND k = 1 THEN jsonb_build_array(jsonb_build_object('code', made.code, 'amount', '5.00'))
            ELSE '[]'
        END
    )
FROM sample_orders AS made
JOIN shows.orders_htx AS placed ON placed.source_id = pg_temp.htx('order', made.item)
CROSS JOIN LATERAL generate_series(1, made.tickets) AS k
WHERE made.provider = 'humanitix';

INSERT INTO shows.orders_eventbrite (
    id, source_id, session_source_id, status, first_name, last_name, ordered_at, payload
)
SELECT
    pg_temp.id('order', item),
    pg_temp.eventbrite(2000000000 + item),
    pg_temp.eventbrite(n),
    status,
    (ARRAY['Ana', 'Ben', 'Cy', 'Dot', 'Eli'])[item % 5 + 1],
    (ARRAY['Stone', 'West', 'Hill'])[item % 3 + 1],
    ordered_at,
    jsonb_build_object(
        'costs', jsonb_build_object(
            'gross', CASE
                WHEN item % 23 = 1 THEN jsonb_build_object('major_value', (price * tickets)::text, 'currency', 'AUD')
                WHEN item % 29 = 3 THEN '{"value": -500, "currency": "AUD"}'
                WHEN item % 31 = 4 THEN '{"value": "many"}'
                ELSE jsonb_build_object(
                    'value', (price * tickets * 100)::integer, 'major_value', (price * tickets)::text,
                    'currency', CASE WHEN item % 7 = 2 THEN NULL ELSE 'AUD' END
                )
            END,
            'eventbrite_fee', jsonb_build_object('value', (price * tickets * 5)::integer),
            'payment_fee', jsonb_build_object('value', 90),
            'tax', jsonb_build_object('value', (price * tickets * 100 / 11)::integer)
        )
    )
FROM sample_orders
WHERE provider = 'eventbrite';

INSERT INTO shows.tickets_eventbrite (
    id, source_id, order_source_id, session_source_id, ticket_type, status, is_cancelled, is_refunded, payload
)
SELECT
    pg_temp.id('ticket', item * 10 + k),
    pg_temp.eventbrite(3000000000 + item * 10 + k),
    pg_temp.eventbrite(2000000000 + item),
    pg_temp.eventbrite(n),
    'General admission',
    CASE WHEN (item + k) % 43 = 0 THEN 'Not Attending' WHEN k = 1 THEN 'Checked In' ELSE 'Attending' END,
    status = 'cancelled',
    status = 'refunded',
    CASE
        WHEN code IS NOT NULL AND k = 1 THEN jsonb_build_object(
            'promotional_code', jsonb_build_object('code', code, 'amount', jsonb_build_object('value', 500))
        )
        WHEN item % 37 = 8 THEN '{"promotional_code": "none"}'
        ELSE '{}'
    END
FROM sample_orders
CROSS JOIN LATERAL generate_series(1, tickets) AS k
WHERE provider = 'eventbrite';

DROP FUNCTION pg_temp.eventbrite(bigint);
DROP FUNCTION pg_temp.htx(text, bigint);
DROP FUNCTION pg_temp.id(text, bigint);
DROP FUNCTION pg_temp.draw(bigint, bigint);

-- The planner needs figures before the first refresh, and autovacuum comes later than that.
ANALYZE shows.venues, shows.profiles, shows.events, shows.event_spots, shows.event_applications, shows.events_htx,
    shows.sessions_htx, shows.customers_htx, shows.orders_htx, shows.tickets_htx, shows.orders_eventbrite,
    shows.tickets_eventbrite, shows.session_sources;
