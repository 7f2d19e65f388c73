-- The house's own tables: venues, profiles, events with their spots and applications
-- depends: shows_0001_schema

-- migrate: apply

CREATE TABLE shows.venues (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    address text,
    city text,
    state text,
    country text,
    postcode text,
    lat double precision CHECK (lat BETWEEN -90 AND 90),
    lng double precision CHECK (lng BETWEEN -180 AND 180),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT venues_position_is_whole CHECK ((lat IS NULL) = (lng IS NULL))
);

COMMENT ON TABLE shows.venues IS 'Places where sessions take place; lat and lng are where a map''s pin goes';

CREATE INDEX idx_venues_city ON shows.venues (city);

CREATE TABLE shows.profiles (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    stage_name text,
    avatar_url text,
    bio text,
    instagram text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE shows.profiles IS 'People: who performs and who promotes';

-- One row is one evening. Which provider's session it is stands in source and source_session_id: any of them will do, the
-- bridge knows which canonical one it belongs to.
CREATE TABLE shows.events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text,
    source text CHECK (source ~ '^[a-z][a-z0-9_]*$'),
    source_session_id text CHECK (source_session_id <> ''),
    source_key text GENERATED ALWAYS AS (source || ':' || source_session_id) STORED,
    event_date date CHECK (isfinite(event_date)),
    start_time time,
    end_time time,
    timezone text,
    time_zone text GENERATED ALWAYS AS (shows.known_time_zone(timezone)) STORED,
    -- squawk-ignore prefer-timestamp-tz
    session_start_local timestamp GENERATED ALWAYS AS (event_date + coalesce(start_time, '00:00')) STORED,
    -- squawk-ignore prefer-timestamp-tz
    session_end_local timestamp GENERATED ALWAYS AS (
        event_date + end_time + CASE WHEN end_time <= start_time THEN interval '1 day' ELSE interval '0' END
    ) STORED,
    session_start timestamptz GENERATED ALWAYS AS (
        timezone(shows.known_time_zone(timezone), event_date + coalesce(start_time, '00:00'))
    ) STORED,
    session_end timestamptz GENERATED ALWAYS AS (
        timezone(
            shows.known_time_zone(timezone),
            event_date + end_time + CASE WHEN end_time <= start_time THEN interval '1 day' ELSE interval '0' END
        )
    ) STORED,
    venue_id uuid REFERENCES shows.venues (id) ON DELETE SET NULL,
    promoter_id uuid REFERENCES shows.profiles (id) ON DELETE SET NULL,
    status text,
    event_url text,
    banner_url text,
    banner_metadata jsonb,
    spots integer CHECK (spots >= 0),
    is_recurring boolean NOT NULL DEFAULT false,
    recurrence_pattern text,
    series_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT events_source_is_whole CHECK ((source IS NULL) = (source_session_id IS NULL))
);

COMMENT ON TABLE shows.events IS
    'The older list of events: what a provider does not say is taken from here, and spots and applications hang on it. It makes no session by itself.';
COMMENT ON COLUMN shows.events.source_key IS 'The provider''s session: source, a colon, its id there';
COMMENT ON COLUMN shows.events.spots IS 'How many spots are to be given away, for an event whose spots are not listed one by one';
COMMENT ON COLUMN shows.events.time_zone IS 'timezone, or UTC where PostgreSQL knows none of that name';

CREATE INDEX idx_events_source_key ON shows.events (source_key);
CREATE INDEX idx_events_venue ON shows.events (venue_id);
CREATE INDEX idx_events_promoter ON shows.events (promoter_id);

CREATE TABLE shows.event_spots (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    event_id uuid NOT NULL REFERENCES shows.events (id) ON DELETE CASCADE,
    spot_name text,
    position integer NOT NULL DEFAULT 0,
    duration_minutes integer CHECK (duration_minutes >= 0),
    performer_id uuid REFERENCES shows.profiles (id) ON DELETE SET NULL,
    status text NOT NULL DEFAULT 'available'
        CHECK (status IN ('available', 'offered', 'confirmed', 'waitlist', 'cancelled')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE shows.event_spots IS
    'Places in a line-up: available, offered to somebody, confirmed, cancelled; and, in their order, who waits for one';

CREATE INDEX idx_event_spots_event_status ON shows.event_spots (event_id, status);
CREATE INDEX idx_event_spots_performer ON shows.event_spots (performer_id);

CREATE TABLE shows.event_applications (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    event_id uuid NOT NULL REFERENCES shows.events (id) ON DELETE CASCADE,
    profile_id uuid REFERENCES shows.profiles (id) ON DELETE SET NULL,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'accepted', 'declined', 'withdrawn')),
    applied_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE shows.event_applications IS 'Who applied to perform, and what became of it';

CREATE INDEX idx_event_applications_event_status ON shows.event_applications (event_id, status);
CREATE INDEX idx_event_applications_profile ON shows.event_applications (profile_id);

-- migrate: rollback

DROP TABLE shows.event_applications;
DROP TABLE shows.event_spots;
DROP TABLE shows.events;
DROP TABLE shows.profiles;
DROP TABLE shows.venues;
