-- event_sessions_overview: everything that is to be known of a session in one row; live, and materialized
-- depends: shows_0005_financials

-- migrate: apply

-- The definition, once, written with LATERAL subqueries: a condition on stable_session_id, or on session_start_local,
-- reaches every base table by its index. It reads no clock: unchanged data give unchanged rows.
CREATE VIEW shows.event_sessions_overview_mv_live AS
SELECT
    -- Identification
    session.stable_session_id,
    CASE
        WHEN session.event_source_id IS NOT NULL THEN session.event_source || ':' || session.event_source_id
        ELSE session.stable_session_id
    END AS stable_event_id,
    session.session_id,
    coalesce(event.event_id, crm.event_id) AS event_id,
    crm.event_id AS crm_event_id,
    session.canonical_source,
    session.canonical_session_source_id,
    provided.provider,
    provided.provider = 'eventbrite' AS is_eventbrite_only,

    -- Metadata: what the provider says, and else what the older list of events says
    coalesce(
        nullif(btrim(event.name), ''), nullif(btrim(session.event_name), ''), nullif(btrim(crm.name), ''),
        nullif(btrim(session.session_name), ''), 'Untitled event'
    ) AS event_name,
    coalesce(
        nullif(btrim(session.session_name), ''), nullif(btrim(event.name), ''), nullif(btrim(session.event_name), ''),
        nullif(btrim(crm.name), ''), 'Untitled session'
    ) AS session_name,
    coalesce(nullif(lower(btrim(session.status)), ''), nullif(lower(btrim(crm.status)), ''), 'unknown') AS session_status,
    crm.promoter_id,
    coalesce(crm.promoter_name, event.organiser_name) AS promoter_name,
    coalesce(crm.is_recurring, false) OR siblings.sessions > 1 OR event.recurrence IS NOT NULL AS is_recurring,
    jsonb_strip_nulls(jsonb_build_object(
        'pattern', crm.recurrence_pattern,
        'series_id', crm.series_id,
        'sessions', nullif(siblings.sessions, 0),
        'provider', event.recurrence
    )) AS recurrence,

    -- Scheduling
    session.session_start,
    session.session_end,
    session.time_zone AS timezone,
    session.session_start_local,
    session.session_end_local,
    session.session_start_local::date AS session_date,
    session.session_start_local::time AS start_time,
    session.session_end_local::time AS end_time,

    -- Venue: the house's record, and else what Humanitix says of the place
    venue.id AS venue_id,
    CASE WHEN venue.id IS NULL THEN event.venue_name ELSE venue.name END AS venue_name,
    CASE WHEN venue.id IS NULL THEN event.venue_address ELSE venue.address END AS venue_address,
    CASE WHEN venue.id IS NULL THEN event.venue_city ELSE venue.city END AS venue_city,
    CASE WHEN venue.id IS NULL THEN event.venue_state ELSE venue.state END AS venue_state,
    CASE WHEN venue.id IS NULL THEN event.venue_lat ELSE venue.lat END AS venue_lat,
    CASE WHEN venue.id IS NULL THEN event.venue_lng ELSE venue.lng END AS venue_lng,

    coalesce(event.url, session.event_url, crm.event_url) AS event_url,
    coalesce(event.banner_url, session.banner_url, crm.banner_url) AS banner_url,
    coalesce(event.banner_metadata, crm.banner_metadata) AS banner_metadata,

    -- Provider metrics and combined totals
    session.currency,
    session.humanitix_orders,
    session.humanitix_tickets,
    shows.dollars(session.humanitix_gross_cents) AS humanitix_gross,
    shows.dollars(session.humanitix_net_cents) AS humanitix_net,
    shows.dollars(session.humanitix_fees_cents) AS humanitix_fees,
    shows.dollars(session.humanitix_tax_cents) AS humanitix_tax,
    session.eventbrite_orders,
    session.eventbrite_tickets,
    shows.dollars(session.eventbrite_gross_cents) AS eventbrite_gross,
    shows.dollars(session.eventbrite_net_cents) AS eventbrite_net,
    shows.dollars(session.eventbrite_fees_cents) AS eventbrite_fees,
    shows.dollars(session.eventbrite_tax_cents) AS eventbrite_tax,
    session.humanitix_orders + session.eventbrite_orders AS total_orders,
    session.humanitix_tickets + session.eventbrite_tickets AS total_tickets,
    shows.dollars(session.humanitix_gross_cents + session.eventbrite_gross_cents) AS total_gross,
    shows.dollars(session.humanitix_net_cents + session.eventbrite_net_cents) AS total_net,
    shows.dollars(session.humanitix_fees_cents + session.eventbrite_fees_cents) AS total_fees,
    shows.dollars(session.humanitix_tax_cents + session.eventbrite_tax_cents) AS total_tax,
    session.other_currency_orders,
    session.unreadable_orders,
    discounts.by_code AS discounts,
    customers.sample AS sample_customers,

    -- Applications, spots, line-up
    applications.all_of_them AS application_count,
    applications.pending AS pending_application_count,
    applications.accepted AS accepted_application_count,
    spots.listed AS spot_count,
    spots.confirmed AS confirmed_spot_count,
    spots.waiting AS waitlist_count,
    CASE WHEN spots.listed > 0 THEN spots.available ELSE coalesce(crm.spots, 0) END AS available_spots,
    spots.lineup,
    spots.waitlist
