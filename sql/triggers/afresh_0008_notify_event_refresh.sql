-- The trigger function that tells of a change
-- depends: afresh_0007_known

-- migrate: apply

-- Serves every kind of trigger:
--
-- * FOR EACH ROW, made by hand, without arguments. One notification for a table, an operation and a transaction:
--   the payload says nothing about the row, and PostgreSQL folds identical payloads of one transaction.
-- * FOR EACH STATEMENT, made by afresh.watch. The first argument says how the change is captured and whether the rows
--   can be seen ('afresh.log', 'afresh.notify', and both 'without rows'), the others are the key columns; the transition
--   tables are afresh_old and afresh_new. One entry for a statement, with keys: into the log afresh.change_log, or as a
--   notification; and with the number of rows, where that has to be known anyway.
-- * FOR EACH STATEMENT otherwise (TRUNCATE, without rows, or made by hand): one entry for a statement, keys and rows
--   unknown.
--
-- It runs inside other people's transactions. Whatever could raise an error here would fail a write that is none of
-- our business, so it looks at nothing that may be missing (a key column that was dropped since), converts nothing
-- that may refuse conversion, measures before it builds, and depends on no setting of the writer's session. There
-- is no EXCEPTION block: it would cost every writer a subtransaction and hide what goes wrong.
--
-- It runs with the writer's rights and needs none: transition tables, NOTIFY, and adding a row to the log are open to
-- everybody. A function with its owner's rights would run the output functions of the key columns with them, too.
CREATE FUNCTION public.notify_event_refresh() RETURNS trigger
LANGUAGE plpgsql
-- The second setting is because quote_ident, and so the name in the payload, depends on it.
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
AS $function$
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
$function$;

COMMENT ON FUNCTION public.notify_event_refresh() IS
    'Trigger function of Afresh: writes into afresh.change_log, or tells the channel "afresh", that a table changed. afresh.watch(table) makes the triggers; AFTER INSERT OR UPDATE OR DELETE ... FOR EACH ROW by hand works too.';

-- Making a trigger takes EXECUTE on its function; a database may have revoked the default.
GRANT EXECUTE ON FUNCTION public.notify_event_refresh() TO public;

-- migrate: rollback

DROP FUNCTION public.notify_event_refresh();
