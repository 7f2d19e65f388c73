-- The watches whose tree has changed since they were made (`outgrown`), where no event trigger saw it, or none could mend it.
-- What somebody disabled or dropped on purpose is not among them.
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, w.root::oid AS root, w.keys, w.capture
FROM (
    SELECT DISTINCT r.root, r.root_keys AS keys, r.root_capture AS capture
    FROM afresh.roots AS r
    JOIN afresh.watched AS t ON t.target = r.root AND NOT t.complete
    WHERE r.by_watch
) AS w
JOIN pg_catalog.pg_class c ON c.oid = w.root
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE EXISTS (SELECT FROM afresh.missing_triggers(w.root, w.keys, w.capture) AS m WHERE m.outgrown)
ORDER BY 1
