-- The roots of all watches and handmade triggers, what each lacks, and the statement that mends it.
SELECT
    w.table_name AS name,
    w.complete,
    w.by_watch,
    CASE WHEN w.by_watch THEN ARRAY(
        SELECT pg_catalog.format('%s on %s is %s', m.trigger_name, m.member, m.state)
        FROM afresh.missing_triggers(w.target, w.keys, w.asked_capture) AS m
    ) ELSE '{}' END AS lacks,
    pg_catalog.format(
        CASE w.asked_capture WHEN 'log' THEN 'SELECT afresh.watch(%L, %L);' ELSE 'SELECT afresh.watch(%L, %L, %L);' END,
        w.table_name, w.keys::text, w.asked_capture
    ) AS mend
FROM (
    -- The capture that was asked for; with a subscription's row-level triggers afresh.watched says notify all the same.
    SELECT watched.*, roots.by_watch, roots.root_capture AS asked_capture
    FROM afresh.watched
    JOIN afresh.roots ON roots.target = watched.target
) AS w
WHERE w.root = w.target
ORDER BY w.table_name
