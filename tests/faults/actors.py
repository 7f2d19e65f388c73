"""Who acts in a round: writers, that know what they have committed; and clients, that keep copies and know what they heard.

A client does what the contract asks of it and no more: it keeps a copy of every place, reads anew just the keys that an
invalidation names, when it hears that, and all after a resync. When its connection breaks it goes to another instance, and
resumes where it was.
"""

from __future__ import annotations

import asyncio
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import aclosing

import aiohttp
import asyncpg

from afresh_cache import client
from afresh_cache.messages import Invalidate, Position, PositionUpdate, Resync, Status, Welcome, read_server_message
from faults.history import ClientHistory, Commit, Content, Heard, Value, keys_of
from faults.world import BROKEN, PLACES, READ, World

#: Ids of one writer begin here times its number: no two write the same row.
RANGE = 1_000_000

#: How long a stream of events may be silent before it counts as dead, in seconds; the service speaks each second.
SILENCE = 3.0


def content(document: str | None) -> Content:
    """What a statement of `READ` answers."""
    return {int(key): tuple(value) for key, value in json.loads(document or "{}").items()}


class Writer:
    """Commits transactions, each with rows that nobody has written yet, or a higher number in a row of its own."""

    def __init__(self, number: int, world: World, commits: list[Commit], seed: random.Random) -> None:
        self._first = number * RANGE
        self._world = world
        self._commits = commits
        self._random = random.Random(seed.random())
        self._count = 0

    async def run(self) -> None:
        """Write until the world is to be quiet."""
        loop = asyncio.get_running_loop()
        while not self._world.quiet.is_set():
            async with self._world.session() as connection:
                try:
                    while not self._world.quiet.is_set():
                        rows = self._rows()
                        sent, acknowledged = loop.time(), None
                        try:
                            await self._write(connection, rows)
                            acknowledged = loop.time()
                            self._world.committed += 1
                        finally:
                            self._commits.append(Commit(sent=sent, acknowledged=acknowledged, rows=rows))
                        await self._rest()
                except BROKEN:
                    await asyncio.sleep(0.05)

    def _rows(self) -> tuple[tuple[str, int, int], ...]:
        """What to write next: mostly rows that are new, so that what is lost is not made good by what comes later."""
        self._count += 1
        new = self._first + self._count
        kind = self._random.random()
        if kind < 0.45:
            return (("ledger", new, 1),)
        if kind < 0.65:
            return (("notes", new, 1),)
        if kind < 0.75:
            return ("ledger", new, 1), ("notes", new, 1)
        table = self._random.choice(("ledger", "notes"))
        return ((table, self._first, self._count),)

    async def _write(self, connection: asyncpg.Connection, rows: Sequence[tuple[str, int, int]]) -> None:
        async with connection.transaction():
            for table, number, n in rows:
                await connection.execute(
                    f"INSERT INTO {table} VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET n = excluded.n", number, n
                )

    async def _rest(self) -> None:
        """Bursts, a steady pace, and now and then a rest that is long enough for everything to come to an end."""
        kind = self._random.random()
        if kind < 0.5:
            await asyncio.sleep(self._random.uniform(0, 0.08))
        elif kind < 0.56:
            await asyncio.sleep(self._random.uniform(0.2, 0.8))


