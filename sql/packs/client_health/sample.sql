-- Sample data: clients, and two years of what happened with them.
--
-- SET afresh.sample_size = '1000' beforehand asks for that many clients; unset, it is 50. Run it in one transaction.
-- It refuses a database whose tables hold rows, so it mixes with nobody's data and cannot run twice. The same size
-- gives the same data, apart from the dates, which are counted back from today: every figure comes from a hash of the
-- client's number, not from random(), so no plan and no order of rows can change it. The summaries are not refreshed
-- here: the watched tables tell the service, and `afresh refresh` does it by hand.

DO $$
DECLARE
    asked text := coalesce(nullif(current_setting('afresh.sample_size', true), ''), '50');
    full_table text;
    holds_rows boolean;
BEGIN
    IF asked !~ '^[0-9]{1,7}$' OR asked::integer < 1 THEN
        RAISE EXCEPTION 'afresh.sample_size is %, which is not a number of clients', quote_literal(asked)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a whole number from 1 to 9999999.';
    END IF;
    PERFORM set_config('afresh.sample_size', asked, true), set_config('row_security', 'off', true);
    FOREACH full_table IN ARRAY ARRAY[
        'nps_clients', 'nps_responses', 'unified_meetings', 'actions', 'segmentation_tiers', 'segmentation_event_types',
        'tier_event_requirements', 'segmentation_events', 'segmentation_event_compliance'
    ] LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', full_table) INTO holds_rows;
        IF holds_rows THEN
            RAISE EXCEPTION 'sample data are for empty tables, and public.% holds rows', full_table
                USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Load them into a database of their own, or empty the tables of the pack client_health first.';
        END IF;
    END LOOP;
END
$$;

-- A number from 0 up to but not including 1, the same for the same row and purpose for ever.
CREATE FUNCTION pg_temp.draw(item bigint, purpose bigint) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT (hashint8extended(item, purpose) & 16777215) / 16777216.0::double precision';

INSERT INTO public.segmentation_tiers (tier_name)
VALUES ('Strategic'), ('Growth'), ('Core'), ('Essential');

INSERT INTO public.segmentation_event_types (event_name)
VALUES
    ('Executive Business Review'), ('Health Check'), ('Roadmap Briefing'),
    ('On-site Visit'), ('Training Session'), ('User Group');

INSERT INTO public.tier_event_requirements (tier_id, event_type_id, expected_count)
SELECT tier.id, type.id, owed.expected_count
FROM (VALUES
    ('Strategic', 'Executive Business Review', 2), ('Strategic', 'Health Check', 4),
    ('Strategic', 'Roadmap Briefing', 2), ('Strategic', 'On-site Visit', 2),
    ('Strategic', 'Training Session', 2), ('Strategic', 'User Group', 1),
    ('Growth', 'Executive Business Review', 1), ('Growth', 'Health Check', 2), ('Growth', 'Roadmap Briefing', 1),
    ('Growth', 'On-site Visit', 1), ('Growth', 'Training Session', 1),
    ('Core', 'Executive Business Review', 1), ('Core', 'Health Check', 2), ('Core', 'Roadmap Briefing', 1),
    ('Essential', 'Health Check', 1), ('Essential', 'User Group', 1)
) AS owed (tier_name, event_name, expected_count)
JOIN public.segmentation_tiers AS tier USING (tier_name)
JOIN public.segmentation_event_types AS type USING (event_name);

-- One row for each client; `quality`, mostly good and sometimes poor, runs through all that is drawn for him. Names:
-- 40 by 50 by 5 combinations in a scattered order (7919 shares no factor with 10,000), and a number from the
-- ten-thousandth on.
CREATE TEMPORARY TABLE sample_clients ON COMMIT DROP AS
SELECT
    drawn.number,
    (ARRAY[
        'Alder', 'Amber', 'Arbor', 'Ashford', 'Beacon', 'Birch', 'Bright', 'Cedar', 'Clearwater', 'Cobalt',
        'Copper', 'Coral', 'Crescent', 'Dover', 'Eastgate', 'Elm', 'Fairview', 'Falcon', 'Granite', 'Harbour',
        'Hawthorn', 'Highland', 'Juniper', 'Kestrel', 'Lakeside', 'Linden', 'Maple', 'Meridian', 'Northern', 'Oakwood',
        'Pacific', 'Pinnacle', 'Redwood', 'Riverside', 'Silver', 'Southern', 'Summit', 'Tamar', 'Westfield', 'Willow'
    ])[drawn.spread % 40 + 1]
    || ' ' ||
    (ARRAY[
        'Analytics', 'Apparel', 'Architects', 'Aviation', 'Bank', 'Biotech', 'Brewing', 'Care', 'Chemicals', 'Clinics',
        'Construction', 'Consulting', 'Dairy', 'Dental', 'Design', 'Education', 'Electric', 'Energy', 'Engineering',
        'Estates',
        'Finance', 'Fisheries', 'Foods', 'Freight', 'Furniture', 'Health', 'Hospitals', 'Hotels', 'Insurance',
        'Laboratories',
        'Legal', 'Logistics', 'Machinery', 'Marine', 'Media', 'Medical', 'Mining', 'Networks', 'Optics', 'Outdoors',
        'Packaging', 'Paper', 'Pharmacy', 'Press', 'Rail', 'Retail', 'Robotics', 'Software', 'Textiles', 'Travel'
    ])[drawn.spread / 40 % 50 + 1]
    || ' ' || (ARRAY['Group', 'Ltd', 'Holdings', 'Partners', 'International'])[drawn.spread / 2000 + 1]
    || CASE WHEN drawn.number > 10000 THEN ' ' || ((drawn.number - 1) / 10000 + 1)::text ELSE '' END AS client_name,
    tier.tier_name AS segment,
    tier.id AS tier_id,
    1 - power(pg_temp.draw(drawn.number, 2), 2) AS quality
