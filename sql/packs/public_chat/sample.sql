-- Sample data: houses, their units, and the visitors who asked about them.
--
-- SET afresh.sample_size = '1000' beforehand asks for that many units; unset, it is 50. Run it in one transaction. It
-- refuses a database whose tables hold rows, so it mixes with nobody's data and cannot run twice. The same size gives the
-- same data, ids included, apart from the dates, which are counted from today: every choice comes from a hash of a number,
-- not from random(). The units are taken into their public form as the data migration takes them; one of them is broken,
-- and is left out and reported. Embeddings are not in here: the service makes them, or `afresh embed`.

DO $$
DECLARE
    asked text := coalesce(nullif(current_setting('afresh.sample_size', true), ''), '50');
    full_table text;
    holds_rows boolean;
BEGIN
    IF asked !~ '^[0-9]{1,7}$' OR asked::integer < 1 THEN
        RAISE EXCEPTION 'afresh.sample_size is %, which is not a number of units', quote_literal(asked)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a whole number from 1 to 9999999.';
    END IF;
    PERFORM set_config('afresh.sample_size', asked, true), set_config('row_security', 'off', true);
    FOREACH full_table IN ARRAY ARRAY[
        'tenant_registry', 'accommodation_units', 'guest_reservations', 'accommodation_units_public',
        'prospective_sessions', 'accommodation_unit_migrations', 'prospective_sessions_archive'
    ] LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', full_table) INTO holds_rows;
        IF holds_rows THEN
            RAISE EXCEPTION 'sample data are for empty tables, and public.% holds rows', full_table
                USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Load them into a database of their own, or empty the tables of the pack public_chat first.';
        END IF;
    END LOOP;
END
$$;

-- A number from 0 up to but not including 1, the same for the same row and purpose for ever.
CREATE FUNCTION pg_temp.draw(item bigint, purpose bigint) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT (hashint8extended(item, purpose) & 16777215) / 16777216.0::double precision';

CREATE FUNCTION pg_temp.identity(item bigint, purpose text) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT md5(purpose || item)::uuid';

-- Houses: one for every 250 units, three at least; the last one takes part no more.
INSERT INTO public.tenant_registry (tenant_id, slug, name, timezone, is_active)
SELECT
    pg_temp.identity(house.n, 'house '),
    lower(replace(named.name, ' ', '-')) || CASE WHEN house.n > 8 THEN '-' || house.n ELSE '' END,
    named.name || CASE WHEN house.n > 8 THEN ' ' || house.n ELSE '' END,
    (ARRAY['Europe/Madrid', 'America/Bogota', 'Europe/Lisbon', 'UTC'])[(house.n - 1) % 4 + 1],
    house.n < house.many
FROM (
    SELECT n, greatest(3, ceil(current_setting('afresh.sample_size')::integer / 250.0)::integer) AS many
    FROM generate_series(1, greatest(3, ceil(current_setting('afresh.sample_size')::integer / 250.0)::integer)) AS n
) AS house
CROSS JOIN LATERAL (
    SELECT (ARRAY[
        'Casa del Faro', 'Harbour House', 'Quinta das Flores', 'Sierra Lodge', 'Old Mill Rooms', 'Playa Serena',
        'Lighthouse Apartments', 'Finca La Paz'
    ])[(house.n - 1) % 8 + 1] AS name
) AS named;

-- Units. The first six are written out, for the first house; among them is one right answer to "a room with a sea view
-- for four", and for each other thing that visitors ask for. The seventh has no description, and cannot be shown.
INSERT INTO public.accommodation_units (
    id, tenant_id, name, unit_number, unit_type, description, capacity, bedrooms, bathrooms, beds, size_m2, floor_number,
    view_type, unique_features, amenities, photos, virtual_tour_url, base_price_night, currency, seasonal_rates,
    is_featured, status, created_at
)
SELECT
    pg_temp.identity(unit.n, 'unit '), pg_temp.identity(1, 'house '), unit.name, lpad(unit.n::text, 3, '0'), unit.type,
    unit.description, unit.capacity, unit.bedrooms, unit.bathrooms, '[{"kind": "double", "count": 1}]', unit.size, unit.n,
    unit.view, unit.features::jsonb, unit.amenities::jsonb, unit.photos::jsonb, unit.tour, unit.price, 'EUR', unit.rates::jsonb,
    unit.n = 1, unit.status, now() - make_interval(days => 400 - unit.n)
