"""`afresh.watch`, `afresh.unwatch` and `afresh.watched`: what they make, refuse, repair and list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from conftest import ServerUnderTest, eventually
from sql.hearing import Hearing

TREE = """
    CREATE TABLE visit (id int, region text) PARTITION BY LIST (region);
    CREATE TABLE visit_east PARTITION OF visit FOR VALUES IN ('east');
    CREATE TABLE visit_west PARTITION OF visit FOR VALUES IN ('west') PARTITION BY LIST (region);
    CREATE TABLE visit_near PARTITION OF visit_west FOR VALUES IN ('west');
"""

MEMBERS = ["public.visit", "public.visit_east", "public.visit_near", "public.visit_west"]

#: A foreign table that nobody can read: enough to see what is made around it.
FOREIGN = """
    CREATE FOREIGN DATA WRAPPER nowhere;
    CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
"""


async def watched(db: asyncpg.Connection) -> dict[str, dict[str, Any]]:
    rows = await db.fetch("""
        SELECT table_name, keys, capture, level, root::text AS root, complete, target::text AS target
        FROM afresh.watched
    """)
    return {row["table_name"]: dict(row) for row in rows}


async def triggers(db: asyncpg.Connection, table: str) -> dict[str, str]:
    """The triggers' definitions, with their enabled state."""
    rows = await db.fetch(
        "SELECT tgname, tgenabled::text || ' ' || pg_get_triggerdef(oid) AS definition FROM pg_trigger "
        "WHERE tgrelid = $1::text::regclass AND NOT tgisinternal ORDER BY tgname",
        table,
    )
    return {row["tgname"]: row["definition"] for row in rows}


async def trigger_oids(db: asyncpg.Connection) -> list[tuple[int, int]]:
    return [
        (row["oid"], row["xmin"])
        for row in await db.fetch("SELECT oid, xmin::text::bigint AS xmin FROM pg_trigger ORDER BY oid")
    ]


@asynccontextmanager
async def refused(error: type[asyncpg.PostgresError], message: str, hint: str) -> AsyncIterator[None]:
    with pytest.raises(error) as caught:
        yield
    assert message in str(caught.value)
    assert hint in (caught.value.hint or "")


# -- watch ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("argument", "capture"), [("", "log"), (", 'log'", "log"), (", 'notify'", "notify")])
async def test_watch_makes_four_triggers_that_always_fire(db: asyncpg.Connection, argument: str, capture: str) -> None:
    await db.execute("CREATE TABLE t (id int, name text)")
    assert await db.fetchval(f"SELECT afresh.watch('t', '{{name,id}}'{argument})") == ["public.t"]
    made = await triggers(db, "t")
    function = f"EXECUTE FUNCTION notify_event_refresh('afresh.{capture}', 'name', 'id')"
    assert made == {
        "afresh_delete": "A CREATE TRIGGER afresh_delete AFTER DELETE ON public.t "
        f"REFERENCING OLD TABLE AS afresh_old FOR EACH STATEMENT {function}",
        "afresh_insert": "A CREATE TRIGGER afresh_insert AFTER INSERT ON public.t "
        f"REFERENCING NEW TABLE AS afresh_new FOR EACH STATEMENT {function}",
        "afresh_truncate": f"A CREATE TRIGGER afresh_truncate AFTER TRUNCATE ON public.t FOR EACH STATEMENT {function}",
        "afresh_update": "A CREATE TRIGGER afresh_update AFTER UPDATE ON public.t "
        f"REFERENCING OLD TABLE AS afresh_old NEW TABLE AS afresh_new FOR EACH STATEMENT {function}",
    }
    assert await watched(db) == {
        "public.t": {
            "table_name": "public.t",
            "target": "t",
            "keys": ["name", "id"],
            "capture": capture,
            "level": "statement",
            "root": "t",
            "complete": True,
        }
    }


