-- $1 client_name, $2 year or NULL
SELECT *
FROM event_compliance_summary
WHERE client_name = $1 AND ($2::integer IS NULL OR year = $2)
ORDER BY year DESC