FROM (VALUES
    (1, 'Atlantic Family Room', 'room',
     'A bright room with a sea view for a family of four, on the top floor, with two double beds and a wide balcony. At night the lighthouse sends its beam across the ceiling. Breakfast is served downstairs until eleven.',
     4, 1, 1.0, 38, 'sea', '["Lighthouse view", "Two double beds"]', '["wifi", "balcony", "breakfast", "air conditioning", "crib"]',
     '["https://example.com/photos/atlantic-1.jpg", "https://example.com/photos/atlantic-2.jpg"]',
     'https://example.com/tours/atlantic', 140.00, '[{"name": "Summer", "from": "2026-07-01", "to": "2026-08-31", "price_night": 190}]', 'active'),
    (2, 'Captain''s Nook', 'room',
     'A snug single room under the roof with a sea view through a round window, a desk and very little else. Quiet, since no other room is on this floor.',
     1, 1, 1.0, 11, 'sea', '["Round window"]', '{"wifi": true, "workspace": true, "air_conditioning": false}',
     '[{"url": "https://example.com/photos/nook.jpg", "caption": "The round window", "order": 1}]', NULL, 55.00, NULL, 'active'),
    (3, 'Garden Apartment', 'apartment',
     'Two bedrooms and a kitchen, with doors that open straight into the walled garden. There is a washing machine, a barbecue, and a gate to the lane where you can park. Dogs and cats are welcome.',
     4, 2, 1.5, 72, 'garden', '["Walled garden", "Own entrance"]', '["wifi", "kitchen", "washing machine", "barbecue", "parking", "pets welcome"]',
     '[{"src": "https://example.com/photos/garden.jpg", "title": "The garden", "position": 2}, {"src": "https://example.com/photos/kitchen.jpg", "position": 1}, {"title": "lost"}]',
     NULL, 120.00, NULL, 'active'),
    (4, 'Honeymoon Suite', 'suite',
     'A romantic suite for two with a four-poster bed, a fireplace and a jacuzzi on the terrace. Breakfast comes to your door, and nobody else comes at all.',
     2, 1, 1.0, 45, 'garden', '["Jacuzzi on the terrace", "Four-poster bed"]', '["wifi", "jacuzzi", "fireplace", "terrace", "breakfast"]',
     '["https://example.com/photos/suite.jpg"]', NULL, 210.00, NULL, 'active'),
    (5, 'Pool House', 'villa',
     'A house of its own beside the swimming pool: three bedrooms, a large kitchen and a table for ten under the vines. Wheelchair users reach every room without a step.',
     8, 3, 2.0, 130, 'pool', '["Next to the pool", "Table for ten"]', '["wifi", "pool", "kitchen", "barbecue", "parking", "wheelchair accessible"]',
     '["https://example.com/photos/pool.jpg"]', 'https://example.com/tours/pool', 320.00, NULL, 'active'),
    (6, 'Room being painted', 'room', 'A room that is being painted.', 2, 1, 1.0, 16, 'street', NULL, '["wifi"]', '[]', NULL, 60.00, NULL, 'maintenance'),
    (7, 'Room without words', 'room', NULL, 2, 1, 1.0, 15, 'street', NULL, '["wifi"]', '[]', NULL, 60.00, NULL, 'active')
) AS unit (n, name, type, description, capacity, bedrooms, bathrooms, size, view, features, amenities, photos, tour, price, rates, status)
WHERE unit.n <= current_setting('afresh.sample_size')::integer;

