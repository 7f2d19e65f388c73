-- The statements that run a named query: $1 is its text, $2 its columns, $3 the form of each, $4 how many rows at most.
-- Every name in them is quoted here. What the query itself says stands between parentheses on lines of its own, so that a
-- comment at its end ends there.
--
-- `rows` makes one text of all rows, each a JSON object; they are separated by a character that no JSON holds as it is, so
-- that whoever gets it can count them and cut the last one off. `csv` gives each column as a text. `writing` is the same as
-- `rows` for a query that may write: it stands behind WITH, where alone PostgreSQL takes that, and runs to its end, however
-- many rows it gives.
WITH columns AS (
    SELECT
        pg_catalog.format('%I.%I', 'afresh:query', c.name) AS value,
        pg_catalog.format(' AS %I', c.name) AS named,
        c.form,
        c.number
    FROM ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]))
        WITH ORDINALITY AS c (name, form, number)
), written AS (
    SELECT
        pg_catalog.bool_and(c.form IN ('plain', 'json', 'json_text')) AS all_plain,
        pg_catalog.string_agg(
            CASE c.form
                WHEN 'bytes'
                THEN pg_catalog.format($f$pg_catalog.translate(pg_catalog.encode(%s, 'base64'), E'\n', '')$f$, c.value)
                WHEN 'vector' THEN pg_catalog.format('%s::pg_catalog.text::pg_catalog.json', c.value)
                ELSE c.value
            END || c.named,
            ', ' ORDER BY c.number
        ) AS for_json,
        pg_catalog.string_agg(
            CASE c.form
                WHEN 'bytes'
                THEN pg_catalog.format($f$pg_catalog.translate(pg_catalog.encode(%s, 'base64'), E'\n', '')$f$, c.value)
                WHEN 'json_text'
                THEN pg_catalog.format($f$(pg_catalog.to_json(%s) OPERATOR(pg_catalog.#>>) '{}')$f$, c.value)
                WHEN 'json' THEN pg_catalog.format('pg_catalog.to_json(%s)::pg_catalog.text', c.value)
                ELSE pg_catalog.format('%s::pg_catalog.text', c.value)
            END || c.named,
            ', ' ORDER BY c.number
        ) AS for_csv
    FROM columns AS c
)
SELECT
    pg_catalog.format(
        'SELECT pg_catalog.string_agg(%1$I.row, pg_catalog.chr(30)) FROM ('
        'SELECT pg_catalog.row_to_json(%1$I)::pg_catalog.text AS row FROM (' || E'\n%2$s\n' || ') AS %1$I LIMIT %3$s'
        ') AS %1$I',
        'afresh:query',
        CASE WHEN w.all_plain
            THEN $1::text
            ELSE pg_catalog.format('SELECT %s FROM (' || E'\n%s\n' || ') AS %I', w.for_json, $1::text, 'afresh:query')
        END,
        $4::bigint + 1
    ) AS rows,
    pg_catalog.format(
        'WITH %1$I AS (' || E'\n%2$s\n' || ') SELECT pg_catalog.string_agg(%1$I.row, pg_catalog.chr(30)) FROM ('
        'SELECT pg_catalog.row_to_json(%1$I)::pg_catalog.text AS row FROM (SELECT %3$s FROM %1$I) AS %1$I'
        ') AS %1$I',
        'afresh:query', $1::text, CASE WHEN w.all_plain THEN '*' ELSE w.for_json END
    ) AS writing,
    pg_catalog.format(
        'SELECT %s FROM (' || E'\n%s\n' || ') AS %I LIMIT %s', w.for_csv, $1::text, 'afresh:query', $4::bigint + 1
    ) AS csv
FROM written AS w
