-- Watch a table
-- depends: afresh_0013_watched

-- migrate: apply

-- Runs with the caller's rights: it does nothing that the table's owner could not do by hand.
--
-- Locks: none at all where every trigger is as it should be, so the call may be repeated at any time. Otherwise
-- SHARE ROW EXCLUSIVE on each table that gets a trigger, until the transaction ends: readers go on, writers wait. Set
-- lock_timeout before calling it on a busy table.
CREATE FUNCTION afresh.watch(target regclass, keys text [] DEFAULT '{}', capture text DEFAULT 'log')
RETURNS text []
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
AS $function$
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
$function$;

COMMENT ON FUNCTION afresh.watch(regclass, text [], text) IS
    'Tells Afresh of every change to this table, its partitions and its inheritance children; keys are the columns whose values identify what a change is about. Returns the tables covered. May be repeated; other keys replace those before. Key values can be read by every role that may connect to this database.';

GRANT EXECUTE ON FUNCTION afresh.watch(regclass, text [], text) TO public;

-- migrate: rollback

DROP FUNCTION afresh.watch(regclass, text [], text);