FROM shows.session_totals AS session
LEFT JOIN shows.events_htx_view AS event
    ON event.source_id = session.event_source_id AND session.event_source = 'humanitix'
-- Which providers sell it: those that have a session of it.
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN session.humanitix_session_ids IS NOT NULL AND session.eventbrite_session_ids IS NOT NULL THEN 'both'
        WHEN session.humanitix_session_ids IS NOT NULL THEN 'humanitix'
        WHEN session.eventbrite_session_ids IS NOT NULL THEN 'eventbrite'
        ELSE 'other'
    END AS provider
) AS provided
-- The rows of the older list that belong to it, found by any of its ids at the providers; the oldest speaks for all, but
-- spots and applications count wherever they hang.
LEFT JOIN LATERAL (
    SELECT
        legacy.id AS event_id,
        legacy.name,
        legacy.status,
        legacy.promoter_id,
        coalesce(nullif(btrim(promoter.stage_name), ''), promoter.name) AS promoter_name,
        legacy.is_recurring,
        legacy.recurrence_pattern,
        legacy.series_id,
        legacy.venue_id,
        legacy.event_url,
        legacy.banner_url,
        CASE WHEN jsonb_typeof(legacy.banner_metadata) = 'object' THEN legacy.banner_metadata END AS banner_metadata,
        legacy.spots
    FROM shows.events AS legacy
    LEFT JOIN shows.profiles AS promoter ON promoter.id = legacy.promoter_id
    WHERE legacy.source_key = ANY (session.source_keys)
    ORDER BY legacy.created_at, legacy.id
    LIMIT 1
) AS crm ON true
-- A venue that is not there does not hide the other one.
LEFT JOIN LATERAL (
    SELECT place.*
    FROM shows.venues AS place
    WHERE place.id IN (session.venue_id, crm.venue_id)
    ORDER BY place.id = session.venue_id DESC NULLS LAST, place.id
    LIMIT 1
) AS venue ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS sessions
    FROM shows.sessions_htx AS sibling
    WHERE sibling.event_source_id = session.event_source_id AND session.event_source = 'humanitix'
) AS siblings
-- Discounts stand in orders and in tickets. A ticket's count where its order lists none, so that none counts twice.
CROSS JOIN LATERAL (
    SELECT coalesce(
        jsonb_agg(
            jsonb_build_object('code', used.code, 'uses', used.uses, 'amount', shows.dollars(used.amount_cents))
            ORDER BY used.uses DESC, used.code COLLATE "C"
        ),
        '[]'
    ) AS by_code
    FROM (
        SELECT line.code, count(*) AS uses, sum(line.amount_cents)::bigint AS amount_cents
        FROM (
            SELECT said.code, said.amount_cents
            FROM shows.orders_htx AS placed
            CROSS JOIN LATERAL shows.discount_lines(placed.payload) AS said
            WHERE placed.session_source_id = ANY (session.humanitix_session_ids)
              AND placed.is_counted AND placed.has_discounts
            UNION ALL
            SELECT said.code, said.amount_cents
            FROM shows.tickets_htx AS ticket
            CROSS JOIN LATERAL shows.discount_lines(ticket.payload) AS said
            WHERE ticket.session_source_id = ANY (session.humanitix_session_ids)
              AND ticket.is_counted AND ticket.has_discounts
              AND NOT coalesce(
                  (SELECT own.has_discounts FROM shows.orders_htx AS own WHERE own.source_id = ticket.order_source_id),
                  false
              )
            UNION ALL
            SELECT said.code, said.amount_cents
            FROM shows.orders_eventbrite AS placed
            CROSS JOIN LATERAL shows.discount_lines(placed.payload) AS said
            WHERE placed.session_source_id = ANY (session.eventbrite_session_ids)
              AND placed.is_counted AND placed.has_discounts
            UNION ALL
            SELECT said.code, said.amount_cents
            FROM shows.tickets_eventbrite AS ticket
            CROSS JOIN LATERAL shows.discount_lines(ticket.payload) AS said
            WHERE ticket.session_source_id = ANY (session.eventbrite_session_ids)
              AND ticket.is_counted AND ticket.has_discounts
              AND NOT coalesce(
                  (
                      SELECT own.has_discounts FROM shows.orders_eventbrite AS own
                      WHERE own.source_id = ticket.order_source_id
                  ),
                  false
              )
        ) AS line
        GROUP BY line.code
    ) AS used
) AS discounts
-- The latest five orders' customers. A name's first letter stands for the last one, and no address is here: the page that
-- shows them asks nobody who he is.
CROSS JOIN LATERAL (
    SELECT coalesce(
        jsonb_agg(
            jsonb_build_object(
                'name', latest.name,
                'source', latest.source,
                -- As a text in UTC: JSON would have it in the time zone of whoever refreshes.
                'ordered_at', to_char(latest.ordered_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
            )
            ORDER BY latest.ordered_at DESC NULLS LAST, latest.source, latest.source_id COLLATE "C"
        ),
        '[]'
    ) AS sample
    FROM (
        SELECT
            coalesce(
                nullif(concat_ws(' ', either.first_name, left(either.last_name, 1) || '.'), ''), 'Somebody'
            ) AS name,
            either.source,
            either.source_id,
            either.ordered_at
        FROM (
            SELECT
                'humanitix' AS source,
                placed.source_id,
                coalesce(nullif(btrim(placed.first_name), ''), nullif(btrim(customer.first_name), '')) AS first_name,
                coalesce(nullif(btrim(placed.last_name), ''), nullif(btrim(customer.last_name), '')) AS last_name,
                placed.ordered_at
            FROM (
                SELECT one.source_id, one.first_name, one.last_name, one.ordered_at, one.customer_source_id
                FROM shows.orders_htx AS one
                WHERE one.session_source_id = ANY (session.humanitix_session_ids) AND one.is_counted
                ORDER BY one.ordered_at DESC NULLS LAST, one.source_id COLLATE "C"
                LIMIT 5
            ) AS placed
            LEFT JOIN shows.customers_htx AS customer ON customer.source_id = placed.customer_source_id
            UNION ALL
            (
                SELECT
                    'eventbrite', placed.source_id, nullif(btrim(placed.first_name), ''),
                    nullif(btrim(placed.last_name), ''), placed.ordered_at
                FROM shows.orders_eventbrite AS placed
                WHERE placed.session_source_id = ANY (session.eventbrite_session_ids) AND placed.is_counted
                ORDER BY placed.ordered_at DESC NULLS LAST, placed.source_id COLLATE "C"
                LIMIT 5
            )
        ) AS either
        ORDER BY either.ordered_at DESC NULLS LAST, either.source, either.source_id COLLATE "C"
        LIMIT 5
    ) AS latest
) AS customers
CROSS JOIN LATERAL (
    SELECT array_agg(legacy.id) AS event_ids
    FROM shows.events AS legacy
    WHERE legacy.source_key = ANY (session.source_keys)
) AS hung_on
CROSS JOIN LATERAL (
    SELECT
        count(*) AS all_of_them,
        count(*) FILTER (WHERE application.status = 'pending') AS pending,
        count(*) FILTER (WHERE application.status = 'accepted') AS accepted
    FROM shows.event_applications AS application
    WHERE application.event_id = ANY (hung_on.event_ids)
) AS applications
-- Who is confirmed, or waits, is shown with his profile; a spot whose profile has gone is counted and not shown.
CROSS JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE spot.status IN ('available', 'offered', 'confirmed')) AS listed,
        count(*) FILTER (WHERE spot.status = 'available') AS available,
        count(*) FILTER (WHERE spot.status = 'confirmed') AS confirmed,
        count(*) FILTER (WHERE spot.status = 'waitlist') AS waiting,
        coalesce(
            jsonb_agg(shown.entry ORDER BY spot.position, spot.id)
                FILTER (WHERE spot.status = 'confirmed' AND performer.id IS NOT NULL),
            '[]'
        ) AS lineup,
        coalesce(
            jsonb_agg(shown.entry ORDER BY spot.position, spot.id)
                FILTER (WHERE spot.status = 'waitlist' AND performer.id IS NOT NULL),
            '[]'
        ) AS waitlist
    FROM shows.event_spots AS spot
    LEFT JOIN shows.profiles AS performer ON performer.id = spot.performer_id
    CROSS JOIN LATERAL (
        SELECT jsonb_build_object(
            'performer_id', performer.id,
            'name', coalesce(nullif(btrim(performer.stage_name), ''), performer.name),
            'avatar_url', performer.avatar_url,
            'bio', performer.bio,
            'instagram', performer.instagram,
            'spot', spot.spot_name,
            'position', spot.position,
            'duration_minutes', spot.duration_minutes
        ) AS entry
    ) AS shown
    WHERE spot.event_id = ANY (hung_on.event_ids)
) AS spots;

