"""The named queries of the pack ``shows``: what they answer, what they refuse, and that a change changes the answer."""

from __future__ import annotations

import asyncio
import csv
import io
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from conftest import ServerUnderTest, eventually
from packs.conftest import Templates
from packs.every_pack import PackUnderTest, settled
from packs.shows_support import PACK, load_sample, refresh
from support.named_queries import Asking

SESSIONS = 60


@pytest.fixture(scope="module")
def pack_template(server: ServerUnderTest, templates: Templates, subject: PackUnderTest) -> Iterator[str]:
    """A database that holds the engine and the pack with sixty sessions; cloned, never changed."""

    async def fill(template: str) -> str:
        name = await server.create(template)
        connection = await asyncpg.connect(server.dsn(name))
        await load_sample(connection, SESSIONS)
        await refresh(connection)
        await connection.close()
        return name

    name = asyncio.run(fill(templates.of(subject)))
    yield name
    asyncio.run(server.drop(name))


async def found(ask: Asking, **filters: Any) -> list[str]:
    """The sessions that pass the filters, on one page."""
    return [row["stable_session_id"] for row in (await ask("/api/shows", params={"limit": 1000, **filters})).rows]


async def sessions(db: asyncpg.Connection) -> list[asyncpg.Record]:
    """What is in the overview, in the order of the page."""
    return await db.fetch(
        "SELECT * FROM shows.event_sessions_overview_mv ORDER BY session_start_local, stable_session_id"
    )


async def test_sessions_come_by_their_start_a_page_at_a_time(ask: Asking, db: asyncpg.Connection) -> None:
    expected = [row["stable_session_id"] for row in await sessions(db)]
    assert await found(ask) == expected
    assert len((await ask("/api/shows")).rows) == 50
    assert await found(ask, limit=7, offset=14) == expected[14:21]
    assert await found(ask, offset=1000) == []
    (row, *_) = (await ask("/api/shows")).rows
    assert {"event_url", "banner_url", "banner_metadata", "lineup", "available_spots", "venue_lat"} <= set(row)
    assert isinstance(row["lineup"], list)


async def test_months_and_weeks_have_as_many_sessions_as_the_calendar_says(ask: Asking, db: asyncpg.Connection) -> None:
    rows = await sessions(db)
    dates: list[date] = [row["session_date"] for row in rows]
    months = Counter((day.year, day.month) for day in dates)
    for (year, month), number in months.items():
        for day in (date(year, month, 1), date(year, month, 28)):
            assert len(await found(ask, month=day.isoformat())) == number
    weeks = Counter(day - timedelta(days=day.weekday()) for day in dates)
    for monday, number in weeks.items():
        assert len(await found(ask, week=monday.isoformat())) == number
        assert len(await found(ask, week=(monday + timedelta(days=6)).isoformat())) == number
    assert await found(ask, month="1999-12-31") == []
    (year, month), number = months.most_common(1)[0]
    summaries = (await ask("/api/shows/summary", params={"month": date(year, month, 1).isoformat()})).rows
    assert sum(row["sessions"] for row in summaries) == number


async def test_filters_by_name_city_start_and_spots(ask: Asking, db: asyncpg.Connection) -> None:
    rows = await sessions(db)

    def those(condition: Any) -> list[str]:
        return [row["stable_session_id"] for row in rows if condition(row)]

    assert await found(ask, search="jazz") == those(lambda row: "Jazz" in row["event_name"])
    assert await found(ask, search="MIC op") == those(lambda row: "Open Mic" in row["event_name"])
    assert await found(ask, search="az") == []
    assert await found(ask, city="PERTH") == those(lambda row: row["venue_city"] == "Perth")
    start: datetime = rows[20]["session_start_local"]
    end: datetime = rows[40]["session_start_local"]
    between = await found(ask, starts_from=start.isoformat(), starts_before=end.isoformat())
    assert between == those(lambda row: start <= row["session_start_local"] < end)
    assert await found(ask, min_available_spots=2) == those(lambda row: row["available_spots"] >= 2)
    both = await found(ask, city="Sydney", min_available_spots=1)
    assert both == those(lambda row: row["venue_city"] == "Sydney" and row["available_spots"] >= 1)
    for answer in (between, both):
        assert answer


