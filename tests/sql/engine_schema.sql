--
-- PostgreSQL database dump
--



SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: afresh; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA afresh;


--
-- Name: SCHEMA afresh; Type: COMMENT; Schema: -; Owner: -
--

COMMENT ON SCHEMA afresh IS 'Afresh: afresh.watch(table) tells the service of every change to a table, afresh.unwatch(table) ends that, afresh.watched lists the tables.';


--
-- Name: append_invalidation(text[], text[], text[], text, timestamp with time zone); Type: FUNCTION; Schema: afresh; Owner: -
--

CREATE FUNCTION afresh.append_invalidation(patterns text[], tables text[], views text[], reason text, at timestamp with time zone) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '3s'
    AS $_$
DECLARE
    appended bigint;
BEGIN
    -- A statement of its own: the one that follows takes its snapshot when the lock is there, and so sees the newest id.
    PERFORM pg_advisory_xact_lock(hashtext('afresh.invalidation_log'), 0);
    INSERT INTO afresh.invalidation_log (id, patterns, tables, views, reason, at)
    SELECT coalesce(max(l.id), 0) + 1, $1, $2, $3, $4, $5 FROM afresh.invalidation_log AS l
    RETURNING id INTO appended;
    PERFORM pg_notify('afresh', format('{"v":1,"op":"LOG","offset":%s}', appended));
    RETURN appended;
END;
$_$;


--
-- Name: FUNCTION append_invalidation(patterns text[], tables text[], views text[], reason text, at timestamp with time zone); Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON FUNCTION afresh.append_invalidation(patterns text[], tables text[], views text[], reason text, at timestamp with time zone) IS 'Appends to afresh.invalidation_log and tells every instance; the last thing a transaction does, since others wait for its end. Returns the offset.';


--
-- Name: covering_watch(regclass); Type: FUNCTION; Schema: afresh; Owner: -
--

