-- The house whose row in the funnel the demo shows.
SELECT tenant_id FROM public.tenant_registry WHERE is_active ORDER BY slug LIMIT 1
