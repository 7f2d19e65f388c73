-- The view mv_sessions_next_60: what begins within the hour, for each contractor who is there
-- depends: event_sessions_0003_mv_sessions_now

-- migrate: apply

-- A session is here from sixty minutes before its start up to its start, both included.
--
-- minutes_until_start is a figure of the moment of the refresh, and wrong a moment later: who shows it computes it anew
-- from session_starts_at, as the endpoint does. The other columns are right until the instant that next_change says, at
-- which the view is refreshed though nothing was written. That the minutes are other ones each time means that every
-- refresh writes every row of the view anew, of which there are few: an hour's.
CREATE VIEW public.mv_sessions_next_60_live AS
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
    extract(epoch FROM session.session_starts_at - clock.moment) / 60 AS minutes_until_start,
    matched.match_count,
    CASE
        WHEN session.session_starts_at - clock.moment < interval '15 minutes' THEN 100
        WHEN session.session_starts_at - clock.moment < interval '30 minutes' THEN 75
        ELSE 50
    END + 10 * matched.match_count AS priority_score,
    session.session_starts_at,
    session.session_ends_at
FROM (SELECT now() AS moment) AS clock
JOIN public.event_sessions AS session
    ON session.session_time >= (clock.moment AT TIME ZONE 'UTC') - interval '16 hours'
    AND session.session_time <= (clock.moment AT TIME ZONE 'UTC') + interval '17 hours'
    AND session.session_starts_at BETWEEN clock.moment AND clock.moment + interval '60 minutes'
JOIN public.event_attendees AS attendee ON attendee.event_id = session.event_id
JOIN public.contractors AS contractor ON contractor.id = attendee.contractor_id
-- As in mv_sessions_now.
CROSS JOIN LATERAL (
    SELECT coalesce(
        jsonb_array_length(session.focus_areas)
        - jsonb_array_length(session.focus_areas - contractor.focus_area_names),
        0
    )::bigint AS match_count
) AS matched;

COMMENT ON VIEW public.mv_sessions_next_60_live IS 'What mv_sessions_next_60 holds, computed at the moment of asking';

CREATE MATERIALIZED VIEW public.mv_sessions_next_60 AS
SELECT * FROM public.mv_sessions_next_60_live;

COMMENT ON MATERIALIZED VIEW public.mv_sessions_next_60 IS
    'Sessions that begin within sixty minutes, one row for each contractor who attends the event';
COMMENT ON COLUMN public.mv_sessions_next_60.speaker_name IS 'NULL for a session without a speaker';
COMMENT ON COLUMN public.mv_sessions_next_60.session_time IS 'The start, in the event''s time zone';
COMMENT ON COLUMN public.mv_sessions_next_60.session_end IS 'The end, in the event''s time zone';
COMMENT ON COLUMN public.mv_sessions_next_60.focus_areas IS
    'Those of the agenda item and of the speaker together: a sorted JSON array, each name once';
COMMENT ON COLUMN public.mv_sessions_next_60.minutes_until_start IS
    'As of the last refresh; compute it from session_starts_at to have it as of now';
COMMENT ON COLUMN public.mv_sessions_next_60.match_count IS
    'How many focus areas the session and the contractor have in common';
COMMENT ON COLUMN public.mv_sessions_next_60.priority_score IS
    '100 in the last 15 minutes before the start, 75 in the last 30, otherwise 50; and 10 for each focus area in common';
COMMENT ON COLUMN public.mv_sessions_next_60.session_starts_at IS 'The instant of the start';
COMMENT ON COLUMN public.mv_sessions_next_60.session_ends_at IS 'The instant of the end';

CREATE UNIQUE INDEX idx_sessions_next_60_session_contractor
    ON public.mv_sessions_next_60 (session_id, contractor_id);
CREATE INDEX idx_sessions_next_60_contractor_event_priority
    ON public.mv_sessions_next_60 (contractor_id, event_id, priority_score DESC);

-- migrate: rollback

DROP MATERIALIZED VIEW IF EXISTS public.mv_sessions_next_60;
DROP VIEW IF EXISTS public.mv_sessions_next_60_live;
