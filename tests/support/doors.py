"""The told side alone: hub, WebSocket, server-sent events and HTTP as the service runs them, over no database.

For what a database adds nothing to: nobody here listens to one, a test publishes by hand. The pool is one that is never
opened.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import orjson

from afresh_cache.messages import PROTOCOL, Position, ResyncReason, ServerMessage, read_server_message
from afresh_notifier import app
from afresh_notifier.board import Board
from afresh_notifier.errors import UnknownQuery
from afresh_notifier.http import Api
from afresh_notifier.hub import Hub
from afresh_notifier.invalidation import Invalidation
from afresh_notifier.live import Answer, Live, Question
from afresh_notifier.metrics import Metrics
from afresh_notifier.observations import Observation, fan_out
from afresh_notifier.refresher import Refresher
from afresh_notifier.replay import Replay
from afresh_notifier.settings import Settings
from afresh_notifier.subscriber import Subscriber
from afresh_notifier.tail import Tail
from conftest import PATIENCE, eventually

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class NoQueries:
    """Where there is no database, there are no queries."""

    async def question(self, name: str, params: Mapping[str, Any]) -> Question:
        """Raises `UnknownQuery`."""
        raise UnknownQuery(name, f"there is no query {name} to be asked with {list(params)}")

    async def ask(self, question: Question) -> Answer:
        """Nobody can."""
        raise AssertionError(question)


class NoLog(Tail):
    """Where there is no log, everybody stands at its end."""

    async def reach(self, offset: float) -> None:
        """Return at once."""


class Doors:
    """What runs, and what it observed."""

    def __init__(self, settings: Settings, *, epoch: str, entries: int) -> None:
        self.settings = settings
        self.observed: list[Observation] = []
        self.board = Board()
        self.metrics = Metrics()
        self.observe = fan_out(self.board, self.metrics, self.observed.append)
        self.replay = Replay(max_entries=entries, max_age=1e9)
        server = settings.server
        self.hub = Hub(
            self.replay,
            self.observe,
            pace=server.flush,
            buffer=server.client_buffer,
            position_interval=server.position_interval,
        )
        pool = asyncpg.create_pool("postgresql://nobody@127.0.0.1:1/none", min_size=0, max_size=1)
        self.hub.begin(epoch, 0)
        refresher = Refresher(pool, lambda _: None, self.observe, concurrency=1)
        tail = NoLog(pool, self.hub, self.observe, most=entries)
        live = Live(NoQueries(), buffer=server.client_buffer)
        self.api = Api(server, self.hub, tail, live, refresher, self.board, self.metrics, self.observe)
        self.url = ""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    @property
    def subscribers(self) -> list[Subscriber]:
        """Who is connected; the hub shows only how many."""
        return list(self.hub._subscribers)

    def publish(self, *patterns: str, reason: ResyncReason | None = None) -> None:
        """An invalidation, as the log has it after a refresh; with a ``reason`` a resync."""
        entry = Invalidation(offset=self.hub.newest + 1, patterns=patterns, reason=reason, at=AT)
        self.hub.publish(entry, asyncio.get_running_loop().time())

    def observations(self, kind: type[Observation]) -> list[Observation]:
        """Those of one kind."""
        return [seen for seen in self.observed if isinstance(seen, kind)]

    async def flushed(self) -> None:
        """Wait until all that was published is on its way."""
        await eventually(lambda: self.hub.position.offset == self.replay.last)


@asynccontextmanager
async def doors(*, epoch: str = "epoch", entries: int = 1_000, port: int = 0, **server: Any) -> AsyncIterator[Doors]:
    """They are open for the block, then shut as the service shuts them; ``server`` are settings of that section."""
    settings = Settings.model_validate({"server": {"flush": 0, "port": port, **server}})
    made = Doors(settings, epoch=epoch, entries=entries)
    async with app._http(settings, made.api) as url:
        made.url = url
        telling = asyncio.create_task(made.hub.run(), name="hub")
        try:
            yield made
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await made.hub.drain()
            telling.cancel()
            await asyncio.wait([telling])
            await made.api.goodbye(1.0)


class Client:
    """A WebSocket client that a test drives word by word."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, message: object) -> None:
        """Send ``message`` as JSON."""
        await self.socket.send_str(orjson.dumps(message).decode())

    async def subscribe(self, *patterns: str, id: str = "1", since: Position | None = None) -> None:  # noqa: A002
        """Subscribe to ``patterns``, to all where there are none."""
        message: dict[str, Any] = {"type": "subscribe", "id": id}
        if patterns:
            message["patterns"] = list(patterns)
        if since is not None:
            message["since"] = {"epoch": since.epoch, "offset": since.offset}
        await self.say(message)

    async def hear(self) -> ServerMessage:
        """The next message."""
        async with asyncio.timeout(PATIENCE):
            text = await self.socket.receive_str()
        message = read_server_message(text)
        assert message is not None
        return message

    async def closed(self) -> int | None:
        """The close code, once the server has closed; nothing else comes before."""
        async with asyncio.timeout(PATIENCE):
            frame = await self.socket.receive()
        assert frame.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING), frame
        return self.socket.close_code


@asynccontextmanager
async def connect(url: str, **arguments: Any) -> AsyncGenerator[Client, None]:
    """A client for the block; ``arguments`` are those of aiohttp's ``ws_connect``."""
    arguments.setdefault("protocols", (PROTOCOL,))
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/ws", timeout=aiohttp.ClientWSTimeout(ws_close=5.0), **arguments) as socket,
    ):
        yield Client(socket)
