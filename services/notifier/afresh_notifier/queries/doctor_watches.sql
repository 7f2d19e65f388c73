-- The roots of all watches and handmade triggers, what each lacks, and the statement that mends it.
SELECT
    w.table_name AS name,
    w.complete,
    w.by_watch,
    CASE WHEN w.by_watch THEN ARRAY(
        SELECT pg_catalog.format('%s on %s is %s', m.trigger_name, m.member, m.state)
        FROM afresh.missing_triggers(w.target, w.keys) AS m
    ) ELSE '{}' END AS lacks,
    pg_catalog.format('SELECT afresh.watch(%L, %L);', w.table_name, w.keys::text) AS mend
FROM (
    SELECT watched.*, EXISTS (
        SELECT FROM afresh.triggers AS t WHERE t.target = watched.target AND t.by_watch
    ) AS by_watch
    FROM afresh.watched
) AS w
WHERE w.root = w.target
ORDER BY w.table_name
