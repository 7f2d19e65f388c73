-- The session whose change the demo shows: the first with an order at Humanitix that is a session of its own.
SELECT session.stable_session_id
FROM shows.sessions_htx AS session
WHERE EXISTS (
    SELECT FROM shows.orders_htx AS placed WHERE placed.session_source_id = session.source_id AND placed.is_counted
)
AND NOT EXISTS (
    SELECT FROM shows.session_sources AS mapped
    WHERE mapped.source_key = session.stable_session_id AND mapped.stable_session_id <> session.stable_session_id
)
ORDER BY session.session_start_local, session.stable_session_id
LIMIT 1
