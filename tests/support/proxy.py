"""A TCP proxy that a test stands between two programs, to do to their connection what networks do.

In: where to connect on to. Out: a port on loopback. It can freeze (connections stay open, nothing passes), delay, refuse,
cut all connections, cut in the middle of the next message, and hold one connection at the very moment at which
certain bytes are sent over it: before they are passed on, or after it, so that their answer is withheld.

`up` is from whoever connects to us to the server behind us, `down` is the other way.

Concurrency: one task for each direction of each connection. Everything else is synchronous but `start`, `close` and the
waiting for what is held.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

Direction = Literal["up", "down"]

#: How much is read at once, in bytes.
CHUNK = 65_536


class _Link:
    """One connection, and the one that we made for it."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.writers: dict[Direction, asyncio.StreamWriter] = {"up": far, "down": near}
        self.flowing: dict[Direction, asyncio.Event] = {"up": asyncio.Event(), "down": asyncio.Event()}
        for event in self.flowing.values():
            event.set()
        #: What was said up since the last `BEGIN`, its end at least.
        self.said = bytearray()

    def abort(self) -> None:
        """End both, without a goodbye."""
        for writer in self.writers.values():
            writer.transport.abort()


@dataclass(slots=True, eq=False)
class Hold:
    """A connection that is to be held when ``said`` goes up it, in a transaction in which ``after`` was said
    and ``without`` was not."""

    said: bytes
    after: bytes
    without: bytes | None
    deliver: bool
    caught: asyncio.Future[_Link]

    async def reached(self, patience: float) -> None:
        """Wait until a connection is held. Raises TimeoutError."""
        async with asyncio.timeout(patience):
            await asyncio.shield(self.caught)

    def cut(self) -> None:
        """End the connection that is held."""
        if self.caught.done() and not self.caught.cancelled():
            self.caught.result().abort()


class Proxy:
    """Stands in front of ``host``:``port``, or of PostgreSQL's socket in the folder ``host``; `port` of its own once it has
    been started."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = host, port
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._holds: list[Hold] = []
        self._cut_next: Direction | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        #: Seconds by which every chunk is late.
        self.delay = 0.0
        #: New connections are ended at once.
        self.refuses = False

    @classmethod
    @asynccontextmanager
    async def before(cls, dsn: str) -> AsyncIterator[tuple[Proxy, str]]:
        """A proxy before the server of ``dsn``, and the address that leads through it."""
        parts = urlsplit(dsn)
        options = dict(parse_qsl(parts.query))
        proxy = cls(options.pop("host", "") or parts.hostname or "127.0.0.1", parts.port or 5432)
        await proxy.start()
        user = parts.netloc.rpartition("@")[0]
        netloc = f"{user}@127.0.0.1:{proxy.port}"
        try:
            yield proxy, urlunsplit(parts._replace(netloc=netloc, query=urlencode({**options, "sslmode": "disable"})))
        finally:
            await proxy.close()

    async def start(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """End everything."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def freeze(self) -> None:
        """Nothing passes any more, and nobody is told; who connects is taken in, and hears nothing."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Go on, with what has waited."""
        self._flowing.set()
        for link in self._links:
            for event in link.flowing.values():
                event.set()

    def cut(self) -> None:
        """End all connections."""
        for link in self._links:
            link.abort()

    def cut_within(self, direction: Direction) -> None:
        """Of the next message in this direction pass one half on, and end its connection."""
        self._cut_next = direction

    @property
    def cuts(self) -> bool:
        """Whether `cut_within` still waits for a message."""
        return self._cut_next is not None

    def hold(self, said: bytes, *, after: bytes = b"", without: bytes | None = None, deliver: bool) -> Hold:
        """Hold the first connection of PostgreSQL's on which ``said`` goes up in a transaction in which ``after`` was said
        and ``without`` was not: with ``deliver`` it arrives and the answer does not come; else it does not arrive.
        `release` lets the connection go."""
        hold = Hold(said, after, without, deliver, asyncio.get_running_loop().create_future())
        self._holds.append(hold)
        return hold

    def release(self, hold: Hold) -> None:
        """Forget ``hold``, and let go of the connection that it has caught."""
        if hold in self._holds:
            self._holds.remove(hold)
        hold.caught.cancel()
        self.thaw()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        link: _Link | None = None
        try:
            if self.refuses:
                return
            await self._flowing.wait()
            host, port = self._upstream
            if host.startswith("/"):
                far_reader, far_writer = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
            else:
                far_reader, far_writer = await asyncio.open_connection(host, port)
            link = _Link(writer, far_writer)
            self._links.add(link)
            await asyncio.gather(self._pump(link, "up", reader), self._pump(link, "down", far_reader))
        except OSError:
            pass
        except asyncio.CancelledError:
            # asyncio's server would log it as an error of ours; it is how we are closed.
            pass
        finally:
            writer.transport.abort()
            if link is not None:
                link.abort()
                self._links.discard(link)
            self._tasks.discard(task)

    async def _pump(self, link: _Link, direction: Direction, reader: asyncio.StreamReader) -> None:
        writer = link.writers[direction]
        while data := await reader.read(CHUNK):
            if self.delay:
                await asyncio.sleep(self.delay)
            hold = self._holding(link, data) if direction == "up" else None
            if hold is not None:
                link.flowing["down"].clear()
                if not hold.deliver:
                    link.flowing["up"].clear()
                hold.caught.set_result(link)
            await self._flowing.wait()
            await link.flowing[direction].wait()
            if self._cut_next == direction and len(data) > 1:
                self._cut_next = None
                writer.write(data[: len(data) // 2])
                with contextlib.suppress(OSError):
                    await writer.drain()
                # Closed in order, not aborted, so that the half arrives: what follows is the end of the stream.
                link.writers[direction].close()
                other: Direction = "down" if direction == "up" else "up"
                link.writers[other].transport.abort()
                return
            writer.write(data)
            await writer.drain()
        # One side has said all: the other gets it, and its end.
        writer.close()

    def _holding(self, link: _Link, data: bytes) -> Hold | None:
        """The hold that ``data`` meets, if any; it holds nobody else then."""
        if b"BEGIN" in data:
            link.said.clear()
        link.said += data
        del link.said[:-CHUNK]
        for hold in self._holds:
            if (
                hold.said in data
                and hold.after in link.said
                and (hold.without is None or hold.without not in link.said)
            ):
                self._holds.remove(hold)
                return hold
        return None
