-- The flag that tells writers whether to ring
-- depends: afresh_0002_change_log

-- migrate: apply

-- Its value is a time, in seconds since 1970: until then a writer, when he has put a change into the log, rings, which is
-- an empty NOTIFY. NOTIFY takes a lock on the whole database at commit, so the leader lets it ring only while changes come
-- slowly, and only for some seconds at a time: when it is gone, the bell falls silent by itself.
--
-- A sequence, since its value is outside of transactions: what setval() writes, everybody reads at once, also inside
-- an older snapshot, and no lock is waited for.
CREATE SEQUENCE afresh.bell;

COMMENT ON SEQUENCE afresh.bell IS
    'Until when writers ring, in seconds since 1970; set by the service, read by notify_event_refresh() as last_value.';

GRANT SELECT ON SEQUENCE afresh.bell TO public;

-- migrate: rollback

DROP SEQUENCE afresh.bell;
