-- The view event_sessions: the sessions that can be recommended, each once
-- depends: event_sessions_0001_tables

-- migrate: apply

-- Sessions come from the agenda, so that one without a speaker is one like any other.
--
-- Their focus areas are those of the agenda item and those of the speaker together, sorted, each once. They are put
-- together in one subquery for each session, before a session is joined with those who attend, and read from there
-- wherever they are needed. Who does not ask for them (next_change does not) does not pay for them: a LEFT JOIN that can
-- only give one row, of which nothing is used, is left out of the plan. What is no array of JSON holds no focus areas.
-- An element that is null stays in the list, and matches nothing.
--
-- The agenda's times are local ones. Their instants, session_starts_at and session_ends_at, are what the views over the
-- clock compare with now(). Comparing the local times with the zone's local time of day, as one might, comes to the same
-- but where the zone's clock is put back or forward: an instant passes once, where a local time that the clock shows twice
-- (or, in spring, never) would bring a session up twice, or call it an hour off that is none. (PostgreSQL takes a
-- local time that occurs twice for the later one, and one that never occurs as if the clock had not been put forward yet.)
CREATE VIEW public.event_sessions AS
SELECT
    item.id AS session_id,
    item.event_id,
    speaker.name AS speaker_name,
    item.title AS session_title,
    item.start_time AS session_time,
    item.end_time AS session_end,
    item.location AS session_location,
    item.description AS session_description,
    combined.focus_areas,
    event.name AS event_name,
    event.timezone AS event_timezone,
    item.start_time AT TIME ZONE event.timezone AS session_starts_at,
    item.end_time AT TIME ZONE event.timezone AS session_ends_at
FROM public.event_agenda_items AS item
JOIN public.events AS event ON event.id = item.event_id
LEFT JOIN public.event_speakers AS speaker ON speaker.id = item.speaker_id
LEFT JOIN LATERAL (
    SELECT coalesce(jsonb_agg(DISTINCT area.value), '[]') AS focus_areas
    FROM (
        SELECT value
        FROM jsonb_array_elements_text(CASE jsonb_typeof(item.focus_areas) WHEN 'array' THEN item.focus_areas END)
        UNION ALL
        SELECT value
        FROM jsonb_array_elements_text(CASE jsonb_typeof(speaker.focus_areas) WHEN 'array' THEN speaker.focus_areas END)
    ) AS area
) AS combined ON true
WHERE item.item_type = 'session'
  AND item.status IN ('scheduled', 'confirmed', 'tentative')
  AND item.start_time IS NOT NULL
  AND item.end_time IS NOT NULL;

COMMENT ON VIEW public.event_sessions IS
    'Sessions on the agendas that are scheduled, confirmed or tentative and have a start and an end, with or without a speaker';
COMMENT ON COLUMN public.event_sessions.speaker_name IS 'NULL for a session without a speaker';
COMMENT ON COLUMN public.event_sessions.session_time IS 'The start, in the event''s time zone';
COMMENT ON COLUMN public.event_sessions.session_end IS 'The end, in the event''s time zone';
COMMENT ON COLUMN public.event_sessions.focus_areas IS
    'Those of the agenda item and of the speaker together: a sorted JSON array, each name once';
COMMENT ON COLUMN public.event_sessions.session_starts_at IS 'The instant of the start';
COMMENT ON COLUMN public.event_sessions.session_ends_at IS 'The instant of the end';

-- migrate: rollback

DROP VIEW IF EXISTS public.event_sessions;
