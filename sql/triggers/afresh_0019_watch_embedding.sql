-- Watch a column of texts whose embeddings are to follow it
-- depends: afresh_0018_queue_embedding

-- migrate: apply

-- Runs with the caller's rights, and may be repeated: a trigger that is as it should be stays, without a lock.
CREATE FUNCTION afresh.watch_embedding(target regclass, text_column text) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
AS $function$
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
$function$;

COMMENT ON FUNCTION afresh.watch_embedding(regclass, text) IS
    'From now on rows whose text changes wait in afresh.embedding_queue for their embedding, which the service makes where [[embeddings]] names the column. Returns whether anything had to be done.';

-- migrate: rollback

DROP FUNCTION afresh.watch_embedding(regclass, text);
