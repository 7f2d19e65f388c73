"""The service: wires the stages together, starts them in one TaskGroup, and stops them in the order of the data.

Every instance listens, follows the invalidation log and tells its clients; the one that holds the lease also takes changes
and refreshes. A stage that dies takes the service down loudly; whoever started it starts it again. On SIGTERM or SIGINT:
stop listening, take what there is, refresh what is dirty, give up the lease, flush the hub, say goodbye to the
clients; all within `server.shutdown_timeout`. A second signal means now.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
from aiohttp import web

from afresh_notifier import database, embeddings, jobs, packs
from afresh_notifier.board import Board
from afresh_notifier.changes import Gap, Heard, LeaseFree, LogGrown
from afresh_notifier.consumer import Consumer
from afresh_notifier.doctor import queries, views
from afresh_notifier.embedder import Embedder
from afresh_notifier.errors import ServeError
from afresh_notifier.http import Api
from afresh_notifier.hub import Hub
from afresh_notifier.lease import Lease
from afresh_notifier.listener import Inbox, Listener
from afresh_notifier.live import Live
from afresh_notifier.logs import Log
from afresh_notifier.metrics import Metrics
from afresh_notifier.models import Models
from afresh_notifier.named_queries import named_query
from afresh_notifier.named_queries.execution import Execution
from afresh_notifier.named_queries.http import Endpoints
from afresh_notifier.named_queries.library import Library
from afresh_notifier.named_queries.named_query import NamedQuery
from afresh_notifier.observations import LogMeasured, Observe, Serving, Stopping, Warned, fan_out
from afresh_notifier.refresher import Refresher
from afresh_notifier.replay import Replay
from afresh_notifier.resources import query
from afresh_notifier.settings import Settings, http_address
from afresh_notifier.tail import Tail

#: How long clients may take to answer a goodbye, in seconds.
GOODBYE = 2.0

#: Connections beside those that refresh (as due, and by hand): the consumer's, the tail's, the measurement's, and one to
#: spare.
OTHERS = 4

#: How long the look at the views that is made once may take, in seconds.
INSPECTION_PATIENCE = 600.0

#: How often the change log is measured, in seconds.
MEASURE_PACE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A running service; ``url`` is where its HTTP side answers."""

    url: str
    refresher: Refresher
    hub: Hub
    board: Board
    library: Library


