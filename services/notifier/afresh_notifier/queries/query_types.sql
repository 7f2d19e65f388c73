-- For each of these types what is at its bottom: domains are what they are domains of, arrays what they are arrays of.
WITH RECURSIVE steps AS (
    SELECT t.oid AS asked, t.oid, false AS many, 0 AS depth
    FROM pg_catalog.unnest($1::oid[]) AS given (oid)
    JOIN pg_catalog.pg_type AS t ON t.oid = given.oid
    UNION ALL
    SELECT s.asked,
        CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END,
        s.many OR t.typtype <> 'd',
        s.depth + 1
    FROM steps AS s
    JOIN pg_catalog.pg_type AS t ON t.oid = s.oid
    WHERE t.typtype = 'd' OR (t.typcategory = 'A' AND t.typelem <> 0 AND NOT s.many)
)
SELECT DISTINCT ON (s.asked)
    s.asked,
    pg_catalog.format_type(s.asked, NULL) AS shown,
    s.many,
    t.typname::text AS name,
    n.nspname::text AS schema,
    t.typtype::text AS kind,
    ARRAY(
        SELECT e.enumlabel::text FROM pg_catalog.pg_enum AS e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder
    ) AS labels
FROM steps AS s
JOIN pg_catalog.pg_type AS t ON t.oid = s.oid
JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
ORDER BY s.asked, s.depth DESC
