-- Lead from now on, under the term given, unless somebody else has just begun that one.
INSERT INTO afresh.lease (term, holder, expires)
VALUES ($1, $2, clock_timestamp() + $3 * interval '1 second')
ON CONFLICT (term) DO NOTHING
RETURNING term
