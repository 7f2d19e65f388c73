-- Put what is known now in the place of what was.
WITH now_known AS (
    SELECT k.kind, k.name, k.state FROM unnest($1::text [], $2::text [], $3::text []) AS k (kind, name, state)
),

gone AS (
    DELETE FROM afresh.known AS k
    WHERE NOT EXISTS (SELECT FROM now_known AS n WHERE n.kind = k.kind AND n.name = k.name)
)

INSERT INTO afresh.known AS k (kind, name, state)
SELECT n.kind, n.name, n.state FROM now_known AS n
ORDER BY 1, 2
ON CONFLICT (kind, name) DO UPDATE SET state = excluded.state WHERE k.state <> excluded.state
