-- End the watch on a column of texts
-- depends: afresh_0019_watch_embedding

-- migrate: apply

CREATE FUNCTION afresh.unwatch_embedding(target regclass, text_column text) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
AS $function$
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
$function$;

COMMENT ON FUNCTION afresh.unwatch_embedding(regclass, text) IS
    'Takes off what afresh.watch_embedding has put on. Returns whether there was anything.';

-- migrate: rollback

DROP FUNCTION afresh.unwatch_embedding(regclass, text);
