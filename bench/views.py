"""What a query of the two summaries costs, beside the same answer computed from the base tables.

The materialized view against its live twin (`<name>_live`, the same definition), all rows and one client's; medians of
interleaved runs, planned and executed by the server, rows fetched by asyncpg in both cases.
"""

from __future__ import annotations

import time

import asyncpg

from bench.report import Report, milliseconds, quantile
from bench.setup import load, server

_VIEWS = {"client_health_summary": "client_name = $1", "event_compliance_summary": "client_name = $1"}


async def measure(scale: float) -> Report:
    """Run it: ``scale`` 1 is 1,000 clients and 30 runs of each query."""
    clients, rounds = max(50, round(1000 * scale)), max(5, round(30 * scale))
    rows = []
    with server() as running:
        await load(running.dsn(), clients)
        connection = await asyncpg.connect(running.dsn())
        for view, condition in _VIEWS.items():
            await connection.execute(f"REFRESH MATERIALIZED VIEW {view}")
            await connection.execute(f"ANALYZE {view}")
            subject = await connection.fetchval(f"SELECT client_name FROM {view} ORDER BY client_name LIMIT 1")
            everything = await _compare(connection, f"SELECT * FROM {view}", f"SELECT * FROM {view}_live", rounds)
            one = await _compare(
                connection,
                f"SELECT * FROM {view} WHERE {condition}",
                f"SELECT * FROM {view}_live WHERE {condition}",
                rounds,
                subject,
            )
            for what, (materialized, live) in (("all rows", everything), ("one client", one)):
                saved = (materialized / live - 1) * 100
                rows.append((view, what, milliseconds(live), milliseconds(materialized), f"{saved:.0f} %"))
        await connection.close()
    return Report(
        title=f"Queries of the summaries, {clients:,} clients",
        columns=("view", "query", "from base tables", "from the view", "change"),
        rows=tuple(rows),
        note=f"Medians of {rounds} interleaved runs, rows fetched in both cases.",
    )


async def _compare(
    connection: asyncpg.Connection, materialized: str, live: str, rounds: int, *arguments: object
) -> tuple[float, float]:
    """The median seconds of both queries."""
    times: dict[str, list[float]] = {materialized: [], live: []}
    for _ in range(rounds + 1):
        for statement, taken in times.items():
            began = time.perf_counter()
            await connection.fetch(statement, *arguments)
            taken.append(time.perf_counter() - began)
    return quantile(times[materialized][1:], 0.5), quantile(times[live][1:], 0.5)