async def test_watch_again_touches_nothing_and_waits_for_nobody(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(TREE + "SELECT afresh.watch('visit', '{id}')")
    before = await trigger_oids(db)
    writer = await asyncpg.connect(dsn)
    try:
        async with writer.transaction():
            await writer.execute("LOCK TABLE visit, visit_east IN ACCESS EXCLUSIVE MODE")
            await db.execute("SET lock_timeout = '1ms'")
            assert await db.fetchval("SELECT afresh.watch('visit', '{id}')")
    finally:
        await writer.close()
    assert await trigger_oids(db) == before


async def test_watch_with_other_keys_changes_them(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute("CREATE TABLE t (id int, name text); SELECT afresh.watch('t', '{id}')")
    await db.execute("SELECT afresh.watch('t', '{name}'); INSERT INTO t VALUES (1, 'n')")
    assert (await watched(db))["public.t"]["keys"] == ["name"]
    await db.execute("SELECT afresh.watch('t'); INSERT INTO t VALUES (1, 'n')")
    assert (await watched(db))["public.t"]["keys"] == []
    assert [keys for _, _, keys, _ in await ear.changes()] == [[{"name": "n"}], None]


@pytest.mark.parametrize(("before", "after"), [("log", "notify"), ("notify", "log")])
async def test_watch_with_another_capture_changes_it_in_the_whole_tree(
    db: asyncpg.Connection, ear: Hearing, before: str, after: str
) -> None:
    told = {"log": ear.logged, "notify": ear.notifications}
    await db.execute(TREE)
    for capture, other in ((before, after), (after, before)):
        await db.execute("SELECT afresh.watch('visit', '{id}', $1)", capture)
        assert {row["capture"] for row in (await watched(db)).values()} == {capture}
        assert all(row["complete"] for row in (await watched(db)).values())
        await ear.raw()
        await db.execute("INSERT INTO visit VALUES (1, 'east'); DELETE FROM visit_near; TRUNCATE visit_near")
        await db.execute("UPDATE visit_east SET id = id + 1; DELETE FROM visit_east")
        assert len(await told[capture]()) == 4
        assert await told[other]() == []
    assert await db.fetchval("SELECT count(*) FROM afresh.triggers") == 4 * len(MEMBERS)


async def test_watch_covers_the_whole_tree(db: asyncpg.Connection) -> None:
    await db.execute(TREE)
    assert await db.fetchval("SELECT afresh.watch('visit', '{id}')") == MEMBERS
    listed = await watched(db)
    assert sorted(listed) == MEMBERS
    assert {row["root"] for row in listed.values()} == {"visit"}
    assert all(row["complete"] and row["keys"] == ["id"] for row in listed.values())


async def test_watch_covers_inheritance_children(db: asyncpg.Connection) -> None:
    await db.execute("""
        CREATE TABLE a (id int);
        CREATE TABLE b () INHERITS (a);
        CREATE TABLE c (n int);
        CREATE TABLE d () INHERITS (b, c);
    """)
    assert await db.fetchval("SELECT afresh.watch('a')") == ["public.a", "public.b", "public.d"]
    assert {name: row["root"] for name, row in (await watched(db)).items()} == {
        "public.a": "a",
        "public.b": "a",
        "public.d": "a",
    }


async def test_watch_completes_an_incomplete_tree_and_keeps_its_keys(db: asyncpg.Connection) -> None:
    """Without the event trigger, as where nobody had the privilege to make one."""
    await db.execute("DROP EVENT TRIGGER afresh_catalogue_change; DROP EVENT TRIGGER afresh_catalogue_drop")
    await db.execute(TREE + "SELECT afresh.watch('visit', '{id}')")
    await db.execute("CREATE TABLE visit_south PARTITION OF visit FOR VALUES IN ('south')")
    listed = await watched(db)
    assert "public.visit_south" not in listed
    assert not any(row["complete"] for row in listed.values())
    await db.execute("SELECT afresh.watch(root, keys) FROM afresh.watched WHERE target = root AND NOT complete")
    listed = await watched(db)
    assert listed["public.visit_south"]["keys"] == ["id"]
    assert all(row["complete"] for row in listed.values())


@pytest.mark.parametrize(
    "harm",
    [
        "DROP TRIGGER afresh_truncate ON visit_near",
        "ALTER TABLE visit_east DISABLE TRIGGER afresh_update",
        "ALTER TABLE visit_east ENABLE REPLICA TRIGGER afresh_update",
        "ALTER TABLE visit_east ENABLE TRIGGER ALL",
        """CREATE OR REPLACE TRIGGER afresh_update AFTER UPDATE ON visit
           FOR EACH STATEMENT EXECUTE FUNCTION notify_event_refresh('afresh.log', 'id')""",
        """CREATE OR REPLACE TRIGGER afresh_truncate AFTER TRUNCATE ON visit_near
           FOR EACH STATEMENT EXECUTE FUNCTION notify_event_refresh('afresh.notify', 'id')""",
    ],
)
async def test_harm_done_to_a_watch_shows_and_is_repaired(db: asyncpg.Connection, harm: str) -> None:
    await db.execute(TREE + "SELECT afresh.watch('visit', '{id}')")
    made = {member: await triggers(db, member) for member in MEMBERS}
    await db.execute(harm)
    assert not (await watched(db))["public.visit"]["complete"]
    await db.execute("SELECT afresh.watch('visit', '{id}')")
    assert (await watched(db))["public.visit"]["complete"]
    assert {member: await triggers(db, member) for member in MEMBERS} == made


async def test_watch_completes_a_tree_whose_key_column_is_gone(db: asyncpg.Connection) -> None:
    await db.execute(TREE + "SELECT afresh.watch('visit', '{id}'); ALTER TABLE visit RENAME id TO visit_id")
    await db.execute("DROP TRIGGER afresh_insert ON visit_east")
    await db.execute("SELECT afresh.watch(root, keys) FROM afresh.watched WHERE target = root AND NOT complete")
    assert all(row["complete"] and row["keys"] == ["id"] for row in (await watched(db)).values())


async def test_watch_on_a_parent_takes_over_what_is_watched_below(db: asyncpg.Connection) -> None:
    await db.execute(TREE)
    await db.execute("SELECT afresh.watch('visit_west', '{region}')")
    assert {name: row["root"] for name, row in (await watched(db)).items()} == {
        "public.visit_west": "visit_west",
        "public.visit_near": "visit_west",
    }
    await db.execute("SELECT afresh.watch('visit', '{id}')")
    listed = await watched(db)
    assert {row["root"] for row in listed.values()} == {"visit"}
    assert all(row["keys"] == ["id"] for row in listed.values())


@pytest.mark.parametrize("arguments", ["'{region}'", "'{id}', 'notify'"], ids=["keys", "capture"])
async def test_watch_below_a_watch_is_refused_unless_it_is_the_same(db: asyncpg.Connection, arguments: str) -> None:
    await db.execute(TREE + "SELECT afresh.watch('visit', '{id}')")
    before = await trigger_oids(db)
    async with refused(
        asyncpg.ObjectNotInPrerequisiteStateError,
        "cannot watch public.visit_east like this: public.visit_east is covered by the watch on public.visit, "
        "which has the keys {id} and the capture 'log'",
        "Change it there (SELECT afresh.watch('public.visit', ...)), or end that watch first "
        "(SELECT afresh.unwatch('public.visit')).",
    ):
        await db.execute(f"SELECT afresh.watch('visit_east', {arguments})")
    assert await db.fetchval("SELECT afresh.watch('visit_east', '{id}')") == ["public.visit_east"]
    assert await trigger_oids(db) == before


async def test_two_parents_of_one_table_cannot_disagree_about_its_keys(db: asyncpg.Connection) -> None:
    await db.execute("""
        CREATE TABLE a (id int); CREATE TABLE b (name text); CREATE TABLE c () INHERITS (a, b);
        SELECT afresh.watch('a', '{id}');
    """)
    async with refused(asyncpg.ObjectNotInPrerequisiteStateError, "public.c is covered by the watch on public.a", ""):
        await db.execute("SELECT afresh.watch('b', '{name}')")


@pytest.mark.usefixtures("each_capture")
async def test_detached_partition_stays_watched_by_itself(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(TREE + "SELECT afresh.watch('visit', '{id}'); ALTER TABLE visit DETACH PARTITION visit_east")
    listed = await watched(db)
    assert listed["public.visit_east"]["root"] == "visit_east"
    assert all(row["complete"] for row in listed.values())
    await db.execute("INSERT INTO visit_east VALUES (5, 'east')")
    assert await ear.changes() == [("public.visit_east", "INSERT", [{"id": 5}], 1)]


async def test_watch_holds_for_a_partition_that_is_attached_meanwhile(dsn: str, db: asyncpg.Connection) -> None:
    """The one who attaches waits for the watch, or the watch for him; in both orders the partition is covered."""
    await db.execute(TREE + "CREATE TABLE visit_south (LIKE visit)")
    other = await asyncpg.connect(dsn)
    try:
        attaching = other.transaction()
        await attaching.start()
        await other.execute("ALTER TABLE visit ATTACH PARTITION visit_south FOR VALUES IN ('south')")
        watching = asyncio.create_task(db.execute("SELECT afresh.watch('visit', '{id}')"))
        blocked = "SELECT cardinality(pg_blocking_pids($1)) > 0"
        await eventually(lambda: other.fetchval(blocked, db.get_server_pid()))
        await attaching.commit()
        await watching
    finally:
        await other.close()
    assert (await watched(db))["public.visit_south"]["complete"]


async def test_writers_go_on_after_a_rolled_back_watch(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute("CREATE TABLE t (id int)")
    await db.execute("BEGIN; SELECT afresh.watch('t', '{id}'); ROLLBACK")
    await db.execute("INSERT INTO t VALUES (1)")
    assert await watched(db) == {}
    assert await ear.changes() == []


async def test_watch_with_peculiar_names(db: asyncpg.Connection) -> None:
    await db.execute("""
        CREATE SCHEMA "Odd.Schema";
        CREATE TABLE "Odd.Schema"."My Table" ("Client" text, "it's \\ ""it"" too" int, "up\tdown" int);
    """)
    keys = ["Client", 'it\'s \\ "it" too', "up\tdown"]
    name = '"Odd.Schema"."My Table"'
    assert await db.fetchval("SELECT afresh.watch($1::text::regclass, $2)", name, keys) == [name]
    listed = await watched(db)
    assert listed[name]["keys"] == keys
    assert listed[name]["complete"]
    before = await trigger_oids(db)
    await db.execute("SELECT afresh.watch($1::text::regclass, $2)", name, keys)
    assert await trigger_oids(db) == before
    assert await db.fetchval("SELECT afresh.unwatch($1::text::regclass)", name) == [name]


@pytest.mark.usefixtures("each_capture")
async def test_watch_follows_a_renamed_table(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute("CREATE TABLE t (id int); SELECT afresh.watch('t'); CREATE SCHEMA s")
    await db.execute("ALTER TABLE t RENAME TO u; ALTER TABLE u SET SCHEMA s; INSERT INTO s.u VALUES (1)")
    assert list(await watched(db)) == ["s.u"]
    assert await ear.changes() == [("s.u", "INSERT", None, 1)]


async def test_search_path_and_settings_of_the_caller_change_nothing(db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE t (id int); SET search_path = ''; SET quote_all_identifiers = on")
    assert await db.fetchval("SELECT afresh.watch('public.t', '[5:5]={id}')") == ["public.t"]
    assert await db.fetchval("SELECT afresh.unwatch('public.t')") == ["public.t"]


async def test_owner_may_watch_and_others_may_not(db: asyncpg.Connection) -> None:
    """The rights are those of the caller: watching takes what making the triggers by hand would take."""
    transaction = db.transaction()
    await transaction.start()
    try:
        await db.execute("""
            CREATE ROLE afresh_test_owner;
            CREATE ROLE afresh_test_other;
            CREATE SCHEMA owned AUTHORIZATION afresh_test_owner;
            GRANT USAGE ON SCHEMA owned TO afresh_test_other;
            SET LOCAL ROLE afresh_test_owner;
            CREATE TABLE owned.t (id int);
            GRANT ALL ON owned.t TO afresh_test_other;
            SELECT afresh.watch('owned.t', '{id}');
        """)
        assert list(await watched(db)) == ["owned.t"]
        await db.execute("RESET ROLE; SET LOCAL ROLE afresh_test_other")
        assert (await watched(db))["owned.t"]["complete"]
        assert await db.fetchval("SELECT afresh.watch('owned.t', '{id}')") == ["owned.t"]
        for call in ("afresh.watch('owned.t', '{}')", "afresh.unwatch('owned.t')"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="must be owner"):
                async with db.transaction():
                    await db.execute(f"SELECT {call}")
        await db.execute("RESET ROLE; SET LOCAL ROLE afresh_test_owner")
        assert await db.fetchval("SELECT afresh.unwatch('owned.t')") == ["owned.t"]
    finally:
        await transaction.rollback()


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("v", "cannot watch public.v: it is a view", "Watch the tables that the view reads."),
        ("mv", "cannot watch public.mv: it is a materialized view", "Watch the tables that the materialized view"),
        ("ft", "cannot watch public.ft: it is a foreign table", 'every = "5m"'),
        ("t_id_seq", "cannot watch public.t_id_seq: it is a sequence", "Only tables"),
        ("t_pkey", "cannot watch public.t_pkey: it is an index", "Only tables"),
        ("pair", "cannot watch public.pair: it is a composite type", "Only tables"),
        ("pg_catalog.pg_class", "cannot watch pg_catalog.pg_class: it belongs to PostgreSQL itself", "event trigger"),
        ("information_schema.sql_parts", "it belongs to PostgreSQL itself", "event trigger"),
        ("temporary", ": it is a temporary table", "No other session"),
        ("afresh.own", "cannot watch afresh.own: it belongs to Afresh itself", "tables of your application"),
        ("afresh.watched", "cannot watch afresh.watched: it is a view", "Watch the tables"),
    ],
)
async def test_what_cannot_be_watched_is_refused(db: asyncpg.Connection, name: str, message: str, hint: str) -> None:
    await db.execute(
        FOREIGN
        + """
        CREATE TABLE t (id serial PRIMARY KEY);
        CREATE VIEW v AS SELECT * FROM t;
        CREATE MATERIALIZED VIEW mv AS SELECT * FROM t;
        CREATE FOREIGN TABLE ft (id int) SERVER nowhere;
        CREATE TYPE pair AS (a int, b int);
        CREATE TEMPORARY TABLE temporary (id int);
        CREATE TABLE afresh.own (id int);
        """
    )
    async with refused(asyncpg.WrongObjectTypeError, message, hint):
        await db.execute("SELECT afresh.watch($1::text::regclass)", name)
    assert await watched(db) == {}


@pytest.mark.parametrize(
    ("arguments", "error", "message", "hint"),
    [
        ("'t', '{nope}'", asyncpg.UndefinedColumnError, "public.t has no column nope", "It has: id, name, stamp"),
        ("'t', '{Name}'", asyncpg.UndefinedColumnError, 'public.t has no column "Name"', "It has: id, name"),
        ("'t', '{id,name,id}'", asyncpg.DuplicateColumnError, "the key id of public.t is named twice", "once"),
        ("'t', '{ctid}'", asyncpg.UndefinedColumnError, "public.t has no column ctid", ""),
        ("'t', '{gone}'", asyncpg.UndefinedColumnError, "public.t has no column gone", ""),
        ("'t', '{........pg.dropped.5........}'", asyncpg.UndefinedColumnError, "has no column", ""),
        ("'t', NULL", asyncpg.NullValueNotAllowedError, "must not be NULL", "names of columns"),
        ("'t', '{id,NULL}'", asyncpg.NullValueNotAllowedError, "must not be NULL", "names of columns"),
        ("NULL", asyncpg.NullValueNotAllowedError, "must not be NULL", "SELECT afresh.watch("),
        ("4294967295::oid::regclass", asyncpg.UndefinedTableError, "no table with the oid 4294967295", "Name the"),
        ("'t', '{id}', 'x'", asyncpg.InvalidParameterValueError, "capture must be 'log' or 'notify', not 'x'", "Leave"),
        (
            "'t', '{id}', NULL",
            asyncpg.InvalidParameterValueError,
            "capture must be 'log' or 'notify', not NULL",
            "Leave",
        ),
    ],
)
async def test_wrong_arguments_are_refused(
    db: asyncpg.Connection, arguments: str, error: type[asyncpg.PostgresError], message: str, hint: str
) -> None:
    await db.execute(
        "CREATE TABLE t (id int, name text, stamp timestamptz, doc json, gone int); ALTER TABLE t DROP gone"
    )
    async with refused(error, message, hint):
        await db.execute(f"SELECT afresh.watch({arguments})")
    assert await watched(db) == {}


@pytest.mark.parametrize(
    "kind",
    ["json", "jsonb", "float8", "real", "money", "bytea", "timestamptz", "interval", "text[]", "pair", "pairs", "xid"],
)
async def test_key_of_an_unsuitable_type_is_refused(db: asyncpg.Connection, kind: str) -> None:
    await db.execute(f"""
        CREATE TYPE pair AS (a int, b json);
        CREATE DOMAIN pairs AS json;
        CREATE TABLE t (id int, v {kind});
    """)
    async with refused(asyncpg.DatatypeMismatchError, "column v of public.t cannot be a key: its type is", "text, int"):
        await db.execute("SELECT afresh.watch('t', '{id,v}')")


async def test_virtual_generated_column_is_refused_as_a_key(db: asyncpg.Connection) -> None:
    if db.get_server_version().major < 18:
        pytest.skip("virtual generated columns came with PostgreSQL 18")
    await db.execute("CREATE TABLE t (id int, v int GENERATED ALWAYS AS (id + 1) VIRTUAL)")
    async with refused(asyncpg.WrongObjectTypeError, "it is a virtual generated column", "stored one"):
        await db.execute("SELECT afresh.watch('t', '{v}')")


async def test_every_type_that_watch_permits_as_a_key_is_told(db: asyncpg.Connection, ear: Hearing) -> None:
    """`watch` and the trigger function hold the same list of types; here they are held against each other."""
    await db.execute("CREATE TYPE mood AS ENUM ('fine'); CREATE DOMAIN inner_mood AS mood; CREATE DOMAIN d AS int")
    types = await db.fetch("""
        SELECT format_type(oid, NULL) AS name FROM pg_type
        WHERE typtype IN ('b', 'd', 'e', 'r') AND typname !~ '^(_|any)' AND typcategory NOT IN ('P', 'X') AND typisdefined
            AND (oid < 12000 OR oid >= 16384)
    """)
    permitted = []
    for number, (name,) in enumerate(types):
        await db.execute(f"CREATE TABLE t{number} (v {name})")
        try:
            await db.execute(f"SELECT afresh.watch('t{number}', '{{v}}')")
        except asyncpg.DatatypeMismatchError:
            # The trigger function must think the same of it: made by hand, as if its type had changed since.
            await db.execute(f"""
                CREATE TRIGGER x AFTER INSERT ON t{number} REFERENCING NEW TABLE AS afresh_new FOR EACH STATEMENT
                EXECUTE FUNCTION notify_event_refresh('afresh.log', 'v')
            """)
            expected = None
        else:
            permitted.append(name)
            expected = [{"v": None}]
        await db.execute(f"INSERT INTO t{number} VALUES (NULL)")
        assert await ear.changes() == [(f"public.t{number}", "INSERT", expected, 1)], name
    assert sorted(permitted) == sorted([
        "bigint", "boolean", "character", "character varying", "cidr", "d", "date", "inet", "inner_mood", "integer",
        "macaddr", "macaddr8", "mood", "name", "numeric", "smallint", "text", "timestamp without time zone", "uuid",
    ])  # fmt: skip


async def test_trigger_of_somebody_else_by_our_name_is_not_replaced(db: asyncpg.Connection) -> None:
    await db.execute("""
        CREATE TABLE t (id int);
        CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER afresh_update AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION mine();
    """)
    async with refused(
        asyncpg.DuplicateObjectError, "a trigger afresh_update that Afresh has not made", "ALTER TRIGGER"
    ):
        await db.execute("SELECT afresh.watch('t')")
    assert list(await triggers(db, "t")) == ["afresh_update"]


# -- foreign tables in a tree -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_capture")
async def test_foreign_partition_is_skipped_and_its_parents_do_without_transition_tables(
    db: asyncpg.Connection, ear: Hearing
) -> None:
    """PostgreSQL fails a write that would put a foreign table's rows into a transition table."""
    await db.execute(TREE + FOREIGN)
    await db.execute("CREATE FOREIGN TABLE visit_abroad PARTITION OF visit FOR VALUES IN ('abroad') SERVER nowhere")
    notices: list[str] = []
    db.add_log_listener(lambda _, message: notices.append(message.message))
    assert await db.fetchval("SELECT afresh.watch('visit', '{id}')") == MEMBERS
    assert notices == ["public.visit_abroad is a foreign table and is not watched itself"]
    assert not any("REFERENCING" in definition for definition in (await triggers(db, "visit")).values())
    assert "REFERENCING" in (await triggers(db, "visit_west"))["afresh_insert"]
    listed = await watched(db)
    assert sorted(listed) == MEMBERS
    assert all(row["complete"] and row["keys"] == ["id"] for row in listed.values())
    await ear.raw()
    await db.execute("INSERT INTO visit VALUES (1, 'east'); INSERT INTO visit_near VALUES (2, 'west')")
    await db.execute("UPDATE visit_east SET id = id")
    assert await ear.changes() == [
        ("public.visit", "INSERT", None, None),
        ("public.visit_near", "INSERT", [{"id": 2}], 1),
    ]


async def test_parents_have_transition_tables_again_without_the_foreign_partition(db: asyncpg.Connection) -> None:
    await db.execute(TREE + FOREIGN)
    await db.execute("CREATE FOREIGN TABLE visit_abroad PARTITION OF visit FOR VALUES IN ('abroad') SERVER nowhere")
    await db.execute("SELECT afresh.watch('visit', '{id}')")
    await db.execute("ALTER TABLE visit DETACH PARTITION visit_abroad; SELECT afresh.watch('visit', '{id}')")
    assert "REFERENCING" in (await triggers(db, "visit"))["afresh_insert"]
    assert (await watched(db))["public.visit"]["complete"]


@pytest.mark.usefixtures("each_capture")
async def test_write_through_a_watched_parent_reaches_a_foreign_partition(
    server: ServerUnderTest, dsn: str, db: asyncpg.Connection, ear: Hearing
) -> None:
    if not await db.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'"):
        pytest.skip("this server has no postgres_fdw")
    await db.execute(TREE + "CREATE EXTENSION postgres_fdw; CREATE TABLE abroad (id int, region text)")
    await db.execute(
        "DO $$ BEGIN EXECUTE format('CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw "
        "OPTIONS (host %L, port %L, dbname %L)', split_part(current_setting('unix_socket_directories'), ',', 1), "
        "current_setting('port'), current_database()); END $$"
    )
    await db.execute("""
        CREATE USER MAPPING FOR CURRENT_USER SERVER here;
        SELECT afresh.watch('visit', '{id}');
        CREATE FOREIGN TABLE visit_abroad PARTITION OF visit FOR VALUES IN ('abroad') SERVER here
        OPTIONS (table_name 'abroad');
    """)
    await ear.raw()
    await db.execute("INSERT INTO visit VALUES (1, 'abroad'), (2, 'east')")
    await db.execute("UPDATE visit SET id = id + 1")
    await db.execute("DELETE FROM visit")
    assert await ear.changes() == [
        ("public.visit", operation, None, None) for operation in ("INSERT", "UPDATE", "DELETE")
    ]


# -- unwatch ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_capture")
async def test_unwatch_removes_the_whole_watch_and_nothing_else(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(TREE)
    await db.execute("""
        CREATE TRIGGER by_hand AFTER INSERT ON visit_east FOR EACH ROW EXECUTE FUNCTION notify_event_refresh();
        SELECT afresh.watch('visit', '{id}');
    """)
    assert sorted(await db.fetchval("SELECT afresh.unwatch('visit')")) == MEMBERS
    assert await db.fetchval("SELECT afresh.unwatch('visit')") == []
    assert list(await triggers(db, "visit_east")) == ["by_hand"]
    assert list(await watched(db)) == ["public.visit_east"]
    await ear.raw()
    await db.execute("INSERT INTO visit VALUES (1, 'west')")
    assert await ear.changes() == []


async def test_unwatch_of_what_was_never_watched_does_nothing(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute("CREATE TABLE t (id int); CREATE VIEW v AS SELECT * FROM t")
    await ear.raw()
    for name in ("t", "v", "pg_catalog.pg_class"):
        assert await db.fetchval("SELECT afresh.unwatch($1::text::regclass)", name) == []
    assert await db.fetchval("SELECT afresh.unwatch(NULL)") == []
    assert await ear.raw() == []


async def test_unwatch_of_a_member_alone_is_refused(db: asyncpg.Connection) -> None:
    await db.execute(TREE + "SELECT afresh.watch('visit', '{id}')")
    async with refused(
        asyncpg.ObjectNotInPrerequisiteStateError,
        "cannot end the watch on public.visit_east alone: it is covered by the watch on public.visit",
        "SELECT afresh.unwatch('public.visit')",
    ):
        await db.execute("SELECT afresh.unwatch('visit_east')")
    assert sorted(await watched(db)) == MEMBERS


# -- triggers made by hand --------------------------------------------------------------------------------------------


async def test_table_with_a_trigger_made_by_hand_is_listed(db: asyncpg.Connection) -> None:
    await db.execute("""
        CREATE TABLE t (id int);
        CREATE TRIGGER x AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION notify_event_refresh();
    """)
    row = (await watched(db))["public.t"]
    assert (row["level"], row["keys"], row["root"], row["complete"]) == ("row", [], "t", True)
    assert row["capture"] == "notify"
    await db.execute("SELECT afresh.watch('t', '{id}')")
    row = (await watched(db))["public.t"]
    assert (row["level"], row["keys"], row["complete"]) == ("statement", ["id"], True)
    assert row["capture"] == "notify", "what it tells can still be missed"
    await db.execute("DROP TRIGGER x ON t")
    assert (await watched(db))["public.t"]["capture"] == "log"


@pytest.mark.parametrize(
    ("trigger", "level"),
    [
        ("AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION notify_event_refresh()", "row"),
        ("AFTER INSERT OR DELETE OR UPDATE OF id ON t FOR EACH ROW EXECUTE FUNCTION notify_event_refresh()", "row"),
        (
            """AFTER INSERT OR UPDATE OR DELETE ON t
               FOR EACH STATEMENT WHEN (false) EXECUTE FUNCTION notify_event_refresh()""",
            "statement",
        ),
    ],
)
async def test_triggers_made_by_hand_that_leave_something_out_are_not_complete(
    db: asyncpg.Connection, trigger: str, level: str
) -> None:
    await db.execute(f"CREATE TABLE t (id int); CREATE TRIGGER x {trigger}")
    row = (await watched(db))["public.t"]
    assert (row["level"], row["complete"]) == (level, False)
    await db.execute(
        "CREATE TRIGGER y AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION notify_event_refresh()"
    )
    assert (await watched(db))["public.t"]["complete"]
    await db.execute("ALTER TABLE t DISABLE TRIGGER y")
    assert not (await watched(db))["public.t"]["complete"]


async def test_row_level_trigger_on_a_partitioned_table_covers_its_partitions(db: asyncpg.Connection) -> None:
    await db.execute(TREE)
    await db.execute("""
        CREATE TRIGGER x AFTER INSERT OR UPDATE OR DELETE ON visit FOR EACH ROW EXECUTE FUNCTION notify_event_refresh()
    """)
    listed = await watched(db)
    assert sorted(listed) == MEMBERS
    assert {(row["root"], row["complete"]) for row in listed.values()} == {("visit", True)}


async def test_row_level_trigger_on_an_inheritance_parent_does_not_cover_its_children(db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE a (id int); CREATE TABLE b () INHERITS (a)")
    await db.execute(
        "CREATE TRIGGER x AFTER INSERT OR UPDATE OR DELETE ON a FOR EACH ROW EXECUTE FUNCTION notify_event_refresh()"
    )
    assert {name: row["complete"] for name, row in (await watched(db)).items()} == {"public.a": False}
