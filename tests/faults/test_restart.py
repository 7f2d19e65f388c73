"""PostgreSQL itself goes down, comes back, or is not what it was: Afresh needs no restart of its own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import asyncpg
import pytest

from afresh_notifier import app
from afresh_notifier.embedded import EmbeddedServer
from afresh_notifier.errors import WrongDatabase
from afresh_notifier.observations import ConnectFailed, GapFound, ListeningLost
from afresh_notifier.settings import Settings
from conftest import SERVER_OPTIONS, eventually, migrate_up
from support.scenario import CAPTURES, DIAMOND, afresh, connected, diamond_fresh, gates, listening, resynced

pytestmark = pytest.mark.faults

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def own() -> Iterator[EmbeddedServer]:
    """A server of these tests' own, to be broken."""
    with EmbeddedServer(options=SERVER_OPTIONS) as server:
        yield server


@pytest.fixture
async def dsn(own: EmbeddedServer) -> str:
    """The address of a new database on it, with `DIAMOND` in it."""
    name = f"test_{next(_numbers)}"
    async with connected(own.dsn()) as db:
        await db.execute(f"CREATE DATABASE {name}")
    await migrate_up(own.dsn(name))
    async with connected(own.dsn(name)) as db:
        await db.execute(DIAMOND)
    return own.dsn(name)


async def write_on(dsn: str, stop: asyncio.Event) -> int:
    """Changes that go on, over a new connection whenever one is lost; returns how many were certainly committed."""
    committed = 0
    while not stop.is_set():
        try:
            async with connected(dsn) as writer:
                while not stop.is_set():
                    await writer.execute("UPDATE entries SET amount = amount + 1 WHERE id = 0")
                    committed += 1
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            await asyncio.sleep(0.01)
    return committed


@pytest.mark.parametrize("capture", CAPTURES)
@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_restart_of_the_server_while_changes_go_on(
    own: EmbeddedServer, dsn: str, mode: Literal["fast", "immediate"], capture: str
) -> None:
    async with connected(dsn) as db:
        await db.execute(CAPTURES[capture])
    async with afresh(dsn) as running, listening(running.url) as heard, asyncio.TaskGroup() as group:
        stop = asyncio.Event()
        async with connected(dsn) as db:
            await running.settled(db)
        writing = group.create_task(write_on(dsn, stop), name="writer")
        held_before = running.seen.changed("public.entries")
        await eventually(lambda: running.seen.changed("public.entries") > held_before)
        before, marked = heard.mark, running.seen.mark
        async with gates(dsn) as held:  # so that a refresh is in flight for certain when the server goes
            await held.close(1)
            await held.reached(1)
            await asyncio.to_thread(own.restart, mode)
        await running.seen.until(ListeningLost, since=marked)
        await running.seen.until(GapFound, since=marked)
        after = running.seen.changed("public.entries")
        await eventually(lambda: running.seen.changed("public.entries") > after)
        stop.set()
        committed = await writing
        async with connected(dsn) as db:
            await running.settled(db)
            assert await diamond_fresh(db)
            shown = await db.fetchval("SELECT total FROM overview WHERE writer = 0")
            assert shown >= committed > 0
        await resynced(heard, capture, since=before)
        await heard.told("overview", since=before)


async def test_server_that_is_down_for_a_while_is_waited_for(own: EmbeddedServer, dsn: str) -> None:
    async with connected(dsn) as db:
        await db.execute(CAPTURES["notify"])
    async with afresh(dsn) as running, listening(running.url) as heard:
        async with connected(dsn) as db:
            await running.settled(db)
            await db.execute("UPDATE entries SET amount = 9 WHERE id = 1")
        before, marked = heard.mark, running.seen.mark
        await asyncio.to_thread(own.stop, "immediate")
        await eventually(lambda: len(running.seen.of(ConnectFailed, since=marked)) >= 3)
        assert not running.service.board.listening
        assert heard.resyncs(since=before) == []
        await asyncio.to_thread(own.start)
        await eventually(lambda: "gap" in heard.resyncs(since=before))
        async with connected(dsn) as db:
            await running.settled(db)
            assert await diamond_fresh(db)
        assert running.service.board.listening


async def test_standby_is_refused_at_the_start(own: EmbeddedServer, dsn: str) -> None:
    async with connected(dsn) as db:
        folder = Path(await db.fetchval("SHOW data_directory"))
    await asyncio.to_thread(own.stop)
    (folder / "standby.signal").touch(mode=0o644)
    try:
        await asyncio.to_thread(own.start)
        with pytest.raises(WrongDatabase, match="standby") as raised:
            async with app.running(Settings(database={"dsn": dsn}, server={"port": 0})):
                pass
        assert "name the primary" in raised.value.hint
    finally:
        (folder / "standby.signal").unlink()
        await asyncio.to_thread(own.restart)
