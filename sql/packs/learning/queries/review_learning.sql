-- $1 item, $2 approve or reject, $3 reviewer, $4 better text or NULL, $5 category or NULL
--
-- No row: there is no such item. One that is not to be reviewed is refused by the trigger of learning_queue, which
-- also takes the embedding away where the text is another one.
UPDATE learning_queue
SET status = CASE $2::text WHEN 'approve' THEN 'approved' WHEN 'reject' THEN 'rejected' END,
    reviewed_by = $3::uuid,
    reviewed_at = clock_timestamp(),
    proposed_content = coalesce($4::text, proposed_content),
    category = coalesce($5::text, category)
WHERE id = $1::uuid
RETURNING
    id, status, source_type, source_id, shop_id, proposed_content, category, confidence_score, reviewed_by, reviewed_at