async def serve(settings: Settings) -> None:
    """Run the service until SIGTERM or SIGINT. Raises `AfreshError` where it cannot start; what a stage dies of, after."""
    loop, main = asyncio.get_running_loop(), asyncio.current_task()
    assert main is not None  # noqa: S101 - a coroutine runs in a task
    stop = asyncio.Event()

    def signalled() -> None:
        if stop.is_set():
            main.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    try:
        async with running(settings, Log()):
            await stop.wait()
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
        main.uncancel()  # the second signal: it is over, and that was wanted
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@asynccontextmanager
async def running(settings: Settings, *observers: Observe) -> AsyncIterator[Service]:
    """The service, for as long as the block lasts; then it is stopped in order, or, by an error or a cancellation, at once.

    Raises `AfreshError` where it cannot start. A stage that dies cancels the block and raises what it died of.
    """
    installed = packs.find_all(settings.packs)
    named = named_query.collect(settings, installed)
    work = jobs.collect(settings, installed)
    patience = settings.database.connect_timeout
    async with (
        database.explained(settings.database),
        database.connection(settings.database, within=patience) as connection,
    ):
        database.require_serving(await database.facts(connection))
    board, metrics = Board(), Metrics()
    observe = fan_out(board, metrics, *observers)
    replay = Replay(max_entries=settings.log.max_entries, max_age=settings.log.max_age)
    hub = Hub(
        replay,
        observe,
        pace=settings.server.flush,
        buffer=settings.server.client_buffer,
        position_interval=settings.server.position_interval,
    )
    inbox = Inbox()
    async with (
        database.pool(settings.database, size=2 * settings.refresh.concurrency + OTHERS) as pool,
        Execution.opened(settings.database, settings.query) as execution,
        Models.opened(settings.embedding, settings.chat, observe) as models,
    ):
        tail = Tail(pool, hub, observe, most=settings.log.max_entries)
        library = Library(named, execution, models, hub, observe, cache_bytes=settings.query.cache_bytes)
        hub.watch(library.invalidate)
        tail.watch(library.follow)
        live = Live(library, buffer=settings.server.client_buffer)
        tail.watch(live.follow)
        hub.watch(live.invalidate)
        async with database.explained(settings.database):
            await tail.load()
        lease = Lease(settings.database, settings.lease, _name(), inbox.nudge, observe)
        refresher = Refresher(pool, tail.wake, observe, concurrency=settings.refresh.concurrency)
        embedder = Embedder(
            embeddings.collect(settings, installed), settings.database, settings.embedding, models, lease, observe
        )
        told = fan_out(observe, library.notice, embedder.notice)
        consumer = Consumer(settings, installed, pool, inbox, refresher, lease, tail.appended, told)

        def hear(item: Heard) -> None:
            match item:
                case LogGrown(offset=offset):
                    tail.wake(offset)
                case LeaseFree():
                    lease.wake()
                case _:
                    inbox.put(item)
                    if isinstance(item, Gap):
                        tail.wake()

        working = jobs.Jobs(work, settings.database, lease, observe)
        listener = Listener(settings.database, hear, observe)
        endpoints = Endpoints(library, hub, tail)
        api = Api(settings.server, hub, tail, live, refresher, board, metrics, observe, endpoints)
        async with _http(settings, api) as url, asyncio.TaskGroup() as group:
            listening = group.create_task(listener.run(), name="listener")
            holding = group.create_task(lease.run(), name="lease")
            consuming = group.create_task(consumer.run(), name="consumer")
            others = [
                group.create_task(refresher.run(), name="refresher"),
                group.create_task(tail.run(), name="tail"),
                group.create_task(hub.run(), name="hub"),
                group.create_task(library.run(), name="named queries"),
                group.create_task(live.run(), name="live queries"),
                group.create_task(working.run(), name="jobs"),
                group.create_task(embedder.run(), name="embedder"),
                group.create_task(_inspect(settings, named, board, refresher, observe), name="inspection"),
                group.create_task(_measure(pool, observe), name="measurement"),
            ]
            observe(Serving(url=url))
            yield Service(url=url, refresher=refresher, hub=hub, board=board, library=library)
            observe(Stopping(reason="asked to"))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.server.shutdown_timeout):
                    listening.cancel()
                    await asyncio.wait([listening])
                    inbox.close()
                    await asyncio.wait([consuming])
                    await refresher.drain()
                    holding.cancel()
                    await asyncio.wait([holding])
                    await lease.resign()
                    await tail.reach(math.inf)
                    await hub.drain()
            for task in (holding, consuming, *others):
                task.cancel()
            await api.goodbye(GOODBYE)


def _name() -> str:
    """What this instance is called among others: for people, and different from all others."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"


async def _measure(pool: asyncpg.Pool, observe: Observe) -> None:
    """Say every `MEASURE_PACE` seconds how much waits in the change log; where that cannot be asked, say nothing."""
    while True:
        with contextlib.suppress(*database.TRANSIENT):
            async with database.lent(pool, MEASURE_PACE) as connection:
                row = await connection.fetchrow(query("change_log_depth"))
            assert row is not None  # noqa: S101 - an aggregate without GROUP BY has one row
            observe(LogMeasured(changes=row["changes"], oldest=row["oldest"]))
        await asyncio.sleep(MEASURE_PACE)


async def _inspect(
    settings: Settings, named: Sequence[NamedQuery], board: Board, refresher: Refresher, observe: Observe
) -> None:
    """Say once, when the views are known, what will surprise with them, and with the queries; it delays nothing, and its
    failure stops nothing.

    Problems are left out: a view that has one was not refreshed, so that it is still marked, and the leader, which tries
    it, says so.
    """
    await board.planned.wait()
    with contextlib.suppress(*database.TRANSIENT):
        async with database.connection(
            settings.database, within=INSPECTION_PATIENCE, name="afresh inspection"
        ) as connection:
            found = await views.examine(connection, refresher.plan)
            for finding in found + queries.check_patterns(named, refresher.plan):
                if finding.level == "warning":
                    observe(Warned(about=finding.about, what=finding.what, to_do=finding.to_do))


@asynccontextmanager
async def _http(settings: Settings, api: Api) -> AsyncIterator[str]:
    """The HTTP server; yields its address. Raises `ServeError`."""
    runner = web.AppRunner(
        api.application(), access_log=None, handle_signals=False, handler_cancellation=True, shutdown_timeout=GOODBYE
    )
    await runner.setup()
    host, port = settings.server.host, settings.server.port
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise ServeError(
                f"cannot listen on {host}:{port}: {error.strerror or error}",
                hint="another program has the port, or the address is not this machine's; try --port or --host",
            ) from error
        yield http_address(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()
