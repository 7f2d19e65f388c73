"""How long after its commit a change is told, beside the floor: a bare asyncpg listener on the same notifications.

Three ways in one run, one change at a time, with a pause between that lets every debounce end: the bare listener's
callback; a client of Afresh for a table that no view hangs on; and one for a table with a view, whose refresh stands
between commit and message. For the last the floor is the same REFRESH, issued by hand when the bare listener hears.

And two ways under a storm, in which others write to another watched table as fast as they can: with the log, so that the
bell is silent and the leader looks by itself, and, for the bare listener, with both tables notified.

Times are taken in one process by one clock; the service runs in another.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import asyncpg

from afresh_cache import client
from afresh_cache.messages import Invalidate
from bench.report import Report, milliseconds, quantile
from bench.setup import load, server, serving, writing

_CLIENTS = 200

#: Who writes the storm, and how long it has blown before it is measured, in seconds.
_WRITERS, _GATHERING = 8, 2.0
_VIEW = "public.client_health_summary"


async def measure(scale: float) -> Report:
    """Run it: ``scale`` 1 is 300 changes of each kind."""
    rounds = max(20, round(300 * scale))
    with server() as running, tempfile.TemporaryDirectory() as folder:
        dsn = running.dsn()
        await load(dsn, _CLIENTS)
        connection = await asyncpg.connect(dsn)
        await connection.execute("CREATE TABLE bench_plain (id int PRIMARY KEY, n int)")
        await connection.execute("INSERT INTO bench_plain VALUES (1, 0)")
        await connection.execute("SELECT afresh.watch('bench_plain')")
        await connection.execute(_STORMY)
        settings = Path(folder) / "afresh.toml"
        # With max_load 1 and no debounce every change is refreshed at once, as after idle time.
        settings.write_text(
            f'packs = ["client_health"]\n[database]\ndsn = "{dsn}"\n[server]\nport = 0\n'
            "[refresh]\nmax_load = 1.0\ndebounce = 0\n"
            '[[tables]]\nname = "bench_marked"\nkeys = ["n"]\npatterns = ["marked:{n}"]\n'
        )
        async with serving(settings) as url:
            plain, with_view = await _told(connection, url, rounds)
            stormy, rate = await _told_in_storm(dsn, connection, url, Path(folder), rounds)
        bare, bare_refresh = await _floor(dsn, connection, rounds)
        bare_stormy, bare_rate = await _floor_in_storm(dsn, connection, Path(folder), rounds)
        await connection.close()
    rows = (
        _row("bare listener: callback", bare, bare),
        _row("Afresh, no view: client told", plain, bare),
        _row(f"bare listener, then REFRESH by hand ({_CLIENTS} clients)", bare_refresh, bare_refresh),
        _row("Afresh, with view: refreshed, client told", with_view, bare_refresh),
        _row(f"bare listener in a storm ({bare_rate:,.0f} writes a second)", bare_stormy, bare_stormy),
        _row(f"Afresh in a storm ({rate:,.0f} writes a second): client told", stormy, bare_stormy),
    )
    return Report(
        title="Commit → told",
        columns=("what", "p50", "p99", "p50 to its floor", "p50 above its floor"),
        rows=rows,
        note=(
            f"{rounds} changes of each kind, one at a time; the floor of each pair was measured in the same run. The "
            f"storm: {_WRITERS} writers, as fast as they can; what is timed is a change of another table, with a key."
        ),
    )


def _row(what: str, values: list[float], floor: list[float]) -> tuple[str, ...]:
    p50, base = quantile(values, 0.5), quantile(floor, 0.5)
    return (
        what,
        milliseconds(p50),
        milliseconds(quantile(values, 0.99)),
        f"{p50 / base:.2f}",
        milliseconds(p50 - base),
    )


async def _told(connection: asyncpg.Connection, url: str, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds from commit to message, for a table without a view and for one with."""
    plain: list[float] = []
    with_view: list[float] = []
    async with aclosing(client.listen(url)) as events:
        stream = aiter(events)
        await _hear(stream, lambda event: isinstance(event, client.Connected))
        for number in range(rounds + 10):  # the first ten warm caches up
            committed = await _commit(connection, "UPDATE bench_plain SET n = n + 1")
            told = await _hear(stream, lambda event: isinstance(event, Invalidate) and "bench_plain" in event.patterns)
            committed_view = await _commit(connection, _CHANGE)
            told_view = await _hear(stream, lambda event: isinstance(event, Invalidate) and _VIEW in event.views)
            if number >= 10:
                plain.append(told - committed)
                with_view.append(told_view - committed_view)
            await asyncio.sleep(0.02)
    return plain, with_view


