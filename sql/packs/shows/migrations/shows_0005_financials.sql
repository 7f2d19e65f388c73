-- Canonical sessions, and their money: in cents, and in dollars
-- depends: shows_0004_eventbrite

-- migrate: apply

-- One row for each canonical session: each of Humanitix that the bridge does not map to another one, and each that only the
-- bridge knows, such as one that Eventbrite alone sells. A condition on stable_session_id, session_id or session_start_local
-- reaches the base tables, in both halves.
CREATE VIEW shows.canonical_sessions AS
SELECT
    spine.*,
    ids.humanitix_session_ids,
    ids.eventbrite_session_ids,
    ids.source_keys
FROM (
    SELECT
        session.stable_session_id,
        'humanitix'::text AS canonical_source,
        session.source_id AS canonical_session_source_id,
        session.id AS session_id,
        'humanitix'::text AS event_source,
        session.event_source_id,
        NULL::text AS event_name,
        session.name AS session_name,
        session.status,
        session.start_date AS session_start,
        session.end_date AS session_end,
        session.time_zone,
        session.session_start_local,
        session.session_end_local,
        session.venue_id,
        NULL::text AS event_url,
        NULL::text AS banner_url
    FROM shows.sessions_htx AS session
    WHERE NOT EXISTS (
        SELECT FROM shows.session_sources AS mapped
        WHERE mapped.source = 'humanitix'
          AND mapped.source_session_id = session.source_id
          AND mapped.stable_session_id <> session.stable_session_id
    )
    UNION ALL
    -- What the bridge's own row does not say is taken from the earliest session of Humanitix that belongs to it, and a start
    -- that neither says from the older list. The start, the end and the zone come from one place, so that they fit.
    SELECT
        bridge.stable_session_id,
        bridge.canonical_source,
        bridge.canonical_session_source_id,
        member.session_id,
        CASE WHEN member.session_id IS NOT NULL THEN 'humanitix' ELSE bridge.source END,
        coalesce(member.event_source_id, bridge.source_event_id),
        bridge.event_name,
        coalesce(bridge.session_name, member.session_name),
        member.status,
        coalesce(bridge.session_start, member.session_start, legacy.session_start),
        CASE
            WHEN bridge.session_start IS NOT NULL THEN bridge.session_end
            WHEN member.session_start IS NOT NULL THEN member.session_end
            ELSE legacy.session_end
        END,
        CASE
            WHEN bridge.session_start IS NOT NULL THEN bridge.time_zone
            WHEN member.session_start IS NOT NULL THEN member.time_zone
            ELSE coalesce(legacy.time_zone, bridge.time_zone)
        END,
        coalesce(bridge.session_start_local, member.session_start_local, legacy.session_start_local),
        CASE
            WHEN bridge.session_start IS NOT NULL THEN bridge.session_end_local
            WHEN member.session_start IS NOT NULL THEN member.session_end_local
            ELSE legacy.session_end_local
        END,
        coalesce(bridge.venue_id, member.venue_id),
        bridge.event_url,
        bridge.banner_url
    FROM shows.session_sources AS bridge
    LEFT JOIN LATERAL (
        SELECT
            session.id AS session_id,
            session.event_source_id,
            session.name AS session_name,
            session.status,
            session.start_date AS session_start,
            session.end_date AS session_end,
            session.time_zone,
            session.session_start_local,
            session.session_end_local,
            session.venue_id
        FROM shows.session_sources AS part
        JOIN shows.sessions_htx AS session ON session.source_id = part.source_session_id
        WHERE part.stable_session_id = bridge.stable_session_id AND part.source = 'humanitix'
        ORDER BY session.start_date, session.source_id
        LIMIT 1
    ) AS member ON true
    LEFT JOIN LATERAL (
        SELECT
            event.session_start, event.session_end, event.time_zone, event.session_start_local, event.session_end_local
        FROM (
            SELECT part.source_key
            FROM shows.session_sources AS part
            WHERE part.stable_session_id = bridge.stable_session_id
            UNION ALL
            SELECT bridge.stable_session_id
            WHERE NOT EXISTS (
                SELECT FROM shows.session_sources AS own WHERE own.source_key = bridge.stable_session_id
            )
        ) AS known
        JOIN shows.events AS event ON event.source_key = known.source_key
        WHERE bridge.session_start IS NULL AND member.session_start IS NULL
        ORDER BY event.created_at, event.id
        LIMIT 1
    ) AS legacy ON true
    -- Not one of the first half's,
    WHERE NOT EXISTS (
        SELECT FROM shows.sessions_htx AS session
        WHERE session.stable_session_id = bridge.stable_session_id
          AND NOT EXISTS (
              SELECT FROM shows.session_sources AS mapped
              WHERE mapped.source = 'humanitix'
                AND mapped.source_session_id = session.source_id
                AND mapped.stable_session_id <> session.stable_session_id
          )
    )
    -- and of a session's rows in the bridge one: its own, or else the first.
    AND NOT EXISTS (
        SELECT FROM shows.session_sources AS better
        WHERE better.stable_session_id = bridge.stable_session_id
          AND (NOT better.is_canonical, better.source, better.source_session_id)
              < (NOT bridge.is_canonical, bridge.source, bridge.source_session_id)
    )
) AS spine
-- What of each provider belongs to it: what the bridge says, and itself, unless that is mapped elsewhere.
CROSS JOIN LATERAL (
    SELECT
        array_agg(part.source_session_id) FILTER (WHERE part.source = 'humanitix') AS humanitix_session_ids,
        array_agg(part.source_session_id) FILTER (WHERE part.source = 'eventbrite') AS eventbrite_session_ids,
        array_agg(part.source_key) AS source_keys
    FROM (
        SELECT bridge.source, bridge.source_session_id, bridge.source_key
        FROM shows.session_sources AS bridge
        WHERE bridge.stable_session_id = spine.stable_session_id
        UNION ALL
        SELECT spine.canonical_source, spine.canonical_session_source_id, spine.stable_session_id
        WHERE NOT EXISTS (
            SELECT FROM shows.session_sources AS own
            WHERE own.source = spine.canonical_source
              AND own.source_session_id = spine.canonical_session_source_id
        )
    ) AS part
) AS ids;

