-- $1 the row that public_chat.sql gave, with the final answer in it
SELECT public.public_chat_answered($1::jsonb)
