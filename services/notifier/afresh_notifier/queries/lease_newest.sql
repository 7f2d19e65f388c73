SELECT l.term, l.holder, l.expires, l.expires <= clock_timestamp() AS expired
FROM afresh.lease AS l
ORDER BY l.term DESC
LIMIT 1
