-- The marks of one view, or of all.
SELECT d.view_name, d.slot, d.generation, d.tables, d.keys::text AS keys, d.since
FROM afresh.dirty AS d
WHERE d.view_name = $1 OR $1 IS NULL
ORDER BY d.view_name, d.slot
