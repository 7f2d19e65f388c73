"""The event trigger: it tells of DDL, watches new partitions of watched tables, and never stands in anybody's way."""

from __future__ import annotations

import re

import asyncpg
import pytest

from sql.hearing import Hearing

TREE = """
    CREATE TABLE visit (id int, region text) PARTITION BY LIST (region);
    CREATE TABLE visit_east PARTITION OF visit FOR VALUES IN ('east');
    SELECT afresh.watch('visit', '{id}');
"""

SCENE = """
    CREATE TABLE t (id int PRIMARY KEY, n int);
    CREATE INDEX t_n ON t (n);
    CREATE VIEW v AS SELECT id FROM t;
    CREATE MATERIALIZED VIEW mv AS SELECT * FROM t;
    CREATE UNIQUE INDEX ON mv (id);
    CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER tr AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION g();
    CREATE SCHEMA s;
    CREATE TABLE p (id int) PARTITION BY LIST (id);
    CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
    CREATE TABLE p2 (id int);
"""


async def coverage(db: asyncpg.Connection) -> dict[str, bool]:
    rows = await db.fetch("SELECT table_name, complete FROM afresh.watched ORDER BY table_name")
    return {row["table_name"]: row["complete"] for row in rows}


# -- telling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE new (id int)",
        "CREATE TABLE new AS SELECT 1 AS one",
        "SELECT 1 AS one INTO new",
        "ALTER TABLE t ADD m int DEFAULT 5",
        "ALTER TABLE p2 ALTER id TYPE bigint",
        "ALTER TABLE t RENAME TO u",
        "ALTER TABLE t SET SCHEMA s",
        "ALTER TABLE t DISABLE TRIGGER tr",
        "ALTER TABLE t DROP n CASCADE",
        "DROP TABLE t CASCADE",
        "CREATE TABLE p3 PARTITION OF p FOR VALUES IN (3)",
        "ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2)",
        "ALTER TABLE p DETACH PARTITION p1",
        "ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY",
        "DROP TABLE p1",
        "CREATE VIEW w AS SELECT 1 AS one",
        "CREATE OR REPLACE VIEW v AS SELECT id FROM t WHERE id > 0",
        "ALTER VIEW v RENAME TO w",
        "DROP VIEW v",
        "CREATE MATERIALIZED VIEW mw AS SELECT 1 AS one",
        "ALTER MATERIALIZED VIEW mv RENAME TO mw",
        "DROP MATERIALIZED VIEW mv",
        "CREATE INDEX ON t (id, n)",
        "CREATE INDEX CONCURRENTLY ON t (id, n)",
        "DROP INDEX CONCURRENTLY t_n",
        "ALTER INDEX t_n RENAME TO t_m",
        "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'",
        "DROP FUNCTION f()",
        "CREATE TRIGGER ts AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION g()",
        "ALTER TRIGGER tr ON t RENAME TO ts",
        "DROP TRIGGER tr ON t",
        "CREATE RULE r AS ON INSERT TO v DO INSTEAD INSERT INTO t VALUES (NEW.id)",
        "CREATE SCHEMA another CREATE TABLE new (id int)",
        "ALTER SCHEMA s RENAME TO another",
        "DROP SCHEMA s",
        "SET session_replication_role = replica; DROP TABLE p2",
        "SELECT afresh.watch('t')",
    ],
)
async def test_change_to_the_catalogue_is_told_once(db: asyncpg.Connection, ear: Hearing, statement: str) -> None:
    await db.execute(SCENE)
    await ear.raw()
    await db.execute(statement)
    heard = await ear.raw()
    # A statement that commits in the middle of its work (CONCURRENTLY) may say so of each of its transactions.
    assert heard
    assert len(heard) == 1 or "CONCURRENTLY" in statement
    assert all(re.fullmatch(r'{"v":1,"op":"DDL","xid":"\d+"}', payload) for payload in heard)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TEMPORARY TABLE tt (id serial PRIMARY KEY, n int DEFAULT 3)",
        "CREATE TEMPORARY TABLE tt AS SELECT 1 AS one",
        "ALTER TABLE old ADD m int DEFAULT 2",
        "ALTER TABLE old DROP n",
        "CREATE INDEX ON old (n)",
        "CREATE TRIGGER tr AFTER INSERT ON old FOR EACH ROW EXECUTE FUNCTION g()",
        "DROP TRIGGER told ON old",
        "CREATE TEMPORARY VIEW tv AS SELECT * FROM t",
        "DROP TABLE old",
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "REFRESH MATERIALIZED VIEW mv",
        "INSERT INTO t VALUES (1, 1); REFRESH MATERIALIZED VIEW CONCURRENTLY mv",
        "CREATE TABLE IF NOT EXISTS t (id int)",
        "TRUNCATE t",
        "ANALYZE t",
        "COMMENT ON TABLE t IS 'a comment'",
        "GRANT SELECT ON t TO public",
        "CREATE TABLE rolled_back (id int); ROLLBACK",
        "SELECT afresh.unwatch('t')",
    ],
)
async def test_what_concerns_no_view_says_nothing(db: asyncpg.Connection, ear: Hearing, statement: str) -> None:
    await db.execute(SCENE)
    await db.execute("""
        CREATE TEMPORARY TABLE old (id int PRIMARY KEY, n int DEFAULT 1);
        CREATE TRIGGER told AFTER INSERT ON old FOR EACH ROW EXECUTE FUNCTION g();
    """)
    await ear.raw()
    await db.execute(f"BEGIN; {statement}" if "ROLLBACK" in statement else statement)
    assert await ear.raw() == []


