"""What the tests of the pack ``shows`` share: rows written one at a time."""

from __future__ import annotations

import itertools
import json
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from packs.every_pack import Expected, PackUnderTest

SHOWS = PackUnderTest("shows")
PACK = SHOWS.pack
pack_up, pack_down, load_sample, refresh = SHOWS.up, SHOWS.down, SHOWS.load_sample, SHOWS.refresh
failed_checks = SHOWS.failed_checks

TABLES = (
    "venues",
    "profiles",
    "events",
    "event_spots",
    "event_applications",
    "events_htx",
    "sessions_htx",
    "customers_htx",
    "orders_htx",
    "tickets_htx",
    "orders_eventbrite",
    "tickets_eventbrite",
    "session_sources",
)

#: In the order in which they are refreshed.
VIEWS = ("event_sessions_overview_mv", "refresh_status")

_numbers = itertools.count(1)

#: What fails while the overview is not that of the tables.
STALE = {
    "one row of event_sessions_overview_mv for each canonical session",
    "event_sessions_overview_mv equals event_sessions_overview_mv_live",
}

EXPECTED = Expected(
    checks=141,
    sized={"shows.event_sessions_overview_mv": int},
    stale=STALE.__eq__,
    sample_of="sessions",
    digests=(
        # Dates as days from today, so that midnight between the two loads makes no difference.
        (
            "SELECT concat_ws(',', stable_session_id, event_name, total_gross, total_tickets, lineup, waitlist, discounts,"
            " session_date - (now() AT TIME ZONE 'UTC')::date, start_time, venue_name, available_spots)"
            " FROM shows.event_sessions_overview_mv_live"
        ),
    ),
    shown=lambda chosen, before, after: (
        after["stable_session_id"] == before["stable_session_id"] == chosen
        and after["total_orders"] == before["total_orders"] + 1
        and after["total_gross"] == before["total_gross"] + 42
    ),
    restless=frozenset({"shows.refresh_status"}),
    traffic_over=20,
    rounds=600,
    busy=frozenset(
        f"shows.{table}"
        for table in ("orders_htx", "tickets_htx", "orders_eventbrite", "event_spots", "event_applications")
    ),
    bounds={
        f"SELECT max(n) FROM (SELECT count(*) AS n FROM shows.{table} GROUP BY session_source_id) AS t": 10
        for table in ("orders_htx", "orders_eventbrite")
    },
)


async def add(connection: asyncpg.Connection, table: str, **values: Any) -> UUID | None:
    """A row of the table; dictionaries become JSON. Returns its id, where it has one."""
    values = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in values.items()}
    columns, places = ", ".join(values), ", ".join(f"${number}" for number in range(1, len(values) + 1))
    returning = "NULL::uuid" if table == "session_sources" else "id"
    found: UUID | None = await connection.fetchval(
        f"INSERT INTO shows.{table} ({columns}) VALUES ({places}) RETURNING {returning}", *values.values()
    )
    return found


async def add_session(connection: asyncpg.Connection, source_id: str = "S", **values: Any) -> UUID:
    """A session of Humanitix, of the event ``E`` unless said otherwise."""
    given = {"event_source_id": "E", "start_date": datetime.fromisoformat("2026-03-01T09:00:00+00:00"), **values}
    found = await add(connection, "sessions_htx", source_id=source_id, **given)
    assert found is not None
    return found


async def add_order(connection: asyncpg.Connection, session: str = "S", total: Any = 10, **values: Any) -> str:
    """An order at Humanitix; returns its source id."""
    source_id = values.pop("source_id", f"order-{next(_numbers)}")
    payload = values.pop("payload", {"currency": "AUD", "totals": {"total": total}})
    given = {"status": "complete", **values}
    await add(connection, "orders_htx", source_id=source_id, session_source_id=session, payload=payload, **given)
    return str(source_id)


async def add_eventbrite_order(
    connection: asyncpg.Connection, session: str = "B", cents: Any = 1000, **values: Any
) -> str:
    """An order at Eventbrite; returns its source id."""
    source_id = values.pop("source_id", f"order-{next(_numbers)}")
    payload = values.pop("payload", {"costs": {"gross": {"value": cents, "currency": "AUD"}}})
    given = {"status": "placed", **values}
    await add(connection, "orders_eventbrite", source_id=source_id, session_source_id=session, payload=payload, **given)
    return str(source_id)


async def bridge(connection: asyncpg.Connection, source: str, canonical: str, **values: Any) -> None:
    """That the session ``source`` belongs to the session ``canonical``, each as provider, a colon, an id."""
    (canonical_source, canonical_id), (name, source_id) = canonical.split(":"), source.split(":")
    await add(
        connection,
        "session_sources",
        canonical_source=canonical_source,
        canonical_session_source_id=canonical_id,
        source=name,
        source_session_id=source_id,
        **values,
    )


async def live(connection: asyncpg.Connection, stable_session_id: str = "humanitix:S") -> dict[str, Any]:
    """One session's row of the live view, its JSON read."""
    rows = await connection.fetch(
        "SELECT * FROM shows.event_sessions_overview_v WHERE stable_session_id = $1", stable_session_id
    )
    assert len(rows) == 1
    nested = ("discounts", "sample_customers", "lineup", "waitlist", "recurrence", "banner_metadata")
    return {name: json.loads(value) if name in nested and value else value for name, value in rows[0].items()}
