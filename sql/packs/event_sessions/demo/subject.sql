-- The contractor whose interests the demo changes: the first one for whom there is a session with focus areas on now, with
-- time left, and another one within the hour.
SELECT contractor.id
FROM public.contractors AS contractor
WHERE EXISTS (
    SELECT FROM public.mv_sessions_now_live AS session
    WHERE session.contractor_id = contractor.id
      AND jsonb_array_length(session.focus_areas) > 0
      AND session.session_ends_at > now() + interval '5 minutes'
)
AND EXISTS (
    SELECT FROM public.mv_sessions_next_60_live AS session
    WHERE session.contractor_id = contractor.id
      AND jsonb_array_length(session.focus_areas) > 0
      AND session.session_starts_at > now() + interval '5 minutes'
)
ORDER BY contractor.id
LIMIT 1
