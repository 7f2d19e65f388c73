-- The client whose change the demo shows: the first one who answered within the last year, and so has an NPS.
SELECT client.client_name
FROM public.nps_clients AS client
WHERE EXISTS (
    SELECT FROM public.nps_responses AS response
    WHERE response.client_name = client.client_name
      AND response.response_date > (now() AT TIME ZONE 'UTC')::date - 365
)
ORDER BY client.client_name
LIMIT 1