async def test_sessions_that_eventbrite_alone_sells_are_shown_hidden_or_alone(
    ask: Asking, db: asyncpg.Connection
) -> None:
    rows = await sessions(db)
    alone = [row["stable_session_id"] for row in rows if row["is_eventbrite_only"]]
    others = [row["stable_session_id"] for row in rows if not row["is_eventbrite_only"]]
    assert await found(ask, eventbrite_only="only") == await found(ask, provider="eventbrite") == alone
    assert await found(ask, eventbrite_only="hide") == others
    assert len(await found(ask, eventbrite_only="show")) == len(alone) + len(others) == SESSIONS
    by_provider = [await found(ask, provider=name) for name in ("humanitix", "eventbrite", "both", "other")]
    assert sorted(name for some in by_provider for name in some) == sorted(alone + others)


@pytest.mark.parametrize(
    ("parameters", "wrong"),
    [
        ({"limit": "many"}, "limit"),
        ({"offset": "1.5"}, "offset"),
        ({"month": "May"}, "month"),
        ({"week": "2026-02-30"}, "week"),
        ({"starts_from": "tomorrow"}, "starts_from"),
        ({"starts_before": "2026-01-01T00:00:00Z"}, "starts_before"),
        ({"min_available_spots": "9999999999"}, "min_available_spots"),
        ({"provider": "ticketek"}, "provider"),
        ({"eventbrite_only": "maybe"}, "eventbrite_only"),
        ({"nonsense": "1"}, "nonsense"),
    ],
)
async def test_a_filter_of_another_kind_is_refused_by_its_name(
    ask: Asking, parameters: dict[str, str], wrong: str
) -> None:
    for path in ("/api/shows", "/api/shows/export", "/api/shows/export.csv"):
        if wrong in ("limit", "offset") and path != "/api/shows":
            continue
        reply = await ask(path, params=parameters)
        assert (reply.status, reply.json["parameter"]) == (400, wrong)


@pytest.mark.parametrize("parameters", [{"limit": -1}, {"offset": -1}])
async def test_a_page_that_is_none_is_refused(ask: Asking, parameters: dict[str, int]) -> None:
    reply = await ask("/api/shows", params=parameters)
    assert (reply.status, reply.code) == (422, "query_refused")


async def test_a_summary_adds_up_each_currency_by_itself(ask: Asking, db: asyncpg.Connection) -> None:
    rows = (await ask("/api/shows/summary")).rows
    assert sum(row["sessions"] for row in rows) == SESSIONS
    assert len({row["currency"] for row in rows}) == len(rows)
    expected = await db.fetchval(
        "SELECT sum(total_gross_cents) FROM shows.session_financials_agg WHERE currency = 'AUD'"
    )
    (aud,) = [row for row in rows if row["currency"] == "AUD"]
    assert round(aud["total_gross"] * 100) == expected


async def test_one_session_by_any_of_its_names(ask: Asking, db: asyncpg.Connection) -> None:
    row = next(row for row in await sessions(db) if row["provider"] == "both")
    eventbrite = await db.fetchval(
        "SELECT source_key FROM shows.session_sources WHERE source = 'eventbrite' AND stable_session_id = $1",
        row["stable_session_id"],
    )
    for name in (row["stable_session_id"], str(row["session_id"]), str(row["session_id"]).upper(), eventbrite):
        reply = await ask(f"/api/shows/sessions/{name}")
        assert (reply.status, reply.json["stable_session_id"]) == (200, row["stable_session_id"])
        assert reply.json["total_orders"] == row["total_orders"]
        assert isinstance(reply.json["discounts"], list)
        money = await ask(f"/api/shows/sessions/{name}/financials")
        assert (money.status, money.json["stable_session_id"]) == (200, row["stable_session_id"])


@pytest.mark.parametrize(
    "name",
    [
        "00000000-0000-4000-8000-000000000000",
        "nobody",
        "humanitix:",
        "eventbrite:unknown",
        "%27",
        "a%3Ab%3Ac",
        "00000000",
    ],
)
async def test_a_session_that_is_unknown_is_not_found(ask: Asking, name: str) -> None:
    for path in (f"/api/shows/sessions/{name}", f"/api/shows/sessions/{name}/financials"):
        reply = await ask(path)
        assert (reply.status, reply.code) == (404, "nothing_found")


async def test_money_in_dollars_and_in_cents_agrees(ask: Asking, db: asyncpg.Connection) -> None:
    for row in (await sessions(db))[::6]:
        money = (await ask(f"/api/shows/sessions/{row['stable_session_id']}/financials")).json
        for name in ("gross", "net", "fees", "tax"):
            for provider in ("humanitix", "eventbrite", "total"):
                dollars = Decimal(str(money[f"{provider}_{name}"]))
                assert 100 * dollars == money[f"{provider}_{name}_cents"]
                assert dollars == row[f"{provider}_{name}"]


