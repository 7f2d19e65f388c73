-- Forget what is too much or too old; never the newest, by which the next is numbered.
DELETE FROM afresh.invalidation_log AS l
USING (SELECT max(i.id) AS id FROM afresh.invalidation_log AS i) AS newest
WHERE l.id < newest.id AND (l.id <= newest.id - $1 OR l.written < clock_timestamp() - $2 * interval '1 second')
