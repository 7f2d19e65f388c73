-- A job that was run for a time after $2, which is long after $1, now: by a clock that has been set back since. Whatever is
-- past was run; it is run again at its next time, and not only when that clock would have said so. One that somebody has in
-- hand is left to the next look.
UPDATE afresh.jobs SET due = $1::timestamptz
WHERE name OPERATOR(pg_catalog.=) ANY (
    ARRAY(
        SELECT j.name FROM afresh.jobs AS j
        WHERE j.due OPERATOR(pg_catalog.>) $2::timestamptz
        FOR UPDATE SKIP LOCKED
    )
)