async def _floor(dsn: str, connection: asyncpg.Connection, rounds: int) -> tuple[list[float], list[float]]:
    """The same with nothing but a listener: seconds from commit to its callback, and to the end of a REFRESH."""
    listener, worker = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    heard: asyncio.Queue[float] = asyncio.Queue()
    await connection.execute(_NOTIFIED)
    await listener.add_listener("afresh", lambda *_: heard.put_nowait(time.perf_counter()))
    bare: list[float] = []
    refreshed: list[float] = []
    for number in range(rounds + 10):
        committed = await _commit(connection, "UPDATE bench_plain SET n = n + 1")
        callback = await heard.get()
        committed_view = await _commit(connection, _CHANGE)
        await heard.get()
        await worker.execute(f"REFRESH MATERIALIZED VIEW CONCURRENTLY {_VIEW}")
        done = time.perf_counter()
        if number >= 10:
            bare.append(callback - committed)
            refreshed.append(done - committed_view)
        await asyncio.sleep(0.02)
    await listener.close()
    await worker.close()
    return bare, refreshed


async def _told_in_storm(
    dsn: str, connection: asyncpg.Connection, url: str, folder: Path, rounds: int
) -> tuple[list[float], float]:
    """Seconds from commit to message for changes with a key each, in a storm, and the storm's writes a second."""
    told: list[float] = []
    async with aclosing(client.listen(url, patterns=["marked"])) as events, _storm(dsn, connection, folder) as strength:
        stream = aiter(events)
        await _hear(stream, lambda event: isinstance(event, client.Connected))
        for number in range(rounds + 10):
            committed = await _commit(connection, f"INSERT INTO bench_marked VALUES ({number})")
            heard = await _hear(stream, _tells_of(number))
            if number >= 10:
                told.append(heard - committed)
            await asyncio.sleep(random.uniform(0.01, 0.03))
        rate = await strength()
    return told, rate


def _tells_of(number: int) -> Callable[[client.Event], bool]:
    return lambda event: isinstance(event, Invalidate) and f"marked:{number}" in event.patterns


async def _floor_in_storm(
    dsn: str, connection: asyncpg.Connection, folder: Path, rounds: int
) -> tuple[list[float], float]:
    """The same with nothing but a listener, and both tables notified."""
    listener = await asyncpg.connect(dsn)
    heard: asyncio.Queue[tuple[str, float]] = asyncio.Queue()
    await connection.execute(_STORMY_NOTIFIED)

    def hear(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        if "bench_marked" in str(payload):
            heard.put_nowait((str(payload), time.perf_counter()))

    await listener.add_listener("afresh", hear)
    told: list[float] = []
    async with _storm(dsn, connection, folder) as strength:
        for number in range(rounds + 10):
            committed = await _commit(connection, f"INSERT INTO bench_marked VALUES ({number})")
            payload, moment = await heard.get()
            while f'{{"n":{number}}}' not in payload:  # the table was emptied before
                payload, moment = await heard.get()
            if number >= 10:
                told.append(moment - committed)
            await asyncio.sleep(random.uniform(0.01, 0.03))
        rate = await strength()
    await listener.close()
    return told, rate


@asynccontextmanager
async def _storm(
    dsn: str, connection: asyncpg.Connection, folder: Path
) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Others write while the block lasts; yields what tells how many writes there were a second until then."""
    script = folder / "storm.sql"
    script.write_text("INSERT INTO bench_storm (n) VALUES (1);\n", encoding="utf-8")
    await connection.execute("TRUNCATE bench_marked, bench_storm")

    async def written() -> int:
        count: int = await connection.fetchval("SELECT last_value FROM bench_storm_id_seq")
        return count

    async with writing(dsn, script, _WRITERS):
        await asyncio.sleep(_GATHERING)
        began, first = time.perf_counter(), await written()

        async def strength() -> float:
            return (await written() - first) / (time.perf_counter() - began)

        yield strength


async def _commit(connection: asyncpg.Connection, statement: str) -> float:
    """Carry ``statement`` out; the moment just before it was sent, so that no part of the way is left out."""
    moment = time.perf_counter()
    await connection.execute(statement)
    return moment


async def _hear(stream: AsyncIterator[client.Event], wanted: Callable[[client.Event], bool]) -> float:
    async with asyncio.timeout(30):
        while not wanted(await anext(stream)):
            pass
    return time.perf_counter()


#: A bare listener hears nothing of the log: for it the same tables are notified.
_NOTIFIED = """
SELECT afresh.watch('bench_plain', capture => 'notify');
SELECT afresh.watch('nps_responses', ARRAY['client_name'], 'notify')
"""

_STORMY = """
CREATE TABLE bench_storm (id bigint GENERATED ALWAYS AS IDENTITY, n int);
CREATE TABLE bench_marked (n int PRIMARY KEY);
SELECT afresh.watch('bench_storm');
SELECT afresh.watch('bench_marked', ARRAY['n'])
"""

_STORMY_NOTIFIED = """
SELECT afresh.watch('bench_storm', capture => 'notify');
SELECT afresh.watch('bench_marked', ARRAY['n'], 'notify')
"""

_CHANGE = """
UPDATE nps_responses SET score = (score + 1) % 11 WHERE id = (SELECT min(id) FROM nps_responses)
"""
