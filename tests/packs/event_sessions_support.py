"""What the tests of the pack ``event_sessions`` share: single rows, and the live views at another moment."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from packs.every_pack import Expected, PackUnderTest

EVENT_SESSIONS = PackUnderTest("event_sessions")
PACK = EVENT_SESSIONS.pack
pack_up, pack_down, load_sample, refresh = (
    EVENT_SESSIONS.up,
    EVENT_SESSIONS.down,
    EVENT_SESSIONS.load_sample,
    EVENT_SESSIONS.refresh,
)
failed_checks = EVENT_SESSIONS.failed_checks

#: In an order in which they can be filled.
TABLES = ("contractors", "events", "event_speakers", "event_agenda_items", "event_attendees")

NOW, NEXT_60 = VIEWS = ("mv_sessions_now", "mv_sessions_next_60")

#: The statement that says when the view's content changes next.
NEXT_CHANGE = {view: PACK.read(f"queries/next_change_{view}.sql") for view in VIEWS}

#: The smallest step of a PostgreSQL clock.
TICK = timedelta(microseconds=1)

EXPECTED = Expected(
    checks=58,
    ok_without=frozenset({"function notify_event_refresh()"}),
    sizes=(1, 50, 400),
    sized={"public.contractors": int, "public.events": lambda size: -(-size // 10)},
    full_from=1,
    stale=lambda failed: bool(failed) and all(check.startswith(("rows", "mv_sessions")) for check in failed),
    sample_of="contractors",
    digests=(
        "SELECT concat(id, name, focus_areas) FROM contractors",
        "SELECT concat(id, name, timezone) FROM events",
        "SELECT concat(id, name, focus_areas, session_title) FROM event_speakers",
        (
            "SELECT concat(title, speaker_id, focus_areas, status, location,"
            " session_starts_at - date_trunc('minute', now()))"
            " FROM event_agenda_items LEFT JOIN (SELECT session_id, session_starts_at FROM event_sessions)"
            " AS s ON s.session_id = id"
        ),
        "SELECT concat(event_id, ' ', contractor_id) FROM event_attendees",
    ),
    traffic_over=50,
    rounds=150,
    busy=frozenset({"public.event_agenda_items", "public.contractors", "public.event_attendees"}),
    quiet=frozenset({"public.events", "public.event_speakers"}),
    steady=True,
)


async def live(connection: asyncpg.Connection, view: str, moment: datetime | None = None) -> list[dict[str, Any]]:
    """What the live definition of ``view`` gives at ``moment``, or now: by its own text, with another clock in it."""
    definition = await connection.fetchval("SELECT pg_get_viewdef($1::regclass)", f"public.{view}_live")
    assert definition.count("now()") == 1
    definition = definition.rstrip(";")
    if moment is None:
        rows = await connection.fetch(definition)
    else:
        rows = await connection.fetch(definition.replace("now()", "$1::timestamptz"), moment)
    return sorted((dict(row) for row in rows), key=lambda row: (row["session_id"], row["contractor_id"]))


async def lasting(connection: asyncpg.Connection, view: str, moment: datetime) -> list[dict[str, Any]]:
    """The same without what is another figure at every moment."""
    rows = await live(connection, view, moment)
    return [{name: value for name, value in row.items() if name != "minutes_until_start"} for row in rows]


class Agenda:
    """Makes rows; every method returns the new row's id. Moments become local times in the event's zone."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._zones: dict[int, str] = {}

    async def now(self) -> datetime:
        """The transaction's."""
        now: datetime = await self._connection.fetchval("SELECT now()")
        return now

    async def event(self, timezone: str = "UTC", name: str = "Expo") -> int:
        """An event."""
        made: int = await self._connection.fetchval(
            "INSERT INTO events (name, timezone) VALUES ($1, $2) RETURNING id", name, timezone
        )
        self._zones[made] = timezone
        return made

    async def contractor(self, focus_areas: str | None = None) -> int:
        """A contractor, whose focus areas are written as this text."""
        made: int = await self._connection.fetchval(
            "INSERT INTO contractors (name, focus_areas) VALUES ('Kim', $1) RETURNING id", focus_areas
        )
        return made

    async def attends(self, contractor: int, event: int) -> None:
        """The contractor attends the event."""
        await self._connection.execute(
            "INSERT INTO event_attendees (contractor_id, event_id) VALUES ($1, $2)", contractor, event
        )

    async def speaker(self, event: int, focus_areas: str | None = None, name: str = "Ada") -> int:
        """A speaker; the focus areas are JSON."""
        made: int = await self._connection.fetchval(
            "INSERT INTO event_speakers (event_id, name, focus_areas) VALUES ($1, $2, $3) RETURNING id",
            event,
            name,
            focus_areas,
        )
        return made

    async def item(
        self,
        event: int,
        starts: datetime | None,
        ends: datetime | None,
        *,
        focus_areas: str | None = "[]",
        speaker: int | None = None,
        item_type: str = "session",
        status: str = "scheduled",
    ) -> int:
        """An item on the agenda."""
        made: int = await self._connection.fetchval(
            "INSERT INTO event_agenda_items"
            " (event_id, title, start_time, end_time, focus_areas, speaker_id, item_type, status)"
            " VALUES ($1, 'Talk', $2, $3, $4, $5, $6, $7) RETURNING id",
            event,
            self._local(event, starts),
            self._local(event, ends),
            focus_areas,
            speaker,
            item_type,
            status,
        )
        return made

    def _local(self, event: int, moment: datetime | None) -> datetime | None:
        zone = ZoneInfo(self._zones[event])
        return None if moment is None else moment.astimezone(zone).replace(tzinfo=None)