CREATE FUNCTION afresh.covering_watch(target regclass) RETURNS TABLE(root regclass, keys text[], capture text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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
$$;


--
-- Name: FUNCTION covering_watch(target regclass); Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON FUNCTION afresh.covering_watch(target regclass) IS 'The table whose watch covers this one (the topmost watched table of its partition or inheritance tree), with its keys and how it captures.';


--
-- Name: missing_triggers(regclass, text[], text); Type: FUNCTION; Schema: afresh; Owner: -
--

CREATE FUNCTION afresh.missing_triggers(target regclass DEFAULT NULL::regclass, keys text[] DEFAULT '{}'::text[], capture text DEFAULT 'log'::text) RETURNS TABLE(root regclass, member regclass, trigger_name name, state text, outgrown boolean, create_trigger text, enable_trigger text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    WITH RECURSIVE watches (root, keys, capture) AS (
        SELECT missing_triggers.target::oid, missing_triggers.keys, missing_triggers.capture
        WHERE missing_triggers.target IS NOT NULL
        UNION ALL
        SELECT DISTINCT r.root::oid, r.root_keys, r.root_capture
        FROM afresh.roots AS r
        WHERE missing_triggers.target IS NULL AND r.by_watch
    ),

    tree (root, relid) AS (
        SELECT w.root, w.root
        FROM watches AS w
        UNION
        SELECT t.root, i.inhrelid
        FROM tree AS t
        INNER JOIN pg_inherits AS i ON i.inhparent = t.relid
    ),

    -- Everything with a foreign table below it: PostgreSQL fails a write through such a parent to the foreign table
    -- if a trigger there asks for transition tables, so its triggers must do without.
    above_foreign (relid) AS (
        SELECT i.inhparent
        FROM pg_inherits AS i
        INNER JOIN pg_class AS c ON c.oid = i.inhrelid AND c.relkind = 'f'
        UNION
        SELECT i.inhparent
        FROM above_foreign AS a
        INNER JOIN pg_inherits AS i ON i.inhrelid = a.relid
    ),

    -- What a subscription writes to: the tables it names, and the partitions to which it routes their rows. Its
    -- worker fires row-level triggers only (and statement triggers for TRUNCATE).
    replicated (relid) AS (
        SELECT s.srrelid FROM pg_subscription_rel AS s
        UNION
        SELECT i.inhrelid
        FROM replicated AS r
        INNER JOIN pg_inherits AS i ON i.inhparent = r.relid
    ),

    members AS (
        SELECT
            t.root,
            w.keys,
            w.capture,
            c.oid AS relid,
            format('%I.%I', n.nspname, c.relname) AS table_name,
            NOT EXISTS (SELECT FROM above_foreign AS a WHERE a.relid = c.oid) AS sees_rows,
            c.relkind = 'r' AND EXISTS (SELECT FROM replicated AS r WHERE r.relid = c.oid) AS is_replicated
        FROM tree AS t
        INNER JOIN watches AS w ON w.root = t.root
        INNER JOIN pg_class AS c ON c.oid = t.relid AND c.relkind IN ('r', 'p')
        INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
    ),

    wanted AS (
        SELECT
            m.root,
            m.keys,
            m.capture,
            m.relid,
            m.table_name,
            w.trigger_name,
            w.operations,
            w.level,
            w.referencing IS NOT NULL AND m.sees_rows AS sees_rows,
            CASE WHEN w.referencing IS NOT NULL AND m.sees_rows THEN w.referencing ELSE '' END AS referencing,
            'afresh.' || m.capture || CASE WHEN m.sees_rows THEN '' ELSE ' without rows' END AS marker,
            w.enabled
        FROM members AS m
        INNER JOIN (
            VALUES
            ('afresh_insert'::name, ARRAY['INSERT'], 'statement', 'REFERENCING NEW TABLE AS afresh_new ', 'A'::"char"),
            (
                'afresh_update', ARRAY['UPDATE'], 'statement',
                'REFERENCING OLD TABLE AS afresh_old NEW TABLE AS afresh_new ', 'A'
            ),
            ('afresh_delete', ARRAY['DELETE'], 'statement', 'REFERENCING OLD TABLE AS afresh_old ', 'A'),
            ('afresh_truncate', ARRAY['TRUNCATE'], 'statement', NULL, 'A'),
            -- In replication only: elsewhere the statement triggers have told already.
            ('afresh_replicated', ARRAY['INSERT', 'UPDATE', 'DELETE'], 'row', NULL, 'R')
        ) AS w (trigger_name, operations, level, referencing, enabled)
            ON w.level = 'statement' OR m.is_replicated
    )

    SELECT
        w.root,
        w.relid,
        w.trigger_name,
        CASE WHEN t.target IS NULL THEN 'absent' WHEN f.as_wanted THEN 'disabled' ELSE 'different' END,
        -- Whether it is the tree that has changed (a table came into it, a subscription writes to it), and not
        -- somebody who has dropped or disabled single triggers, or is just making them one by one, as a restore does.
        coalesce(NOT f.as_wanted, false)
        OR (t.target IS NULL AND w.level = 'row')
        OR NOT EXISTS (SELECT FROM afresh.triggers AS o WHERE o.target = w.relid AND o.by_watch),
        format(
            'CREATE OR REPLACE TRIGGER %I AFTER %s ON %s %sFOR EACH %s EXECUTE FUNCTION public.notify_event_refresh(%s)',
            w.trigger_name,
            array_to_string(w.operations, ' OR '),
            w.table_name,
            w.referencing,
            w.level,
            (
                SELECT string_agg(quote_literal(a.argument), ', ' ORDER BY a.n)
                FROM unnest(w.marker || w.keys) WITH ORDINALITY AS a (argument, n)
            )
        ),
        format(
            'ALTER TABLE ONLY %s ENABLE %s TRIGGER %I',
            w.table_name,
            CASE w.enabled WHEN 'A' THEN 'ALWAYS' ELSE 'REPLICA' END,
            w.trigger_name
        )
    FROM wanted AS w
    LEFT JOIN afresh.triggers AS t ON t.target = w.relid AND t.trigger_name = w.trigger_name AND t.by_watch
    CROSS JOIN LATERAL (
        SELECT
            t.keys = w.keys
            AND t.capture = w.capture
            AND t.operations = w.operations
            AND t.level = w.level
            AND t.sees_rows = w.sees_rows
            AND t.unconditional AS as_wanted
    ) AS f
    WHERE NOT coalesce(f.as_wanted AND t.enabled = w.enabled, false)
    -- The parent first, as PostgreSQL itself locks a tree.
    ORDER BY w.root, w.relid <> w.root, w.relid, w.trigger_name
$$;


--
-- Name: FUNCTION missing_triggers(target regclass, keys text[], capture text); Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON FUNCTION afresh.missing_triggers(target regclass, keys text[], capture text) IS 'The triggers that a watch with these keys wants on this table and its partitions or inheritance children (without arguments: that any watch wants), and that are absent, different or disabled, with the statements that mend it; outgrown where the tree has changed since.';


--
-- Name: notify_catalogue_change(); Type: FUNCTION; Schema: afresh; Owner: -
--

CREATE FUNCTION afresh.notify_catalogue_change() RETURNS event_trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '500ms'
    AS $$
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
$$;


--
-- Name: FUNCTION notify_catalogue_change(); Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON FUNCTION afresh.notify_catalogue_change() IS 'Event trigger function of Afresh: tells the channel "afresh" that the catalogue changed, and watches new partitions of watched tables.';


--
-- Name: queue_embedding(); Type: FUNCTION; Schema: afresh; Owner: -
--

CREATE FUNCTION afresh.queue_embedding() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
DECLARE
    row_key jsonb;
    columns_ text;
BEGIN
    -- Not to_jsonb(NEW): that would write out the embedding too, thousands of numbers.
    SELECT string_agg(format('%L, ($1).%I', k.name, k.name), ', ') INTO columns_
    FROM unnest(TG_ARGV[1:]) AS k (name);
    EXECUTE 'SELECT jsonb_build_object(' || columns_ || ')' INTO row_key USING NEW;
    INSERT INTO afresh.embedding_queue (target, text_column, key) VALUES (TG_RELID, TG_ARGV[0], row_key);
    RETURN NULL;
END;
$_$;


--
-- Name: FUNCTION queue_embedding(); Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON FUNCTION afresh.queue_embedding() IS 'Trigger function: notes that a row needs an embedding of its text. afresh.watch_embedding puts it on a table.';


--
-- Name: unwatch(regclass); Type: FUNCTION; Schema: afresh; Owner: -
--

CREATE FUNCTION afresh.unwatch(target regclass) RETURNS text[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET quote_all_identifiers TO 'off'
    AS $$
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
$$;


--
-- Name: FUNCTION unwatch(target regclass); Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON FUNCTION afresh.unwatch(target regclass) IS 'Ends what afresh.watch began, on this table, its partitions and its inheritance children; triggers made by hand stay. Returns the tables that are no longer watched. May be repeated.';


--
-- Name: unwatch_embedding(regclass, text); Type: FUNCTION; Schema: afresh; Owner: -
--

CREATE FUNCTION afresh.unwatch_embedding(target regclass, text_column text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET quote_all_identifiers TO 'off'
    AS $$
DECLARE
    step record;
    done_something boolean := false;
BEGIN
    FOR step IN
        SELECT format('DROP TRIGGER %I ON %s', t.tgname, target) AS statement
        FROM pg_trigger AS t
        WHERE t.tgrelid = target AND t.tgfoid = 'afresh.queue_embedding()'::regprocedure
            AND t.tgname = ANY (ARRAY[
                left('afresh_embed_insert_' || text_column, 63), left('afresh_embed_update_' || text_column, 63)
            ])
    LOOP
        EXECUTE step.statement;
        done_something := true;
    END LOOP;
    IF has_table_privilege('afresh.embedding_queue', 'DELETE') THEN
        DELETE FROM afresh.embedding_queue AS q
        WHERE q.target = unwatch_embedding.target AND q.text_column = unwatch_embedding.text_column;
    END IF;
    RETURN done_something;
END;
$$;


--
-- Name: FUNCTION unwatch_embedding(target regclass, text_column text); Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON FUNCTION afresh.unwatch_embedding(target regclass, text_column text) IS 'Takes off what afresh.watch_embedding has put on. Returns whether there was anything.';


--
-- Name: watch(regclass, text[], text); Type: FUNCTION; Schema: afresh; Owner: -
--

CREATE FUNCTION afresh.watch(target regclass, keys text[] DEFAULT '{}'::text[], capture text DEFAULT 'log'::text) RETURNS text[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET quote_all_identifiers TO 'off'
    AS $$
DECLARE
    wanted_keys text[];
    told_kind text;
    tree regclass[];
    relation record;
    problem record;
    other record;
    step record;
    done_something boolean := false;
    nothing_missing boolean;
BEGIN
    IF capture IS NULL OR capture NOT IN ('log', 'notify') THEN
        RAISE EXCEPTION 'capture must be ''log'' or ''notify'', not %', coalesce(quote_literal(capture), 'NULL')
            USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Leave the argument out: the log is right for almost every table.';
    END IF;
    IF target IS NULL THEN
        RAISE EXCEPTION 'the table to watch must not be NULL'
            USING ERRCODE = 'null_value_not_allowed',
            HINT = 'Name it, as in: SELECT afresh.watch(''public.my_table'').';
    END IF;

    SELECT c.relkind, c.relpersistence, c.relnamespace, format('%I.%I', n.nspname, c.relname) AS name
    INTO relation
    FROM pg_class AS c
    INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = target;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no table with the oid %', target::oid
            USING ERRCODE = 'undefined_table',
            HINT = 'Name the table, as in: SELECT afresh.watch(''public.my_table'').';
    END IF;
    IF relation.relkind NOT IN ('r', 'p') THEN
        told_kind := CASE relation.relkind
            WHEN 'v' THEN 'a view'
            WHEN 'm' THEN 'a materialized view'
            WHEN 'f' THEN 'a foreign table'
            WHEN 'S' THEN 'a sequence'
            WHEN 'c' THEN 'a composite type'
            WHEN 't' THEN 'a TOAST table'
            ELSE 'an index'
        END;
        RAISE EXCEPTION 'cannot watch %: it is %', relation.name, told_kind
            USING ERRCODE = 'wrong_object_type',
            HINT = CASE relation.relkind
                WHEN 'v' THEN 'Watch the tables that the view reads.'
                WHEN 'm' THEN 'Watch the tables that the materialized view reads.'
                WHEN 'f' THEN 'Its data changes elsewhere, unseen by this database: refresh what hangs on it at intervals (every = "5m").'
                ELSE 'Only tables and partitioned tables can be watched.'
            END;
    END IF;
    IF target::oid < 16384 THEN
        RAISE EXCEPTION 'cannot watch %: it belongs to PostgreSQL itself', relation.name
            USING ERRCODE = 'wrong_object_type',
            HINT = 'System tables have no triggers; an event trigger may do what you need.';
    END IF;
    IF relation.relpersistence = 't' THEN
        RAISE EXCEPTION 'cannot watch %: it is a temporary table', relation.name
            USING ERRCODE = 'wrong_object_type',
            HINT = 'No other session sees its rows, so nothing can hang on it.';
    END IF;
    IF relation.relnamespace = 'afresh'::regnamespace THEN
        RAISE EXCEPTION 'cannot watch %: it belongs to Afresh itself', relation.name
            USING ERRCODE = 'wrong_object_type',
            HINT = 'Watch the tables of your application.';
    END IF;

    IF keys IS NULL OR array_position(keys, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'the keys of % must not be NULL', relation.name
            USING ERRCODE = 'null_value_not_allowed',
            HINT = 'Give the names of columns, or leave the argument out.';
    END IF;
    -- One dimension that counts from 1, so that it can be compared with what the triggers hold.
    wanted_keys := ARRAY(SELECT k.name FROM unnest(keys) WITH ORDINALITY AS k (name, n) ORDER BY k.n);

    -- Keys that the table has got already are not looked at again: a column may have been dropped or renamed since
    -- (its keys are unknown then), and a new partition must be watched all the same.
    IF NOT EXISTS (
        SELECT FROM afresh.triggers AS t WHERE t.target = watch.target AND t.by_watch AND t.keys = wanted_keys
    ) THEN
        SELECT k.name INTO problem FROM unnest(wanted_keys) AS k (name) GROUP BY k.name HAVING count(*) > 1 LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'the key % of % is named twice', quote_ident(problem.name), relation.name
                USING ERRCODE = 'duplicate_column', HINT = 'Name each column once.';
        END IF;

        SELECT k.name, a.attnum IS NOT NULL AS there, format_type(a.atttypid, a.atttypmod) AS type, a.attgenerated
        INTO problem
        FROM unnest(wanted_keys) WITH ORDINALITY AS k (name, n)
        LEFT JOIN pg_attribute AS a
            ON a.attrelid = watch.target AND a.attname::text = k.name AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_type AS t ON t.oid = a.atttypid
        WHERE
            a.attnum IS NULL
            OR a.attgenerated = 'v'
            -- The types whose values have one text form, whatever a session's settings are, and cannot fail to be
            -- put into JSON: a timestamptz is written in the session's time zone, a float with its
            -- extra_float_digits, and bytea, interval and money depend on settings of their own. S are the string
            -- types. A domain has the category and the output function of the type beneath it, and every enum has
            -- the same output function, which is why this asks for those. public.notify_event_refresh has the same
            -- list, since a column may change its type later.
            OR NOT (
                t.typcategory = 'S'
                OR t.typoutput = ANY (
                    '{boolout,int2out,int4out,int8out,numeric_out,date_out,timestamp_out,uuid_out,enum_out,inet_out,cidr_out,macaddr_out,macaddr8_out}'::regproc[]
                )
            )
        ORDER BY k.n
        LIMIT 1;
        IF FOUND THEN
            IF NOT problem.there THEN
                RAISE EXCEPTION '% has no column %', relation.name, quote_ident(problem.name)
                    USING ERRCODE = 'undefined_column',
                    HINT = format(
                        'It has: %s.',
                        (
                            SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
                            FROM pg_attribute AS a
                            WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped
                        )
                    );
            ELSIF problem.attgenerated = 'v' THEN
                RAISE EXCEPTION 'column % of % cannot be a key: it is a virtual generated column',
                    quote_ident(problem.name), relation.name
                    USING ERRCODE = 'wrong_object_type',
                    HINT = 'A trigger does not see such a column''s value. Use a stored one, or the columns it is computed from.';
            ELSE
                RAISE EXCEPTION 'column % of % cannot be a key: its type is %',
                    quote_ident(problem.name), relation.name, problem.type
                    USING ERRCODE = 'datatype_mismatch',
                    HINT = 'A key must read the same in every session: text, integer, numeric, boolean, uuid, date, timestamp without time zone, network addresses, enums, and domains over these.';
            END IF;
        END IF;
    END IF;

    WITH RECURSIVE t (relid) AS (
        SELECT watch.target::oid
        UNION
        SELECT i.inhrelid
        FROM t
        INNER JOIN pg_inherits AS i ON i.inhparent = t.relid
    )
    SELECT array_agg(t.relid::regclass) INTO tree FROM t;

    -- One tree has one watch. A watch on a parent takes over what was watched below it; below a watch, there can be
    -- no other.
    WITH RECURSIVE above (member, relid) AS (
        SELECT m.relid::oid, m.relid::oid
        FROM unnest(tree) AS m (relid)
        UNION
        SELECT a.member, i.inhparent
        FROM above AS a
        INNER JOIN pg_inherits AS i ON i.inhrelid = a.relid
    )
    SELECT
        format('%I.%I', n.nspname, c.relname) AS member,
        format('%I.%I', rn.nspname, r.relname) AS name,
        w.keys,
        w.capture
    INTO other
    FROM above AS a
    CROSS JOIN LATERAL (
        SELECT t.keys, t.capture
        FROM afresh.triggers AS t
        WHERE t.target = a.relid AND t.by_watch AND (t.keys <> wanted_keys OR t.capture <> watch.capture)
        LIMIT 1
    ) AS w
    INNER JOIN pg_class AS c ON c.oid = a.member
    INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
    INNER JOIN pg_class AS r ON r.oid = a.relid
    INNER JOIN pg_namespace AS rn ON rn.oid = r.relnamespace
    WHERE a.relid <> ALL (tree)
    ORDER BY a.member, a.relid
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'cannot watch % like this: % is covered by the watch on %, which has the keys % and the capture %',
            relation.name, other.member, other.name, other.keys, quote_literal(other.capture)
            USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = format(
                'Change it there (SELECT afresh.watch(%L, ...)), or end that watch first (SELECT afresh.unwatch(%L)).',
                other.name, other.name
            );
    END IF;

    FOR other IN
        SELECT format('%I.%I', n.nspname, c.relname) AS name
        FROM unnest(tree) AS m (relid)
        INNER JOIN pg_class AS c ON c.oid = m.relid AND c.relkind = 'f'
        INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
        ORDER BY 1
    LOOP
        RAISE NOTICE '% is a foreign table and is not watched itself', other.name
            USING DETAIL = 'Writes to it through its parents are told, without keys; writes straight to it, and those made at its server, are not.';
    END LOOP;

    -- The event trigger mends incomplete watches. This one is being made.
    PERFORM set_config('afresh.within_watch', 'on', true);
    -- Making a trigger keeps partitions from being attached to its table until we commit; but one may have been
    -- attached between our look and our lock. So look again until nothing is missing.
    LOOP
        nothing_missing := true;
        FOR step IN SELECT * FROM afresh.missing_triggers(target, wanted_keys, capture) LOOP
            IF EXISTS (
                SELECT
                FROM pg_trigger AS p
                WHERE p.tgrelid = step.member AND p.tgname = step.trigger_name
                AND NOT EXISTS (
                    SELECT
                    FROM afresh.triggers AS t
                    WHERE t.target = step.member AND t.trigger_name = step.trigger_name AND t.by_watch
                )
            ) THEN
                RAISE EXCEPTION 'cannot watch %: it has a trigger % that Afresh has not made',
                    step.member, quote_ident(step.trigger_name)
                    USING ERRCODE = 'duplicate_object', HINT = 'Rename that trigger: ALTER TRIGGER ... RENAME TO ....';
            END IF;
            EXECUTE step.create_trigger;
            EXECUTE step.enable_trigger;
            nothing_missing := false;
            done_something := true;
        END LOOP;
        EXIT WHEN nothing_missing;
    END LOOP;
    PERFORM set_config('afresh.within_watch', '', true);

    IF done_something THEN
        -- The service looks at once, also where there is no event trigger.
        PERFORM pg_notify('afresh', format('{"v":1,"op":"DDL","xid":"%s"}', pg_current_xact_id()));
    END IF;

    RETURN (
        SELECT array_agg(format('%I.%I', n.nspname, c.relname) ORDER BY c.oid <> target, n.nspname, c.relname)
        FROM unnest(tree) AS m (relid)
        INNER JOIN pg_class AS c ON c.oid = m.relid AND c.relkind IN ('r', 'p')
        INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
    );
END;
$$;


--
-- Name: FUNCTION watch(target regclass, keys text[], capture text); Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON FUNCTION afresh.watch(target regclass, keys text[], capture text) IS 'Tells Afresh of every change to this table, its partitions and its inheritance children; keys are the columns whose values identify what a change is about. Returns the tables covered. May be repeated; other keys replace those before. Key values can be read by every role that may connect to this database.';


--
-- Name: watch_embedding(regclass, text); Type: FUNCTION; Schema: afresh; Owner: -
--

CREATE FUNCTION afresh.watch_embedding(target regclass, text_column text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET quote_all_identifiers TO 'off'
    AS $_$
DECLARE
    relation text;
    key_columns text[];
    step record;
    done_something boolean := false;
BEGIN
    SELECT format('%I.%I', n.nspname, c.relname) INTO relation
    FROM pg_class AS c
    INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = target AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't';
    IF relation IS NULL THEN
        RAISE EXCEPTION 'cannot watch the texts of %: it is not a table that stays', target
            USING ERRCODE = 'wrong_object_type', HINT = 'Name a table or a partitioned table.';
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_attribute AS a
        INNER JOIN pg_type AS t ON t.oid = a.atttypid
        WHERE a.attrelid = target AND a.attname = text_column AND a.attnum > 0 AND NOT a.attisdropped
            AND t.typcategory = 'S'
    ) THEN
        RAISE EXCEPTION '% has no column % that holds texts', relation, quote_ident(text_column)
            USING ERRCODE = 'undefined_column', HINT = 'Name a column of type text or varchar.';
    END IF;
    SELECT array_agg(a.attname::text ORDER BY k.place) INTO key_columns
    FROM pg_index AS i
    CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
    INNER JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = target AND i.indisprimary;
    IF key_columns IS NULL THEN
        RAISE EXCEPTION '% has no primary key, so that its rows cannot be told apart', relation
            USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = format('Give it one: ALTER TABLE %s ADD PRIMARY KEY (...).', relation);
    END IF;

    FOR step IN
        SELECT
            w.trigger_name,
            format(
                'CREATE TRIGGER %I AFTER %s ON %s FOR EACH ROW WHEN (%s) EXECUTE FUNCTION afresh.queue_embedding(%s)',
                w.trigger_name, w.event, relation, w.condition,
                (
                    SELECT string_agg(quote_literal(c.name), ', ' ORDER BY c.place)
                    FROM unnest(text_column || key_columns) WITH ORDINALITY AS c (name, place)
                )
            ) AS statement,
            present.arguments AS present_arguments,
            wanted.arguments AS wanted_arguments
        FROM (
            VALUES
            (
                left('afresh_embed_insert_' || text_column, 63), 'INSERT',
                format('NEW.%I IS NOT NULL', text_column)
            ),
            (
                left('afresh_embed_update_' || text_column, 63), 'UPDATE',
                (
                    SELECT string_agg(format('OLD.%1$I IS DISTINCT FROM NEW.%1$I', c.name), ' OR ' ORDER BY c.place)
                    FROM unnest(text_column || key_columns) WITH ORDINALITY AS c (name, place)
                )
            )
        ) AS w (trigger_name, event, condition)
        CROSS JOIN LATERAL (
            -- As pg_trigger has them: one after the other, each with a zero at its end.
            SELECT string_agg(
                encode(convert_to(c.name, getdatabaseencoding()), 'escape') || '\000', '' ORDER BY c.place
            ) AS arguments
            FROM unnest(text_column || key_columns) WITH ORDINALITY AS c (name, place)
        ) AS wanted
        LEFT JOIN LATERAL (
            SELECT encode(t.tgargs, 'escape') AS arguments
            FROM pg_trigger AS t
            WHERE t.tgrelid = target AND t.tgname = w.trigger_name
                AND t.tgfoid = 'afresh.queue_embedding()'::regprocedure AND t.tgenabled <> 'D'
        ) AS present ON true
    LOOP
        IF step.present_arguments IS DISTINCT FROM step.wanted_arguments THEN
            EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', step.trigger_name, relation);
            EXECUTE step.statement;
            done_something := true;
        END IF;
    END LOOP;
    RETURN done_something;
END;
$_$;


--
-- Name: FUNCTION watch_embedding(target regclass, text_column text); Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON FUNCTION afresh.watch_embedding(target regclass, text_column text) IS 'From now on rows whose text changes wait in afresh.embedding_queue for their embedding, which the service makes where [[embeddings]] names the column. Returns whether anything had to be done.';


--
-- Name: notify_event_refresh(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.notify_event_refresh() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET quote_all_identifiers TO 'off'
    AS $_$
BEGIN
    -- What is done most, and so by the fewest steps, each of which costs every writer about as much as the next: an UPDATE,
    -- without keys, into the log. It is a change if its first row is. The first rows are called xmin and xmax since no
    -- column of a table can have such a name, which would be taken for the row's, and are not spelled out as ROW(r.*), which
    -- fails on a virtual generated column.
    IF TG_OP = 'UPDATE' AND TG_NARGS = 1 AND TG_ARGV[0] = 'afresh.log' AND TG_LEVEL = 'STATEMENT' THEN
        INSERT INTO afresh.change_log (target, operation)
        SELECT TG_RELID, TG_OP
        FROM (SELECT xmin *<> xmax AS differs FROM afresh_old AS xmin, afresh_new AS xmax LIMIT 1) AS first_row
        WHERE differs;
    END IF;

    -- Everything else; not even its variables are set up before.
    IF NOT FOUND THEN
    DECLARE
        most_rows constant bigint := 10000;  -- a statement that touched more has unknown keys
        most_keys constant bigint := 100;  -- so has one with more distinct keys than this
        most_key_bytes constant int := 1000;  -- or with a key that is longer than this
        most_payload_bytes constant int := 7900;  -- PostgreSQL refuses to notify 8000
        most_log_bytes constant int := 1900;  -- a longer value would be compressed, or moved out of its row
        told_keys text;
        told_table text;
        payload text;
        touched bigint;
        differs boolean;
        old_row record;
        new_row record;
        new_rows refcursor;
        key_column text;
        category "char";
        key_value text;
        key_object text;
        simple_object text;
        is_simple text;
        found_keys text[];
        key text;
        keys text[];  -- NULL: unknown
    BEGIN
        IF TG_LEVEL = 'ROW' THEN
            -- By the rows' binary image: a type need not have an equality, and neither an equality (0.0 and -0.0, 1.0
            -- and 1.00) nor a text form tells all differences. A BEFORE trigger cannot know yet what will be stored.
            IF TG_OP <> 'UPDATE' OR TG_WHEN = 'BEFORE' OR OLD *<> NEW THEN
                PERFORM pg_notify('afresh', format(
                    '{"v":1,"table":%s,"op":"%s","keys":null,"rows":null,"xid":"%s"}',
                    to_json(format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME)), TG_OP, pg_current_xact_id()
                ));
            END IF;
            -- The result matters only to a BEFORE or INSTEAD OF trigger, for which NULL would mean "skip this row".
            IF TG_OP = 'DELETE' THEN
                RETURN OLD;
            END IF;
            RETURN NEW;
        END IF;

        IF TG_OP <> 'TRUNCATE' AND TG_NARGS > 0 AND TG_ARGV[0] IN ('afresh.log', 'afresh.notify') THEN
            IF TG_OP = 'UPDATE' THEN
                SELECT xmin *<> xmax INTO differs FROM afresh_old AS xmin, afresh_new AS xmax LIMIT 1;
            END IF;
            IF TG_OP = 'INSERT' THEN
                SELECT count(*) INTO touched FROM afresh_new;
            ELSE
                SELECT count(*) INTO touched FROM afresh_old;
            END IF;
            IF touched = 0 THEN
                RETURN NULL;
            END IF;

            -- NULL: there is no first new row.
            IF TG_OP = 'UPDATE' AND differs IS FALSE THEN
                -- Did any row change? PostgreSQL puts a row's old version into one transition table and its new version
                -- into the other before it turns to the next row, so that the two are in step, and it is enough to walk
                -- them side by side. A row that is moved to another partition is put into both likewise, unless a
                -- BEFORE INSERT trigger there throws it away: then the new table runs short, and everything after that
                -- row is compared with a wrong partner, but a table that runs short is a change by itself. So: if every
                -- old row has a partner with the same image, every row is as it was. An image that differs by its
                -- compression only counts as a change, which is harmless.
                --
                -- Neither EXCEPT nor record_send would do: an EXCEPT needs an equality, and record_send an output
                -- function in binary, and a type need not have either. A join would take memory for all the rows, and
                -- a cached plan made for few rows would be run for many.
                IF touched > 1 THEN
                    OPEN new_rows NO SCROLL FOR SELECT * FROM afresh_new;
                    FOR old_row IN SELECT * FROM afresh_old LOOP
                        FETCH new_rows INTO new_row;
                        differs := NOT FOUND OR old_row *<> new_row;
                        EXIT WHEN differs;
                    END LOOP;
                    CLOSE new_rows;
                END IF;
                -- An inheritance child has columns that its parent's transition tables do not show, and a trigger of
                -- its own may have changed them. (Partitions have the same columns.)
                IF NOT differs AND NOT EXISTS (
                    SELECT FROM pg_class AS c WHERE c.oid = TG_RELID AND c.relkind = 'r' AND c.relhassubclass
                ) THEN
                    RETURN NULL;
                END IF;
            END IF;

            IF TG_NARGS > 1 AND touched <= most_rows THEN
                -- One SQL expression that makes a row's key a JSON object without its braces, or NULL if a value is too
                -- long. A column that is not there any more leaves the keys unknown, and so does one that has got a type
                -- which afresh.watch would refuse (it has the same list, with the reasons). What is neither a number nor
                -- a boolean nor a date is converted by concat(), which calls the type's output function: to_json() would
                -- call a cast to json if somebody has made one. The stored size is asked first, so that no long value is
                -- fetched and unpacked. (One column at a time: PostgreSQL keeps the plan of a look-up by a whole unique
                -- key, where it would plan a look-up of several columns anew at each call, at six times its cost.)
                --
                -- And the same in a form that finds nothing if a value is NULL or too long, for one row.
                FOREACH key_column IN ARRAY TG_ARGV[1:] LOOP
                    SELECT t.typcategory
                    INTO category
                    FROM pg_attribute AS a
                    INNER JOIN pg_type AS t ON t.oid = a.atttypid
                    WHERE
                        a.attrelid = TG_RELID
                        AND a.attname = key_column::name
                        AND a.attnum > 0
                        AND a.attgenerated <> 'v'
                        AND (
                            t.typcategory = 'S'
                            OR t.typoutput = ANY (
                                '{boolout,int2out,int4out,int8out,numeric_out,date_out,timestamp_out,uuid_out,enum_out,inet_out,cidr_out,macaddr_out,macaddr8_out}'::regproc[]
                            )
                        );
                    IF NOT FOUND THEN
                        key_object := NULL;
                        EXIT;
                    END IF;
                    key_value := format(
                        CASE WHEN category IN ('B', 'N', 'D') THEN 'r.%I' ELSE 'concat(r.%I)' END, key_column
                    );
                    key_object := concat_ws(
                        $$ || ',' || $$,
                        key_object,
                        format(
                            'CASE WHEN r.%1$I IS NULL THEN %2$L WHEN pg_column_size(r.%1$I) <= %3$s THEN %4$L || to_json(%5$s)::text END',
                            key_column,
                            to_json(key_column) || ':null',
                            most_key_bytes,
                            to_json(key_column) || ':',
                            key_value
                        )
                    );
                    simple_object := concat_ws(
                        $$, ',', $$, simple_object, format('%L, to_json(%s)', to_json(key_column) || ':', key_value)
                    );
                    is_simple := concat_ws(
                        ' AND ', is_simple, format('pg_column_size(r.%I) <= %s', key_column, most_key_bytes)
                    );
                END LOOP;

                -- Nothing in this function costs as much as planning such a statement, so the commonest case has the
                -- simplest ones: one for each table takes half as long as one for both. (A function takes 100 arguments.)
                IF key_object IS NOT NULL AND touched = 1 AND TG_NARGS <= 16 THEN
                    IF TG_OP <> 'INSERT' THEN
                        EXECUTE format('SELECT concat(%s) FROM afresh_old AS r WHERE %s', simple_object, is_simple) INTO key;
                        found_keys := ARRAY[key];
                    END IF;
                    IF TG_OP <> 'DELETE' THEN
                        EXECUTE format('SELECT concat(%s) FROM afresh_new AS r WHERE %s', simple_object, is_simple) INTO key;
                        found_keys := found_keys || ARRAY[key];
                    END IF;
                END IF;

                IF key_object IS NOT NULL AND (found_keys IS NULL OR array_position(found_keys, NULL) > 0) THEN
                    -- Few rows are told apart below, which is the cheaper, and many by the executor.
                    EXECUTE format(
                        CASE WHEN touched > 50 THEN 'SELECT ARRAY(SELECT DISTINCT s.k FROM (' ELSE 'SELECT ARRAY(' END
                        || CASE TG_OP
                            WHEN 'INSERT' THEN 'SELECT %1$s AS k FROM afresh_new AS r'
                            WHEN 'DELETE' THEN 'SELECT %1$s AS k FROM afresh_old AS r'
                            ELSE 'SELECT %1$s AS k FROM afresh_old AS r UNION ALL SELECT %1$s FROM afresh_new AS r'
                        END
                        || CASE WHEN touched > 50 THEN ') AS s LIMIT %2$s + 1)' ELSE ')' END,
                        key_object, most_keys
                    ) INTO found_keys;
                END IF;

                IF key_object IS NOT NULL THEN
                    keys := '{}';
                    FOREACH key IN ARRAY found_keys LOOP
                        CONTINUE WHEN key = ANY (keys);
                        IF key IS NULL OR octet_length(key) > most_key_bytes OR cardinality(keys) = most_keys THEN
                            keys := NULL;
                            EXIT;
                        END IF;
                        keys := keys || key;
                    END LOOP;
                    -- Where the database does not know its encoding, nobody could tell how to read such bytes.
                    IF getdatabaseencoding() = 'SQL_ASCII' AND array_to_string(keys, '') COLLATE "C" ~ '[^ -~]' THEN
                        keys := NULL;
                    END IF;
                END IF;
            END IF;
        END IF;

        IF keys IS NOT NULL THEN
            told_keys := '[{' || array_to_string(keys, '},{') || '}]';
        END IF;

        IF TG_NARGS > 0 AND TG_ARGV[0] IN ('afresh.log', 'afresh.log without rows') THEN
            IF octet_length(told_keys) > most_log_bytes THEN
                told_keys := NULL;
            END IF;
            INSERT INTO afresh.change_log (target, operation, keys, rows) VALUES (TG_RELID, TG_OP, told_keys, touched);
        ELSE
            told_table := to_json(format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME))::text;
            payload := format(
                '{"v":1,"table":%s,"op":"%s","keys":%s,"rows":%s,"xid":"%s"}',
                told_table, TG_OP, coalesce(told_keys, 'null'), coalesce(touched::text, 'null'), pg_current_xact_id()
            );
            IF octet_length(payload) > most_payload_bytes THEN
                payload := format(
                    '{"v":1,"table":%s,"op":"%s","keys":null,"rows":%s,"xid":"%s"}',
                    told_table, TG_OP, touched, pg_current_xact_id()
                );
            END IF;
            PERFORM pg_notify('afresh', payload);
            RETURN NULL;
        END IF;
    END;
    END IF;

    -- The bell is read here and not at the commit: who reads "silent" may commit after the leader has looked for the last
    -- time before waiting for the bell. It looks at an idle pace too.
    -- By the function that the view pg_sequences calls too, which saves the planner's and executor's part of a query.
    -- (Compared as numbers: not every bigint is a timestamp.)
    IF pg_sequence_last_value('afresh.bell') > date_part('epoch', clock_timestamp()) THEN
        PERFORM pg_notify('afresh', '');
    END IF;
    RETURN NULL;
END;
$_$;


--
-- Name: FUNCTION notify_event_refresh(); Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON FUNCTION public.notify_event_refresh() IS 'Trigger function of Afresh: writes into afresh.change_log, or tells the channel "afresh", that a table changed. afresh.watch(table) makes the triggers; AFTER INSERT OR UPDATE OR DELETE ... FOR EACH ROW by hand works too.';


--
-- Name: bell; Type: SEQUENCE; Schema: afresh; Owner: -
--

CREATE SEQUENCE afresh.bell
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: SEQUENCE bell; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON SEQUENCE afresh.bell IS 'Until when writers ring, in seconds since 1970; set by the service, read by notify_event_refresh() as last_value.';


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: change_log; Type: TABLE; Schema: afresh; Owner: -
--

CREATE TABLE afresh.change_log (
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    target regclass NOT NULL,
    operation text NOT NULL,
    keys text,
    rows bigint
)
WITH (autovacuum_vacuum_threshold='2000', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_insert_threshold='-1', autovacuum_vacuum_cost_delay='0', autovacuum_analyze_threshold='2147483647', vacuum_truncate=off);


--
-- Name: TABLE change_log; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON TABLE afresh.change_log IS 'Committed changes that the service has not taken yet; empty but for moments while it runs. The command afresh compact folds what has piled up to one row a table.';


--
-- Name: COLUMN change_log.at; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON COLUMN afresh.change_log.at IS 'When the writer''s transaction began.';


--
-- Name: COLUMN change_log.keys; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON COLUMN afresh.change_log.keys IS 'The keys of the rows, as a JSON array of objects; NULL means unknown: all.';


--
-- Name: COLUMN change_log.rows; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON COLUMN afresh.change_log.rows IS 'How many rows the statement touched; NULL where nobody had to count them.';


--
-- Name: change_log_id_seq; Type: SEQUENCE; Schema: afresh; Owner: -
--

ALTER TABLE afresh.change_log ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME afresh.change_log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: SEQUENCE change_log_id_seq; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON SEQUENCE afresh.change_log_id_seq IS 'Numbers the rows of afresh.change_log.';


--
-- Name: dirty; Type: TABLE; Schema: afresh; Owner: -
--

CREATE TABLE afresh.dirty (
    view_name text NOT NULL,
    slot integer NOT NULL,
    generation bigint NOT NULL,
    tables text[] NOT NULL,
    keys jsonb,
    since timestamp with time zone NOT NULL
)
WITH (fillfactor='30', autovacuum_vacuum_threshold='200', autovacuum_vacuum_scale_factor='0');


--
-- Name: TABLE dirty; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON TABLE afresh.dirty IS 'Views that lack a change which the service has taken out of afresh.change_log.';


--
-- Name: COLUMN dirty.tables; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON COLUMN afresh.dirty.tables IS 'The tables that changed.';


--
-- Name: COLUMN dirty.keys; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON COLUMN afresh.dirty.keys IS 'The keys of the changes, as a JSON array of objects; NULL means unknown: all.';


--
-- Name: COLUMN dirty.since; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON COLUMN afresh.dirty.since IS 'When the oldest of these changes was heard of.';


--
-- Name: embedding_queue; Type: TABLE; Schema: afresh; Owner: -
--

CREATE TABLE afresh.embedding_queue (
    id bigint NOT NULL,
    target regclass NOT NULL,
    text_column text NOT NULL,
    key jsonb NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    not_before timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    problem text
)
WITH (autovacuum_vacuum_threshold='2000', autovacuum_vacuum_scale_factor='0');


--
-- Name: TABLE embedding_queue; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON TABLE afresh.embedding_queue IS 'Rows that wait for the embedding of their text; see afresh.watch_embedding.';


--
-- Name: COLUMN embedding_queue.key; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON COLUMN afresh.embedding_queue.key IS 'The primary key of the row, as a JSON object.';


--
-- Name: COLUMN embedding_queue.not_before; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON COLUMN afresh.embedding_queue.not_before IS 'Not to be taken in hand before this moment: somebody has it, or it has failed.';


--
-- Name: embedding_queue_id_seq; Type: SEQUENCE; Schema: afresh; Owner: -
--

ALTER TABLE afresh.embedding_queue ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME afresh.embedding_queue_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: SEQUENCE embedding_queue_id_seq; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON SEQUENCE afresh.embedding_queue_id_seq IS 'Numbers the rows of afresh.embedding_queue.';


--
-- Name: generation; Type: SEQUENCE; Schema: afresh; Owner: -
--

CREATE SEQUENCE afresh.generation
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: generation; Type: SEQUENCE OWNED BY; Schema: afresh; Owner: -
--

ALTER SEQUENCE afresh.generation OWNED BY afresh.dirty.generation;


--
-- Name: SEQUENCE generation; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON SEQUENCE afresh.generation IS 'Numbers the marks in afresh.dirty.';


--
-- Name: invalidation_log; Type: TABLE; Schema: afresh; Owner: -
--

CREATE TABLE afresh.invalidation_log (
    id bigint NOT NULL,
    patterns text[] NOT NULL,
    tables text[] NOT NULL,
    views text[] NOT NULL,
    reason text,
    at timestamp with time zone NOT NULL,
    written timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);


--
-- Name: TABLE invalidation_log; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON TABLE afresh.invalidation_log IS 'Invalidations in the order of their commits; old ones are trimmed (settings log.max_entries and log.max_age), the newest stays.';


--
-- Name: COLUMN invalidation_log.reason; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON COLUMN afresh.invalidation_log.reason IS 'NULL for an invalidation; for a resync, why: whoever hears one of the patterns drops everything.';


--
-- Name: jobs; Type: TABLE; Schema: afresh; Owner: -
--

CREATE TABLE afresh.jobs (
    name text NOT NULL,
    due timestamp with time zone NOT NULL,
    ran_at timestamp with time zone,
    seconds double precision,
    failures integer DEFAULT 0 NOT NULL,
    problem text
);


--
-- Name: TABLE jobs; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON TABLE afresh.jobs IS 'The jobs of the settings and the packs: for which of its times each was run last, and what became of that.';


--
-- Name: COLUMN jobs.due; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON COLUMN afresh.jobs.due IS 'The newest time of its schedule for which it was run; at first, when it was first heard of.';


--
-- Name: COLUMN jobs.failures; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON COLUMN afresh.jobs.failures IS 'How often it has failed in a row.';


--
-- Name: known; Type: TABLE; Schema: afresh; Owner: -
--

CREATE TABLE afresh.known (
    kind text NOT NULL,
    name text NOT NULL,
    state text NOT NULL,
    CONSTRAINT known_kind_check CHECK ((kind = ANY (ARRAY['view'::text, 'table'::text])))
);


--
-- Name: TABLE known; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON TABLE afresh.known IS 'The views and tables that the service has dealt with, as they were then; what differs is refreshed, or told.';


--
-- Name: lease; Type: TABLE; Schema: afresh; Owner: -
--

CREATE TABLE afresh.lease (
    term bigint NOT NULL,
    holder text NOT NULL,
    expires timestamp with time zone NOT NULL
)
WITH (fillfactor='30', autovacuum_vacuum_threshold='200', autovacuum_vacuum_scale_factor='0');


--
-- Name: TABLE lease; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON TABLE afresh.lease IS 'The instances that led, by term; the newest leads until its lease expires, and renews it each second.';


--
-- Name: log_identity; Type: TABLE; Schema: afresh; Owner: -
--

CREATE TABLE afresh.log_identity (
    single boolean DEFAULT true NOT NULL,
    incarnation uuid DEFAULT gen_random_uuid() NOT NULL,
    CONSTRAINT log_identity_single_check CHECK (single)
);


--
-- Name: TABLE log_identity; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON TABLE afresh.log_identity IS 'A part of the epoch. After a restore from a copy of the server''s files: UPDATE afresh.log_identity SET incarnation = DEFAULT.';


--
-- Name: log_epoch; Type: VIEW; Schema: afresh; Owner: -
--

CREATE VIEW afresh.log_epoch AS
 SELECT concat_ws('-'::text, to_hex(c.system_identifier), ltrim(substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8), '0'::text), ( SELECT d.oid
           FROM pg_database d
          WHERE (d.datname = current_database())), "left"((i.incarnation)::text, 8)) AS epoch
   FROM (afresh.log_identity i
     CROSS JOIN pg_control_system() c(pg_control_version, catalog_version_no, system_identifier, pg_control_last_modified));


--
-- Name: VIEW log_epoch; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON VIEW afresh.log_epoch IS 'What tells this log from another one with the same numbers: the server''s system identifier, its timeline (a promotion, a restore), the database, and afresh.log_identity.';


--
-- Name: triggers; Type: VIEW; Schema: afresh; Owner: -
--

CREATE VIEW afresh.triggers AS
 SELECT (t.tgrelid)::regclass AS target,
    t.tgname AS trigger_name,
    m.by_watch,
        CASE
            WHEN m.by_watch THEN a.arguments[2:]
            ELSE ARRAY[]::text[]
        END AS keys,
        CASE
            WHEN (m.by_watch AND (a.arguments[1] ~~ 'afresh.log%'::text)) THEN 'log'::text
            ELSE 'notify'::text
        END AS capture,
        CASE
            WHEN (((t.tgtype)::integer & 1) <> 0) THEN 'row'::text
            ELSE 'statement'::text
        END AS level,
    ARRAY( SELECT e.operation
           FROM ( VALUES (4,'INSERT'::text), (16,'UPDATE'::text), (8,'DELETE'::text), (32,'TRUNCATE'::text)) e("bit", operation)
          WHERE (((t.tgtype)::integer & e."bit") <> 0)) AS operations,
    ((t.tgqual IS NULL) AND (cardinality((t.tgattr)::smallint[]) = 0) AND (((t.tgtype)::integer & 66) = 0)) AS unconditional,
    ((t.tgoldtable IS NOT NULL) OR (t.tgnewtable IS NOT NULL)) AS sees_rows,
    t.tgenabled AS enabled
   FROM ((pg_trigger t
     CROSS JOIN LATERAL ( SELECT array_agg(convert_from(decode(p.part, 'hex'::text), getdatabaseencoding()) ORDER BY p.n) AS arguments
           FROM unnest(string_to_array(regexp_replace(encode(t.tgargs, 'hex'::text), '(..)'::text, '\1 '::text, 'g'::text), '00 '::text)) WITH ORDINALITY p(part, n)
          WHERE (p.n <= t.tgnargs)) a)
     CROSS JOIN LATERAL ( SELECT COALESCE((a.arguments[1] = ANY (ARRAY['afresh.log'::text, 'afresh.log without rows'::text, 'afresh.notify'::text, 'afresh.notify without rows'::text])), false) AS by_watch) m)
  WHERE (t.tgfoid = ('public.notify_event_refresh()'::regprocedure)::oid);


--
-- Name: VIEW triggers; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON VIEW afresh.triggers IS 'Every trigger that executes notify_event_refresh(), whoever made it; afresh.watched is the view to look at first.';


--
-- Name: roots; Type: VIEW; Schema: afresh; Owner: -
--

CREATE VIEW afresh.roots AS
 WITH RECURSIVE told AS (
         SELECT DISTINCT ON (t.target) t.target,
            t.by_watch,
            t.keys,
            t.capture,
            t.level
           FROM afresh.triggers t
          ORDER BY t.target, t.by_watch DESC, t.level DESC, t.trigger_name
        ), lineage AS (
         SELECT t.target,
            t.by_watch,
            t.keys,
            t.capture,
            t.level,
            (t.target)::oid AS ancestor,
            0 AS distance
           FROM told t
        UNION ALL
         SELECT l_1.target,
            l_1.by_watch,
            l_1.keys,
            l_1.capture,
            l_1.level,
            i.inhparent,
            (l_1.distance + 1)
           FROM (lineage l_1
             JOIN pg_inherits i ON ((i.inhrelid = l_1.ancestor)))
        )
 SELECT DISTINCT ON (l.target) l.target,
    l.by_watch,
    l.keys,
    l.capture,
    l.level,
    r.target AS root,
    r.keys AS root_keys,
    r.capture AS root_capture
   FROM (lineage l
     JOIN told r ON ((((r.target)::oid = l.ancestor) AND (r.by_watch = l.by_watch))))
  ORDER BY l.target, l.distance DESC, l.ancestor;


--
-- Name: VIEW roots; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON VIEW afresh.roots IS 'Every table that tells Afresh of its changes, with the topmost table of its tree that does so in the same way; afresh.watched is the view to look at first.';


--
-- Name: watched; Type: VIEW; Schema: afresh; Owner: -
--

CREATE VIEW afresh.watched AS
 WITH RECURSIVE handmade(root, relid) AS (
         SELECT r_1.root,
            (r_1.root)::oid AS root
           FROM afresh.roots r_1
          WHERE (NOT r_1.by_watch)
        UNION
         SELECT h.root,
            i_1.inhrelid
           FROM (handmade h
             JOIN pg_inherits i_1 ON ((i_1.inhparent = h.relid)))
        ), incomplete(root) AS (
         SELECT m.root
           FROM afresh.missing_triggers() m(root, member, trigger_name, state, outgrown, create_trigger, enable_trigger)
        UNION
         SELECT h.root
           FROM ((handmade h
             JOIN pg_class c_1 ON (((c_1.oid = h.relid) AND (c_1.relkind = ANY (ARRAY['r'::"char", 'p'::"char"])))))
             CROSS JOIN ( VALUES ('INSERT'::text), ('UPDATE'::text), ('DELETE'::text)) o(operation))
          WHERE (NOT (EXISTS ( SELECT
                   FROM afresh.triggers t
                  WHERE (((t.target)::oid = h.relid) AND (o.operation = ANY (t.operations)) AND t.unconditional AND (t.enabled = ANY (ARRAY['O'::"char", 'A'::"char"]))))))
        )
 SELECT format('%I.%I'::text, n.nspname, c.relname) AS table_name,
    r.target,
    r.keys,
        CASE
            WHEN (EXISTS ( SELECT
               FROM afresh.triggers t
              WHERE (((t.target)::oid = (r.target)::oid) AND ((t.capture = 'notify'::text) OR (t.level = 'row'::text))))) THEN 'notify'::text
            ELSE 'log'::text
        END AS capture,
    r.level,
    r.root,
    (i.root IS NULL) AS complete
   FROM (((afresh.roots r
     JOIN pg_class c ON ((c.oid = (r.target)::oid)))
     JOIN pg_namespace n ON ((n.oid = c.relnamespace)))
     LEFT JOIN incomplete i ON (((i.root)::oid = (r.root)::oid)));


--
-- Name: VIEW watched; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON VIEW afresh.watched IS 'Every table that tells Afresh of its changes: by afresh.watch or by a trigger made by hand.';


--
-- Name: COLUMN watched.table_name; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON COLUMN afresh.watched.table_name IS 'Schema and name, quoted where they need it: as in the messages.';


--
-- Name: COLUMN watched.target; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON COLUMN afresh.watched.target IS 'The table.';


--
-- Name: COLUMN watched.keys; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON COLUMN afresh.watched.keys IS 'The columns whose values go into the messages; empty for triggers made by hand.';


--
-- Name: COLUMN watched.capture; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON COLUMN afresh.watched.capture IS 'How a change is captured: log (a row in afresh.change_log, which outlives everything) or notify (the message itself carries it; what nobody hears is lost, and made good by refreshing all).';


--
-- Name: COLUMN watched.level; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON COLUMN afresh.watched.level IS 'statement: one message for a statement; row: a trigger made by hand, one message for a table, operation and transaction.';


--
-- Name: COLUMN watched.root; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON COLUMN afresh.watched.root IS 'The topmost table of its partition or inheritance tree that is watched in the same way: it is this one that afresh.watch and afresh.unwatch take.';


--
-- Name: COLUMN watched.complete; Type: COMMENT; Schema: afresh; Owner: -
--

COMMENT ON COLUMN afresh.watched.complete IS 'Whether every table of the root''s tree has all its triggers, and they are enabled; if not, call afresh.watch again with the same arguments. For triggers made by hand: whether INSERT, UPDATE and DELETE of every table of the tree are told (TRUNCATE takes a statement trigger).';


--
-- Name: dirty generation; Type: DEFAULT; Schema: afresh; Owner: -
--

ALTER TABLE ONLY afresh.dirty ALTER COLUMN generation SET DEFAULT nextval('afresh.generation'::regclass);


--
-- Name: change_log change_log_pkey; Type: CONSTRAINT; Schema: afresh; Owner: -
--

ALTER TABLE ONLY afresh.change_log
    ADD CONSTRAINT change_log_pkey PRIMARY KEY (xid, id);


--
-- Name: dirty dirty_pkey; Type: CONSTRAINT; Schema: afresh; Owner: -
--

ALTER TABLE ONLY afresh.dirty
    ADD CONSTRAINT dirty_pkey PRIMARY KEY (view_name, slot);


--
-- Name: embedding_queue embedding_queue_pkey; Type: CONSTRAINT; Schema: afresh; Owner: -
--

ALTER TABLE ONLY afresh.embedding_queue
    ADD CONSTRAINT embedding_queue_pkey PRIMARY KEY (id);


--
-- Name: invalidation_log invalidation_log_pkey; Type: CONSTRAINT; Schema: afresh; Owner: -
--

ALTER TABLE ONLY afresh.invalidation_log
    ADD CONSTRAINT invalidation_log_pkey PRIMARY KEY (id);


--
-- Name: jobs jobs_pkey; Type: CONSTRAINT; Schema: afresh; Owner: -
--

ALTER TABLE ONLY afresh.jobs
    ADD CONSTRAINT jobs_pkey PRIMARY KEY (name);


--
-- Name: known known_pkey; Type: CONSTRAINT; Schema: afresh; Owner: -
--

ALTER TABLE ONLY afresh.known
    ADD CONSTRAINT known_pkey PRIMARY KEY (kind, name);


--
-- Name: lease lease_pkey; Type: CONSTRAINT; Schema: afresh; Owner: -
--

ALTER TABLE ONLY afresh.lease
    ADD CONSTRAINT lease_pkey PRIMARY KEY (term);


--
-- Name: log_identity log_identity_pkey; Type: CONSTRAINT; Schema: afresh; Owner: -
--

ALTER TABLE ONLY afresh.log_identity
    ADD CONSTRAINT log_identity_pkey PRIMARY KEY (single);


--
-- Name: embedding_queue_due; Type: INDEX; Schema: afresh; Owner: -
--

CREATE INDEX embedding_queue_due ON afresh.embedding_queue USING btree (target, text_column, id);


--
-- Name: SCHEMA afresh; Type: ACL; Schema: -; Owner: -
--

GRANT USAGE ON SCHEMA afresh TO PUBLIC;


--
-- Name: FUNCTION append_invalidation(patterns text[], tables text[], views text[], reason text, at timestamp with time zone); Type: ACL; Schema: afresh; Owner: -
--

REVOKE ALL ON FUNCTION afresh.append_invalidation(patterns text[], tables text[], views text[], reason text, at timestamp with time zone) FROM PUBLIC;


--
-- Name: SEQUENCE bell; Type: ACL; Schema: afresh; Owner: -
--

GRANT SELECT ON SEQUENCE afresh.bell TO PUBLIC;


--
-- Name: COLUMN change_log.target; Type: ACL; Schema: afresh; Owner: -
--

GRANT INSERT(target) ON TABLE afresh.change_log TO PUBLIC;


--
-- Name: COLUMN change_log.operation; Type: ACL; Schema: afresh; Owner: -
--

GRANT INSERT(operation) ON TABLE afresh.change_log TO PUBLIC;


--
-- Name: COLUMN change_log.keys; Type: ACL; Schema: afresh; Owner: -
--

GRANT INSERT(keys) ON TABLE afresh.change_log TO PUBLIC;


--
-- Name: COLUMN change_log.rows; Type: ACL; Schema: afresh; Owner: -
--

GRANT INSERT(rows) ON TABLE afresh.change_log TO PUBLIC;


--
-- Name: COLUMN embedding_queue.target; Type: ACL; Schema: afresh; Owner: -
--

GRANT INSERT(target) ON TABLE afresh.embedding_queue TO PUBLIC;


--
-- Name: COLUMN embedding_queue.text_column; Type: ACL; Schema: afresh; Owner: -
--

GRANT INSERT(text_column) ON TABLE afresh.embedding_queue TO PUBLIC;


--
-- Name: COLUMN embedding_queue.key; Type: ACL; Schema: afresh; Owner: -
--

GRANT INSERT(key) ON TABLE afresh.embedding_queue TO PUBLIC;


--
-- Name: TABLE triggers; Type: ACL; Schema: afresh; Owner: -
--

GRANT SELECT ON TABLE afresh.triggers TO PUBLIC;


--
-- Name: TABLE roots; Type: ACL; Schema: afresh; Owner: -
--

GRANT SELECT ON TABLE afresh.roots TO PUBLIC;


--
-- Name: TABLE watched; Type: ACL; Schema: afresh; Owner: -
--

GRANT SELECT ON TABLE afresh.watched TO PUBLIC;


--
-- Name: afresh_catalogue_change; Type: EVENT TRIGGER; Schema: -; Owner: -
--

CREATE EVENT TRIGGER afresh_catalogue_change ON ddl_command_end
         WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE', 'IMPORT FOREIGN SCHEMA', 'CREATE VIEW', 'ALTER VIEW', 'CREATE MATERIALIZED VIEW', 'ALTER MATERIALIZED VIEW', 'CREATE RULE', 'ALTER RULE', 'CREATE TRIGGER', 'ALTER TRIGGER', 'CREATE INDEX', 'ALTER INDEX', 'CREATE FUNCTION', 'ALTER FUNCTION', 'ALTER ROUTINE', 'CREATE SCHEMA', 'ALTER SCHEMA', 'CREATE SUBSCRIPTION', 'ALTER SUBSCRIPTION')
   EXECUTE FUNCTION afresh.notify_catalogue_change();

ALTER EVENT TRIGGER afresh_catalogue_change ENABLE ALWAYS;


--
-- Name: EVENT TRIGGER afresh_catalogue_change; Type: COMMENT; Schema: -; Owner: -
--

COMMENT ON EVENT TRIGGER afresh_catalogue_change IS 'Afresh: notices new and altered tables and views, and watches new partitions of watched tables.';


--
-- Name: afresh_catalogue_drop; Type: EVENT TRIGGER; Schema: -; Owner: -
--

CREATE EVENT TRIGGER afresh_catalogue_drop ON sql_drop
   EXECUTE FUNCTION afresh.notify_catalogue_change();

ALTER EVENT TRIGGER afresh_catalogue_drop ENABLE ALWAYS;


--
-- Name: EVENT TRIGGER afresh_catalogue_drop; Type: COMMENT; Schema: -; Owner: -
--

COMMENT ON EVENT TRIGGER afresh_catalogue_drop IS 'Afresh: notices what is dropped.';


--
-- PostgreSQL database dump complete
--


