-- The contractor becomes interested in everything, or, if he has matches in what is on now, in nothing at all: either
-- way other sessions suit him afterwards, now and within the hour.
UPDATE public.contractors AS contractor
SET focus_areas = CASE
        WHEN EXISTS (
            SELECT FROM public.mv_sessions_now_live AS session
            WHERE session.contractor_id = contractor.id AND session.focus_area_match_count > 0
        ) THEN '[]'
        ELSE (
            SELECT jsonb_agg(DISTINCT area.value)::text
            FROM (
                SELECT value
                FROM public.mv_sessions_now_live AS session, jsonb_array_elements_text(session.focus_areas)
                WHERE session.contractor_id = contractor.id
                UNION ALL
                SELECT value
                FROM public.mv_sessions_next_60_live AS session, jsonb_array_elements_text(session.focus_areas)
                WHERE session.contractor_id = contractor.id
            ) AS area
        )
    END,
    updated_at = now()
WHERE contractor.id = $1
