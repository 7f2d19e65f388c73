"""Connections that are cut, cancelled or frozen while changes go on: everything converges, and clients are told."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from afresh_notifier import database
from afresh_notifier.observations import GapFound, Listening, ListeningLost, RefreshDone
from afresh_notifier.settings import DatabaseSettings
from conftest import PATIENCE, ServerUnderTest, eventually
from faults.world import Lane
from support.proxy import Proxy
from support.scenario import (
    CAPTURES,
    DIAMOND,
    TOTALS,
    Running,
    afresh,
    connected,
    diamond_fresh,
    gates,
    listening,
    resynced,
)

pytestmark = pytest.mark.faults


@asynccontextmanager
async def traffic(dsn: str) -> AsyncIterator[None]:
    """Changes that go on for as long as the block."""

    async def write() -> None:
        async with connected(dsn) as writer:
            while True:
                await writer.execute("UPDATE entries SET amount = amount + 1 WHERE id = 0")

    async with asyncio.TaskGroup() as group:
        task = group.create_task(write(), name="traffic")
        yield
        task.cancel()


async def terminate(db: asyncpg.Connection, pid: int) -> None:
    """End a backend as an administrator does."""
    await db.execute(f"SELECT pg_terminate_backend({pid})")


async def listens_anew(running: Running, *, since: int) -> None:
    """Wait until there is another listening connection, and the gap before it was acted on."""
    await running.seen.until(Listening, since=since)
    await running.seen.until(GapFound, since=since)


@pytest.mark.parametrize("capture", CAPTURES)
async def test_terminated_listener_is_replaced_and_nothing_is_lost(
    dsn: str, db: asyncpg.Connection, capture: str
) -> None:
    await db.execute(DIAMOND + CAPTURES[capture])
    async with afresh(dsn) as running, listening(running.url) as heard:
        await running.settled(db)
        for amount in range(1, 11):
            before, marked = heard.mark, running.seen.mark
            async with traffic(dsn):
                await terminate(db, running.seen.listener_pid)
                await db.execute("UPDATE entries SET amount = $1 WHERE id = 1", amount)
                await listens_anew(running, since=marked)
            # The last change of the traffic may be committed after its connection was given up.
            await eventually(lambda: diamond_fresh(db))
            await resynced(heard, capture, since=before)


@pytest.mark.parametrize("capture", CAPTURES)
async def test_change_while_nobody_listens_is_shown_and_told(
    server: ServerUnderTest, dsn: str, db: asyncpg.Connection, capture: str
) -> None:
    """The one change is made when no listening connection exists, so that only the log, or the gap, can tell of it."""
    await db.execute(DIAMOND + CAPTURES[capture])
    name = await db.fetchval("SELECT current_database()")
    elsewhere = server.dsn("postgres")
    async with connected(elsewhere) as other, afresh(dsn) as running, listening(running.url) as heard:
        await running.settled(db)
        before, marked = heard.mark, running.seen.mark
        await other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await terminate(db, running.seen.listener_pid)
        await running.seen.until(ListeningLost, since=marked)
        await db.execute("UPDATE entries SET amount = 5 WHERE id = 1")
        await other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await listens_anew(running, since=marked)
        await running.settled(db)
        assert await diamond_fresh(db)
        await resynced(heard, capture, since=before)
        # What a client loads after the resync and before the refresh is told again with it.
        await heard.told("overview", since=before)


async def test_terminated_refresh_is_done_again(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    async with gates(dsn) as held, afresh(dsn) as running, listening(running.url) as heard:
        await running.settled(db)
        await heard.told("overview")
        before, marked = heard.mark, running.seen.mark
        await held.close(1)
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        await terminate(db, await held.reached(1))
        await eventually(lambda: len(running.seen.failures(TOTALS, since=marked)) == 1)
        await held.reached(1)
        assert heard.invalidations(since=before, view=TOTALS) == []
        await held.open(1)
        await running.settled(db)
        assert await diamond_fresh(db)
        await heard.told("overview", since=before)
        assert heard.resyncs(since=before) == []  # the listener was not touched, so there was no gap


async def test_cancelled_refresh_is_done_again(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    async with gates(dsn) as held, afresh(dsn) as running:
        await running.settled(db)
        marked = running.seen.mark
        await held.close(1)
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        await db.execute(f"SELECT pg_cancel_backend({await held.reached(1)})")
        await eventually(lambda: len(running.seen.failures(TOTALS, since=marked)) == 1)
        await held.open(1)
        await running.settled(db)
        assert await diamond_fresh(db)


async def test_every_connection_terminated_again_and_again_converges(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    async with afresh(dsn) as running, listening(running.url) as heard:
        await running.settled(db)
        async with traffic(dsn):
            for amount in range(1, 31):
                await db.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND application_name LIKE 'afresh%'"
                )
                await db.execute("UPDATE entries SET amount = $1 WHERE id = 1", amount)
        before = heard.mark
        await db.execute("UPDATE entries SET amount = -1 WHERE id = 2")
        await running.settled(db)
        assert await diamond_fresh(db)
        await heard.told("overview", since=before)


def same_machine(pid: int) -> bool:
    """Whether ``pid`` is a PostgreSQL backend on this machine that we may stop."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
        os.kill(pid, 0)
    except OSError:
        return False
    return b"postgres" in title


