"""An application in miniature: it answers from a cache that a `Subscriber` keeps true, over all the instances there are.

It writes down each answer that it gave, with the position up to which its Subscriber had heard everything when it was
asked; and at the end what its cache holds. `checker` holds that against what is known of the views.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from functools import partial

import asyncpg

from afresh_cache.client import OnDisconnect, Subscriber
from afresh_cache.store import PatternCache
from faults.actors import RANGE, content
from faults.history import ApplicationHistory, Commit, Served, Value
from faults.world import BROKEN, READ, VIEWS, World

#: How often the Subscriber asks whether its connection lives, in seconds.
HEARTBEAT = 1.0

#: Readers, each of which asks one question after another; and how many of the newest commits they ask about.
READERS, NEWEST = 8, 10


class Application:
    """Readers that share one cache."""

    def __init__(self, world: World, commits: Sequence[Commit], seed: random.Random) -> None:
        self._world = world
        self._commits = commits
        self._random = random.Random(seed.random())
        modes: tuple[OnDisconnect, ...] = ("keep", "clear", "bypass", "bypass")
        self._mode = self._random.choice(modes)
        self._cache: PatternCache[Value] = PatternCache(500)
        self._subscriber: Subscriber | None = None
        self._connection: asyncpg.Connection | None = None
        self._asking = asyncio.Lock()
        self.history = ApplicationHistory(on_disconnect=self._mode)

    async def run(self) -> None:
        """Answer until cancelled."""
        urls = [instance.url for instance in self._world.instances]
        self._random.shuffle(urls)
        try:
            async with (
                Subscriber(urls, cache=self._cache, on_disconnect=self._mode, heartbeat=HEARTBEAT) as self._subscriber,
                asyncio.TaskGroup() as group,
            ):
                for _ in range(READERS):
                    group.create_task(self._read(), name="reader")
        finally:
            if self._connection is not None:
                self._connection.terminate()

    def look(self) -> None:
        """Write down what the cache holds now, and up to where everything has been heard."""
        subscriber = self._subscriber
        self.history.hears = subscriber is not None and subscriber.hears
        if subscriber is not None and subscriber.position is not None:
            self.history.offset = subscriber.position.offset
        self.history.kept = {}
        for key, value in self._cache.items():
            place, number, _ = key.split(":")
            self.history.kept.setdefault(place, {})[int(number)] = value

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            place, number = self._random.choice(tuple(VIEWS)), self._key()
            assert self._subscriber is not None
            here, at, key = self._subscriber.position, loop.time(), f"{place}:{number}:"
            cached = key in self._cache
            try:
                value = await self._cache.get_or_load(key, partial(self._load, place, number))
            except BROKEN:
                await asyncio.sleep(0.05)
                continue
            if here is not None:
                self.history.served.append(
                    Served(
                        at=at,
                        place=place,
                        key=number,
                        value=value,
                        cached=cached,
                        epoch=here.epoch,
                        offset=here.offset,
                    )
                )
            await asyncio.sleep(self._random.uniform(0, 0.02))

    async def _load(self, place: str, number: int) -> Value:
        """What is read, and some work on it, during which it may become stale. Raises what is in `BROKEN`."""
        value = await self._ask(place, number)
        await asyncio.sleep(self._random.uniform(0, 0.1))
        return value

    def _key(self) -> int:
        """One of the rows that are written again and again, or one that is new."""
        newest = self._commits[-NEWEST:]
        if not newest or self._random.random() < 0.3:
            return RANGE * self._random.randint(1, 3)
        return self._random.choice(self._random.choice(newest).rows)[1]

    async def _ask(self, place: str, number: int) -> Value:
        """One value, by the application's one connection. Raises what is in `BROKEN`."""
        async with self._asking:
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await asyncpg.connect(
                        self._world.dsn, server_settings={"application_name": "test"}
                    )
                return content(await self._connection.fetchval(READ[place], [number])).get(number)
            except BROKEN:
                if self._connection is not None:
                    self._connection.terminate()
                    self._connection = None
                raise
