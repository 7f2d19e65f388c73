-- Remove marks, each if it still is as it was read. One that somebody has locked stays: at worst that is one refresh more.
DELETE FROM afresh.dirty AS d
USING (
    SELECT l.view_name, l.slot
    FROM unnest($1::text [], $2::int [], $3::bigint []) AS m (view_name, slot, generation)
    INNER JOIN afresh.dirty AS l
        ON l.view_name = m.view_name AND l.slot = m.slot AND l.generation = m.generation
    FOR UPDATE OF l SKIP LOCKED
) AS gone
WHERE d.view_name = gone.view_name AND d.slot = gone.slot
