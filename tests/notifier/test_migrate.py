"""Migrations: in order, each whole or not at all, one run at a time, and nothing about the database assumed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import asyncpg
import pytest

from afresh_notifier import migrate
from afresh_notifier.errors import MigrationError
from afresh_notifier.migrate import Scope
from conftest import ServerUnderTest, eventually
from notifier.folders import migration


@pytest.fixture
async def empty(server: ServerUnderTest) -> AsyncIterator[str]:
    """The address of a database in which there is nothing, not even the engine."""
    name = await server.create()
    yield server.dsn(name)
    await server.drop(name)


@pytest.fixture
async def connection(empty: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to it."""
    connection = await asyncpg.connect(empty)
    yield connection
    await connection.close()


@pytest.fixture
def scope(tmp_path: Path) -> Scope:
    """Two migrations, of which the second needs the first."""
    migration(tmp_path, "t_0001_a", up="CREATE TABLE a (id int);", down="DROP TABLE a;")
    migration(tmp_path, "t_0002_b", up="CREATE VIEW b AS TABLE a;", down="DROP VIEW b;", depends="t_0001_a")
    return Scope(name="t", folder=tmp_path)


async def up(connection: asyncpg.Connection, *scopes: Scope) -> list[str]:
    return [step.migration async for step in migrate.up(connection, scopes)]


async def down(connection: asyncpg.Connection, *scopes: Scope) -> list[str]:
    return [step.migration async for step in migrate.down(connection, scopes)]


async def somebody(connection: asyncpg.Connection, query: str, state: str) -> bool:
    """Whether another session of this database is in this state with a statement like this."""
    return bool(
        await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ~ $1 AND state = $2",
            query,
            state,
        )
    )


async def states(connection: asyncpg.Connection, *scopes: Scope) -> dict[str, bool]:
    return {step.migration: step.applied for step in await migrate.status(connection, scopes)}


async def relations(connection: asyncpg.Connection) -> list[str]:
    return [
        row["relname"]
        for row in await connection.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname !~ '^_pogo' ORDER BY 1"
        )
    ]


async def test_up_and_down_are_each_others_opposite(connection: asyncpg.Connection, scope: Scope) -> None:
    assert await up(connection, scope) == ["t_0001_a", "t_0002_b"]
    assert await up(connection, scope) == []
    assert await states(connection, scope) == {"t_0001_a": True, "t_0002_b": True}
    assert await down(connection, scope) == ["t_0002_b", "t_0001_a"]
    assert await down(connection, scope) == []
    assert await relations(connection) == []


async def test_scopes_go_up_in_order_and_down_in_the_opposite(
    connection: asyncpg.Connection, scope: Scope, tmp_path: Path
) -> None:
    migration(tmp_path / "u", "u_0001_c", up="CREATE VIEW c AS TABLE b;", down="DROP VIEW c;")
    second = Scope(name="u", folder=tmp_path / "u")
    assert await up(connection, scope, second) == ["t_0001_a", "t_0002_b", "u_0001_c"]
    assert await migrate.applied_packs(connection) == ["t", "u"]
    assert await down(connection, scope, second) == ["u_0001_c", "t_0002_b", "t_0001_a"]
    assert await migrate.applied_packs(connection) == []


async def test_looking_changes_nothing(connection: asyncpg.Connection, scope: Scope) -> None:
    """Also where nobody may make a table, or nothing can be written at all."""
    await connection.execute("SET default_transaction_read_only = on")
    assert await states(connection, scope) == {"t_0001_a": False, "t_0002_b": False}
    assert await migrate.recorded(connection) == {}
    assert await connection.fetchval("SELECT to_regclass('public._pogo_migration')") is None


async def test_a_failing_migration_leaves_nothing_of_itself(
    connection: asyncpg.Connection, scope: Scope, tmp_path: Path
) -> None:
    migration(
        tmp_path,
        "t_0003_c",
        up="CREATE TABLE c (id int);\n\n"
        "DO $$ BEGIN RAISE EXCEPTION 'not today' USING DETAIL = 'It rains.', HINT = 'Wait.'; END $$;",
        down="DROP TABLE c;",
        depends="t_0002_b",
    )
    with pytest.raises(
        MigrationError, match="t_0003_c was not carried out, nothing of it remains: not today"
    ) as caught:
        await up(connection, scope)
    assert "It rains." in caught.value.problem
    assert caught.value.hint == "Wait."
    assert await states(connection, scope) == {"t_0001_a": True, "t_0002_b": True, "t_0003_c": False}
    assert await relations(connection) == ["a", "b"]


async def test_a_rollback_that_fails_leaves_the_migration_applied(connection: asyncpg.Connection, scope: Scope) -> None:
    await up(connection, scope)
    await connection.execute("CREATE VIEW mine AS TABLE b")
    with pytest.raises(MigrationError, match="t_0002_b was not carried out") as caught:
        await down(connection, scope)
    assert "mine" in caught.value.problem
    assert await states(connection, scope) == {"t_0001_a": True, "t_0002_b": True}


