-- Completes the watches of which a partition or an inheritance child has no trigger at all: it came into its tree where no
-- event trigger saw it. What somebody disabled or dropped on purpose stays as it is.
SELECT afresh.watch(w.root, w.keys)
FROM (SELECT DISTINCT r.root, r.keys FROM afresh.watched AS r WHERE r.target = r.root AND NOT r.complete) AS w
WHERE EXISTS (
    SELECT
    FROM afresh.missing_triggers(w.root, w.keys) AS m
    WHERE m.state = 'absent'
        AND NOT EXISTS (SELECT FROM afresh.triggers AS t WHERE t.target = m.member AND t.by_watch)
)
