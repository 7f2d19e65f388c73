-- $1 contractorId, $2 eventId, $3 timeWindow ('now' or 'next_60'): the five sessions that suit the contractor best.
--
-- Either view's columns are there in every answer, and null where it is the other view that was asked. The minutes are
-- those of the moment of asking. What has ended, or begun, since the view was refreshed is left out, so that nobody is
-- sent to a session that is over while a refresh is still to come.
(
    SELECT
        session_id,
        event_id,
        contractor_id,
        speaker_name,
        session_title,
        session_time,
        session_end,
        session_starts_at,
        session_ends_at,
        session_location,
        session_description,
        focus_areas,
        event_name,
        event_timezone,
        relevance_score,
        focus_area_match_count,
        NULL::numeric AS minutes_until_start,
        NULL::bigint AS match_count,
        NULL::bigint AS priority_score
    FROM mv_sessions_now
    WHERE $3::text = 'now' AND contractor_id = $1::integer AND event_id = $2::integer AND session_ends_at >= now()
    ORDER BY relevance_score DESC, focus_area_match_count DESC, session_starts_at, session_id
    LIMIT 5
)
UNION ALL
(
    SELECT
        session_id,
        event_id,
        contractor_id,
        speaker_name,
        session_title,
        session_time,
        session_end,
        session_starts_at,
        session_ends_at,
        session_location,
        session_description,
        focus_areas,
        event_name,
        event_timezone,
        NULL::integer,
        NULL::bigint,
        round(extract(epoch FROM session_starts_at - now()) / 60, 1),
        match_count,
        priority_score
    FROM mv_sessions_next_60
    WHERE $3::text = 'next_60' AND contractor_id = $1::integer AND event_id = $2::integer AND session_starts_at >= now()
    ORDER BY priority_score DESC, session_starts_at, session_id
    LIMIT 5
)
