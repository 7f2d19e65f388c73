-- The first instant after now() at which mv_sessions_next_60 holds other rows though nothing is written, minutes_until_start
-- aside; NULL: none is known. A session comes in sixty minutes before its start, gets another priority as soon as fewer
-- than thirty and than fifteen are left, and is gone after its start. One that nobody attends has no rows.
--
-- The next session is found in two steps, as in next_change_mv_sessions_now.sql. The stretch is two hours longer, since
-- it is not the starts that are compared, but instants of up to an hour before.
SELECT min(event.moment)
FROM (
    SELECT
        session.event_id,
        min(
            CASE
                WHEN session.session_starts_at - interval '60 minutes' > now()
                    THEN session.session_starts_at - interval '60 minutes'
                WHEN session.session_starts_at - interval '30 minutes' >= now()
                    THEN session.session_starts_at - interval '30 minutes' + interval '1 microsecond'
                WHEN session.session_starts_at - interval '15 minutes' >= now()
                    THEN session.session_starts_at - interval '15 minutes' + interval '1 microsecond'
                ELSE session.session_starts_at + interval '1 microsecond'
            END
        ) AS moment
    FROM public.event_sessions AS session
    WHERE session.session_time >= (now() AT TIME ZONE 'UTC') - interval '16 hours'
      AND session.session_time <= (
          SELECT later.session_time + interval '34 hours'
          FROM public.event_sessions AS later
          WHERE later.session_time >= (now() AT TIME ZONE 'UTC') - interval '16 hours'
            AND later.session_starts_at >= now()
            AND EXISTS (SELECT FROM public.event_attendees AS attendee WHERE attendee.event_id = later.event_id)
          ORDER BY later.session_time
          LIMIT 1
      )
      AND session.session_starts_at >= now()
    GROUP BY session.event_id
) AS event
WHERE EXISTS (SELECT FROM public.event_attendees AS attendee WHERE attendee.event_id = event.event_id)
