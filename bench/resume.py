"""What it takes to answer a thousand clients who come back at once and say where they were.

Clients (`crowd`, a process of its own) are spread over two instances of `afresh serve`, while changes are written all the
time, each with a key of its own, so that it can be said of every client what it has heard. Then PostgreSQL is stopped as
by a crash, and all of them drop their connections and come back while it is away; and then one instance is killed with
-9, and its clients come back to the other. Beside each: as many clients, who connect anew without saying where they were.

What the database is asked is counted in its own log, where it writes every statement of the service.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qs, urlsplit

import aiohttp
import asyncpg

from afresh_notifier.embedded import EmbeddedServer
from bench.report import Report, milliseconds
from bench.setup import Instance, install, progress, server, start

#: Changes in a second, while clients come and go.
_RATE = 20

#: So long nothing happens before anybody comes, in seconds.
_AROUND = 3.0

_STATEMENT = re.compile(rb"afresh[^|]*\|LOG: +(execute|statement)")

#: How a connection fails while PostgreSQL is away.
_AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


async def measure(scale: float) -> Report:
    """Run it: ``scale`` 1 is a thousand clients."""
    size = max(20, round(1000 * scale))
    with (
        server(log_statement="all", log_line_prefix="%a|", max_connections="50") as running,
        tempfile.TemporaryDirectory() as folder,
        progress() as bar,
    ):
        settings = await _prepare(running.dsn(), Path(folder))
        bar.add_task(f"{size:,} clients come and go", total=None)
        async with AsyncExitStack() as stack:
            one, two = [await _instance(settings, stack) for _ in range(2)]
            both = [one.url, two.url]
            bench = _Bench(
                crowd=await stack.enter_async_context(_crowd(size)),
                writer=await stack.enter_async_context(_background(_Writer(running.dsn()))),
                log=await stack.enter_async_context(_background(_StatementLog(_log_file(running.dsn())))),
            )
            rows = [
                await bench.round("connect anew, without `since` (the floor)", "connect", both),
                await bench.round(
                    "PostgreSQL crashes and starts again; all come back meanwhile", "reconnect", both, _restart(running)
                ),
            ]
            await bench.connect(both)
            rows += [
                await bench.round(
                    "one of two instances is killed (-9); its clients come to the other",
                    "answers",
                    [two.url],
                    one.kill(),
                ),
                await bench.round("all come back, to one instance", "reconnect", [two.url]),
                await bench.round("connect anew to one instance (the floor)", "connect", [two.url]),
            ]
    return Report(
        title=f"{size:,} clients come back at once",
        columns=(
            "what",
            "clients",
            "recovered",
            "resynced",
            "silent",
            "all answered",
            "a client",
            "statements",
            "before",
        ),
        rows=tuple(rows),
        note=(
            f"Two instances, {_RATE} changes a second meanwhile. Silent: not answered, or without one of the changes that "
            "were committed. All answered: from the first attempt to connect to the last answer to a subscription, and "
            "that by the number of clients. Statements: what all of the service asked of the database in that time; "
            "before: in as long a time before anybody came."
        ),
    )


@dataclass(slots=True, kw_only=True)
class _Bench:
    """Clients, a writer, and the server's log."""

    crowd: _Crowd
    writer: _Writer
    log: _StatementLog
    #: How many changes had been written when all were connected: they hear what comes after.
    first: int = 0

    async def connect(self, urls: list[str]) -> None:
        """All connect anew."""
        await self.crowd.ask(do="connect", urls=urls)
        self.first = len(self.writer.written)

    async def round(
        self, what: str, order: str, urls: list[str], meanwhile: Coroutine[None, None, None] | None = None
    ) -> tuple[str, ...]:
        """One row: who came, how they were answered, and whether all have heard all that was written."""
        await asyncio.sleep(_AROUND)
        happening = None
        if meanwhile is not None:
            await self.crowd.ask(do="expect", urls=urls)
            happening = asyncio.create_task(meanwhile, name=what)
            await asyncio.sleep(0.05)
        answers = await self.crowd.ask(do=order, urls=urls)
        if order == "connect":
            self.first = len(self.writer.written)
        if happening is not None:
            await happening
        written = len(self.writer.written)
        async with asyncio.timeout(30):
            # One that must be heard after all of it.
            while len(self.writer.written) < written + _RATE:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        wanted = [f"bench:{n}" for n in self.writer.written[self.first :]]
        report = await self.crowd.ask(do="report", wanted=wanted)
        came, seconds = answers["came"], answers["seconds"] or 0.0
        began = answers["began"] or 0.0
        return (
            *(what, f"{came:,}", f"{answers['recovered']:,}", f"{report['resynced']:,}"),
            *(f"{report['silent'] + came - answers['answered']:,}", milliseconds(seconds)),
            milliseconds(seconds / max(1, came)),
            f"{self.log.between(began, began + seconds):,}",
            f"{self.log.between(began - seconds, began):,}",
        )


