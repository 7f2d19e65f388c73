"""The demo: a database with every pack and sample data in it, live traffic, and one change followed from end to end.

In: a connection's settings, packs. Out: a prepared database (`prepare`), random changes (`traffic`), or a `Story`: what
happened to one committed change, with the time of each stage (`follow_one_change`). It uses the service just as a user
does: the command's own pipeline, a real client on the WebSocket, a real server.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from afresh_cache import client
from afresh_cache.messages import Invalidate
from afresh_notifier import database, migrate
from afresh_notifier.app import Service
from afresh_notifier.errors import AfreshError, MigrationError, StoryUntold
from afresh_notifier.observations import ChangesHeard, Observation, RefreshDone
from afresh_notifier.packs import InstalledPack, installable
from afresh_notifier.resources import query
from afresh_notifier.settings import DatabaseSettings

#: How long `follow_one_change` waits for each thing that must happen, in seconds.
PATIENCE = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What became of one change. Times are milliseconds since the statement was sent."""

    subject: str
    statement: str
    committed: float
    heard: float
    refreshed: float
    told: float
    view: str
    refresh_ms: float
    message: Invalidate
    before: Mapping[str, Any]
    after: Mapping[str, Any]


async def prepare(
    settings: DatabaseSettings, packs: Sequence[InstalledPack], clients: int
) -> AsyncGenerator[str, None]:
    """Install the engine and the packs, and load sample data of ``clients`` clients; yields what it is doing.

    Raises `AfreshError`.
    """
    scopes = installable(packs)
    async with database.scripting(settings, name="afresh demo") as connection:
        try:
            async for step in migrate.up(connection, scopes):
                yield f"migrated {step.migration}"
        except MigrationError as error:
            chosen = " ".join(f"--pack {pack.name}" for pack in packs)
            raise MigrationError(
                error.problem, hint=f"{error.hint} Or leave out the pack that it is about: {chosen}".strip()
            ) from error
        await connection.execute(query("set_sample_size"), str(clients))
        for pack in packs:
            yield f"loading sample data of {pack.name}"
            try:
                async with database.transaction(connection):
                    await connection.execute(pack.read("sample.sql"))
            except asyncpg.ObjectNotInPrerequisiteStateError:
                yield f"{pack.name} holds data already, which is used as it is"
            except asyncpg.PostgresError as error:
                what, hint = database.said(error)
                raise AfreshError(
                    f"pack {pack.name}: the sample data was not loaded: {what}",
                    hint=hint or "give the demo an empty database",
                ) from error
        yield "analysing"
        await connection.execute("ANALYZE")


async def traffic(settings: DatabaseSettings, packs: Sequence[InstalledPack], rate: float) -> None:
    """Make random changes, about ``rate`` a second, until cancelled; a lost connection is made again."""
    statements = [pack.read("demo/traffic.sql") for pack in packs]
    while True:
        with contextlib.suppress(*database.TRANSIENT):
            async with database.scripting(settings, name="afresh demo traffic") as connection:
                while True:
                    await connection.execute(random.choice(statements))  # noqa: S311
                    await asyncio.sleep(random.expovariate(rate))
        await asyncio.sleep(1.0)


class Stopwatch:
    """An observer that notes when the first change was heard and a view refreshed, after `start`."""

    def __init__(self) -> None:
        self.heard: float | None = None
        self.refreshes: list[tuple[float, RefreshDone]] = []

    def start(self) -> None:
        """Forget what was noted."""
        self.heard = None
        self.refreshes = []

    def __call__(self, observation: Observation) -> None:
        """Take note."""
        now = time.perf_counter()
        if isinstance(observation, ChangesHeard) and self.heard is None:
            self.heard = now
        elif isinstance(observation, RefreshDone):
            self.refreshes.append((now, observation))


async def quiet(service: Service) -> None:
    """Return when every view shows all there is and would act on a change at once. Raises `StoryUntold`."""
    await _until(
        lambda: (
            service.board.planned.is_set()
            and service.refresher.rested()
            and all(state.refreshes for state in service.board.views.values())
        ),
        "the views were not all refreshed at the start; see the log above, or `afresh doctor`",
    )


async def follow_one_change(
    settings: DatabaseSettings, pack: InstalledPack, service: Service, stopwatch: Stopwatch
) -> Story:
    """Commit the pack's one change, and follow it until a client has been told and has read the view back.

    Raises `StoryUntold` where any of it does not happen, or the view is the same afterwards.
    """
    statement = pack.read("demo/change.sql")
    told: asyncio.Queue[tuple[float, client.Event]] = asyncio.Queue()

    async def hear() -> None:
        async with contextlib.aclosing(client.listen(service.url)) as events:
            async for event in events:
                told.put_nowait((time.perf_counter(), event))

    async with database.scripting(settings, name="afresh demo") as connection, _background(hear()):
        await _next(told, client.Connected, "the client did not get a connection")
        await quiet(service)
        subject = await connection.fetchval(pack.read("demo/subject.sql"))
        if subject is None:
            raise StoryUntold(f"pack {pack.name} has no row to change", hint="give the demo more clients: --clients 50")
        before = await connection.fetchrow(pack.read("demo/row.sql"), subject)
        newest = service.hub.newest
        stopwatch.start()
        sent = time.perf_counter()
        await connection.execute(statement, subject)
        committed = time.perf_counter()
        while True:
            moment, event = await _next(told, Invalidate, "no client was told of the change")
            assert isinstance(event, Invalidate)  # noqa: S101 - that is what was waited for
            if event.offset > newest and event.views:
                break
        after = await connection.fetchrow(pack.read("demo/row.sql"), subject)
    refreshed = next(((at, done) for at, done in stopwatch.refreshes if done.view in event.views), None)
    if stopwatch.heard is None or refreshed is None:
        raise StoryUntold("the client was told of a refresh that nobody saw")
    if before is None or after is None or dict(before) == dict(after):
        raise StoryUntold(f"{event.views[0]} shows the same for {subject} as before the change")
    return Story(
        subject=subject,
        statement=statement,
        committed=(committed - sent) * 1000,
        heard=(stopwatch.heard - sent) * 1000,
        refreshed=(refreshed[0] - sent) * 1000,
        told=(moment - sent) * 1000,
        view=refreshed[1].view,
        refresh_ms=refreshed[1].seconds * 1000,
        message=event,
        before=dict(before),
        after=dict(after),
    )


@contextlib.asynccontextmanager
async def _background(coroutine: Any) -> AsyncIterator[None]:
    """Run ``coroutine`` beside the block, and end it with the block."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(coroutine)
        yield
        task.cancel()


async def _next(
    queue: asyncio.Queue[tuple[float, client.Event]], kind: type[client.Event], otherwise: str
) -> tuple[float, client.Event]:
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                moment, event = await queue.get()
                if isinstance(event, kind):
                    return moment, event
    except TimeoutError as error:
        raise StoryUntold(f"{otherwise} within {PATIENCE:g} s") from error


async def _until(condition: Callable[[], bool], otherwise: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - asked of several stages, which have no event in common
                await asyncio.sleep(0.02)
    except TimeoutError as error:
        raise StoryUntold(otherwise) from error
