-- Which watch a table belongs to
-- depends: afresh_0009_triggers

-- migrate: apply

-- A watch covers a whole tree of partitions or inheritance children, so it is the topmost watched table above (or at)
-- the target that counts. No row if there is none. With several parents the farthest ancestor wins, and of two as
-- far the older.
CREATE FUNCTION afresh.covering_watch(target regclass)
RETURNS TABLE (root regclass, keys text [], capture text)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH RECURSIVE lineage (relid, distance) AS (
        SELECT covering_watch.target::oid, 0
        UNION ALL
        SELECT i.inhparent, l.distance + 1
        FROM lineage AS l
        INNER JOIN pg_inherits AS i ON i.inhrelid = l.relid
    )
    SELECT t.target, t.keys, t.capture
    FROM lineage AS l
    INNER JOIN afresh.triggers AS t ON t.target = l.relid AND t.by_watch
    ORDER BY l.distance DESC, l.relid, t.level DESC, t.trigger_name
    LIMIT 1
$function$;

COMMENT ON FUNCTION afresh.covering_watch(regclass) IS
    'The table whose watch covers this one (the topmost watched table of its partition or inheritance tree), with its keys and how it captures.';

GRANT EXECUTE ON FUNCTION afresh.covering_watch(regclass) TO public;

-- migrate: rollback

DROP FUNCTION afresh.covering_watch(regclass);
