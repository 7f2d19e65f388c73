-- The watches whose tree has changed since they were made (`outgrown`), where no event trigger saw it, or none could mend it.
-- What somebody disabled or dropped on purpose is not among them.
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, w.target::oid AS root, w.keys
FROM (SELECT DISTINCT r.target, r.keys FROM afresh.watched AS r WHERE r.target = r.root AND NOT r.complete) AS w
JOIN pg_catalog.pg_class c ON c.oid = w.target
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE EXISTS (SELECT FROM afresh.missing_triggers(w.target, w.keys) AS m WHERE m.outgrown)
ORDER BY 1
