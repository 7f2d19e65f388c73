-- $1 status or NULL, $2 limit, $3 offset
SELECT
    client_id,
    client_name,
    segment,
    cse,
    status,
    health_score,
    nps_score,
    compliance_percentage,
    last_meeting_date,
    next_meeting_date,
    open_actions,
    overdue_actions
FROM client_health_summary
WHERE $1::text IS NULL OR status = $1
ORDER BY client_name
LIMIT $2::integer
OFFSET $3::integer
