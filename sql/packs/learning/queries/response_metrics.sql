-- $1 first day or NULL, $2 last day or NULL, $3 type of response or NULL
SELECT date, response_type, total_responses, avg_engagement, conversion_rate, avg_response_time
FROM response_performance_metrics
WHERE ($1::date IS NULL OR date >= $1) AND ($2::date IS NULL OR date <= $2)
  AND ($3::text IS NULL OR response_type = $3)
ORDER BY date DESC, response_type
