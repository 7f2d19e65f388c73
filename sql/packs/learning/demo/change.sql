-- The item is rejected, or taken up again: either way the figures of its day are others afterwards.
UPDATE public.learning_queue
SET status = CASE status WHEN 'pending' THEN 'rejected' ELSE 'pending' END
WHERE id = $1 AND status IN ('pending', 'rejected')