async def test_watch_and_unwatch_tell_the_service_without_the_event_trigger(
    db: asyncpg.Connection, ear: Hearing
) -> None:
    await db.execute("CREATE TABLE t (id int)")
    await db.execute("DROP EVENT TRIGGER afresh_catalogue_change; DROP EVENT TRIGGER afresh_catalogue_drop")
    await ear.raw()
    await db.execute("SELECT afresh.watch('t')")
    assert await ear.catalogue_changes() == 1
    await db.execute("SELECT afresh.unwatch('t')")
    assert await ear.catalogue_changes() == 1
    await db.execute("CREATE TABLE u (id int)")
    assert await ear.catalogue_changes() == 0


# -- watching what comes into a watched tree --------------------------------------------------------------------------


@pytest.mark.usefixtures("each_capture")
async def test_new_partition_is_watched_in_the_transaction_that_makes_it(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(TREE)
    await ear.raw()
    async with db.transaction():
        await db.execute("CREATE TABLE visit_west PARTITION OF visit FOR VALUES IN ('west')")
        await db.execute("INSERT INTO visit_west VALUES (1, 'west')")
    assert ("public.visit_west", "INSERT", [{"id": 1}], 1) in await ear.changes()
    assert await coverage(db) == {"public.visit": True, "public.visit_east": True, "public.visit_west": True}


async def test_attached_partition_is_watched_with_all_that_is_below_it(db: asyncpg.Connection) -> None:
    await db.execute(TREE)
    await db.execute("""
        CREATE TABLE visit_west (id int, region text) PARTITION BY LIST (region);
        CREATE TABLE visit_near PARTITION OF visit_west FOR VALUES IN ('west');
    """)
    await db.execute("ALTER TABLE visit ATTACH PARTITION visit_west FOR VALUES IN ('west', 'far west')")
    assert await coverage(db) == {
        "public.visit": True,
        "public.visit_east": True,
        "public.visit_near": True,
        "public.visit_west": True,
    }


@pytest.mark.parametrize(("parents", "own"), [("log", "notify"), ("notify", "log")])
async def test_attached_partition_takes_the_keys_and_the_capture_of_its_parent(
    db: asyncpg.Connection, parents: str, own: str
) -> None:
    await db.execute(TREE + "CREATE TABLE visit_west (id int, region text)")
    await db.execute("SELECT afresh.watch('visit', '{id}', $1)", parents)
    await db.execute("SELECT afresh.watch('visit_west', '{region}', $1)", own)
    await db.execute("ALTER TABLE visit ATTACH PARTITION visit_west FOR VALUES IN ('west')")
    await db.execute("CREATE TABLE visit_south PARTITION OF visit FOR VALUES IN ('south')")
    listed = await db.fetch("SELECT table_name, keys, capture, complete FROM afresh.watched ORDER BY table_name")
    assert [tuple(row) for row in listed] == [
        (f"public.visit{part}", ["id"], parents, True) for part in ("", "_east", "_south", "_west")
    ]


async def test_new_inheritance_children_are_watched(db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE a (id int); SELECT afresh.watch('a', '{id}')")
    await db.execute("CREATE TABLE b (n int) INHERITS (a); CREATE TABLE c (id int); ALTER TABLE c INHERIT a")
    assert await coverage(db) == {"public.a": True, "public.b": True, "public.c": True}


async def test_new_partition_is_watched_though_a_key_column_is_gone(db: asyncpg.Connection) -> None:
    await db.execute(TREE + "ALTER TABLE visit RENAME id TO visit_id")
    await db.execute("CREATE TABLE visit_west PARTITION OF visit FOR VALUES IN ('west')")
    assert (await coverage(db))["public.visit_west"]


async def test_foreign_partition_takes_the_transition_tables_from_its_parents(db: asyncpg.Connection) -> None:
    await db.execute(TREE + "CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere")
    await db.execute("CREATE FOREIGN TABLE visit_abroad PARTITION OF visit FOR VALUES IN ('abroad') SERVER nowhere")
    assert await coverage(db) == {"public.visit": True, "public.visit_east": True}
    assert not await db.fetchval("SELECT bool_or(sees_rows) FROM afresh.triggers WHERE target = 'visit'::regclass")


async def test_tables_outside_a_watch_are_left_alone(db: asyncpg.Connection) -> None:
    await db.execute(TREE + "CREATE TABLE u (id int) PARTITION BY LIST (id); CREATE TABLE u1 PARTITION OF u DEFAULT")
    assert await coverage(db) == {"public.visit": True, "public.visit_east": True}


async def test_what_was_disabled_or_dropped_on_purpose_stays_so(db: asyncpg.Connection) -> None:
    await db.execute(TREE + "ALTER TABLE visit_east DISABLE TRIGGER ALL; ALTER TABLE visit ADD n int")
    assert await coverage(db) == {"public.visit": False, "public.visit_east": False}
    await db.execute("SELECT afresh.watch('visit', '{id}'); DROP TRIGGER afresh_insert ON visit_east")
    await db.execute("ALTER TABLE visit ADD m int; ALTER TABLE visit_east SET (fillfactor = 90)")
    assert await coverage(db) == {"public.visit": False, "public.visit_east": False}


async def test_triggers_may_be_made_one_by_one_as_a_restore_does(db: asyncpg.Connection) -> None:
    await db.execute(TREE)
    statements = await db.fetch("""
        SELECT pg_get_triggerdef(t.oid) AS made,
            format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', t.tgrelid::regclass, t.tgname) AS enabled
        FROM pg_trigger AS t WHERE NOT t.tgisinternal ORDER BY t.tgname, t.tgrelid::regclass::text
    """)
    await db.execute("SELECT afresh.unwatch('visit')")
    for made, enabled in statements:
        await db.execute(made)
        await db.execute(enabled)
    assert await coverage(db) == {"public.visit": True, "public.visit_east": True}


async def test_detaching_and_dropping_partitions_works(db: asyncpg.Connection) -> None:
    await db.execute(TREE + "CREATE TABLE visit_west PARTITION OF visit FOR VALUES IN ('west')")
    await db.execute("DROP TABLE visit_west; ALTER TABLE visit DETACH PARTITION visit_east")
    assert await coverage(db) == {"public.visit": True, "public.visit_east": True}
    await db.execute("DROP TABLE visit, visit_east")
    assert await coverage(db) == {}


# -- never in the way -------------------------------------------------------------------------------------------------


async def test_ddl_goes_on_where_the_watch_cannot_be_extended(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(TREE)
    await db.execute("""
        CREATE TABLE visit_west (id int, region text);
        CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER afresh_update AFTER UPDATE ON visit_west FOR EACH ROW EXECUTE FUNCTION mine();
    """)
    warnings: list[tuple[str, str, str]] = []
    db.add_log_listener(lambda _, said: warnings.append((said.severity, said.message, said.hint)))
    await ear.raw()
    await db.execute("ALTER TABLE visit ATTACH PARTITION visit_west FOR VALUES IN ('west')")
    [(severity, message, hint)] = warnings
    assert severity == "WARNING"
    assert message == (
        "Afresh could not extend a watch to a table that this statement touched: "
        "cannot watch public.visit_west: it has a trigger afresh_update that Afresh has not made"
    )
    assert hint == "The statement itself is carried out. Then call: SELECT afresh.watch('public.visit', '{id}', 'log')"
    assert await ear.catalogue_changes() == 1
    assert await coverage(db) == {"public.visit": False, "public.visit_east": False}
    assert await db.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'visit'::regclass") == 2


async def test_ddl_goes_on_in_the_hands_of_somebody_without_rights_on_the_engine(
    db: asyncpg.Connection, ear: Hearing
) -> None:
    warnings: list[tuple[str, str]] = []
    transaction = db.transaction()
    await transaction.start()
    try:
        await db.execute("""
            REVOKE ALL ON SCHEMA afresh FROM public;
            CREATE ROLE afresh_test_owner;
            CREATE SCHEMA owned AUTHORIZATION afresh_test_owner;
            CREATE TABLE owned.visit (id int, region text) PARTITION BY LIST (region);
            SELECT afresh.watch('owned.visit', '{id}', capture => 'notify');
            ALTER TABLE owned.visit OWNER TO afresh_test_owner;
            SET LOCAL ROLE afresh_test_owner;
        """)
        db.add_log_listener(lambda _, said: warnings.append((said.message, said.hint)))
        await db.execute("CREATE TABLE owned.visit_east PARTITION OF owned.visit FOR VALUES IN ('east')")
        await db.execute("INSERT INTO owned.visit VALUES (1, 'east')")
        assert await db.fetchval("SELECT count(*) FROM owned.visit_east") == 1
    finally:
        await transaction.rollback()
    [(message, hint)] = warnings
    assert message == (
        "Afresh could not extend a watch to a table that this statement touched: permission denied for schema afresh"
    )
    # How far it comes, and so what it can advise, differs between versions of PostgreSQL.
    assert hint.startswith("The statement itself is carried out. ")


async def test_ddl_does_not_wait_for_a_lock_on_our_behalf(dsn: str, db: asyncpg.Connection) -> None:
    """To attach a foreign table, the triggers of all its parents have to change, which waits for their writers."""
    await db.execute(TREE + "CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere")
    await db.execute("CREATE FOREIGN TABLE visit_abroad (id int, region text) SERVER nowhere")
    warnings: list[str] = []
    db.add_log_listener(lambda _, said: warnings.append(said.message))
    writer = await asyncpg.connect(dsn)
    try:
        async with writer.transaction():
            await writer.execute("INSERT INTO visit VALUES (1, 'east')")
            await db.execute("ALTER TABLE visit ATTACH PARTITION visit_abroad FOR VALUES IN ('abroad')")
    finally:
        await writer.close()
    assert any("due to lock timeout" in warning for warning in warnings)
    assert await db.fetchval("SELECT current_setting('lock_timeout')") == "0"
    assert await coverage(db) == {"public.visit": False, "public.visit_east": False}
    await db.execute("SELECT afresh.watch('visit', '{id}')")
    assert await coverage(db) == {"public.visit": True, "public.visit_east": True}
