-- The trigger function that puts a row into the queue for embeddings
-- depends: afresh_0017_embedding_queue

-- migrate: apply

-- Called for rows whose text, or whose key, is another one; the triggers' WHEN sees to that. Its arguments: the column of
-- the text, and those of the primary key.
CREATE FUNCTION afresh.queue_embedding() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
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
$function$;

COMMENT ON FUNCTION afresh.queue_embedding() IS
    'Trigger function: notes that a row needs an embedding of its text. afresh.watch_embedding puts it on a table.';

-- migrate: rollback

DROP FUNCTION afresh.queue_embedding();
