-- The schema that holds what Afresh keeps in a database
-- depends:

-- migrate: apply

CREATE SCHEMA afresh;

COMMENT ON SCHEMA afresh IS
    'Afresh: afresh.watch(table) tells the service of every change to a table, afresh.unwatch(table) ends that, afresh.watched lists the tables.';

-- Everybody may look up names here. What a caller may do is decided object by object: the functions run with the
-- caller's own rights, so that nobody can watch a table on which he could not make a trigger by hand.
GRANT USAGE ON SCHEMA afresh TO public;

-- migrate: rollback

DROP SCHEMA afresh;
