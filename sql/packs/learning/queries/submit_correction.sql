-- $1 conversation, $2 original response, $3 corrected answer, $4 priority, $5 context or NULL, $6 who corrects or NULL
INSERT INTO owner_corrections (
    conversation_id, original_response, corrected_answer, priority, correction_context, corrected_by
)
VALUES ($1::uuid, $2::text, $3::text, $4::text, $5::text, $6::uuid)
RETURNING id, conversation_id, corrected_answer, priority, created_at, applied_at
