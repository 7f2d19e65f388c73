-- One more order at Humanitix, of one ticket: it is in the session's sums, and its customer among the latest, afterwards.
INSERT INTO shows.orders_htx (
    source_id, session_source_id, event_source_id, status, first_name, last_name, ordered_at, payload
)
SELECT
    'demo-' || gen_random_uuid(),
    session.source_id,
    session.event_source_id,
    'complete',
    'Dana',
    'Demo',
    now(),
    jsonb_build_object(
        'currency', money.currency, 'totals', '{"total": 42.00, "humanitixFee": 1.68, "bookingFee": 0.30, "taxes": 3.82}'::jsonb
    )
FROM shows.sessions_htx AS session
LEFT JOIN shows.session_financials AS money ON money.stable_session_id = session.stable_session_id
WHERE session.stable_session_id = $1::text
