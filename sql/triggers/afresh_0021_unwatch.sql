-- End the watch on a table
-- depends: afresh_0020_unwatch_embedding

-- migrate: apply

CREATE FUNCTION afresh.unwatch(target regclass) RETURNS text []
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
AS $function$
DECLARE
    relation text;
    other text;
    step record;
    freed text[] := '{}';
BEGIN
    SELECT format('%I.%I', n.nspname, c.relname)
    INTO relation
    FROM pg_class AS c
    INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = target;

    SELECT format('%I.%I', n.nspname, c.relname)
    INTO other
    FROM afresh.covering_watch(target) AS w
    INNER JOIN pg_class AS c ON c.oid = w.root
    INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE w.root <> target;
    IF FOUND THEN
        RAISE EXCEPTION 'cannot end the watch on % alone: it is covered by the watch on %', relation, other
            USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = format('End that one: SELECT afresh.unwatch(%L). Or detach the table from it first.', other);
    END IF;

    FOR step IN
        WITH RECURSIVE tree (relid) AS (
            SELECT unwatch.target::oid
            UNION
            SELECT i.inhrelid
            FROM tree AS t
            INNER JOIN pg_inherits AS i ON i.inhparent = t.relid
        )
        SELECT format('%I.%I', n.nspname, c.relname) AS member, t.trigger_name
        FROM tree AS m
        INNER JOIN pg_class AS c ON c.oid = m.relid
        INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
        INNER JOIN afresh.triggers AS t ON t.target = m.relid AND t.by_watch
        ORDER BY c.oid <> unwatch.target, c.oid, t.trigger_name
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', step.trigger_name, step.member);
        IF step.member <> ALL (freed) THEN
            freed := freed || step.member;
        END IF;
    END LOOP;

    IF cardinality(freed) > 0 THEN
        PERFORM pg_notify('afresh', format('{"v":1,"op":"DDL","xid":"%s"}', pg_current_xact_id()));
    END IF;
    RETURN freed;
END;
$function$;

COMMENT ON FUNCTION afresh.unwatch(regclass) IS
    'Ends what afresh.watch began, on this table, its partitions and its inheritance children; triggers made by hand stay. Returns the tables that are no longer watched. May be repeated.';

GRANT EXECUTE ON FUNCTION afresh.unwatch(regclass) TO public;

-- migrate: rollback

-- The first step down. While any trigger executes notify_event_refresh() or queue_embedding(), nothing is taken away: not
-- the function, which would fail, nor what comes before it, which would leave half an engine.
DO $block$
DECLARE
    watched_tables text;
BEGIN
    SELECT string_agg(format('SELECT afresh.unwatch_embedding(%L, %L);', t.target, t.text_column), ' ' ORDER BY t.target)
    INTO watched_tables
    FROM (
        SELECT DISTINCT
            pg_trigger.tgrelid::regclass::text AS target,
            regexp_replace(pg_trigger.tgname, '^afresh_embed_(insert|update)_', '') AS text_column
        FROM pg_catalog.pg_trigger
        WHERE pg_trigger.tgfoid = 'afresh.queue_embedding()'::regprocedure AND pg_trigger.tgparentid = 0
    ) AS t;
    IF watched_tables IS NOT NULL THEN
        RAISE EXCEPTION 'there are triggers that tell Afresh of texts to embed'
            USING ERRCODE = 'dependent_objects_still_exist',
            HINT = 'End the watches: ' || watched_tables;
    END IF;
    SELECT string_agg(w.table_name, ', ' ORDER BY w.table_name) INTO watched_tables FROM afresh.watched AS w;
    IF watched_tables IS NOT NULL THEN
        RAISE EXCEPTION 'there are triggers that tell Afresh of changes: %', watched_tables
            USING ERRCODE = 'dependent_objects_still_exist',
            HINT = 'End the watches: SELECT afresh.unwatch(root) FROM (SELECT DISTINCT root FROM afresh.watched) AS w; and drop the triggers made by hand that execute notify_event_refresh().';
    END IF;
END;
$block$;

DROP FUNCTION afresh.unwatch(regclass);