COMMENT ON VIEW shows.canonical_sessions IS
    'Each session once, whichever providers sell it, with the ids that it has at each of them';
COMMENT ON COLUMN shows.canonical_sessions.session_id IS 'The row in sessions_htx; NULL where Humanitix has none';
COMMENT ON COLUMN shows.canonical_sessions.source_keys IS 'Every provider''s session that belongs to it: source, a colon, its id';

-- A session has one currency: its event's, or else the one of most of its orders. An order without a currency is in that
-- one; one in another currency is counted, and its money is not: it is not to be added up. net is gross less fees and tax.
CREATE VIEW shows.session_totals AS
SELECT
    session.*,
    money.currency,
    humanitix.orders AS humanitix_orders,
    humanitix_tickets.tickets AS humanitix_tickets,
    humanitix.gross_cents AS humanitix_gross_cents,
    humanitix.gross_cents - humanitix.fees_cents - humanitix.tax_cents AS humanitix_net_cents,
    humanitix.fees_cents AS humanitix_fees_cents,
    humanitix.tax_cents AS humanitix_tax_cents,
    eventbrite.orders AS eventbrite_orders,
    eventbrite_tickets.tickets AS eventbrite_tickets,
    eventbrite.gross_cents AS eventbrite_gross_cents,
    eventbrite.gross_cents - eventbrite.fees_cents - eventbrite.tax_cents AS eventbrite_net_cents,
    eventbrite.fees_cents AS eventbrite_fees_cents,
    eventbrite.tax_cents AS eventbrite_tax_cents,
    humanitix.other_currency + eventbrite.other_currency AS other_currency_orders,
    humanitix.problems + eventbrite.problems AS unreadable_orders
FROM shows.canonical_sessions AS session
LEFT JOIN shows.events_htx AS event
    ON event.source_id = session.event_source_id AND session.event_source = 'humanitix'
CROSS JOIN LATERAL (
    SELECT coalesce(
        event.currency,
        (
            SELECT mode() WITHIN GROUP (ORDER BY either.currency)
            FROM (
                SELECT placed.currency
                FROM shows.orders_htx AS placed
                WHERE placed.session_source_id = ANY (session.humanitix_session_ids) AND placed.is_counted
                UNION ALL
                SELECT placed.currency
                FROM shows.orders_eventbrite AS placed
                WHERE placed.session_source_id = ANY (session.eventbrite_session_ids) AND placed.is_counted
            ) AS either
        )
    ) AS currency
    -- Asked once for each session, and not again for each order that is compared with it.
    OFFSET 0
) AS money
CROSS JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE placed.is_counted) AS orders,
        count(*) FILTER (WHERE placed.is_counted AND placed.currency <> money.currency) AS other_currency,
        count(*) FILTER (WHERE placed.has_problem) AS problems,
        coalesce(sum(placed.gross_cents) FILTER (WHERE summed.is_in), 0)::bigint AS gross_cents,
        coalesce(sum(placed.fees_cents) FILTER (WHERE summed.is_in), 0)::bigint AS fees_cents,
        coalesce(sum(placed.tax_cents) FILTER (WHERE summed.is_in), 0)::bigint AS tax_cents
    FROM shows.orders_htx AS placed
    CROSS JOIN LATERAL (
        SELECT placed.is_counted AND coalesce(placed.currency = money.currency, true) AS is_in
    ) AS summed
    WHERE placed.session_source_id = ANY (session.humanitix_session_ids)
) AS humanitix
CROSS JOIN LATERAL (
    SELECT count(*) AS tickets
    FROM shows.tickets_htx AS ticket
    WHERE ticket.session_source_id = ANY (session.humanitix_session_ids) AND ticket.is_counted
) AS humanitix_tickets
CROSS JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE placed.is_counted) AS orders,
        count(*) FILTER (WHERE placed.is_counted AND placed.currency <> money.currency) AS other_currency,
        count(*) FILTER (WHERE placed.has_problem) AS problems,
        coalesce(sum(placed.gross_cents) FILTER (WHERE summed.is_in), 0)::bigint AS gross_cents,
        coalesce(sum(placed.fees_cents) FILTER (WHERE summed.is_in), 0)::bigint AS fees_cents,
        coalesce(sum(placed.tax_cents) FILTER (WHERE summed.is_in), 0)::bigint AS tax_cents
    FROM shows.orders_eventbrite AS placed
    CROSS JOIN LATERAL (
        SELECT placed.is_counted AND coalesce(placed.currency = money.currency, true) AS is_in
    ) AS summed
    WHERE placed.session_source_id = ANY (session.eventbrite_session_ids)
) AS eventbrite
CROSS JOIN LATERAL (
    SELECT count(*) AS tickets
    FROM shows.tickets_eventbrite AS ticket
    WHERE ticket.session_source_id = ANY (session.eventbrite_session_ids) AND ticket.is_counted
) AS eventbrite_tickets;

