SELECT w.table_name AS name, w.keys, w.capture, w.level, w.root::text AS root, w.complete
FROM afresh.watched AS w
ORDER BY w.table_name
