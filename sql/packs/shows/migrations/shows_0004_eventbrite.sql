-- What Eventbrite sends, and the bridge that says which sessions of the providers are one
-- depends: shows_0003_humanitix

-- migrate: apply

CREATE TABLE shows.orders_eventbrite (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    source_id text NOT NULL UNIQUE CHECK (source_id <> ''),
    session_source_id text,
    status text,
    first_name text,
    last_name text,
    ordered_at timestamptz,
    payload jsonb NOT NULL DEFAULT '{}',
    is_counted boolean GENERATED ALWAYS AS (shows.is_counted(status)) STORED,
    currency text GENERATED ALWAYS AS (
        coalesce(shows.currency(payload -> 'currency'), shows.currency(payload #> '{costs,gross,currency}'))
    ) STORED,
    gross_cents bigint GENERATED ALWAYS AS (coalesce(shows.cents(payload #> '{costs,gross}'), 0)) STORED,
    fees_cents bigint GENERATED ALWAYS AS (
        coalesce(shows.cents(payload #> '{costs,eventbrite_fee}'), 0)
        + coalesce(shows.cents(payload #> '{costs,payment_fee}'), 0)
    ) STORED,
    tax_cents bigint GENERATED ALWAYS AS (coalesce(shows.cents(payload #> '{costs,tax}'), 0)) STORED,
    has_discounts boolean GENERATED ALWAYS AS (
        coalesce(jsonb_typeof(payload -> 'discounts') IN ('array', 'object'), false)
        AND coalesce(payload -> 'discounts' <> '[]', false)
    ) STORED,
    has_problem boolean GENERATED ALWAYS AS (
        jsonb_typeof(payload) <> 'object'
        OR shows.unreadable(payload #> '{costs,gross}')
        OR shows.unreadable(payload #> '{costs,eventbrite_fee}')
        OR shows.unreadable(payload #> '{costs,payment_fee}')
        OR shows.unreadable(payload #> '{costs,tax}')
        OR shows.broken_discounts(payload)
    ) STORED,
    ingested_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE shows.orders_eventbrite IS 'Orders of Eventbrite. Money is read from the payload when the row is written.';
COMMENT ON COLUMN shows.orders_eventbrite.session_source_id IS 'Eventbrite''s id of the event, of which each evening is one there';
COMMENT ON COLUMN shows.orders_eventbrite.payload IS
    'The order as Eventbrite sent it: costs, each with its value in cents and its currency';
COMMENT ON COLUMN shows.orders_eventbrite.has_problem IS
    'Something in the payload could not be read: it counts as nothing here, and the order as one to look at';

CREATE INDEX idx_orders_eventbrite_session ON shows.orders_eventbrite (session_source_id, ordered_at DESC);

CREATE TABLE shows.tickets_eventbrite (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    source_id text NOT NULL UNIQUE CHECK (source_id <> ''),
    order_source_id text,
    session_source_id text,
    ticket_type text,
    status text,
    is_cancelled boolean NOT NULL DEFAULT false,
    is_refunded boolean NOT NULL DEFAULT false,
    payload jsonb NOT NULL DEFAULT '{}',
    is_counted boolean GENERATED ALWAYS AS (
        shows.is_counted(status) AND NOT is_cancelled AND NOT is_refunded
    ) STORED,
    has_discounts boolean GENERATED ALWAYS AS (
        coalesce(jsonb_typeof(payload -> 'discounts') IN ('array', 'object'), false)
        AND coalesce(payload -> 'discounts' <> '[]', false)
        OR coalesce(jsonb_typeof(payload -> 'promotional_code') = 'object', false)
    ) STORED,
    ingested_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE shows.tickets_eventbrite IS 'Tickets of Eventbrite, which calls them attendees';
COMMENT ON COLUMN shows.tickets_eventbrite.payload IS 'The attendee as Eventbrite sent it: promotional_code';

CREATE INDEX idx_tickets_eventbrite_session ON shows.tickets_eventbrite (session_source_id);

-- Each session of a provider belongs to exactly one canonical session: so no order is ever counted twice, and none is lost.
-- Eventbrite has no table of sessions here: what is known of one stands beside its row of the bridge.
CREATE TABLE shows.session_sources (
    canonical_source text NOT NULL CHECK (canonical_source ~ '^[a-z][a-z0-9_]*$'),
    canonical_session_source_id text NOT NULL CHECK (canonical_session_source_id <> ''),
    source text NOT NULL CHECK (source ~ '^[a-z][a-z0-9_]*$'),
    source_session_id text NOT NULL CHECK (source_session_id <> ''),
    stable_session_id text NOT NULL GENERATED ALWAYS AS (
        canonical_source || ':' || canonical_session_source_id
    ) STORED,
    source_key text NOT NULL GENERATED ALWAYS AS (source || ':' || source_session_id) STORED UNIQUE,
    is_canonical boolean NOT NULL GENERATED ALWAYS AS (
        source = canonical_source AND source_session_id = canonical_session_source_id
    ) STORED,
    source_event_id text,
    event_name text,
    session_name text,
    session_start timestamptz CHECK (isfinite(session_start)),
    session_end timestamptz CHECK (isfinite(session_end)),
    timezone text,
    time_zone text GENERATED ALWAYS AS (shows.known_time_zone(timezone)) STORED,
    -- squawk-ignore prefer-timestamp-tz
    session_start_local timestamp GENERATED ALWAYS AS (
        timezone(shows.known_time_zone(timezone), session_start)
    ) STORED,
    -- squawk-ignore prefer-timestamp-tz
    session_end_local timestamp GENERATED ALWAYS AS (
        timezone(shows.known_time_zone(timezone), session_end)
    ) STORED,
    venue_id uuid,
    event_url text,
    banner_url text,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, source_session_id)
);

COMMENT ON TABLE shows.session_sources IS
    'The bridge: which canonical session each provider''s session belongs to, with what is known of it';
COMMENT ON COLUMN shows.session_sources.stable_session_id IS 'The canonical session: its source, a colon, its id there';
COMMENT ON COLUMN shows.session_sources.source_key IS 'The provider''s session: source, a colon, its id there';
COMMENT ON COLUMN shows.session_sources.time_zone IS 'timezone, or UTC where PostgreSQL knows none of that name';

CREATE INDEX idx_session_sources_stable ON shows.session_sources (stable_session_id);
CREATE INDEX idx_session_sources_canonical_start
    ON shows.session_sources (canonical_session_source_id, session_start_local);
CREATE INDEX idx_session_sources_start_local ON shows.session_sources (session_start_local);

-- migrate: rollback

DROP TABLE shows.session_sources;
DROP TABLE shows.tickets_eventbrite;
DROP TABLE shows.orders_eventbrite;
