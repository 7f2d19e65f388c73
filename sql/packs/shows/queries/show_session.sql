-- $1 session_id: a uuid, a stable id, or a provider's id
SELECT *
FROM shows.event_sessions_overview_v
WHERE stable_session_id = (SELECT shows.find_session($1::text))
