-- What waits in the change log, counted up to 10,000, and who leads.
SELECT
    count(*) AS changes,
    coalesce(extract(EPOCH FROM clock_timestamp() - min(c.at)), 0)::float8 AS oldest,
    (
        SELECT l.holder FROM afresh.lease AS l
        WHERE l.expires > clock_timestamp()
        ORDER BY l.term DESC
        LIMIT 1
    ) AS leader
FROM (SELECT l.at FROM afresh.change_log AS l ORDER BY l.xid, l.id LIMIT 10000) AS c
