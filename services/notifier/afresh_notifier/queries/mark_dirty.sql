-- Mark views as dirty, in the order given, which is the same for all who do (parents before children): so nobody waits in a
-- circle.
INSERT INTO afresh.dirty AS d (view_name, slot, generation, tables, keys, since)
SELECT m.view_name, m.slot, nextval('afresh.generation'), m.tables, m.keys, m.since
FROM ROWS FROM (
    jsonb_to_recordset($1::jsonb) AS (view_name text, slot int, tables text [], keys jsonb, since timestamptz)
) WITH ORDINALITY AS m (view_name, slot, tables, keys, since, n)
ORDER BY m.n
ON CONFLICT (view_name, slot) DO UPDATE SET
    generation = excluded.generation,
    tables = ARRAY(SELECT DISTINCT t.name FROM unnest(d.tables || excluded.tables) AS t (name)),
    keys = CASE
        WHEN d.keys IS NOT NULL AND excluded.keys IS NOT NULL THEN (
            SELECT CASE WHEN count(*) <= $2 THEN jsonb_agg(k.key) END
            FROM (SELECT DISTINCT e.key FROM jsonb_array_elements(d.keys || excluded.keys) AS e (key)) AS k
        )
    END,
    since = least(d.since, excluded.since)
