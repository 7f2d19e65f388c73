-- What a watch lacks
-- depends: afresh_0011_roots

-- migrate: apply

-- The one place that knows which triggers a watch consists of. afresh.watch carries out what this lists, and
-- afresh.watched calls a watch complete where it lists nothing. Without a target it looks at all watches at once.
CREATE FUNCTION afresh.missing_triggers(
    target regclass DEFAULT NULL, keys text [] DEFAULT '{}', capture text DEFAULT 'log'
)
RETURNS TABLE (
    root regclass,
    member regclass,
    trigger_name name,
    state text,
    outgrown boolean,
    create_trigger text,
    enable_trigger text
)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
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
$function$;

COMMENT ON FUNCTION afresh.missing_triggers(regclass, text [], text) IS
    'The triggers that a watch with these keys wants on this table and its partitions or inheritance children (without arguments: that any watch wants), and that are absent, different or disabled, with the statements that mend it; outgrown where the tree has changed since.';

GRANT EXECUTE ON FUNCTION afresh.missing_triggers(regclass, text [], text) TO public;

-- migrate: rollback

DROP FUNCTION afresh.missing_triggers(regclass, text [], text);
