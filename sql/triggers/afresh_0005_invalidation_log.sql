-- The log from which every instance tells its clients
-- depends: afresh_0004_dirty

-- migrate: apply

-- Ids are in commit order, without holes: whoever appends first takes the advisory lock that afresh.append_invalidation
-- takes, and keeps it until the commit. They are the offsets by which clients resume.
CREATE TABLE afresh.invalidation_log (
    id bigint PRIMARY KEY,
    patterns text [] NOT NULL,
    tables text [] NOT NULL,
    views text [] NOT NULL,
    reason text,
    at timestamptz NOT NULL,
    written timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

COMMENT ON TABLE afresh.invalidation_log IS
    'Invalidations in the order of their commits; old ones are trimmed (settings log.max_entries and log.max_age), the newest stays.';
COMMENT ON COLUMN afresh.invalidation_log.reason IS
    'NULL for an invalidation; for a resync, why: whoever hears one of the patterns drops everything.';

-- What tells this log from another one with the same numbers, beside the server and the database. After a restore from a
-- copy of the files, which changes none of these, change it: UPDATE afresh.log_identity SET incarnation = DEFAULT.
CREATE TABLE afresh.log_identity (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    incarnation uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid()
);

INSERT INTO afresh.log_identity DEFAULT VALUES;

COMMENT ON TABLE afresh.log_identity IS
    'A part of the epoch. After a restore from a copy of the server''s files: UPDATE afresh.log_identity SET incarnation = DEFAULT.';

CREATE VIEW afresh.log_epoch AS
SELECT
    pg_catalog.concat_ws(
        '-',
        pg_catalog.to_hex(c.system_identifier),
        pg_catalog.ltrim(pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8), '0'),
        (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()),
        pg_catalog.left(i.incarnation::text, 8)
    ) AS epoch
FROM afresh.log_identity AS i
CROSS JOIN pg_catalog.pg_control_system() AS c;

COMMENT ON VIEW afresh.log_epoch IS
    'What tells this log from another one with the same numbers: the server''s system identifier, its timeline (a promotion, a restore), the database, and afresh.log_identity.';

CREATE FUNCTION afresh.append_invalidation(patterns text [], tables text [], views text [], reason text, at timestamptz)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- Those before us are about to commit; but one of them may be frozen.
SET lock_timeout = '3s'
AS $function$
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
$function$;

COMMENT ON FUNCTION afresh.append_invalidation(text [], text [], text [], text, timestamptz) IS
    'Appends to afresh.invalidation_log and tells every instance; the last thing a transaction does, since others wait for its end. Returns the offset.';

REVOKE EXECUTE ON FUNCTION afresh.append_invalidation(text [], text [], text [], text, timestamptz) FROM public;

-- migrate: rollback

DROP FUNCTION afresh.append_invalidation(text [], text [], text [], text, timestamptz);

DROP VIEW afresh.log_epoch;

DROP TABLE afresh.log_identity;

DROP TABLE afresh.invalidation_log;
