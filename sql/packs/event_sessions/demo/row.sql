-- What suits the contractor, as both views have it.
SELECT
    contractor.id AS contractor_id,
    contractor.name,
    (
        SELECT count(*) FROM public.mv_sessions_now AS session
        WHERE session.contractor_id = contractor.id AND session.relevance_score = 100
    ) AS relevant_now,
    (
        SELECT sum(session.focus_area_match_count) FROM public.mv_sessions_now AS session
        WHERE session.contractor_id = contractor.id
    ) AS matches_now,
    (
        SELECT sum(session.match_count) FROM public.mv_sessions_next_60 AS session
        WHERE session.contractor_id = contractor.id
    ) AS matches_within_the_hour,
    (
        SELECT max(session.priority_score) FROM public.mv_sessions_next_60 AS session
        WHERE session.contractor_id = contractor.id
    ) AS best_priority
FROM public.contractors AS contractor
WHERE contractor.id = $1