@pytest.mark.parametrize("capture", CAPTURES)
async def test_frozen_listener_is_noticed_and_replaced(dsn: str, db: asyncpg.Connection, capture: str) -> None:
    """Its connection stays open and says nothing: only asking can tell."""
    await db.execute(DIAMOND + CAPTURES[capture])
    probing = {"probe_interval": 0.05, "probe_timeout": 0.5}
    async with afresh(dsn, database=probing) as running, listening(running.url) as heard:
        await running.settled(db)
        before, marked, frozen = heard.mark, running.seen.mark, running.seen.listener_pid
        if not same_machine(frozen):
            pytest.skip("the server's processes are not ours to stop")
        os.kill(frozen, signal.SIGSTOP)
        try:
            await db.execute("UPDATE entries SET amount = 5 WHERE id = 1")
            lost = await running.seen.until(ListeningLost, since=marked)
            assert "did not answer" in lost.reason
            await listens_anew(running, since=marked)
            await running.settled(db)
            assert await diamond_fresh(db)
            await resynced(heard, capture, since=before)
        finally:
            os.kill(frozen, signal.SIGCONT)


async def test_frozen_refresh_holds_up_no_other_view(dsn: str, db: asyncpg.Connection) -> None:
    """A stopped backend keeps its locks, so that its own view can only be refreshed once it is gone or goes on."""
    await db.execute(DIAMOND)
    async with gates(dsn) as held, afresh(dsn) as running:
        await running.settled(db)
        await held.close(1)
        await db.execute("UPDATE entries SET amount = 5 WHERE id = 1")
        frozen = await held.reached(1)
        if not same_machine(frozen):
            pytest.skip("the server's processes are not ours to stop")
        os.kill(frozen, signal.SIGSTOP)
        try:
            await held.open(1)
            before = running.seen.mark
            await db.execute("INSERT INTO entries VALUES (90, 1, 0)")
            await running.seen.until(RefreshDone, since=before, view="public.counts")
        finally:
            os.kill(frozen, signal.SIGCONT)
        await running.settled(db)
        assert await diamond_fresh(db)


def test_a_connection_that_has_expired_is_given_back_though_the_server_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """asyncpg closes such a one first, and waits for the other end."""
    monkeypatch.setattr(database, "RETURN_PATIENCE", 0.1)

    async def play(lane: Lane) -> None:
        proxy = Proxy("127.0.0.1", lane.port)
        await proxy.start()
        try:
            async with (
                lane.database() as name,
                database.pool(DatabaseSettings(dsn=lane.dsn(name, proxy.port)), size=1) as pool,
                asyncio.timeout(PATIENCE),
            ):
                async with database.lent(pool, PATIENCE) as connection:
                    assert await connection.fetchval("SELECT 1") == 1
                    await pool.expire_connections()
                    proxy.freeze()
                proxy.thaw()
                async with database.lent(pool, PATIENCE) as connection:  # and there is room for another one
                    assert await connection.fetchval("SELECT 2") == 2
        finally:
            await proxy.close()

    with Lane() as lane:
        asyncio.run(play(lane))
