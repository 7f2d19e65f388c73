"""What a refresh of the two views over sessions costs, and what it costs to know when the next one is due.

The pack's own sample data: at full scale 5,000 contractors, 500 events that are all under way, 40 sessions and 200
attendees each. Each event has a session on now and another within the hour, most of the time. Refreshes are CONCURRENTLY,
after each of which a thousand contractors change their minds, so that there is something to write. Then the worst: every
event has eight sessions at once.
"""

from __future__ import annotations

import sys
import time

import asyncpg

from afresh_notifier import demo, packs
from afresh_notifier.settings import DatabaseSettings
from bench.report import Report, milliseconds, quantile
from bench.setup import server

#: How long a refresh may take, in seconds.
_TARGET = 5.0

_VIEWS = ("mv_sessions_now", "mv_sessions_next_60")

_CHANGE = """
UPDATE contractors SET focus_areas = CASE WHEN focus_areas = '["Sales"]' THEN '["Safety", "Hiring"]' ELSE '["Sales"]' END
WHERE id % 5 = $1
"""

#: Forty sessions an event become five starts of eight at once: one lot is on, another one within the hour.
_CROWD = """
UPDATE event_agenda_items AS i
SET start_time = (now() + make_interval(mins => -20 + 60 * ((place.n - 1) / 8)::integer)) AT TIME ZONE e.timezone,
    end_time = (now() + make_interval(mins => 25 + 60 * ((place.n - 1) / 8)::integer)) AT TIME ZONE e.timezone
FROM (
    SELECT id, row_number() OVER (PARTITION BY event_id ORDER BY start_time, id) AS n
    FROM event_agenda_items WHERE item_type = 'session' AND start_time IS NOT NULL
) AS place, events AS e
WHERE place.id = i.id AND e.id = i.event_id
"""


async def measure(scale: float) -> Report:
    """Run it: ``scale`` 1 is 500 events and 7 refreshes of each view."""
    contractors, rounds = max(50, round(5000 * scale)), max(3, round(7 * scale))
    rows: list[tuple[str, ...]] = []
    pack = packs.find("event_sessions")
    with server() as running:
        settings = DatabaseSettings(dsn=running.dsn())
        async for doing in demo.prepare(settings, [pack], contractors):
            sys.stderr.write(f"\r\033[K{doing}")
        sys.stderr.write("\r\033[K")
        connection = await asyncpg.connect(running.dsn(), command_timeout=600)
        events = await connection.fetchval("SELECT count(*) FROM events")
        attendees = await connection.fetchval("SELECT count(*) FROM event_attendees") // events
        for view in _VIEWS:
            await connection.execute(f"REFRESH MATERIALIZED VIEW {view}")
        rows += await _row(connection, pack, "one session at a time", rounds)
        await connection.execute(_CROWD)
        await connection.execute("VACUUM ANALYZE")
        rows += await _row(connection, pack, "eight at a time, all at once", max(2, rounds // 2))
        await connection.close()
    return Report(
        title=f"Refreshing sessions, {events:,} events under way, 40 sessions and {attendees:,} attendees each",
        columns=("at each event", "view", "rows", "target", "refresh", "slowest", "when it is due next"),
        rows=tuple(rows),
        note="Medians of REFRESH … CONCURRENTLY, a fifth of the contractors having changed before each; `when it is due "
        "next` is the query that finds the next change by time, asked after each refresh.",
    )


async def _row(
    connection: asyncpg.Connection, pack: packs.InstalledPack, what: str, rounds: int
) -> list[tuple[str, ...]]:
    times: dict[str, list[float]] = {view: [] for view in _VIEWS}
    dues: dict[str, list[float]] = {view: [] for view in _VIEWS}
    due = {view: pack.read(f"queries/next_change_{view}.sql") for view in _VIEWS}
    # The first round fills the views with what has changed in between, and the caches.
    for n in range(rounds + 1):
        await connection.execute(_CHANGE, n % 5)
        for view in _VIEWS:
            began = time.perf_counter()
            await connection.execute(f"REFRESH MATERIALIZED VIEW CONCURRENTLY {view}")
            times[view].append(time.perf_counter() - began)
            began = time.perf_counter()
            await connection.fetchval(due[view])
            dues[view].append(time.perf_counter() - began)
    return [
        (
            what,
            view,
            f"{await connection.fetchval(f'SELECT count(*) FROM {view}'):,}",
            f"< {milliseconds(_TARGET)}",
            milliseconds(quantile(times[view][1:], 0.5)),
            milliseconds(max(times[view][1:])),
            milliseconds(quantile(dues[view][1:], 0.5)),
        )
        for view in _VIEWS
    ]
