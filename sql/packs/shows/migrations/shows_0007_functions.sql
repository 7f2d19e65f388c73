-- What the endpoints and an application call: sessions of an event, money of a session, browsing
-- depends: shows_0006_event_sessions_overview

-- migrate: apply

-- Any name by which a session is known: the row's id in sessions_htx, the stable one, or another provider's that the
-- bridge maps to it.
CREATE FUNCTION shows.find_session(id text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(
        (SELECT bridge.stable_session_id FROM shows.session_sources AS bridge WHERE bridge.source_key = named.source_key),
        named.source_key
    )
    FROM (
        SELECT CASE
            WHEN id ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' THEN (
                SELECT session.stable_session_id FROM shows.sessions_htx AS session WHERE session.id = find_session.id::uuid
            )
            ELSE id
        END AS source_key
    ) AS named;
END;

COMMENT ON FUNCTION shows.find_session(text) IS
    'The stable id of the session that is known by this uuid, stable id, or provider''s id (source, a colon, its id)';

CREATE FUNCTION shows.get_event_sessions(event_id uuid) RETURNS SETOF shows.event_sessions_overview_v
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT overview.*
    FROM (
        SELECT coalesce(mapped.stable_session_id, session.stable_session_id) AS stable_session_id
        FROM shows.events_htx AS event
        JOIN shows.sessions_htx AS session ON session.event_source_id = event.source_id
        LEFT JOIN shows.session_sources AS mapped
            ON mapped.source = 'humanitix' AND mapped.source_session_id = session.source_id
        WHERE event.id = get_event_sessions.event_id
        UNION
        SELECT coalesce(mapped.stable_session_id, legacy.source_key)
        FROM shows.events AS legacy
        LEFT JOIN shows.session_sources AS mapped ON mapped.source_key = legacy.source_key
        WHERE legacy.id = get_event_sessions.event_id
    ) AS named
    CROSS JOIN LATERAL (
        SELECT * FROM shows.event_sessions_overview_v AS one WHERE one.stable_session_id = named.stable_session_id
    ) AS overview
    ORDER BY overview.session_start_local, overview.stable_session_id;
END;

COMMENT ON FUNCTION shows.get_event_sessions(uuid) IS
    'The sessions of an event, of events_htx or of events, by their start, computed at the moment of asking';

CREATE FUNCTION shows.get_event_financials(session_id uuid) RETURNS SETOF shows.session_financials
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT money.*
    FROM shows.session_financials AS money
    WHERE money.stable_session_id = shows.find_session(get_event_financials.session_id::text);
END;

COMMENT ON FUNCTION shows.get_event_financials(uuid) IS
    'The money of a session in dollars, by the row''s id in sessions_htx, computed at the moment of asking; of one that is merged into another session, that one''s';

-- The filters of the page, in one place. NULL asks for nothing. Month and week are those of the day that is given; a week
-- begins on Monday.
CREATE FUNCTION shows.browse(
    search text, city text, starts_from timestamp, starts_before timestamp, month date, week date,
    min_available_spots integer, provider text, eventbrite_only text
)
RETURNS SETOF shows.event_sessions_overview_mv
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT overview.*
    FROM shows.event_sessions_overview_mv AS overview
    WHERE (
        search IS NULL
        OR to_tsvector('pg_catalog.simple'::regconfig, overview.event_name) @@ shows.words(search)
    )
    AND (city IS NULL OR lower(overview.venue_city) = lower(city))
    AND (starts_from IS NULL OR overview.session_start_local >= starts_from)
    AND (starts_before IS NULL OR overview.session_start_local < starts_before)
    AND (
        month IS NULL
        OR overview.session_start_local >= date_trunc('month', month::timestamp)
        AND overview.session_start_local < date_trunc('month', month::timestamp) + interval '1 month'
    )
    AND (
        week IS NULL
        OR overview.session_start_local >= date_trunc('week', week::timestamp)
        AND overview.session_start_local < date_trunc('week', week::timestamp) + interval '7 days'
    )
    AND (min_available_spots IS NULL OR overview.available_spots >= min_available_spots)
    AND (browse.provider IS NULL OR overview.provider = browse.provider)
    AND (
        eventbrite_only IS NULL OR eventbrite_only = 'show'
        OR eventbrite_only = 'hide' AND NOT overview.is_eventbrite_only
        OR eventbrite_only = 'only' AND overview.is_eventbrite_only
    );
END;

COMMENT ON FUNCTION shows.browse(text, text, timestamp, timestamp, date, date, integer, text, text) IS
    'Sessions of the materialized overview that pass every filter; a filter that is NULL lets all pass';

-- migrate: rollback

DROP FUNCTION shows.browse(text, text, timestamp, timestamp, date, date, integer, text, text);
DROP FUNCTION shows.get_event_financials(uuid);
DROP FUNCTION shows.get_event_sessions(uuid);
DROP FUNCTION shows.find_session(text);
