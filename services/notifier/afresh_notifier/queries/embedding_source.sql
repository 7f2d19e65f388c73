-- What must be known of a table $1 (its oid) and its column of texts $2 to keep the columns $3 of embeddings true, with the
-- statements for it, every name in them quoted here. A column's `size` is what its type says, -1 where it says nothing.
--
-- `read`: $1 is a JSON array of keys; a row for each key that is there: its text. `store`: $1 key, $2 the text that was
-- embedded, $3 … a vector for each column; a row where the text is still the same. `enqueue`: puts all rows into the queue
-- that have a text and lack an embedding, or, with $1, all that have a text, but for those that wait already; `lacking`: whether
-- there are rows that have a text, lack an embedding, and do not wait for one. $2 and $1 are the table and its partitions.
WITH relation AS (
    SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_catalog.pg_class AS c
    INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = $1::oid AND c.relkind IN ('r', 'p')
), texts AS (
    SELECT a.attname::text AS name
    FROM pg_catalog.pg_attribute AS a
    INNER JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = $1::oid AND a.attname = $2::text AND a.attnum > 0 AND NOT a.attisdropped AND t.typcategory = 'S'
), vectors AS (
    SELECT w.place, w.name, t.typname::text AS type, n.nspname::text AS schema, a.atttypmod AS size
    FROM pg_catalog.unnest($3::text[]) WITH ORDINALITY AS w (name, place)
    INNER JOIN pg_catalog.pg_attribute AS a
        ON a.attrelid = $1::oid AND a.attname = w.name AND a.attnum > 0 AND NOT a.attisdropped
    INNER JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
    INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
), keys AS (
    SELECT
        a.attname::text AS name,
        format('t.%1$I = (k.key ->> %1$L)::%2$s', a.attname, format_type(a.atttypid, a.atttypmod)) AS is_it,
        format('%1$L, t.%1$I', a.attname) AS pair
    FROM pg_catalog.pg_index AS i
    INNER JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
    WHERE i.indrelid = $1::oid AND i.indisprimary
), parts AS (
    SELECT
        (SELECT string_agg(k.is_it, ' AND ') FROM keys AS k) AS is_it,
        (SELECT 'jsonb_build_object(' || string_agg(k.pair, ', ') || ')' FROM keys AS k) AS key,
        (
            SELECT string_agg(
                format('%I = $%s::%I.%I', v.name, v.place + 2, v.schema, v.type), ', ' ORDER BY v.place
            )
            FROM vectors AS v
        ) AS assignments,
        (SELECT string_agg(format('t.%I IS NULL', v.name), ' OR ') FROM vectors AS v) AS lacking
)
SELECT
    r.name,
    EXISTS (SELECT FROM texts) AS has_text,
    EXISTS (SELECT FROM keys) AS has_key,
    ARRAY(SELECT v.name FROM vectors AS v ORDER BY v.place) AS columns,
    ARRAY(SELECT v.type FROM vectors AS v ORDER BY v.place) AS types,
    ARRAY(SELECT v.size FROM vectors AS v ORDER BY v.place) AS sizes,
    (SELECT v.schema FROM vectors AS v LIMIT 1) AS vector_schema,
    (
        SELECT count(*) FROM pg_catalog.pg_trigger AS g
        WHERE g.tgrelid = r.oid AND g.tgfoid = to_regprocedure('afresh.queue_embedding()') AND g.tgenabled <> 'D'
            AND g.tgname = ANY (ARRAY[
                left('afresh_embed_insert_' || $2::text, 63), left('afresh_embed_update_' || $2::text, 63)
            ])
    ) = 2 AS watched,
    ARRAY(SELECT p.relid::oid FROM pg_partition_tree(r.oid) AS p UNION SELECT r.oid) AS members,
    format(
        'SELECT k.key::text AS key, t.%I::text AS text FROM jsonb_array_elements($1::jsonb) AS k (key) '
        'INNER JOIN %s AS t ON %s', $2::text, r.name, p.is_it
    ) AS read,
    format(
        'UPDATE %s AS t SET %s FROM (SELECT $1::jsonb AS key) AS k '
        'WHERE %s AND t.%I::text IS NOT DISTINCT FROM $2::text RETURNING true', r.name, p.assignments, p.is_it, $2::text
    ) AS store,
    format(
        'INSERT INTO afresh.embedding_queue (target, text_column, key) SELECT %1$L::regclass, %2$L, r.key FROM ('
        'SELECT %3$s AS key FROM %4$s AS t WHERE t.%5$I::text ~ ''\S'' AND ($1::boolean OR %6$s)'
        ') AS r WHERE NOT EXISTS (SELECT FROM afresh.embedding_queue AS q '
        'WHERE q.target = ANY ($2::oid[]) AND q.text_column = %2$L AND q.key = r.key)',
        r.name, $2::text, p.key, r.name, $2::text, p.lacking
    ) AS enqueue,
    format(
        'SELECT EXISTS (SELECT FROM (SELECT %s AS key FROM %s AS t WHERE t.%I::text ~ ''\S'' AND (%s)) AS r '
        'WHERE NOT EXISTS (SELECT FROM afresh.embedding_queue AS q '
        'WHERE q.target = ANY ($1::oid[]) AND q.text_column = %L AND q.key = r.key))',
        p.key, r.name, $2::text, p.lacking, $2::text
    ) AS lacking
FROM relation AS r
CROSS JOIN parts AS p
