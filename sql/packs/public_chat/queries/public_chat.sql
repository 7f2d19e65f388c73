-- $1 message, $2 cookieId or NULL, $3 tenantId, $4 utm or NULL, $5 the message's embedding
SELECT * FROM public.public_chat($1::text, $2::text, $3::uuid, $4::jsonb, $5)
