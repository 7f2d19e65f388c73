-- The row of the summary that the demo shows before and after.
SELECT * FROM public.client_health_summary WHERE client_name = $1
