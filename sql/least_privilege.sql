-- What the service's login needs where it does not own what Afresh keeps in the database: printed by
-- afresh sql --role NAME, to be run by the owner of the schema afresh or by a superuser.
--
-- May be run again, and should be when materialized views have been made since. It makes no role, and it gives no right
-- to watch tables, which takes their ownership: afresh watch is for their owner to call, or the migrations.

SELECT pg_catalog.set_config('afresh.role', 'NAME', false);

DO $block$
DECLARE
    service constant text := current_setting('afresh.role');
    statement text;
    view record;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = service) THEN
        RAISE EXCEPTION 'there is no role %', quote_ident(service)
            USING ERRCODE = 'undefined_object',
            HINT = format('Make it first: CREATE ROLE %I LOGIN PASSWORD ...;', service);
    END IF;

    FOREACH statement IN ARRAY ARRAY[
        'GRANT USAGE ON SCHEMA afresh TO %I',
        -- Changes are locked (FOR UPDATE, which takes UPDATE), taken out, and put in by hand.
        'GRANT SELECT, INSERT, UPDATE, DELETE ON afresh.change_log TO %I',
        'GRANT SELECT, INSERT, UPDATE, DELETE ON afresh.dirty, afresh.invalidation_log, afresh.lease, afresh.known TO %I',
        'GRANT SELECT, INSERT, UPDATE ON afresh.jobs TO %I',
        'GRANT SELECT, INSERT, UPDATE, DELETE ON afresh.embedding_queue TO %I',
        'GRANT SELECT ON afresh.log_epoch, afresh.triggers, afresh.roots, afresh.watched TO %I',
        'GRANT USAGE, SELECT, UPDATE ON SEQUENCE afresh.bell TO %I',
        'GRANT USAGE ON SEQUENCE afresh.generation TO %I',
        'GRANT EXECUTE ON FUNCTION afresh.append_invalidation(text [], text [], text [], text, timestamptz) TO %I',
        'GRANT EXECUTE ON FUNCTION afresh.covering_watch(regclass) TO %I',
        'GRANT EXECUTE ON FUNCTION afresh.missing_triggers(regclass, text [], text) TO %I'
    ] LOOP
        EXECUTE format(statement, service);
    END LOOP;

    -- What the migrations wrote down; it is not there where another tool has run them.
    IF pg_catalog.to_regclass('public._pogo_migration') IS NOT NULL THEN
        EXECUTE format('GRANT SELECT ON public._pogo_migration TO %I', service);
    END IF;

    -- A REFRESH takes the view's ownership, being a member of its owner, or, from PostgreSQL 17 on, MAINTAIN.
    FOR view IN
        SELECT
            format('%I.%I', n.nspname, c.relname) AS name,
            n.nspname AS schema_name,
            c.oid,
            pg_catalog.has_schema_privilege(service, n.oid, 'USAGE') AS may_look,
            pg_catalog.pg_has_role(service, c.relowner, 'USAGE') AS owned,
            pg_catalog.pg_has_role(c.relowner, 'USAGE') AS may_grant,
            pg_catalog.pg_has_role(n.nspowner, 'USAGE') AS may_open
        FROM pg_catalog.pg_class AS c
        INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind = 'm' AND c.oid >= 16384
        ORDER BY 1
    LOOP
        IF NOT view.may_look AND view.may_open THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', view.schema_name, service);
        ELSIF NOT view.may_look THEN
            RAISE WARNING '% cannot look into the schema of the materialized view %, which belongs to somebody else',
                quote_ident(service), view.name
                USING HINT = format('Its owner must say: GRANT USAGE ON SCHEMA %I TO %I;', view.schema_name, service);
        END IF;

        CONTINUE WHEN view.owned;
        IF current_setting('server_version_num')::int < 170000 THEN
            RAISE WARNING '% cannot refresh the materialized view %: before PostgreSQL 17 that takes its ownership',
                quote_ident(service), view.name
                USING HINT = format(
                    'If Afresh is to refresh it: ALTER MATERIALIZED VIEW %s OWNER TO %I; or make the role a member of its owner.',
                    view.name, service
                );
        ELSIF view.may_grant THEN
            EXECUTE format('GRANT MAINTAIN ON %s TO %I', view.name, service);
        ELSE
            RAISE WARNING '% cannot refresh the materialized view %, which belongs to somebody else',
                quote_ident(service), view.name
                USING HINT = format('Its owner must say: GRANT MAINTAIN ON %s TO %I;', view.name, service);
        END IF;
    END LOOP;
END;
$block$;
