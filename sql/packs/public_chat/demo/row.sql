-- The row of the funnel that the demo shows before and after.
SELECT * FROM public.public_chat_funnel WHERE tenant_id = $1