FROM (
    SELECT n AS number, ((n - 1) * 7919 % 10000)::integer AS spread, pg_temp.draw(n, 1) AS rank
    FROM generate_series(1, current_setting('afresh.sample_size')::bigint) AS n
) AS drawn
JOIN public.segmentation_tiers AS tier ON tier.tier_name = CASE
    WHEN drawn.rank < 0.08 THEN 'Strategic'
    WHEN drawn.rank < 0.30 THEN 'Growth'
    WHEN drawn.rank < 0.70 THEN 'Core'
    ELSE 'Essential'
END;

ANALYZE pg_temp.sample_clients;

INSERT INTO public.nps_clients (client_name, segment, cse, created_at, updated_at)
SELECT
    client_name,
    segment,
    (ARRAY[
        'Amara Okafor', 'Ben Whitfield', 'Chloe Tan', 'Daniel Reyes', 'Elena Petrova', 'Farid Hassan', 'Grace Mitchell',
        'Hiro Tanaka', 'Isla Campbell', 'Jonas Weber', 'Keira Walsh', 'Liam Nguyen'
    ])[floor(pg_temp.draw(number, 3) * 12)::integer + 1],
    now() - make_interval(days => 730 + floor(pg_temp.draw(number, 4) * 1500)::integer),
    now() - make_interval(days => floor(pg_temp.draw(number, 5) * 200)::integer)
FROM sample_clients
ORDER BY number;

-- Two to nine answers in two years, the first of them within the last half year for nearly everyone.
INSERT INTO public.nps_responses (client_name, score, feedback, response_date, created_at, updated_at)
SELECT
    client_name,
    score,
    CASE WHEN pg_temp.draw(item, 15) < 0.4 THEN CASE
        WHEN score >= 9 THEN 'Quick answers and people who know our business.'
        WHEN score >= 7 THEN 'Good on the whole; reports could be easier.'
        ELSE 'Too many open questions for too long.'
    END END,
    day,
    day + interval '10 hours',
    day + interval '10 hours'
FROM (
    SELECT
        c.client_name,
        item,
        greatest(0, least(10, round(3 + 6.8 * c.quality + 3.4 * (pg_temp.draw(item, 12) - 0.45))))::smallint AS score,
        (now() AT TIME ZONE 'UTC')::date
            - (CASE WHEN k = 1 THEN 180 ELSE 730 END * pg_temp.draw(item, 13))::integer AS day
    FROM sample_clients AS c
    CROSS JOIN LATERAL generate_series(1, 2 + floor(pg_temp.draw(c.number, 11) * 8)::integer) AS k
    CROSS JOIN LATERAL (SELECT c.number * 100 + k AS item) AS numbered
) AS response;

-- Good clients are met often and lately; some meetings are still to come.
INSERT INTO public.unified_meetings (client_name, title, meeting_date, created_at, updated_at)
SELECT
    c.client_name,
    (ARRAY['Weekly check-in', 'Quarterly review', 'Project status', 'Contract renewal', 'Support follow-up'])[
        floor(pg_temp.draw(item, 22) * 5)::integer + 1],
    day,
    least(day - interval '7 days', now()),
    least(day - interval '7 days', now())
FROM sample_clients AS c
CROSS JOIN LATERAL generate_series(1, 2 + floor(pg_temp.draw(c.number, 21) * (4 + 10 * c.quality))::integer) AS k
CROSS JOIN LATERAL (SELECT c.number * 100 + k AS item) AS numbered
CROSS JOIN LATERAL (
    SELECT (now() AT TIME ZONE 'UTC')::date + 21
        - (power(pg_temp.draw(item, 23), 1 + c.quality) * 500)::integer AS day
) AS dated;

