-- Go on leading; no row where somebody leads under a later term, or the row is gone.
UPDATE afresh.lease AS l
SET expires = clock_timestamp() + $2 * interval '1 second'
WHERE l.term = $1 AND NOT EXISTS (SELECT FROM afresh.lease AS later WHERE later.term > $1)
RETURNING l.term
