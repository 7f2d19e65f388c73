-- $1 cookieId: the visitor's conversation, unless its time is over; the one that goes on, or else the newest that became a
-- reservation. (Two halves, so that each finds its rows by an index of its own.)
SELECT
    found.session_id AS "sessionId",
    found.tenant_id AS "tenantId",
    found.status,
    found.conversation_history AS "conversation",
    found.travel_intent AS "travelIntent",
    found.utm_tracking AS "utm",
    found.converted_to_reservation_id AS "reservationId",
    found.created_at AS "createdAt",
    found.last_activity_at AS "lastActivityAt",
    found.expires_at AS "expiresAt"
FROM (
    SELECT * FROM prospective_sessions
    WHERE cookie_id = $1::text AND status = 'active' AND expires_at > now()
    UNION ALL
    SELECT * FROM prospective_sessions
    WHERE cookie_id = $1::text AND status = 'converted' AND expires_at > now()
) AS found
ORDER BY found.status, found.conversion_date DESC
LIMIT 1
