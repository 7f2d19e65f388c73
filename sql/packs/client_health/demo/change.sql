-- The client's latest response turns from promoter to detractor, or from anything else to promoter: either way the
-- client's NPS, and with it his health score, is another one afterwards.
UPDATE public.nps_responses
SET score = CASE WHEN score >= 9 THEN 2 ELSE 10 END, updated_at = now()
WHERE id = (
    SELECT response.id
    FROM public.nps_responses AS response
    WHERE response.client_name = $1
    ORDER BY response.response_date DESC, response.id DESC
    LIMIT 1
)