async def _prepare(dsn: str, folder: Path) -> Path:
    """The table, and the service's settings."""
    connection = await asyncpg.connect(dsn)
    await install(connection)
    await connection.execute("CREATE TABLE bench_rows (n bigint PRIMARY KEY)")
    await connection.execute("SELECT afresh.watch('bench_rows', '{n}')")
    await connection.close()
    settings = folder / "afresh.toml"
    settings.write_text(
        f'[database]\ndsn = "{dsn}"\n[server]\nport = 0\n'
        '[[tables]]\nname = "bench_rows"\nkeys = ["n"]\npatterns = ["bench:{n}"]\n',
        encoding="utf-8",
    )
    return settings


async def _instance(settings: Path, stack: AsyncExitStack) -> Instance:
    """One that is ready, and is stopped with the stack."""
    instance = await start(settings)
    stack.push_async_callback(instance.stop)
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{instance.url}/readyz") as response:
                if response.status == 200:
                    return instance
            await asyncio.sleep(0.1)


async def _restart(running: EmbeddedServer) -> None:
    await asyncio.to_thread(running.restart, "immediate")


class _Crowd:
    """The process of the clients."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def ask(self, **order: object) -> dict[str, Any]:
        """Its answer to one order."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return answer


@asynccontextmanager
async def _crowd(size: int) -> AsyncIterator[_Crowd]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.crowd", str(size)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield _Crowd(process)
    finally:
        process.kill()
        await process.wait()


class _Running(Protocol):
    async def run(self) -> None: ...


R = TypeVar("R", bound=_Running)


@asynccontextmanager
async def _background(running: R) -> AsyncIterator[R]:
    """``running``, while it runs."""
    task = asyncio.create_task(running.run(), name=type(running).__name__)
    try:
        yield running
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class _Writer:
    """Commits one change after the other, each with a key of its own."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        #: The keys whose commit was acknowledged.
        self.written: list[int] = []

    async def run(self) -> None:
        """Until it is cancelled; while there is no server, it asks for one."""
        n = 0
        while True:
            with suppress(*_AWAY):
                connection = await asyncpg.connect(self._dsn)
                while True:
                    n += 1
                    await connection.execute("INSERT INTO bench_rows VALUES ($1)", n)
                    self.written.append(n)
                    await asyncio.sleep(1 / _RATE)
            await asyncio.sleep(0.02)


class _StatementLog:
    """How many statements of the service the server has logged, over time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: list[tuple[float, int]] = []

    async def run(self) -> None:
        """Follow the log, until cancelled."""
        count = 0
        with self._file.open("rb") as log:
            log.seek(0, 2)
            while True:
                count += sum(_STATEMENT.match(line) is not None for line in log)
                self._seen.append((time.perf_counter(), count))
                await asyncio.sleep(0.02)

    def between(self, began: float, ended: float) -> int:
        """The statements between two moments."""
        before = [count for moment, count in self._seen if moment <= began]
        upto = [count for moment, count in self._seen if moment <= ended]
        return upto[-1] - (before or [self._seen[0][1]])[-1]


def _log_file(dsn: str) -> Path:
    """Where the embedded server writes its log: beside its socket."""
    return Path(parse_qs(urlsplit(dsn).query)["host"][0]) / "data" / "log"