COMMENT ON VIEW shows.event_sessions_overview_mv_live IS
    'What event_sessions_overview_mv holds, computed at the moment of asking: for one session, or sessions of a few days, it costs little';

CREATE VIEW shows.event_sessions_overview_v AS
SELECT overview.*, now() AS refreshed_at
FROM shows.event_sessions_overview_mv_live AS overview;

COMMENT ON VIEW shows.event_sessions_overview_v IS
    'Each session of Humanitix and Eventbrite in one row, computed at the moment of asking, which refreshed_at says';
COMMENT ON COLUMN shows.event_sessions_overview_v.stable_session_id IS
    'The canonical session: its source, a colon, its id there. Every session has one, also where session_id is NULL.';
COMMENT ON COLUMN shows.event_sessions_overview_v.stable_event_id IS
    'Likewise of the event; of a session whose event nobody names it is the session''s';
COMMENT ON COLUMN shows.event_sessions_overview_v.session_id IS 'The row in sessions_htx; NULL where Humanitix has none';
COMMENT ON COLUMN shows.event_sessions_overview_v.event_id IS
    'The row in events_htx, or else in events; NULL where there is neither';
COMMENT ON COLUMN shows.event_sessions_overview_v.provider IS 'humanitix, eventbrite, both, or other';
COMMENT ON COLUMN shows.event_sessions_overview_v.available_spots IS
    'Spots that are listed as available; where none are listed, how many the event says there are';
