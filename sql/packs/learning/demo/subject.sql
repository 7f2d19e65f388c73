-- The item whose review the demo shows: the newest that waits for one.
SELECT item.id
FROM public.learning_queue AS item
WHERE item.status = 'pending'
ORDER BY item.created_at DESC, item.id
LIMIT 1
