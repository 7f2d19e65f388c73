"""What the benchmarks share: a server with the pack in it, and the real command serving it in a process of its own."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp

from afresh_notifier import demo, packs
from afresh_notifier.embedded import EmbeddedServer
from afresh_notifier.settings import DatabaseSettings


@contextmanager
def server() -> Iterator[EmbeddedServer]:
    """An embedded PostgreSQL with its own defaults."""
    with EmbeddedServer(options={"shared_buffers": "256MB"}) as running:
        yield running


async def load(dsn: str, clients: int) -> None:
    """The pack `client_health` with sample data of ``clients`` clients, its views filled."""
    async for doing in demo.prepare(DatabaseSettings(dsn=dsn), packs.find_all(["client_health"]), clients):
        sys.stderr.write(f"\r\033[K{doing}")
    sys.stderr.write("\r\033[K")


async def _ready(url: str) -> None:
    """Return when the service listens and has refreshed every view."""
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{url}/views") as response:
                state = await response.json()
            if state["listening"] and state["views"] and all(view["status"] == "fresh" for view in state["views"]):
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def serving(settings: Path) -> AsyncIterator[str]:
    """`afresh serve` with this settings' file; yields its address, and ends it with SIGTERM."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "afresh_notifier", "--config", str(settings), "serve", stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    address = None
    seen = b""
    while address is None:
        line = await process.stderr.readline()
        if not line:
            raise RuntimeError(f"afresh serve ended: {seen.decode()}")
        seen += line
        address = re.search(rb"http://[\d.:]+", line)
    reader = asyncio.create_task(process.stderr.read(), name="the service's log")
    url = address.group().decode()
    try:
        await _ready(url)
        yield url
    finally:
        process.terminate()
        await process.wait()
        await reader