async def test_a_cancelled_migration_leaves_nothing_of_itself(empty: str, scope: Scope, tmp_path: Path) -> None:
    migration(
        tmp_path,
        "t_0003_c",
        up="CREATE TABLE c (id int);\n\nSELECT pg_sleep(600);",
        down="DROP TABLE c;",
        depends="t_0002_b",
    )
    watcher = await asyncpg.connect(empty)
    connection = await asyncpg.connect(empty)
    try:
        running = asyncio.create_task(up(connection, scope))

        await eventually(lambda: somebody(watcher, "^SELECT pg_sleep", "active"))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await relations(watcher) == ["a", "b"]
        (tmp_path / "t_0003_c.sql").unlink()
        assert await up(watcher, scope) == []  # the lock was let go of
    finally:
        await connection.close()
        await watcher.close()


async def test_two_runs_at_once_exclude_each_other(empty: str, scope: Scope) -> None:
    first, second = await asyncpg.connect(empty), await asyncpg.connect(empty)
    try:
        async with aclosing(migrate.up(first, [scope])) as steps:
            assert (await anext(steps)).migration == "t_0001_a"
            other = asyncio.create_task(up(second, scope))

            await eventually(lambda: somebody(first, "pg_try_advisory_lock", "idle"))
            assert not other.done()
            assert [step.migration async for step in steps] == ["t_0002_b"]
        assert await other == []
    finally:
        await first.close()
        await second.close()


async def test_a_run_does_not_wait_for_ever(
    empty: str, connection: asyncpg.Connection, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_PATIENCE", 0.0)
    other = await asyncpg.connect(empty)
    try:
        async with aclosing(migrate.up(other, [scope])) as steps:
            await anext(steps)
            with pytest.raises(MigrationError, match="another migration has been running"):
                await up(connection, scope)
    finally:
        await other.close()


async def test_what_a_newer_afresh_made_is_told(connection: asyncpg.Connection, scope: Scope, tmp_path: Path) -> None:
    await up(connection, scope)
    (tmp_path / "t_0002_b.sql").unlink()
    unknown = [step for step in await migrate.status(connection, [scope]) if not step.known]
    assert [(step.migration, step.applied) for step in unknown] == [("t_0002_b", True)]


async def test_a_migration_may_run_outside_a_transaction(connection: asyncpg.Connection, tmp_path: Path) -> None:
    migration(tmp_path, "t_0001_a", up="CREATE TABLE a (id int);", down="DROP TABLE a;")
    migration(
        tmp_path,
        "t_0002_index",
        up="CREATE INDEX CONCURRENTLY i ON a (id);",
        down="DROP INDEX CONCURRENTLY i;",
        depends="t_0001_a",
        transaction=False,
    )
    scope = Scope(name="t", folder=tmp_path)
    await up(connection, scope)
    assert await relations(connection) == ["a", "i"]
    await down(connection, scope)


@pytest.mark.parametrize(
    "text", ["SELECT 1;", "-- Title\n-- depends: nowhere\n\n-- migrate: apply\n\n-- migrate: rollback\n"]
)
async def test_a_malformed_migration_is_named(connection: asyncpg.Connection, tmp_path: Path, text: str) -> None:
    (tmp_path / "t_0001_a.sql").write_text(text, encoding="utf-8")
    with pytest.raises(MigrationError, match=r"t_0001_a\.sql"):
        await up(connection, Scope(name="t", folder=tmp_path))


async def test_who_may_make_no_table_is_told(server: ServerUnderTest, empty: str, scope: Scope) -> None:
    connection = await asyncpg.connect(empty)
    try:
        await connection.execute("REVOKE CREATE ON SCHEMA public FROM public")
        await connection.execute("SET ROLE pg_read_all_data")
        with pytest.raises(MigrationError, match="the table of applied migrations cannot be made: permission denied"):
            await up(connection, scope)
    finally:
        await connection.close()


async def test_the_script_does_what_up_and_down_do(empty: str, connection: asyncpg.Connection, scope: Scope) -> None:
    await connection.execute(await migrate.script(scope))
    assert await relations(connection) == ["a", "b"]
    await connection.execute(await migrate.script(scope, down=True))
    assert await relations(connection) == []


async def test_the_engine_goes_up_and_down(connection: asyncpg.Connection) -> None:
    engine = migrate.engine_scope()
    assert len(await up(connection, engine)) == len(list(engine.folder.glob("*.sql")))
    await down(connection, engine)
    await connection.execute(await migrate.script(engine))
    assert await connection.fetchval("SELECT to_regprocedure('afresh.watch(regclass,text[],text)') IS NOT NULL")
    await connection.execute(await migrate.script(engine, down=True))
    assert await connection.fetchval("SELECT to_regnamespace('afresh') IS NULL")
