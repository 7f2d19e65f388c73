-- Let somebody else lead, at once.
WITH given AS (
    UPDATE afresh.lease AS l SET expires = '-infinity' WHERE l.term = $1 RETURNING l.term
)

SELECT pg_notify('afresh', '{"v":1,"op":"LEASE"}') FROM given
