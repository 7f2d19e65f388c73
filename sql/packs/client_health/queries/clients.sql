-- Clients and how they are, the worst first. $1: their status, NULL for all; $2: how many at most.
SELECT
    client_name,
    segment,
    cse,
    health_score,
    status,
    nps_score,
    compliance_percentage,
    open_actions,
    overdue_actions,
    last_meeting_date
FROM public.client_health_summary
WHERE $1::text IS NULL OR status = $1
ORDER BY health_score, client_name
LIMIT $2::int
