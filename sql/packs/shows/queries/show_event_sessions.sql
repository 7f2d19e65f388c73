-- $1 event_id
SELECT *
FROM shows.get_event_sessions($1::uuid)