-- The others are put together from parts; each is about what its parts say.
INSERT INTO public.accommodation_units (
    id, tenant_id, name, unit_number, unit_type, description, capacity, bedrooms, bathrooms, beds, size_m2, floor_number,
    view_type, unique_features, amenities, photos, base_price_night, currency, seasonal_rates, status, created_at
)
SELECT
    pg_temp.identity(drawn.n, 'unit '),
    pg_temp.identity(1 + floor(pg_temp.draw(drawn.n, 1) * drawn.houses)::bigint, 'house '),
    drawn.adjective || ' ' || initcap(drawn.type) || ' ' || drawn.n,
    lpad(drawn.n::text, 3, '0'),
    drawn.type,
    format(
        '%s %s for up to %s guests, %s. %s %s',
        CASE WHEN drawn.adjective = 'Elegant' THEN 'An ' ELSE 'A ' END || lower(drawn.adjective), drawn.type, drawn.capacity, drawn.outlook,
        drawn.comfort, drawn.surroundings
    ),
    drawn.capacity,
    greatest(1, drawn.capacity / 2),
    1 + drawn.capacity / 4,
    jsonb_build_array(jsonb_build_object('kind', 'double', 'count', greatest(1, drawn.capacity / 2))),
    12 + 9 * drawn.capacity,
    drawn.n % 4,
    (ARRAY['sea', 'mountain', 'garden', 'street'])[drawn.looks],
    jsonb_build_array((ARRAY['Wooden floors', 'High ceilings', 'Handmade tiles', 'Reading corner'])[1 + drawn.n % 4]),
    to_jsonb((ARRAY['kitchen', 'pool', 'fireplace', 'desk', 'parking'])[drawn.comforts:drawn.comforts] || ARRAY['wifi']),
    jsonb_build_array('https://example.com/photos/' || drawn.n || '.jpg'),
    -- A few prices are not known yet: they are entered by hand.
    CASE WHEN drawn.n % 11 <> 0 THEN 35 + 20 * drawn.capacity + drawn.n % 30 END,
    'EUR',
    CASE WHEN drawn.n % 3 = 0 THEN jsonb_build_array(jsonb_build_object(
        'name', 'Winter', 'from', '2026-11-01', 'to', '2027-02-28', 'price_night', 30 + 15 * drawn.capacity
    )) END,
    CASE WHEN drawn.n % 20 = 0 THEN 'inactive' ELSE 'active' END,
    now() - make_interval(days => 300, hours => -drawn.n::integer)
FROM (
    SELECT
        picked.*,
        (ARRAY['Bright', 'Quiet', 'Rustic', 'Modern', 'Cosy', 'Elegant', 'Simple', 'Spacious'])[1 + floor(pg_temp.draw(picked.n, 3) * 8)::integer] AS adjective,
        (ARRAY['room', 'apartment', 'suite', 'studio', 'house'])[1 + floor(pg_temp.draw(picked.n, 4) * 5)::integer] AS type,
        1 + floor(pg_temp.draw(picked.n, 5) * 6)::integer AS capacity,
        (ARRAY['with a sea view from the window', 'with a mountain view', 'on the garden side', 'on the street side'])[picked.looks] AS outlook,
        (ARRAY['You have a kitchen of your own.', 'The pool is a few steps away.', 'There is a fireplace for the evenings.',
               'There is a desk, and the internet is fast.', 'A parking space belongs to it.'])[picked.comforts] AS comfort,
        (ARRAY['The beach is five minutes away on foot.', 'It is in the old town, close to the market.',
               'Nothing but olive trees around it.', 'The station is around the corner.'])[1 + floor(pg_temp.draw(picked.n, 8) * 4)::integer] AS surroundings
    FROM (
        SELECT
            n,
            (SELECT count(*) FROM public.tenant_registry) AS houses,
            1 + floor(pg_temp.draw(n, 6) * 4)::integer AS looks,
            1 + floor(pg_temp.draw(n, 7) * 5)::integer AS comforts
        FROM generate_series(8, current_setting('afresh.sample_size')::bigint) AS n
    ) AS picked
) AS drawn;

-- The public form, as the data migration makes it. (The broken unit is what a warning would be about.)
SET LOCAL client_min_messages = error;
DO $$ BEGIN PERFORM public.migrate_accommodation_units_public(); END $$;
-- Their ids, like all others, are to be the same each time.
UPDATE public.accommodation_units_public SET id = md5('public ' || source_unit_id)::uuid;

