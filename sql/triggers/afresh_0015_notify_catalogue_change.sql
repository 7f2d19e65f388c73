-- Tell of changes to the catalogue, and watch new partitions of watched tables
-- depends: afresh_0014_watch

-- migrate: apply

-- Two duties: tell the channel that the catalogue changed (so that the service reads its map of views and tables
-- again), and extend a watch to a table that has just become a partition or a child of a watched one, in the very
-- transaction in which it did, so that no change to it is missed.
--
-- Somebody's DDL must not fail because of us, nor wait for us: here errors become warnings, and locks that are not
-- there for the taking are given up (in less than deadlock_timeout). The service, which polls the catalogue at a
-- slower pace, makes good what is left undone.
CREATE FUNCTION afresh.notify_catalogue_change() RETURNS event_trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $function$
DECLARE
    lasting boolean;
    touched oid[];
    -- No record: one that no row was assigned to has no fields, and the handler below must not fail.
    tree_root regclass;
    tree_keys text[];
    tree_capture text;
    reason text;
BEGIN
    BEGIN
        IF TG_EVENT = 'sql_drop' THEN
            -- Older minor versions do not set is_temporary on a temporary table's triggers and defaults.
            SELECT count(*) > 0
            INTO lasting
            FROM pg_event_trigger_dropped_objects() AS d
            WHERE NOT d.is_temporary AND coalesce(d.address_names[1], '') <> 'pg_temp';
        ELSE
            SELECT
                count(*) > 0,
                array_agg(DISTINCT coalesce(s.srrelid, r.oid)) FILTER (WHERE t.oid IS NULL)
            INTO lasting, touched
            FROM pg_event_trigger_ddl_commands() AS c
            LEFT JOIN pg_trigger AS t ON c.classid = 'pg_trigger'::regclass AND t.oid = c.objid
            LEFT JOIN pg_subscription_rel AS s ON c.classid = 'pg_subscription'::regclass AND s.srsubid = c.objid
            LEFT JOIN pg_class AS r
                ON r.oid = t.tgrelid OR (c.classid = 'pg_class'::regclass AND r.oid = c.objid)
            WHERE coalesce(r.relpersistence <> 't', c.schema_name IS DISTINCT FROM 'pg_temp');
        END IF;
        IF lasting THEN
            PERFORM pg_notify('afresh', format('{"v":1,"op":"DDL","xid":"%s"}', pg_current_xact_id()));
        END IF;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS reason = MESSAGE_TEXT;
        RAISE WARNING 'Afresh could not tell of this change to the catalogue: %', reason
            USING HINT = 'The statement itself is carried out; the service notices such a change a little later by itself.';
    END;

    IF touched IS NULL OR current_setting('afresh.within_watch', true) = 'on' THEN
        RETURN;
    END IF;

    BEGIN
        FOR tree_root, tree_keys, tree_capture IN
            SELECT DISTINCT w.root, w.keys, w.capture
            FROM unnest(touched) AS o (relid)
            CROSS JOIN LATERAL afresh.covering_watch(o.relid) AS w
        LOOP
            -- Only what has come into the tree, or has to be otherwise because of it; and not while the triggers of
            -- its root are just being made one by one.
            IF (
                SELECT bool_or(m.outgrown) AND NOT bool_or(m.member = tree_root AND m.state = 'absent' AND NOT m.outgrown)
                FROM afresh.missing_triggers(tree_root, tree_keys, tree_capture) AS m
            ) THEN
                PERFORM afresh.watch(tree_root, tree_keys, tree_capture);
            END IF;
        END LOOP;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS reason = MESSAGE_TEXT;
        RAISE WARNING 'Afresh could not extend a watch to a table that this statement touched: %', reason
            USING HINT = 'The statement itself is carried out. ' || CASE
                WHEN tree_root IS NULL THEN 'Look at afresh.watched for what is not complete.'
                ELSE format('Then call: SELECT afresh.watch(%L, %L, %L)', tree_root, tree_keys, tree_capture)
            END;
    END;
END;
$function$;

COMMENT ON FUNCTION afresh.notify_catalogue_change() IS
    'Event trigger function of Afresh: tells the channel "afresh" that the catalogue changed, and watches new partitions of watched tables.';

-- Only a superuser may make an event trigger. ALWAYS, because session_replication_role must not silence it.
DO $block$
BEGIN
    CREATE EVENT TRIGGER afresh_catalogue_change ON ddl_command_end
    WHEN TAG IN (
        'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE',
        'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE', 'IMPORT FOREIGN SCHEMA',
        'CREATE VIEW', 'ALTER VIEW', 'CREATE MATERIALIZED VIEW', 'ALTER MATERIALIZED VIEW',
        'CREATE RULE', 'ALTER RULE', 'CREATE TRIGGER', 'ALTER TRIGGER',
        'CREATE INDEX', 'ALTER INDEX',
        'CREATE FUNCTION', 'ALTER FUNCTION', 'ALTER ROUTINE',
        'CREATE SCHEMA', 'ALTER SCHEMA',
        'CREATE SUBSCRIPTION', 'ALTER SUBSCRIPTION'
    )
    EXECUTE FUNCTION afresh.notify_catalogue_change();
    ALTER EVENT TRIGGER afresh_catalogue_change ENABLE ALWAYS;
    COMMENT ON EVENT TRIGGER afresh_catalogue_change IS
        'Afresh: notices new and altered tables and views, and watches new partitions of watched tables.';

    CREATE EVENT TRIGGER afresh_catalogue_drop ON sql_drop
    EXECUTE FUNCTION afresh.notify_catalogue_change();
    ALTER EVENT TRIGGER afresh_catalogue_drop ENABLE ALWAYS;
    COMMENT ON EVENT TRIGGER afresh_catalogue_drop IS
        'Afresh: notices what is dropped.';
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'Afresh makes no event trigger, which takes a superuser: it will look at the catalogue at intervals instead'
        USING HINT = 'A new partition of a watched table is then watched a little later than it is made.';
END;
$block$;

-- migrate: rollback

DROP EVENT TRIGGER IF EXISTS afresh_catalogue_change;

DROP EVENT TRIGGER IF EXISTS afresh_catalogue_drop;

DROP FUNCTION afresh.notify_catalogue_change();
