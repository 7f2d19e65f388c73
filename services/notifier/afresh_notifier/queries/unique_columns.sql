-- The columns of a relation that an index can hold. First those of a kind that identifies things; a number with a fraction
-- or a moment may be unique by chance.
SELECT a.attname::text AS name
FROM pg_catalog.pg_attribute AS a
JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_type AS base ON base.oid = t.typbasetype
WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
    AND (
        t.typcategory IN ('B', 'D', 'E', 'I', 'N', 'S')
        OR EXISTS (
            SELECT FROM pg_catalog.pg_opclass AS o
            JOIN pg_catalog.pg_am AS m ON m.oid = o.opcmethod AND m.amname = 'btree'
            WHERE o.opcdefault AND o.opcintype = COALESCE(base.oid, t.oid)
        )
    )
    AND COALESCE(base.typname, t.typname) NOT IN ('float4', 'float8', 'interval')
ORDER BY
    t.typcategory NOT IN ('E', 'S')
    AND COALESCE(base.typname, t.typname) NOT IN ('int2', 'int4', 'int8', 'uuid', 'date', 'bool'),
    a.attnum
