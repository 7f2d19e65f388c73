-- The terms of the past, but for the last few. A row that a frozen session holds is passed over.
DELETE FROM afresh.lease AS l
USING (SELECT o.term FROM afresh.lease AS o WHERE o.term < $1 - 10 FOR UPDATE SKIP LOCKED) AS old
WHERE l.term = old.term
