-- The first instant after now() at which mv_sessions_now holds other rows though nothing is written; NULL: none is known.
-- Either a session that is on ends, and is gone one microsecond later, or one starts. A session that ends before it
-- starts is never on, and one that nobody attends has no rows.
--
-- Agendas are in local times, which the index is in the order of. So the first start is found in two steps: some
-- session that starts after now(), the first by local time; then the first by instant among all that could come before
-- it, whose local times are no more than thirty-two hours later, since each is at most sixteen from UTC.
SELECT min(event.moment)
FROM (
    SELECT change.event_id, min(change.moment) AS moment
    FROM (
        SELECT session.event_id, session.session_ends_at + interval '1 microsecond' AS moment
        FROM public.event_sessions AS session
        WHERE session.session_time <= (now() AT TIME ZONE 'UTC') + interval '16 hours'
          AND session.session_end >= (now() AT TIME ZONE 'UTC') - interval '16 hours'
          AND now() BETWEEN session.session_starts_at AND session.session_ends_at

        UNION ALL
        SELECT session.event_id, session.session_starts_at
        FROM public.event_sessions AS session
        WHERE session.session_time >= (now() AT TIME ZONE 'UTC') - interval '16 hours'
          AND session.session_time <= (
              SELECT later.session_time + interval '32 hours'
              FROM public.event_sessions AS later
              WHERE later.session_time >= (now() AT TIME ZONE 'UTC') - interval '16 hours'
                AND later.session_starts_at > now()
                AND later.session_starts_at <= later.session_ends_at
                AND EXISTS (SELECT FROM public.event_attendees AS attendee WHERE attendee.event_id = later.event_id)
              ORDER BY later.session_time
              LIMIT 1
          )
          AND session.session_starts_at > now()
          AND session.session_starts_at <= session.session_ends_at
    ) AS change
    GROUP BY change.event_id
) AS event
WHERE EXISTS (SELECT FROM public.event_attendees AS attendee WHERE attendee.event_id = event.event_id)
