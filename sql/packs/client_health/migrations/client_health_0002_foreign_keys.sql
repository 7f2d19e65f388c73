-- The five foreign keys from a client's records to the client
-- depends: client_health_0001_tables

-- migrate: apply

-- First a look for orphans, without any lock, so that the usual failure costs the writers nothing; all tables are in
-- one report. The look is there to explain, not to guarantee: a writer who slips an orphan in after it is caught by
-- the validation that ADD CONSTRAINT makes under its lock, and then, too, nothing of this migration remains.
--
-- ADD CONSTRAINT locks both tables against writers (SHARE ROW EXCLUSIVE; readers go on) until the transaction ends,
-- which is why NOT VALID followed by VALIDATE would gain nothing here: the validation would run under the lock
-- already held. Where tables are so large that their writers cannot wait for that, add the constraints beforehand,
-- NOT VALID and then VALIDATE in two transactions: one that is here under its name and is the one we want is kept,
-- and validated if it has not been yet. One of the same name that is another is an error, never replaced.
--
-- The locks are taken all at once; after a short wait they are given up and tried for again. That wait is twice the
-- server's deadlock_timeout: long enough for PostgreSQL to move an autovacuum out of the way, and too short for a
-- deadlock with a writer ever to be resolved at the writer's cost (either our own check finds it, or our wait ends
-- before his check).
DO $$
DECLARE
    wanted record;
    result record;
    problems text[] := '{}';
    orphaned boolean := false;
    to_add text[] := '{}';
    to_validate text[] := '{}';
    statement text;
    patience_before text := current_setting('lock_timeout');
BEGIN
    PERFORM set_config('row_security', 'off', true);
    FOR wanted IN
        SELECT * FROM (VALUES
            ('fk_nps_responses_client', 'nps_responses', 'client_name'),
            ('fk_unified_meetings_client', 'unified_meetings', 'client_name'),
            ('fk_actions_client', 'actions', 'Client'),
            ('fk_segmentation_events_client', 'segmentation_events', 'client_name'),
            ('fk_event_compliance_client', 'segmentation_event_compliance', 'client_name')
        ) AS w (constraint_name, table_name, column_name)
    LOOP
        SELECT present.convalidated AS validated,
               present.contype = 'f'
                   AND present.confrelid = 'public.nps_clients'::regclass
                   AND present.confdeltype = 'r' AND present.confupdtype = 'c' AND NOT present.condeferrable
                   AND (SELECT array_agg(a.attname::text) FROM pg_catalog.pg_attribute AS a
                        WHERE a.attrelid = present.conrelid AND a.attnum = ANY (present.conkey))
                       = ARRAY[wanted.column_name]
                   AND (SELECT array_agg(a.attname::text) FROM pg_catalog.pg_attribute AS a
                        WHERE a.attrelid = present.confrelid AND a.attnum = ANY (present.confkey))
                       = ARRAY['client_name'] AS as_wanted,
               pg_get_constraintdef(present.oid) AS definition
        INTO result
        FROM pg_catalog.pg_constraint AS present
        WHERE present.conrelid = to_regclass('public.' || wanted.table_name)
          AND present.conname = wanted.constraint_name;

        IF NOT FOUND THEN
            to_add := to_add || format(
                'ALTER TABLE public.%I ADD CONSTRAINT %I FOREIGN KEY (%I) REFERENCES public.nps_clients (client_name) '
                'ON DELETE RESTRICT ON UPDATE CASCADE',
                wanted.table_name, wanted.constraint_name, wanted.column_name);
        ELSIF NOT result.as_wanted THEN
            problems := problems || format(
                'public.%s has a constraint %s already, and it is another one: %s',
                wanted.table_name, wanted.constraint_name, result.definition);
        ELSIF NOT result.validated THEN
            to_validate := to_validate || format(
                'ALTER TABLE public.%I VALIDATE CONSTRAINT %I', wanted.table_name, wanted.constraint_name);
        END IF;

        EXECUTE format($look$
            SELECT sum(missing.rows) AS rows, count(*) AS names,
                   string_agg(
                       format('%%L (%%s)', missing.name, missing.rows), ', ' ORDER BY missing.rows DESC, missing.name
                   ) FILTER (WHERE missing.rank <= 5) AS examples
            FROM (
                SELECT child.%1$I AS name, count(*) AS rows,
                       row_number() OVER (ORDER BY count(*) DESC, child.%1$I) AS rank
                FROM public.%2$I AS child
                WHERE child.%1$I IS NOT NULL
                  AND NOT EXISTS (SELECT FROM public.nps_clients AS c WHERE c.client_name = child.%1$I)
                GROUP BY child.%1$I
            ) AS missing
            $look$, wanted.column_name, wanted.table_name) INTO result;
        IF result.names > 0 THEN
            orphaned := true;
            problems := problems || format(
                'public.%s: %s row(s) whose %I names none of the clients; %s such name(s), with their rows: %s%s',
                wanted.table_name, result.rows, wanted.column_name, result.names, result.examples,
                CASE WHEN result.names > 5 THEN ', …' ELSE '' END);
        END IF;
    END LOOP;

    IF problems <> '{}' THEN
        RAISE EXCEPTION 'the foreign keys to public.nps_clients cannot be added as the data are'
            USING ERRCODE = 'foreign_key_violation', DETAIL = array_to_string(problems, E'\n'),
            HINT = CASE WHEN orphaned THEN
                'For each of the names: correct it if it is misspelt (UPDATE … SET client_name = ''right'' '
                'WHERE client_name = ''wrong''), add the client if it is missing '
                '(INSERT INTO public.nps_clients (client_name) VALUES (…)), or delete the rows. Then migrate again.'
            ELSE
                'Drop or rename the constraint (ALTER TABLE … RENAME CONSTRAINT … TO …), then migrate again.'
            END;
    END IF;

    IF to_add <> '{}' THEN
        PERFORM set_config('lock_timeout', (2 * setting::integer)::text || 'ms', true)
        FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout';
        FOR attempt IN 1..10 LOOP
            BEGIN
                LOCK TABLE public.nps_clients, public.nps_responses, public.unified_meetings, public.actions,
                    public.segmentation_events, public.segmentation_event_compliance IN SHARE ROW EXCLUSIVE MODE;
                EXIT;
            EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
                IF attempt = 10 THEN
                    RAISE EXCEPTION 'the tables of client_health are being written to without a pause'
                        USING ERRCODE = 'lock_not_available',
                        HINT = 'Look in pg_stat_activity for a transaction that stays open, and migrate again.';
                END IF;
                PERFORM pg_sleep(0.1);
            END;
        END LOOP;
        PERFORM set_config('lock_timeout', patience_before, true);
    END IF;

    FOREACH statement IN ARRAY to_add || to_validate LOOP
        EXECUTE statement;
    END LOOP;
END
$$;

-- migrate: rollback

-- Better to fail and be tried again than to make everybody queue behind us.
SET LOCAL lock_timeout = '2s';

ALTER TABLE IF EXISTS public.nps_responses DROP CONSTRAINT IF EXISTS fk_nps_responses_client;
ALTER TABLE IF EXISTS public.unified_meetings DROP CONSTRAINT IF EXISTS fk_unified_meetings_client;
ALTER TABLE IF EXISTS public.actions DROP CONSTRAINT IF EXISTS fk_actions_client;
ALTER TABLE IF EXISTS public.segmentation_events DROP CONSTRAINT IF EXISTS fk_segmentation_events_client;
ALTER TABLE IF EXISTS public.segmentation_event_compliance DROP CONSTRAINT IF EXISTS fk_event_compliance_client;
