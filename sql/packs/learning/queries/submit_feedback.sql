-- $1 conversation, $2 kind of feedback, $3 rating or NULL, $4 reason or NULL, $5 response text or NULL, $6 user or NULL
--
-- What the trigger puts into the learning queue cannot be seen by the statement that fires it, so whether the feedback
-- is queued is said by the trigger's rule.
INSERT INTO conversation_feedback (conversation_id, feedback_type, rating, reason, response_text, user_id)
VALUES ($1::uuid, $2::text, $3::integer, $4::text, $5::text, $6::uuid)
RETURNING
    id, conversation_id, feedback_type, rating, reason, created_at,
    feedback_type = 'thumbs_down' OR coalesce(rating <= 2, false) AS queued