COMMENT ON COLUMN shows.event_sessions_overview_v.discounts IS
    'For each code how often it was used and what it took off, most used first';
COMMENT ON COLUMN shows.event_sessions_overview_v.sample_customers IS 'Who placed the latest orders, at most five';
COMMENT ON COLUMN shows.event_sessions_overview_v.lineup IS 'Confirmed performers with their profiles, in their order';
COMMENT ON COLUMN shows.event_sessions_overview_v.waitlist IS 'Who waits for a spot, in their order';
COMMENT ON COLUMN shows.event_sessions_overview_v.total_net IS 'gross less fees and tax';
COMMENT ON COLUMN shows.event_sessions_overview_v.unreadable_orders IS
    'Orders in whose payload something could not be read, and counts as nothing';

-- What a search for words looks for: every word of the text, the last one as it was begun.
CREATE FUNCTION shows.words(search text) RETURNS tsquery
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (nullif(plainto_tsquery('pg_catalog.simple'::regconfig, search)::text, '') || ':*')::tsquery;

COMMENT ON FUNCTION shows.words(text) IS 'A text as a search for its words, of which the last may be unfinished; NULL for none';

-- No time of refresh is in it: a column that is another at each refresh would rewrite every row, each time. That is in
-- refresh_status.
CREATE MATERIALIZED VIEW shows.event_sessions_overview_mv AS
SELECT * FROM shows.event_sessions_overview_mv_live;