-- Visitors: four for each unit. Some have not said anything yet, most have said what they want, a few came back as guests,
-- some of these long ago, and some have not been seen for more than a week.
INSERT INTO public.guest_reservations (
    id, tenant_id, reservation_code, guest_name, guest_email, check_in_date, check_out_date, adults, children, status, created_at
)
SELECT
    pg_temp.identity(n, 'reservation '),
    pg_temp.identity(1 + n % (SELECT count(*) - 1 FROM public.tenant_registry), 'house '),
    'R-' || upper(substr(md5('reservation ' || n), 1, 12)),
    (ARRAY['Ana Torres', 'Ben Okoye', 'Chiara Russo', 'David Kim', 'Eva Novak'])[1 + n % 5],
    'guest' || n || '@example.com',
    current_date + (n % 60)::integer, current_date + (n % 60)::integer + 1 + (n % 9)::integer, 1 + (n % 3)::integer, (n % 2)::integer,
    (ARRAY['pending', 'confirmed'])[1 + n % 2], now() - make_interval(days => (n * 7 % 120)::integer)
FROM generate_series(0, current_setting('afresh.sample_size')::bigint * 4 - 1) AS n
WHERE n % 8 = 0;

INSERT INTO public.prospective_sessions (
    session_id, tenant_id, cookie_id, conversation_history, travel_intent, utm_tracking, status,
    converted_to_reservation_id, conversion_date, created_at, last_activity_at, expires_at
)
SELECT
    pg_temp.identity(visit.n, 'session '),
    pg_temp.identity(1 + visit.n % (SELECT count(*) - 1 FROM public.tenant_registry), 'house '),
    pg_temp.identity(visit.n, 'cookie ')::text,
    CASE WHEN visit.n % 8 = 1 THEN '[]' ELSE jsonb_build_array(
        jsonb_build_object('role', 'user', 'content', visit.said, 'at', visit.began),
        jsonb_build_object('role', 'assistant', 'content', 'Let me see what we have.', 'at', visit.began)
    ) END,
    CASE WHEN visit.n % 8 = 1 THEN '{}' ELSE public.extract_travel_intent(visit.said, current_date) END,
    CASE WHEN visit.n % 2 = 0 THEN jsonb_build_object(
        'utm_source', (ARRAY['newsletter', 'search', 'friends'])[1 + visit.n % 3], 'utm_campaign', 'spring'
    ) ELSE '{}' END,
    CASE WHEN visit.converted IS NULL THEN 'active' ELSE 'converted' END,
    CASE WHEN visit.converted IS NOT NULL THEN pg_temp.identity(visit.n, 'reservation ') END,
    visit.converted, visit.began, visit.began, visit.began + interval '7 days'
FROM (
    SELECT
        n,
        (ARRAY[
            'A room with a sea view for four, please', 'Do you have something with a pool? We are two adults and a child',
            'Hola, busco un apartamento con cocina para dos personas', 'Somewhere quiet for two nights',
            'Una habitación con vista al mar del 12 al 15 de marzo', 'Are dogs allowed? From 3 to 7 June, for 2'
        ])[1 + n % 6] AS said,
        CASE WHEN n % 8 = 0 THEN now() - make_interval(days => (n * 7 % 120)::integer) END AS converted,
        now() - make_interval(days => CASE WHEN n % 8 = 0 THEN (n * 7 % 120)::integer + 1 ELSE (n % 10)::integer END, mins => (n % 1440)::integer) AS began
    FROM generate_series(0, current_setting('afresh.sample_size')::bigint * 4 - 1) AS n
) AS visit;

DROP FUNCTION pg_temp.identity(bigint, text);
DROP FUNCTION pg_temp.draw(bigint, bigint);

-- The planner needs figures before the first refresh, and autovacuum comes later than that.
ANALYZE public.tenant_registry, public.accommodation_units, public.accommodation_units_public, public.guest_reservations,
    public.prospective_sessions;