class Client(ABC):
    """Keeps copies, over a list of instances."""

    def __init__(self, name: str, world: World, seed: random.Random) -> None:
        self.history = ClientHistory(name=name)
        self._world = world
        self._random = random.Random(seed.random())
        self._since: Position | None = None
        #: The newest that it was told.
        self._told_of: Position | None = None
        #: Which connection this is, counted from 1.
        self._chain = 0
        self._reader: asyncpg.Connection | None = None

    async def run(self) -> None:
        """Hear until cancelled."""
        urls = [instance.url for instance in self._world.instances]
        number = self._random.randrange(len(urls))
        try:
            while True:
                self._chain += 1
                reason = await self._hear(urls[number % len(urls)])
                self.history.connected = False
                self._note("disconnected", detail=reason)
                number += 1
                await asyncio.sleep(self._random.uniform(0.02, 0.2))
        finally:
            if self._reader is not None:
                self._reader.terminate()

    @abstractmethod
    async def _hear(self, url: str) -> str:
        """One connection, until it ends; returns why it did."""

    async def _connected(self, position: Position) -> None:
        self._since = position
        if not self.history.kept:
            read = await self._read(None)
            self._note("resync", read=read, detail="the first reading")
        self._note("connected")
        self.history.connected = True

    async def _told(self, message: Invalidate | Resync) -> None:
        """Read what is stale. The time that is noted is when it was heard."""
        at = asyncio.get_running_loop().time()
        here = self._since
        self._told_of = None if here is None else Position(epoch=here.epoch, offset=message.offset)
        if isinstance(message, Resync):
            read = await self._read(None)
            self._note("resync", at=at, offset=message.offset, detail=message.reason, read=read)
        else:
            read = await self._read(tuple(message.patterns))
            self._note(
                "invalidate",
                at=at,
                offset=message.offset,
                patterns=tuple(message.patterns),
                views=tuple(message.views),
                read=read,
            )

    async def _read(self, patterns: tuple[str, ...] | None) -> dict[str, Content]:
        """Read what ``patterns`` name (None: all), and keep it; waits for the server as long as that takes."""
        found: dict[str, Content] = {}
        wanted = {place: None if patterns is None else keys_of(patterns, place) for place in PLACES}
        places = [place for place, keys in wanted.items() if keys is None or keys]
        for place, rows in zip(places, await self._ask_all(places, wanted), strict=True):
            keys = wanted[place]
            if keys is None:
                found[place], self.history.kept[place] = rows, dict(rows)
            else:
                part: dict[int, Value] = {key: rows.get(key) for key in keys}
                found[place] = part
                self.history.kept[place].update(part)
        return found

    async def _ask_all(self, places: list[str], wanted: Mapping[str, set[int] | None]) -> list[Content]:
        return [await self._ask(place, wanted[place]) for place in places]

    async def _ask(self, place: str, keys: set[int] | None) -> Content:
        while True:
            try:
                if self._reader is None or self._reader.is_closed():
                    self._reader = await asyncpg.connect(self._world.dsn, server_settings={"application_name": "test"})
                return content(await self._reader.fetchval(READ[place], None if keys is None else list(keys)))
            except BROKEN:
                if self._reader is not None:
                    self._reader.terminate()
                    self._reader = None
                await asyncio.sleep(0.05)

    def _note(
        self,
        kind: str,
        *,
        at: float | None = None,
        offset: int | None = None,
        patterns: tuple[str, ...] = (),
        views: tuple[str, ...] = (),
        detail: str = "",
        read: dict[str, Content] | None = None,
    ) -> None:
        here = self._since
        self.history.heard.append(
            Heard(
                at=asyncio.get_running_loop().time() if at is None else at,
                kind=kind,
                chain=self._chain,
                epoch="" if here is None else here.epoch,
                offset=(0 if here is None else here.offset) if offset is None else offset,
                patterns=patterns,
                views=views,
                detail=detail,
                read=read or {},
            )
        )


class WebSocketClient(Client):
    """The client that comes with Afresh."""

    async def _hear(self, url: str) -> str:
        subscribed = False
        async with aclosing(client.listen(url, since=self._since)) as events:
            async for event in events:
                match event:
                    case client.Connected(position=position):
                        subscribed = True
                        await self._connected(position)
                    case client.Disconnected(reason=reason):
                        return reason
                    case Status():
                        pass
                    case _:
                        await self._told(event)
                        if subscribed and self._since is not None:
                            offset = max(self._since.offset, event.offset)
                            self._since = Position(epoch=self._since.epoch, offset=offset)
        return "the events ended"


class EndpointsClient(WebSocketClient):
    """One that reads what is stale from the service itself, by named queries, at any instance: mostly not at the one that
    told it."""

    def __init__(self, name: str, world: World, seed: random.Random) -> None:
        super().__init__(name, world, seed)
        self.history.cached = True

    async def _ask(self, place: str, keys: set[int] | None) -> Content:
        if keys is None:
            return await super()._ask(place, None)
        timeout = aiohttp.ClientTimeout(total=3)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            values = await asyncio.gather(*(self._get(session, place, key) for key in keys))
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    async def _ask_all(self, places: list[str], wanted: Mapping[str, set[int] | None]) -> list[Content]:
        """At the same time, since an instance that is behind takes its time, and at once is when one is."""
        if any(wanted[place] is None for place in places):
            return await super()._ask_all(places, wanted)
        return await asyncio.gather(*(self._ask(place, wanted[place]) for place in places))

    async def _get(self, session: aiohttp.ClientSession, place: str, key: int) -> Value:
        headers = {} if self._told_of is None else {"Afresh-Position": str(self._told_of)}
        while True:
            url = self._random.choice(self._world.instances).url
            try:
                async with session.get(f"{url}/api/queries/{place}?id={key}", headers=headers) as response:
                    if response.status == 200:
                        rows = (await response.json())["rows"]
                        return tuple(rows[0].values()) if rows else None
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            await asyncio.sleep(0.05)


class EventsClient(Client):
    """A client of the server-sent events, as a browser's `EventSource` is one."""

    async def _hear(self, url: str) -> str:
        headers = {} if self._since is None else {"Last-Event-ID": str(self._since)}
        timeout = aiohttp.ClientTimeout(total=None, connect=2, sock_read=SILENCE)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"{url}/events", headers=headers) as response,
            ):
                if response.status != 200:
                    return f"answered with {response.status}"
                fields: dict[str, str] = {}
                async for line in response.content:
                    name, _, value = line.decode().rstrip("\n").partition(": ")
                    if name:
                        fields[name] = value
                    elif "data" in fields:
                        await self._event(fields)
                        fields = {}
                    else:
                        fields = {}
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return str(error) or type(error).__name__
        return "the stream ended"

    async def _event(self, fields: dict[str, str]) -> None:
        message = read_server_message(fields["data"])
        here = Position.parse(fields["id"])
        match message:
            case Welcome():
                await self._connected(here)
            case Invalidate() | Resync():
                await self._told(message)
                self._since = here
            case PositionUpdate():
                self._since = here
            case _:
                pass
