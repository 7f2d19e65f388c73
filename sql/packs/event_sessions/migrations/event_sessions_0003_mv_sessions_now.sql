-- The view mv_sessions_now: what is on right now, for each contractor who is there
-- depends: event_sessions_0002_event_sessions

-- migrate: apply

-- A session is on from its start to its end, both included. Which ones are is decided by their instants; the two
-- conditions on local times before that let the index find them, since no event is further than sixteen hours from UTC.
--
-- A contractor's focus areas are an array already (see the table), and matching needs no subquery: of the names that a
-- session has, each once, those that the contractor has too are as many as fewer are left without them.
CREATE VIEW public.mv_sessions_now_live AS
SELECT
    session.session_id,
    session.event_id,
    session.speaker_name,
    session.session_title,
    session.session_time,
    session.session_end,
    session.session_location,
    session.session_description,
    session.focus_areas,
    attendee.contractor_id,
    session.event_name,
    session.event_timezone,
    CASE WHEN session.focus_areas ?| contractor.focus_area_names THEN 100 ELSE 50 END AS relevance_score,
    coalesce(
        jsonb_array_length(session.focus_areas)
        - jsonb_array_length(session.focus_areas - contractor.focus_area_names),
        0
    )::bigint AS focus_area_match_count,
    session.session_starts_at,
    session.session_ends_at
FROM (SELECT now() AS moment) AS clock
JOIN public.event_sessions AS session
    ON session.session_time <= (clock.moment AT TIME ZONE 'UTC') + interval '16 hours'
    AND session.session_end >= (clock.moment AT TIME ZONE 'UTC') - interval '16 hours'
    AND clock.moment BETWEEN session.session_starts_at AND session.session_ends_at
JOIN public.event_attendees AS attendee ON attendee.event_id = session.event_id
JOIN public.contractors AS contractor ON contractor.id = attendee.contractor_id;

COMMENT ON VIEW public.mv_sessions_now_live IS 'What mv_sessions_now holds, computed at the moment of asking';

CREATE MATERIALIZED VIEW public.mv_sessions_now AS
SELECT * FROM public.mv_sessions_now_live;

COMMENT ON MATERIALIZED VIEW public.mv_sessions_now IS
    'Sessions that are on right now, one row for each contractor who attends the event';
COMMENT ON COLUMN public.mv_sessions_now.speaker_name IS 'NULL for a session without a speaker';
COMMENT ON COLUMN public.mv_sessions_now.session_time IS 'The start, in the event''s time zone';
COMMENT ON COLUMN public.mv_sessions_now.session_end IS 'The end, in the event''s time zone';
COMMENT ON COLUMN public.mv_sessions_now.focus_areas IS
    'Those of the agenda item and of the speaker together: a sorted JSON array, each name once';
COMMENT ON COLUMN public.mv_sessions_now.relevance_score IS
    '100 where the session and the contractor have a focus area in common, otherwise 50';
COMMENT ON COLUMN public.mv_sessions_now.focus_area_match_count IS 'How many focus areas they have in common';
COMMENT ON COLUMN public.mv_sessions_now.session_starts_at IS 'The instant of the start';
COMMENT ON COLUMN public.mv_sessions_now.session_ends_at IS 'The instant of the end';

CREATE UNIQUE INDEX idx_sessions_now_session_contractor ON public.mv_sessions_now (session_id, contractor_id);
CREATE INDEX idx_sessions_now_contractor_event_relevance
    ON public.mv_sessions_now (contractor_id, event_id, relevance_score DESC);

-- migrate: rollback

-- Without CASCADE: a view or function of somebody else's that reads this one is named in the error, not dropped with it.
DROP MATERIALIZED VIEW IF EXISTS public.mv_sessions_now;
DROP VIEW IF EXISTS public.mv_sessions_now_live;
