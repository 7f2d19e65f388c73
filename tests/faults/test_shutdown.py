"""The end of the real command: SIGTERM under load, and what is there afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import orjson
import pytest

from conftest import PATIENCE, eventually
from support.scenario import DIAMOND, afresh, connected, diamond_fresh, gates

pytestmark = pytest.mark.faults

#: Close code of a service that stops.
GOING_AWAY = 1001


@dataclass(frozen=True, slots=True)
class Command:
    """`afresh serve`, running in a process of its own."""

    process: asyncio.subprocess.Process
    url: str

    async def ended(self) -> int:
        """Wait for its end; returns the exit code."""
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def serve(folder: Path, dsn: str, *sections: str) -> AsyncIterator[Command]:
    """The command, answering; it is killed on leaving if it still runs then."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    (folder / "afresh.toml").write_text(
        "\n".join((f'[database]\ndsn = "{dsn}"', f"[server]\nport = {port}", *sections)) + "\n"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AFRESH_")}
    kept.pop("DATABASE_URL", None)
    with (folder / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "afresh_notifier", "serve"), cwd=folder, env=kept, stdout=log, stderr=log
        )
    command = Command(process, f"http://127.0.0.1:{port}")
    try:
        async with aiohttp.ClientSession() as session:

            async def ready() -> bool:
                assert process.returncode is None, (folder / "log").read_text()
                return await _ready(session, command.url)

            await eventually(ready)
        yield command
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/readyz") as response:
            return response.status == 200
    except aiohttp.ClientConnectionError:
        return False


@asynccontextmanager
async def subscribed(url: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A bare client of everything, so that the close frame is seen."""
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/ws", protocols=("afresh.v1",)) as socket_:
        await socket_.send_str('{"type":"subscribe","id":"1"}')
        while (await asyncio.wait_for(socket_.receive_json(loads=orjson.loads), PATIENCE))["type"] != "subscribed":
            pass
        yield socket_


async def everything(client: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    """What is said until the connection ends."""
    async with asyncio.timeout(PATIENCE):
        return [orjson.loads(message.data) async for message in client if message.type is aiohttp.WSMsgType.TEXT]


async def test_sigterm_under_load_finishes_what_was_committed_and_says_goodbye(
    dsn: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await db.execute(DIAMOND)
    written = 0

    async def write(stop: asyncio.Event) -> None:
        nonlocal written
        async with connected(dsn) as writer:
            while not stop.is_set():
                written = await writer.fetchval("UPDATE entries SET amount = amount + 1 WHERE id = 0 RETURNING amount")

    async with (
        serve(tmp_path, dsn, "[refresh]\ndebounce = 5\nmax_wait = 30") as command,
        subscribed(command.url) as client,
        asyncio.TaskGroup() as group,
    ):
        stop = asyncio.Event()
        group.create_task(write(stop), name="load")
        await eventually(lambda: written >= 200)
        # It has heard what was committed before it answers this; nothing of it would be refreshed for seconds yet.
        before = written
        await heard(command, db)
        command.process.send_signal(signal.SIGTERM)
        said = await everything(client)
        assert await command.ended() == 0
        stop.set()
    assert client.close_code == GOING_AWAY
    shown = await db.fetchval("SELECT total FROM overview WHERE writer = 0")
    assert shown >= before
    # And it was told, last of all what hangs on the most; what met in one flush is one message.
    told = [message["views"] for message in said if message["type"] == "invalidate" and message["views"]]
    assert "public.overview" in told[-1]


async def heard(command: Command, db: asyncpg.Connection) -> None:
    """Wait until the command has heard all that is committed: until a tick is told."""
    async with subscribed(command.url) as client:
        await db.execute("INSERT INTO tick DEFAULT VALUES")
        while True:
            message = await asyncio.wait_for(client.receive_json(loads=orjson.loads), PATIENCE)
            if message["type"] == "invalidate" and "tick" in message["patterns"]:
                return


async def test_refresh_in_flight_is_finished_before_the_end(dsn: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await db.execute(DIAMOND)
    async with gates(dsn) as held, serve(tmp_path, dsn) as command, subscribed(command.url) as client:
        await eventually(lambda: _fresh(db))
        await held.close(1)
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        await held.reached(1)
        command.process.send_signal(signal.SIGTERM)
        await eventually(lambda: _listens_no_more(db))
        await held.open(1)
        said = await everything(client)
        assert await command.ended() == 0
    assert client.close_code == GOING_AWAY
    assert await diamond_fresh(db)
    assert any("public.overview" in message.get("views", ()) for message in said)


async def test_what_a_shutdown_could_not_finish_is_dirty_at_the_next_start(
    dsn: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await db.execute(DIAMOND)
    async with gates(dsn) as held:
        async with serve(tmp_path, dsn, "shutdown_timeout = 0.2") as command:
            await eventually(lambda: _fresh(db))
            await held.close(1)
            await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
            await held.reached(1)
            command.process.send_signal(signal.SIGTERM)
            assert await command.ended() == 0
        assert await db.fetchval("SELECT total FROM totals WHERE writer = 1") == 0
        await held.open(1)
        async with afresh(dsn) as running:
            await running.settled(db)
            assert await diamond_fresh(db)


async def test_second_signal_ends_at_once(dsn: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    """The refresh in flight would be waited for, for an hour: it hangs until the test ends."""
    await db.execute(DIAMOND)
    async with gates(dsn) as held, serve(tmp_path, dsn, "shutdown_timeout = 3600") as command:
        await eventually(lambda: _fresh(db))
        await held.close(1)
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        await held.reached(1)
        command.process.send_signal(signal.SIGTERM)
        await eventually(lambda: _listens_no_more(db))
        assert command.process.returncode is None
        command.process.send_signal(signal.SIGTERM)
        assert await command.ended() == 0
        assert "Traceback" not in (tmp_path / "log").read_text()


async def test_changes_made_while_afresh_is_killed_and_down_are_shown_after_the_next_start(
    dsn: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await db.execute(DIAMOND)
    async with serve(tmp_path, dsn) as command:
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        command.process.send_signal(signal.SIGKILL)
        await command.ended()
    await db.execute("UPDATE entries SET amount = 2 WHERE id = 2")
    async with serve(tmp_path, dsn):
        await eventually(lambda: _fresh(db))


async def _fresh(db: asyncpg.Connection) -> bool:
    return await diamond_fresh(db)


async def _listens_no_more(db: asyncpg.Connection) -> bool:
    return not await db.fetchval(
        "SELECT EXISTS (SELECT FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'afresh listener')"
    )
