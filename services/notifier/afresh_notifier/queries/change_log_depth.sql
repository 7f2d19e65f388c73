-- How many changes wait in the log, counted up to 10,000, and for how many seconds the oldest has.
SELECT
    count(*) AS changes,
    coalesce(extract(EPOCH FROM clock_timestamp() - min(c.at)), 0)::float8 AS oldest
FROM (SELECT l.at FROM afresh.change_log AS l ORDER BY l.xid, l.id LIMIT 10000) AS c