async def test_the_sessions_of_an_event(ask: Asking, db: asyncpg.Connection) -> None:
    event = await db.fetchval(
        "SELECT event_id FROM shows.event_sessions_overview_mv WHERE session_id IS NOT NULL"
        " GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1"
    )
    rows = (await ask(f"/api/shows/events/{event}/sessions")).rows
    expected = [row["stable_session_id"] for row in await sessions(db) if row["event_id"] == event]
    assert [row["stable_session_id"] for row in rows] == expected
    assert len(expected) > 1
    assert (await ask(f"/api/shows/events/{uuid4()}/sessions")).rows == []
    reply = await ask("/api/shows/events/nonsense/sessions")
    assert (reply.status, reply.json["parameter"]) == (400, "event_id")


async def test_an_export_is_a_file_of_every_session_with_its_money(ask: Asking, db: asyncpg.Connection) -> None:
    reply = await ask("/api/shows/export.csv")
    assert reply.headers["Content-Type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(reply.body.decode())))
    rows = await sessions(db)
    assert [line["stable_session_id"] for line in lines] == [row["stable_session_id"] for row in rows]
    assert [Decimal(line["total_gross"]) for line in lines] == [row["total_gross"] for row in rows]
    assert not {"lineup", "sample_customers", "discounts"} & set(lines[0])
    accepted = await ask("/api/shows/export", params={"eventbrite_only": "only"}, headers={"Accept": "text/csv"})
    assert len(list(csv.DictReader(io.StringIO(accepted.body.decode())))) == sum(r["is_eventbrite_only"] for r in rows)


async def test_a_change_of_a_row_changes_pages_single_sessions_and_the_time_of_refresh(
    ask: Asking, db: asyncpg.Connection
) -> None:
    await settled(ask)
    row = next(row for row in await sessions(db) if row["provider"] == "humanitix" and row["crm_event_id"] is not None)
    path = f"/api/shows/sessions/{row['stable_session_id']}"
    before = await ask(path)
    page = {"search": row["event_name"], "limit": 1000}
    assert (await ask("/api/shows", params=page)).rows
    (status,) = (await ask("/api/shows/refresh-status")).rows
    assert (status["view_name"], status["sessions"]) == ("shows.event_sessions_overview_mv", SESSIONS)

    await db.execute(
        "INSERT INTO shows.event_spots (event_id, status) SELECT $1, 'available' FROM generate_series(1, 20)",
        row["crm_event_id"],
    )

    async def session_changed() -> bool:
        return bool((await ask(path)).json["available_spots"] >= 20 > before.json["available_spots"])

    async def page_changed() -> bool:
        answer = (await ask("/api/shows", params=page)).rows
        return any(
            one["stable_session_id"] == row["stable_session_id"] and one["available_spots"] >= 20 for one in answer
        )

    async def told_so() -> bool:
        (now,) = (await ask("/api/shows/refresh-status")).rows
        return bool(now["refreshed_at"] > status["refreshed_at"])

    for condition in (session_changed, page_changed, told_so):
        await eventually(condition)
    await settled(ask)


async def test_an_order_that_cannot_be_read_does_not_stop_the_refreshes(ask: Asking, db: asyncpg.Connection) -> None:
    session = await db.fetchval("SELECT source_id FROM shows.sessions_htx ORDER BY source_id LIMIT 1")
    for number, payload in enumerate(('{"totals": {"total": "free"}, "discounts": "none"}', "[]", '"lost"', "null")):
        await db.execute(
            "INSERT INTO shows.orders_htx (source_id, session_source_id, payload) VALUES ($1, $2, $3)",
            f"broken-{number}",
            session,
            payload,
        )
    await db.execute("UPDATE shows.sessions_htx SET name = 'After the broken ones' WHERE source_id = $1", session)

    async def shown() -> bool:
        return any(row["session_name"] == "After the broken ones" for row in (await ask("/api/shows?limit=1000")).rows)

    await eventually(shown)
    await settled(ask)


def test_live_answers_are_made_stale_by_tables_alone() -> None:
    assert not any("live-shows".startswith(pattern) for view in PACK.settings.views for pattern in view.patterns or ())
