-- What Humanitix sends: events, sessions, orders, tickets, customers
-- depends: shows_0002_crm

-- migrate: apply

-- Rows come in any order and a row may name another one that comes later, or never: so source ids refer to each other
-- without foreign keys. What a payload says of money is read into stored columns when the row is written.

CREATE TABLE shows.events_htx (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    source_id text NOT NULL UNIQUE CHECK (source_id <> ''),
    name text,
    organiser_name text,
    status text,
    timezone text,
    url text,
    banner_url text,
    payload jsonb NOT NULL DEFAULT '{}',
    currency text GENERATED ALWAYS AS (shows.currency(payload -> 'currency')) STORED,
    ingested_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE shows.events_htx IS 'Events of Humanitix; one has one or more sessions';
COMMENT ON COLUMN shows.events_htx.payload IS 'The event as Humanitix sent it: location, banner, recurrence, currency';

CREATE INDEX idx_events_htx_name ON shows.events_htx (name);

CREATE TABLE shows.sessions_htx (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    source_id text NOT NULL UNIQUE CHECK (source_id <> ''),
    stable_session_id text NOT NULL GENERATED ALWAYS AS ('humanitix:' || source_id) STORED UNIQUE,
    event_source_id text NOT NULL,
    name text,
    status text,
    start_date timestamptz NOT NULL CHECK (isfinite(start_date)),
    end_date timestamptz CHECK (isfinite(end_date)),
    timezone text,
    time_zone text GENERATED ALWAYS AS (shows.known_time_zone(timezone)) STORED,
    -- squawk-ignore prefer-timestamp-tz
    session_start_local timestamp GENERATED ALWAYS AS (
        timezone(shows.known_time_zone(timezone), start_date)
    ) STORED,
    -- squawk-ignore prefer-timestamp-tz
    session_end_local timestamp GENERATED ALWAYS AS (timezone(shows.known_time_zone(timezone), end_date)) STORED,
    venue_id uuid,
    payload jsonb NOT NULL DEFAULT '{}',
    ingested_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE shows.sessions_htx IS 'Sessions of Humanitix: one event''s evenings';
COMMENT ON COLUMN shows.sessions_htx.stable_session_id IS 'What the session is called unless the bridge maps it to another one';
COMMENT ON COLUMN shows.sessions_htx.time_zone IS 'timezone, or UTC where PostgreSQL knows none of that name';
COMMENT ON COLUMN shows.sessions_htx.session_start_local IS 'What the clock at the venue says when it begins';

CREATE INDEX idx_sessions_htx_event ON shows.sessions_htx (event_source_id);
CREATE INDEX idx_sessions_htx_start_local ON shows.sessions_htx (session_start_local);

CREATE TABLE shows.customers_htx (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    source_id text NOT NULL UNIQUE CHECK (source_id <> ''),
    first_name text,
    last_name text,
    email text,
    mobile text,
    payload jsonb NOT NULL DEFAULT '{}',
    ingested_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE shows.customers_htx IS 'Customers of Humanitix: who ordered';

-- gross is what was paid less what was paid back; fees are the provider's and the booking's; what is left after fees and
-- tax is net (orders_htx_view).
CREATE TABLE shows.orders_htx (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    source_id text NOT NULL UNIQUE CHECK (source_id <> ''),
    session_source_id text,
    event_source_id text,
    customer_source_id text,
    status text,
    first_name text,
    last_name text,
    ordered_at timestamptz,
    payload jsonb NOT NULL DEFAULT '{}',
    is_counted boolean GENERATED ALWAYS AS (shows.is_counted(status)) STORED,
    currency text GENERATED ALWAYS AS (shows.currency(payload -> 'currency')) STORED,
    gross_cents bigint GENERATED ALWAYS AS (
        greatest(
            coalesce(shows.cents(payload #> '{totals,total}'), 0)
            - coalesce(shows.cents(payload #> '{totals,refunds}'), 0),
            0
        )
    ) STORED,
    fees_cents bigint GENERATED ALWAYS AS (
        coalesce(shows.cents(payload #> '{totals,humanitixFee}'), 0)
        + coalesce(shows.cents(payload #> '{totals,bookingFee}'), 0)
    ) STORED,
    tax_cents bigint GENERATED ALWAYS AS (coalesce(shows.cents(payload #> '{totals,taxes}'), 0)) STORED,
    has_discounts boolean GENERATED ALWAYS AS (
        coalesce(jsonb_typeof(payload -> 'discounts') IN ('array', 'object'), false)
        AND coalesce(payload -> 'discounts' <> '[]', false)
    ) STORED,
    has_problem boolean GENERATED ALWAYS AS (
        jsonb_typeof(payload) <> 'object'
        OR shows.unreadable(payload #> '{totals,total}')
        OR shows.unreadable(payload #> '{totals,refunds}')
        OR shows.unreadable(payload #> '{totals,humanitixFee}')
        OR shows.unreadable(payload #> '{totals,bookingFee}')
        OR shows.unreadable(payload #> '{totals,taxes}')
        OR shows.broken_discounts(payload)
    ) STORED,
    ingested_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE shows.orders_htx IS 'Orders of Humanitix. Money is read from the payload when the row is written.';
COMMENT ON COLUMN shows.orders_htx.payload IS 'The order as Humanitix sent it: totals in dollars, currency, discounts';
COMMENT ON COLUMN shows.orders_htx.is_counted IS 'Neither cancelled nor refunded nor unfinished';
COMMENT ON COLUMN shows.orders_htx.has_problem IS
    'Something in the payload could not be read: it counts as nothing here, and the order as one to look at';

CREATE INDEX idx_orders_htx_session ON shows.orders_htx (session_source_id, ordered_at DESC);

CREATE TABLE shows.tickets_htx (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    source_id text NOT NULL UNIQUE CHECK (source_id <> ''),
    order_source_id text,
    session_source_id text,
    event_source_id text,
    ticket_type text,
    status text,
    first_name text,
    last_name text,
    payload jsonb NOT NULL DEFAULT '{}',
    is_counted boolean GENERATED ALWAYS AS (shows.is_counted(status)) STORED,
    price_cents bigint GENERATED ALWAYS AS (coalesce(shows.cents(payload -> 'price'), 0)) STORED,
    has_discounts boolean GENERATED ALWAYS AS (
        coalesce(jsonb_typeof(payload -> 'discounts') IN ('array', 'object'), false)
        AND coalesce(payload -> 'discounts' <> '[]', false)
    ) STORED,
    ingested_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE shows.tickets_htx IS 'Tickets of Humanitix, each of one order and one session';
COMMENT ON COLUMN shows.tickets_htx.payload IS 'The ticket as Humanitix sent it: price, discounts';

CREATE INDEX idx_tickets_htx_session ON shows.tickets_htx (session_source_id);

CREATE VIEW shows.events_htx_view AS
SELECT
    event.id AS event_id,
    event.source_id,
    event.name,
    nullif(btrim(event.organiser_name), '') AS organiser_name,
    event.status,
    shows.known_time_zone(event.timezone) AS time_zone,
    event.currency,
    event.url,
    coalesce(event.banner_url, event.payload #>> '{banner,url}') AS banner_url,
    CASE WHEN jsonb_typeof(event.payload -> 'banner') = 'object' THEN event.payload -> 'banner' END AS banner_metadata,
    CASE WHEN jsonb_typeof(event.payload -> 'recurrence') = 'object' THEN event.payload -> 'recurrence' END AS recurrence,
    event.payload #>> '{location,venueName}' AS venue_name,
    event.payload #>> '{location,address}' AS venue_address,
    event.payload #>> '{location,city}' AS venue_city,
    event.payload #>> '{location,region}' AS venue_state,
    CASE WHEN place.is_one THEN (event.payload #>> '{location,latLng,0}')::double precision END AS venue_lat,
    CASE WHEN place.is_one THEN (event.payload #>> '{location,latLng,1}')::double precision END AS venue_lng
FROM shows.events_htx AS event
-- A place on the map is two numbers in their ranges; anything else is none.
CROSS JOIN LATERAL (
    SELECT
        jsonb_typeof(event.payload #> '{location,latLng,0}') = 'number'
        AND jsonb_typeof(event.payload #> '{location,latLng,1}') = 'number' AS are_numbers
) AS pair
CROSS JOIN LATERAL (
    SELECT CASE WHEN pair.are_numbers THEN
        (event.payload #> '{location,latLng,0}')::numeric BETWEEN -90 AND 90
        AND (event.payload #> '{location,latLng,1}')::numeric BETWEEN -180 AND 180
    END AS is_one
) AS place;

COMMENT ON VIEW shows.events_htx_view IS 'Events of Humanitix with what their payloads say: place, banner, recurrence';

CREATE VIEW shows.orders_htx_view AS
SELECT
    placed.id AS order_id,
    placed.source_id,
    placed.session_source_id,
    placed.event_source_id,
    placed.customer_source_id,
    coalesce(nullif(btrim(placed.first_name), ''), nullif(btrim(customer.first_name), '')) AS first_name,
    coalesce(nullif(btrim(placed.last_name), ''), nullif(btrim(customer.last_name), '')) AS last_name,
    placed.status,
    placed.is_counted,
    placed.ordered_at,
    placed.currency,
    placed.gross_cents,
    placed.fees_cents,
    placed.tax_cents,
    placed.gross_cents - placed.fees_cents - placed.tax_cents AS net_cents,
    placed.has_discounts,
    placed.has_problem,
    placed.payload
FROM shows.orders_htx AS placed
LEFT JOIN shows.customers_htx AS customer ON customer.source_id = placed.customer_source_id;

COMMENT ON VIEW shows.orders_htx_view IS 'Orders of Humanitix with their money in cents and who ordered';
COMMENT ON COLUMN shows.orders_htx_view.net_cents IS 'gross less fees and tax';

CREATE VIEW shows.tickets_htx_view AS
SELECT
    ticket.id AS ticket_id,
    ticket.source_id,
    ticket.order_source_id,
    ticket.session_source_id,
    ticket.event_source_id,
    ticket.ticket_type,
    ticket.status,
    ticket.is_counted,
    ticket.price_cents,
    ticket.has_discounts,
    ticket.payload
FROM shows.tickets_htx AS ticket;

COMMENT ON VIEW shows.tickets_htx_view IS 'Tickets of Humanitix with their price in cents';

-- migrate: rollback

DROP VIEW shows.tickets_htx_view;
DROP VIEW shows.orders_htx_view;
DROP VIEW shows.events_htx_view;
DROP TABLE shows.tickets_htx;
DROP TABLE shows.orders_htx;
DROP TABLE shows.customers_htx;
DROP TABLE shows.sessions_htx;
DROP TABLE shows.events_htx;
