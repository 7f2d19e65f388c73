"""How long after its commit a change is told, beside the floor: a bare asyncpg listener on the same notifications.

Three ways in one run, one change at a time, with a pause between that lets every debounce end: the bare listener's
callback; a client of Afresh for a table that no view hangs on; and one for a table with a view, whose refresh stands
between commit and message. For the last the floor is the same REFRESH, issued by hand when the bare listener hears.
Times are taken in one process by one clock; the service runs in another.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import asyncpg

from afresh_cache import client
from afresh_cache.messages import Invalidate
from bench.report import Report, milliseconds, quantile
from bench.setup import load, server, serving

_CLIENTS = 200
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
        settings = Path(folder) / "afresh.toml"
        # With max_load 1 and no debounce every change is refreshed at once, as after idle time.
        settings.write_text(
            f'packs = ["client_health"]\n[database]\ndsn = "{dsn}"\n[server]\nport = 0\n'
            "[refresh]\nmax_load = 1.0\ndebounce = 0\n"
        )
        async with serving(settings) as url:
            plain, with_view = await _told(connection, url, rounds)
        bare, bare_refresh = await _floor(dsn, connection, rounds)
        await connection.close()
    rows = (
        _row("bare listener: callback", bare, bare),
        _row("Afresh, no view: client told", plain, bare),
        _row(f"bare listener, then REFRESH by hand ({_CLIENTS} clients)", bare_refresh, bare_refresh),
        _row("Afresh, with view: refreshed, client told", with_view, bare_refresh),
    )
    return Report(
        title="Commit → told",
        columns=("what", "p50", "p99", "p50 to its floor", "p50 above its floor"),
        rows=rows,
        note=f"{rounds} changes of each kind, one at a time; the floor of each pair was measured in the same run.",
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

_CHANGE = """
UPDATE nps_responses SET score = (score + 1) % 11 WHERE id = (SELECT min(id) FROM nps_responses)
"""
