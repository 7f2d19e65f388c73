"""Live or materialized: what the page of the pack ``shows`` costs either way, for a thousand sessions and for many more.

The same queries are asked of `event_sessions_overview_v`, which computes each row from the base tables, and of
`event_sessions_overview_mv`, by turns; planned and executed by the server, rows fetched by asyncpg in both cases. What
takes longer than ten seconds is asked once. The refresh is the service's own statement after one order more.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

import asyncpg

from afresh_notifier import demo, packs
from afresh_notifier.settings import DatabaseSettings
from bench.report import Report, milliseconds, quantile
from bench.setup import server

#: How many sessions.
_SIZES = (1_000, 10_000, 100_000)

#: What is asked once rather than many times, and given up, in seconds.
_SLOW, _GIVEN_UP = 10.0, 300.0

_PAGE = "session_start_local >= (now() AT TIME ZONE 'UTC')::date"
_ORDER = "ORDER BY session_start_local, stable_session_id LIMIT 50"

#: What is asked, of either relation.
_QUERIES = {
    "the page: fifty sessions from today on": f"WHERE {_PAGE} {_ORDER}",
    "filter: one week": (f"WHERE {_PAGE} AND session_start_local < (now() AT TIME ZONE 'UTC')::date + 7 {_ORDER}"),
    "filter: words of the event's name": (
        "WHERE to_tsvector('pg_catalog.simple'::regconfig, event_name) @@ shows.words('open mic gal')"
        f" AND {_PAGE} {_ORDER}"
    ),
    "filter: city": f"WHERE lower(venue_city) = 'perth' AND {_PAGE} {_ORDER}",
    "filter: three spots or more": f"WHERE available_spots >= 3 AND {_PAGE} {_ORDER}",
    "one session": "WHERE stable_session_id = $1",
}

_LIVE, _KEPT = "shows.event_sessions_overview_v", "shows.event_sessions_overview_mv"
_REFRESH = f"REFRESH MATERIALIZED VIEW CONCURRENTLY {_KEPT}"


async def measure(scale: float) -> Report:
    """Run it: ``scale`` 1 is a thousand, ten thousand and a hundred thousand sessions, and 7 runs of each query."""
    sizes, rounds = [max(50, round(size * scale)) for size in _SIZES], max(3, round(7 * scale))
    found: list[tuple[Mapping[str, tuple[float, float]], float, int]] = []
    for size in sizes:
        with server(max_wal_size="4GB") as running:
            found.append(await _measure(running.dsn(), size, rounds))
    rows = [(what, *(milliseconds(seconds) for times, _, _ in found for seconds in times[what])) for what in _QUERIES]
    rows.append(("refresh after one change", *(cell for _, taken, _ in found for cell in ("", milliseconds(taken)))))
    page, one = next(iter(_QUERIES)), "one session"
    (largest, taken, rows_read) = found[-1]
    filters = [what for what in _QUERIES if what not in (page, one)]
    slowest = max(filters, key=lambda what: largest[what][0])
    verdict = (
        f"Verdict: with {sizes[-1]:,} sessions ({rows_read:,} orders) {slowest.removeprefix('filter: ')} takes"
        f" {milliseconds(largest[slowest][0])} live and {milliseconds(largest[slowest][1])} materialized, so pages, filters"
        f" and exports read the materialized overview; a refresh takes {taken:.1f} s, and one session"
        f" {milliseconds(largest[one][0])} live, so single sessions and events are computed when they are asked for."
    )
    return Report(
        title="Sessions on one page, live and materialized",
        columns=("query", *(f"{size:,} {kind}" for size in sizes for kind in ("live", "materialized"))),
        rows=tuple(rows),
        note=f"Medians of {rounds} interleaved runs, rows fetched in both cases. {verdict}",
    )


async def _measure(dsn: str, size: int, rounds: int) -> tuple[Mapping[str, tuple[float, float]], float, int]:
    """For one size: live and materialized seconds of each query, those of a refresh, and how many orders there are."""
    async for doing in demo.prepare(DatabaseSettings(dsn=dsn), packs.find_all(["shows"]), size):
        sys.stderr.write(f"\r\033[K{size:,} sessions: {doing}")
    sys.stderr.write(f"\r\033[K{size:,} sessions: first refresh")
    connection = await asyncpg.connect(dsn)
    # Only a plain refresh of what is not populated is the first one; the migrations have populated it, with nothing.
    await connection.execute(f"REFRESH MATERIALIZED VIEW {_KEPT}")
    await connection.execute(f"VACUUM ANALYZE {_KEPT}")
    await connection.execute(f"SET statement_timeout = '{_GIVEN_UP:g}s'")
    subject = await connection.fetchval(packs.find("shows").read("demo/subject.sql"))
    times = {}
    for what, condition in _QUERIES.items():
        sys.stderr.write(f"\r\033[K{size:,} sessions: {what}")
        values = [subject] if "$1" in condition else []
        taken: dict[str, list[float]] = {_LIVE: [], _KEPT: []}
        for _ in range(rounds):
            for relation, seconds in taken.items():
                if not seconds or seconds[0] < _SLOW:
                    seconds.append(await _timed(connection, f"SELECT * FROM {relation} {condition}", *values))
        times[what] = (quantile(taken[_LIVE], 0.5), quantile(taken[_KEPT], 0.5))
    sys.stderr.write(f"\r\033[K{size:,} sessions: refresh")
    refreshes: list[float] = []
    while len(refreshes) < 3:
        await connection.execute(packs.find("shows").read("demo/change.sql"), subject)
        refreshes.append(await _timed(connection, _REFRESH))
    orders = await connection.fetchval(
        "SELECT (SELECT count(*) FROM shows.orders_htx) + (SELECT count(*) FROM shows.orders_eventbrite)"
    )
    await connection.close()
    sys.stderr.write("\r\033[K")
    return times, quantile(refreshes, 0.5), orders


async def _timed(connection: asyncpg.Connection, statement: str, *values: object) -> float:
    began = time.perf_counter()
    await connection.fetch(statement, *values)
    return time.perf_counter() - began