INSERT INTO public.actions ("Client", "Description", "Owner", "Status", "Due_Date", created_at, updated_at)
SELECT
    c.client_name,
    (ARRAY[
        'Send the usage report', 'Book the next review', 'Answer the security questionnaire', 'Close the open tickets',
        'Plan the upgrade', 'Agree the training dates'
    ])[floor(pg_temp.draw(item, 32) * 6)::integer + 1],
    (ARRAY['Client success', 'Support', 'Delivery', 'Sales'])[floor(pg_temp.draw(item, 33) * 4)::integer + 1],
    CASE
        WHEN pg_temp.draw(item, 34) < 0.05 THEN 'Cancelled'
        WHEN pg_temp.draw(item, 34) < 0.20 + 0.45 * c.quality THEN 'Completed'
        WHEN pg_temp.draw(item, 34) < 0.85 THEN 'In Progress'
        ELSE 'Not Started'
    END,
    (now() AT TIME ZONE 'UTC')::date + (60 * (pg_temp.draw(item, 35) - 0.7 + 0.6 * c.quality))::integer,
    now() - make_interval(days => 60 + floor(pg_temp.draw(item, 36) * 60)::integer),
    now() - make_interval(days => floor(pg_temp.draw(item, 37) * 60)::integer)
FROM sample_clients AS c
CROSS JOIN LATERAL generate_series(1, 1 + floor(pg_temp.draw(c.number, 31) * 9)::integer) AS k
CROSS JOIN LATERAL (SELECT c.number * 100 + k AS item) AS numbered;

-- How many events of each type took place, last year and this one: around what the tier is owed, more for good
-- clients.
CREATE TEMPORARY TABLE sample_compliance ON COMMIT DROP AS
SELECT
    c.number,
    c.client_name,
    owed.event_type_id,
    span.year,
    owed.expected_count,
    round(owed.expected_count * (0.55 * c.quality + 0.35 + 0.9 * (pg_temp.draw(item, 41) - 0.4)))::integer
        AS actual_count,
    item
FROM sample_clients AS c
JOIN public.tier_event_requirements AS owed USING (tier_id)
CROSS JOIN LATERAL (
    SELECT extract(year FROM now() AT TIME ZONE 'UTC')::integer - back AS year, back
    FROM generate_series(0, 1) AS back
) AS span
CROSS JOIN LATERAL (SELECT (c.number * 1000 + owed.event_type_id) * 10 + span.back AS item) AS numbered;

INSERT INTO public.segmentation_events (client_name, event_type_id, event_date, completed, created_at, updated_at)
SELECT client_name, event_type_id, day, true, day + interval '9 hours', day + interval '9 hours'
FROM sample_compliance
CROSS JOIN LATERAL generate_series(1, actual_count) AS k
CROSS JOIN LATERAL (
    SELECT make_date(year, 1, 1) AS first, least(make_date(year, 12, 31), (now() AT TIME ZONE 'UTC')::date) AS last
) AS bounds
CROSS JOIN LATERAL (
    SELECT first + floor(pg_temp.draw(item * 100 + k, 42) * (last - first + 1))::integer AS day
) AS dated;

-- Two in five clients have an event planned for the coming weeks.
INSERT INTO public.segmentation_events (client_name, event_type_id, event_date, completed)
SELECT DISTINCT ON (number)
    client_name,
    event_type_id,
    (now() AT TIME ZONE 'UTC')::date + 1 + floor(pg_temp.draw(number, 52) * 60)::integer,
    false
FROM sample_compliance
WHERE pg_temp.draw(number, 51) < 0.4
ORDER BY number, pg_temp.draw(item, 53);

INSERT INTO public.segmentation_event_compliance (
    client_name, event_type_id, year, expected_count, actual_count, compliance_percentage, status
)
SELECT
    client_name,
    event_type_id,
    year,
    expected_count,
    actual_count,
    trunc(100.0 * actual_count / expected_count, 2),
    CASE
        WHEN 100.0 * actual_count / expected_count < 50 THEN 'critical'
        WHEN actual_count < expected_count THEN 'at-risk'
        WHEN actual_count = expected_count THEN 'compliant'
        ELSE 'exceeded'
    END
FROM sample_compliance;

DROP FUNCTION pg_temp.draw(bigint, bigint);

-- The planner needs figures before the first refresh, and autovacuum comes later than that.
ANALYZE public.nps_clients, public.nps_responses, public.unified_meetings, public.actions, public.segmentation_tiers,
    public.segmentation_event_types, public.tier_event_requirements, public.segmentation_events,
    public.segmentation_event_compliance;