COMMENT ON VIEW shows.session_totals IS
    'Canonical sessions with what each provider sold: the one place where money is added up';
COMMENT ON COLUMN shows.session_totals.other_currency_orders IS
    'Orders in another currency than the session''s: counted, but their money is in no sum';
COMMENT ON COLUMN shows.session_totals.unreadable_orders IS
    'Orders in whose payload something could not be read, and counts as nothing';

-- Both are computed, from the same sums, and dollars are those cents divided by a hundred, in one function: so they
-- cannot differ, not by a cent and not for a moment. As tables they would have to be kept, by triggers in which the orders
-- of a session that sells well would wait for one another; where reading the sums is to be fast, that is what the
-- materialized overview is for.
CREATE VIEW shows.session_financials_agg AS
SELECT
    stable_session_id,
    canonical_source,
    canonical_session_source_id,
    session_id,
    session_start_local,
    currency,
    humanitix_orders,
    humanitix_tickets,
    humanitix_gross_cents,
    humanitix_net_cents,
    humanitix_fees_cents,
    humanitix_tax_cents,
    eventbrite_orders,
    eventbrite_tickets,
    eventbrite_gross_cents,
    eventbrite_net_cents,
    eventbrite_fees_cents,
    eventbrite_tax_cents,
    humanitix_orders + eventbrite_orders AS total_orders,
    humanitix_tickets + eventbrite_tickets AS total_tickets,
    humanitix_gross_cents + eventbrite_gross_cents AS total_gross_cents,
    humanitix_net_cents + eventbrite_net_cents AS total_net_cents,
    humanitix_fees_cents + eventbrite_fees_cents AS total_fees_cents,
    humanitix_tax_cents + eventbrite_tax_cents AS total_tax_cents,
    other_currency_orders,
    unreadable_orders
FROM shows.session_totals;

COMMENT ON VIEW shows.session_financials_agg IS
    'The money of each canonical session in whole cents: Humanitix, Eventbrite, and both together';

CREATE VIEW shows.session_financials AS
SELECT
    stable_session_id,
    canonical_source,
    canonical_session_source_id,
    session_id,
    session_start_local,
    currency,
    humanitix_orders,
    humanitix_tickets,
    shows.dollars(humanitix_gross_cents) AS humanitix_gross,
    shows.dollars(humanitix_net_cents) AS humanitix_net,
    shows.dollars(humanitix_fees_cents) AS humanitix_fees,
    shows.dollars(humanitix_tax_cents) AS humanitix_tax,
    eventbrite_orders,
    eventbrite_tickets,
    shows.dollars(eventbrite_gross_cents) AS eventbrite_gross,
    shows.dollars(eventbrite_net_cents) AS eventbrite_net,
    shows.dollars(eventbrite_fees_cents) AS eventbrite_fees,
    shows.dollars(eventbrite_tax_cents) AS eventbrite_tax,
    total_orders,
    total_tickets,
    shows.dollars(total_gross_cents) AS total_gross,
    shows.dollars(total_net_cents) AS total_net,
    shows.dollars(total_fees_cents) AS total_fees,
    shows.dollars(total_tax_cents) AS total_tax,
    other_currency_orders,
    unreadable_orders
FROM shows.session_financials_agg;

COMMENT ON VIEW shows.session_financials IS
    'The money of each canonical session in dollars: session_financials_agg divided by a hundred, exactly';

-- migrate: rollback

DROP VIEW shows.session_financials;
DROP VIEW shows.session_financials_agg;
DROP VIEW shows.session_totals;
DROP VIEW shows.canonical_sessions;