COMMENT ON MATERIALIZED VIEW shows.event_sessions_overview_mv IS
    'event_sessions_overview_v as of the last refresh (refresh_status says when): for browsing, filters and export';

CREATE UNIQUE INDEX idx_event_sessions_overview_stable_session
    ON shows.event_sessions_overview_mv (stable_session_id);
CREATE INDEX idx_event_sessions_overview_session ON shows.event_sessions_overview_mv (session_id);
CREATE INDEX idx_event_sessions_overview_event ON shows.event_sessions_overview_mv (event_id);
CREATE INDEX idx_event_sessions_overview_date ON shows.event_sessions_overview_mv (session_date);
CREATE INDEX idx_event_sessions_overview_start_local
    ON shows.event_sessions_overview_mv (session_start_local, stable_session_id);
CREATE INDEX idx_event_sessions_overview_city
    ON shows.event_sessions_overview_mv (lower(venue_city), session_start_local, stable_session_id);
CREATE INDEX idx_event_sessions_overview_available_spots
    ON shows.event_sessions_overview_mv (available_spots, session_start_local);
CREATE INDEX idx_event_sessions_overview_event_name
    ON shows.event_sessions_overview_mv USING gin (to_tsvector('pg_catalog.simple'::regconfig, event_name));

-- When the overview was refreshed is nowhere in the database: the service knows it, and its log of invalidations is
-- trimmed. So it is a view of one row that stands on the overview. Views are refreshed after those they stand on, each time:
-- the moment of its own refresh is the one right after the overview's was committed. It must not be refreshed at any other
-- time (`every`): it would say that the overview is younger than it is. The moment comes by way of a function, since it is
-- meant: whoever looks for a clock in a view by mistake does not find one here.
CREATE FUNCTION shows.moment_of_refresh() RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN now();

COMMENT ON FUNCTION shows.moment_of_refresh() IS 'When the view that calls it is refreshed';

CREATE MATERIALIZED VIEW shows.refresh_status AS
SELECT
    'shows.event_sessions_overview_mv'::text AS view_name,
    shows.moment_of_refresh() AS refreshed_at,
    count(*) AS sessions
FROM shows.event_sessions_overview_mv;

COMMENT ON MATERIALIZED VIEW shows.refresh_status IS
    'When event_sessions_overview_mv was last refreshed, and how many sessions it holds; itself refreshed right after it';
COMMENT ON COLUMN shows.refresh_status.refreshed_at IS
    'Right after that refresh was committed; what was written while it ran comes with the next one';

CREATE UNIQUE INDEX idx_refresh_status_view_name ON shows.refresh_status (view_name);

-- migrate: rollback

-- Without CASCADE: what somebody else built on them is named in the error, not dropped with them.
DROP MATERIALIZED VIEW shows.refresh_status;
DROP FUNCTION shows.moment_of_refresh();
DROP MATERIALIZED VIEW shows.event_sessions_overview_mv;
DROP FUNCTION shows.words(text);
DROP VIEW shows.event_sessions_overview_v;
DROP VIEW shows.event_sessions_overview_mv_live;
