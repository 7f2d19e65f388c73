"""The overview of the pack ``shows``, rule by rule: which sessions there are, what is known of each; broken data."""

from __future__ import annotations

import asyncio
import json
import string
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import ServerUnderTest
from packs.shows_support import add, add_eventbrite_order, add_order, add_session, bridge, live, refresh


def local(*parts: int) -> datetime:
    """What a clock on the wall says, without a time zone."""
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)  # type: ignore[arg-type,misc]


async def keys(db: asyncpg.Connection) -> list[str]:
    rows = await db.fetch("SELECT stable_session_id FROM shows.canonical_sessions ORDER BY 1")
    return [row[0] for row in rows]


async def totals(db: asyncpg.Connection) -> dict[str, tuple[int, int]]:
    """Orders and cents of each session."""
    rows = await db.fetch("SELECT stable_session_id, total_orders, total_gross_cents FROM shows.session_financials_agg")
    return {row[0]: (row[1], row[2]) for row in rows}


# Which sessions there are, and whose orders are whose.


async def test_a_session_of_humanitix_is_there_without_any_row_in_the_bridge(db: asyncpg.Connection) -> None:
    session = await add_session(db)
    event = await add(db, "events_htx", source_id="E", name="Gala")
    row = await live(db)
    assert (row["session_id"], row["event_id"]) == (session, event)
    assert (row["stable_session_id"], row["stable_event_id"]) == ("humanitix:S", "humanitix:E")
    assert (row["provider"], row["is_eventbrite_only"]) == ("humanitix", False)
    assert (row["canonical_source"], row["canonical_session_source_id"]) == ("humanitix", "S")


async def test_a_session_that_eventbrite_alone_sells_has_no_uuid_and_a_stable_id(db: asyncpg.Connection) -> None:
    await bridge(db, "eventbrite:B", "eventbrite:B", event_name="Jazz", source_event_id="9")
    await add_eventbrite_order(db, "B", 1234)
    row = await live(db, "eventbrite:B")
    assert (row["session_id"], row["event_id"], row["stable_event_id"]) == (None, None, "eventbrite:9")
    assert (row["provider"], row["is_eventbrite_only"], row["event_name"]) == ("eventbrite", True, "Jazz")
    assert (row["eventbrite_gross"], row["humanitix_gross"], row["total_gross"]) == (
        Decimal("12.34"),
        0,
        Decimal("12.34"),
    )


async def test_a_session_without_an_event_is_its_own_event(db: asyncpg.Connection) -> None:
    await bridge(db, "eventbrite:B", "eventbrite:B")
    row = await live(db, "eventbrite:B")
    assert row["stable_event_id"] == "eventbrite:B"
    assert (row["event_name"], row["session_name"]) == ("Untitled event", "Untitled session")


async def test_what_both_sell_is_one_session_with_the_orders_of_both(db: asyncpg.Connection) -> None:
    await add_session(db)
    await bridge(db, "humanitix:S", "humanitix:S")
    await bridge(db, "eventbrite:B", "humanitix:S")
    await add_order(db, "S", 10)
    await add_eventbrite_order(db, "B", 2550)
    assert await keys(db) == ["humanitix:S"]
    row = await live(db)
    assert row["provider"] == "both"
    assert (row["humanitix_orders"], row["eventbrite_orders"], row["total_orders"]) == (1, 1, 2)
    assert row["total_gross"] == Decimal("35.50")


async def test_the_bridge_needs_no_row_for_the_canonical_session_itself(db: asyncpg.Connection) -> None:
    await add_session(db)
    await bridge(db, "eventbrite:B", "humanitix:S")
    await add_order(db, "S", 10)
    await add_eventbrite_order(db, "B", 500)
    assert await totals(db) == {"humanitix:S": (2, 1500)}


async def test_a_session_that_is_mapped_to_another_one_gives_it_its_orders(db: asyncpg.Connection) -> None:
    await add_session(db, "S")
    await add_session(db, "T")
    await bridge(db, "humanitix:T", "humanitix:S")
    await add_order(db, "S", 1)
    await add_order(db, "T", 2)
    assert await totals(db) == {"humanitix:S": (2, 300)}


async def test_a_canonical_session_of_eventbrite_takes_what_it_lacks_from_humanitix(db: asyncpg.Connection) -> None:
    session = await add_session(db, "S", name="Late show", timezone="Australia/Perth")
    await add(db, "events_htx", source_id="E", name="Gala")
    await bridge(db, "eventbrite:B", "eventbrite:B")
    await bridge(db, "humanitix:S", "eventbrite:B")
    await add_order(db, "S", 3)
    await add_eventbrite_order(db, "B", 400)
    assert await totals(db) == {"eventbrite:B": (2, 700)}
    row = await live(db, "eventbrite:B")
    assert (row["session_id"], row["session_name"], row["event_name"]) == (session, "Late show", "Gala")
    assert (row["timezone"], row["session_start_local"]) == ("Australia/Perth", local(2026, 3, 1, 17))


async def test_chains_and_circles_in_the_bridge_lose_no_order_and_count_none_twice(db: asyncpg.Connection) -> None:
    for name in "XYZ":
        await add_session(db, name)
        await add_order(db, name, 1)
    await add_eventbrite_order(db, "B", 100)
    await bridge(db, "eventbrite:B", "humanitix:X")  # a chain: B to X, X to Y
    await bridge(db, "humanitix:X", "humanitix:Y")
    await bridge(db, "humanitix:Z", "eventbrite:C")  # a circle
    await bridge(db, "eventbrite:C", "humanitix:Z")
    found = await totals(db)
    assert sum(orders for orders, _ in found.values()) == 4
    assert sum(cents for _, cents in found.values()) == 400
    assert found["humanitix:Y"] == (2, 200)
    assert len(found) == len(await keys(db)) == len(set(await keys(db)))


async def test_of_many_rows_in_the_bridge_the_session_is_one(db: asyncpg.Connection) -> None:
    for name in ("eventbrite:B1", "eventbrite:B2", "ticketek:T"):
        await bridge(db, name, "ticketek:T", event_name=f"by {name}")
    await add_eventbrite_order(db, "B1", 100)
    await add_eventbrite_order(db, "B2", 100)
    assert await totals(db) == {"ticketek:T": (2, 200)}
    assert (await live(db, "ticketek:T"))["event_name"] == "by ticketek:T"


async def test_a_session_of_an_unknown_provider_is_there_and_has_sold_nothing(db: asyncpg.Connection) -> None:
    await bridge(db, "ticketek:T", "ticketek:T")
    row = await live(db, "ticketek:T")
    assert (row["provider"], row["is_eventbrite_only"], row["total_orders"]) == ("other", False, 0)


async def test_orders_of_unknown_sessions_are_nobodys(db: asyncpg.Connection) -> None:
    await add_session(db)
    await add_order(db, "nowhere")
    await db.execute("UPDATE shows.orders_htx SET session_source_id = NULL")
    await add_order(db, "nowhere")
    assert await totals(db) == {"humanitix:S": (0, 0)}


@pytest.mark.parametrize("source", ["", "Humanitix", "a:b", "1st"])
async def test_a_provider_whose_name_could_not_be_told_from_its_ids_is_refused(
    db: asyncpg.Connection, source: str
) -> None:
    for columns in ("canonical_source", "source"):
        values = {"canonical_source": "humanitix", "source": "humanitix", columns: source}
        with pytest.raises(asyncpg.CheckViolationError):
            await add(db, "session_sources", **values, canonical_session_source_id="S", source_session_id="S")


async def test_a_providers_session_belongs_to_one_canonical_session(db: asyncpg.Connection) -> None:
    await bridge(db, "eventbrite:B", "humanitix:S")
    with pytest.raises(asyncpg.UniqueViolationError):
        await bridge(db, "eventbrite:B", "humanitix:T")


# Names, times, places: what the provider says, and else what the older list says.


async def test_metadata_fall_back_to_the_older_list(db: asyncpg.Connection) -> None:
    promoter = await add(db, "profiles", name="Ada Archer", stage_name=" ")
    venue = await add(db, "venues", name="The Loft", city="Perth", state="WA", address="1 High", lat=-31.9, lng=115.9)
    event = await add(
        db,
        "events",
        name="Old name",
        source="eventbrite",
        source_session_id="B",
        event_date=date(2026, 7, 1),
        start_time=time(22),
        end_time=time(1),
        timezone="Australia/Perth",
        venue_id=venue,
        promoter_id=promoter,
        status=" Open ",
        event_url="https://old",
        banner_url="https://banner",
        banner_metadata={"alt": "x"},
        spots=4,
        is_recurring=True,
        recurrence_pattern="weekly",
    )
    await bridge(db, "eventbrite:B", "eventbrite:B")
    row = await live(db, "eventbrite:B")
    assert (row["event_id"], row["crm_event_id"], row["event_name"], row["session_name"]) == (
        event,
        event,
        "Old name",
        "Old name",
    )
    assert (row["session_status"], row["promoter_id"], row["promoter_name"]) == ("open", promoter, "Ada Archer")
    assert (row["session_start"], row["session_end"]) == (
        datetime(2026, 7, 1, 14, tzinfo=UTC),
        datetime(2026, 7, 1, 17, tzinfo=UTC),
    )
    assert (row["timezone"], row["session_start_local"], row["session_end_local"]) == (
        "Australia/Perth",
        local(2026, 7, 1, 22),
        local(2026, 7, 2, 1),
    )
    assert (row["session_date"], row["start_time"], row["end_time"]) == (date(2026, 7, 1), time(22), time(1))
    assert (row["venue_id"], row["venue_name"], row["venue_city"], row["venue_state"]) == (
        venue,
        "The Loft",
        "Perth",
        "WA",
    )
    assert (row["venue_address"], row["venue_lat"], row["venue_lng"]) == ("1 High", -31.9, 115.9)
    assert (row["event_url"], row["banner_url"], row["banner_metadata"]) == (
        "https://old",
        "https://banner",
        {"alt": "x"},
    )
    assert (row["available_spots"], row["is_recurring"], row["recurrence"]) == (4, True, {"pattern": "weekly"})


async def test_what_the_provider_says_goes_before_the_older_list(db: asyncpg.Connection) -> None:
    await add_session(db, name="Early show", status="Published", timezone="Australia/Sydney")
    event = await add(
        db,
        "events_htx",
        source_id="E",
        name="Gala",
        organiser_name="Laugh House",
        url="https://htx",
        payload={"banner": {"url": "https://wide", "width": 1600}, "recurrence": {"frequency": "monthly"}},
    )
    crm = await add(
        db,
        "events",
        name="Old",
        source="humanitix",
        source_session_id="S",
        event_date=date(2020, 1, 1),
        event_url="https://old",
        banner_url="https://old",
        status="draft",
    )
    row = await live(db)
    assert (row["event_id"], row["crm_event_id"]) == (event, crm)
    assert (row["event_name"], row["session_name"], row["session_status"]) == ("Gala", "Early show", "published")
    assert (row["promoter_name"], row["event_url"], row["banner_url"]) == ("Laugh House", "https://htx", "https://wide")
    assert row["session_start_local"] == local(2026, 3, 1, 20)
    assert row["banner_metadata"] == {"url": "https://wide", "width": 1600}
    assert (row["is_recurring"], row["recurrence"]) == (True, {"sessions": 1, "provider": {"frequency": "monthly"}})


async def test_the_older_list_is_found_by_any_of_the_sessions_ids(db: asyncpg.Connection) -> None:
    await add_session(db)
    await bridge(db, "eventbrite:B", "humanitix:S")
    crm = await add(db, "events", name="By Eventbrite's id", source="eventbrite", source_session_id="B")
    assert (await live(db))["crm_event_id"] == crm


async def test_of_two_rows_in_the_older_list_the_oldest_speaks_and_the_spots_of_both_count(
    db: asyncpg.Connection,
) -> None:
    await add_session(db)
    for name, year in (("Second", 2025), ("First", 2024)):
        event = await add(
            db,
            "events",
            name=name,
            source="humanitix",
            source_session_id="S",
            created_at=datetime(year, 1, 1, tzinfo=UTC),
        )
        await add(db, "event_spots", event_id=event)
    row = await live(db)
    assert (row["event_name"], row["spot_count"], row["available_spots"]) == ("First", 2, 2)


async def test_an_event_of_several_sessions_is_recurring(db: asyncpg.Connection) -> None:
    await add_session(db, "S")
    assert not (await live(db))["is_recurring"]
    await add_session(db, "T")
    row = await live(db)
    assert (row["is_recurring"], row["recurrence"]) == (True, {"sessions": 2})


@pytest.mark.parametrize(
    ("zone", "shown", "start"),
    [
        ("Australia/Sydney", "Australia/Sydney", local(2026, 3, 1, 20)),
        ("America/New_York", "America/New_York", local(2026, 3, 1, 4)),
        ("Mars/Olympus_Mons", "UTC", local(2026, 3, 1, 9)),
        ("", "UTC", local(2026, 3, 1, 9)),
        (None, "UTC", local(2026, 3, 1, 9)),
        ("'; DROP TABLE shows.events; --", "UTC", local(2026, 3, 1, 9)),
    ],
)
async def test_the_start_is_what_the_clock_at_the_venue_says_and_an_unknown_zone_is_utc(
    db: asyncpg.Connection, zone: str | None, shown: str, start: datetime
) -> None:
    await add_session(db, timezone=zone)
    row = await live(db)
    assert (row["timezone"], row["session_start_local"], row["session_date"], row["start_time"]) == (
        shown,
        start,
        start.date(),
        start.time(),
    )


async def test_a_place_is_the_houses_venue_and_else_what_humanitix_says(db: asyncpg.Connection) -> None:
    location = {"venueName": "Pop-up", "address": "1 Quay", "city": "Hobart", "region": "TAS", "latLng": [-42.9, 147.3]}
    await add(db, "events_htx", source_id="E", payload={"location": location})
    await add_session(db, venue_id=uuid4())  # a venue that is not there
    row = await live(db)
    assert (row["venue_id"], row["venue_name"], row["venue_city"]) == (None, "Pop-up", "Hobart")
    assert (row["venue_address"], row["venue_state"], row["venue_lat"], row["venue_lng"]) == (
        "1 Quay",
        "TAS",
        -42.9,
        147.3,
    )
    venue = await add(db, "venues", name="The Loft")
    await db.execute("UPDATE shows.sessions_htx SET venue_id = $1", venue)
    row = await live(db)
    # All of it from one place: the loft's address is unknown, and not the quay.
    assert (row["venue_id"], row["venue_name"], row["venue_city"], row["venue_lat"]) == (venue, "The Loft", None, None)


@pytest.mark.parametrize(
    "location",
    [
        None,
        "here",
        [],
        {"latLng": "here"},
        {"latLng": ["-42.9", "147.3"]},
        {"latLng": [-42.9]},
        {"latLng": [142.9, 0]},
        {"latLng": [0, 1e300]},
        {"latLng": [None, None]},
        {"latLng": {"lat": 1}},
    ],
)
async def test_a_place_that_cannot_be_read_is_no_place_on_the_map(db: asyncpg.Connection, location: Any) -> None:
    await add(db, "events_htx", source_id="E", payload={"location": location, "banner": [1], "recurrence": "often"})
    await add_session(db)
    row = await live(db)
    assert (row["venue_lat"], row["venue_lng"], row["banner_metadata"], row["recurrence"]) == (
        None,
        None,
        None,
        {"sessions": 1},
    )


@pytest.mark.parametrize(("lat", "lng"), [(91, 0), (0, -181), (1, None), (None, 1)])
async def test_a_venue_has_a_whole_position_in_its_ranges_or_none(
    db: asyncpg.Connection, lat: float | None, lng: float | None
) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await add(db, "venues", name="Nowhere", lat=lat, lng=lng)


# Money.


async def test_gross_fees_tax_and_net_of_both_providers(db: asyncpg.Connection) -> None:
    await add_session(db)
    await bridge(db, "eventbrite:B", "humanitix:S")
    amounts = {"total": "100.50", "refunds": 10, "humanitixFee": 3.99, "bookingFee": 0.3, "taxes": 8.23}
    await add_order(db, payload={"currency": "AUD", "totals": amounts})
    costs = {
        "gross": {"value": 5000, "currency": "AUD"},
        "eventbrite_fee": {"value": "250"},
        "payment_fee": {"major_value": "0.90"},
        "tax": {"value": 455},
    }
    await add_eventbrite_order(db, "B", payload={"costs": costs})
    row = await live(db)
    found = {name: str(row[f"humanitix_{name}"]) for name in ("gross", "fees", "tax", "net")}
    assert found == {"gross": "90.50", "fees": "4.29", "tax": "8.23", "net": "77.98"}
    found = {name: str(row[f"eventbrite_{name}"]) for name in ("gross", "fees", "tax", "net")}
    assert found == {"gross": "50.00", "fees": "3.40", "tax": "4.55", "net": "42.05"}
    found = {name: str(row[f"total_{name}"]) for name in ("gross", "fees", "tax", "net")}
    assert found == {"gross": "140.50", "fees": "7.69", "tax": "12.78", "net": "120.03"}
    assert row["currency"] == "AUD"
    assert row["unreadable_orders"] == 0


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        ("complete", True),
        ("placed", True),
        (None, True),
        ("something new", True),
        ("cancelled", False),
        (" Canceled ", False),
        ("REFUNDED", False),
        ("pending", False),
    ],
)
async def test_orders_and_tickets_count_unless_they_came_to_nothing(
    db: asyncpg.Connection, status: str | None, counts: bool
) -> None:
    await add_session(db)
    await bridge(db, "eventbrite:B", "humanitix:S")
    await add_order(db, status=status)
    await add_eventbrite_order(db, status=status)
    await add(db, "tickets_htx", source_id="t", session_source_id="S", status=status)
    await add(db, "tickets_eventbrite", source_id="t", session_source_id="B", status=status)
    row = await live(db)
    assert (row["total_orders"], row["total_tickets"], row["total_gross"]) == ((2, 2, 20) if counts else (0, 0, 0))
    assert len(row["sample_customers"]) == (2 if counts else 0)


@pytest.mark.parametrize(
    "values", [{"is_cancelled": True}, {"is_refunded": True}, {"status": "Not Attending"}, {"status": "Deleted"}]
)
async def test_attendees_who_do_not_come_are_no_tickets(db: asyncpg.Connection, values: dict[str, Any]) -> None:
    await bridge(db, "eventbrite:B", "eventbrite:B")
    await add(db, "tickets_eventbrite", source_id="1", session_source_id="B", status="Attending")
    await add(db, "tickets_eventbrite", source_id="2", session_source_id="B", **values)
    assert (await live(db, "eventbrite:B"))["total_tickets"] == 1


async def test_an_order_without_a_currency_is_in_the_sessions(db: asyncpg.Connection) -> None:
    await add_session(db)
    for currency in (None, "AUD", " aud", 7, "dollars"):
        await add_order(db, payload={"currency": currency, "totals": {"total": 1}})
    row = await live(db)
    assert (row["currency"], row["total_gross"], row["other_currency_orders"]) == ("AUD", 5, 0)


async def test_money_in_another_currency_is_in_no_sum_and_its_orders_are_counted(db: asyncpg.Connection) -> None:
    await add(db, "events_htx", source_id="E", payload={"currency": "NZD"})
    await add_session(db)
    await bridge(db, "eventbrite:B", "humanitix:S")
    await add_order(db, payload={"currency": "NZD", "totals": {"total": 7}})
    await add_order(db, payload={"currency": "AUD", "totals": {"total": 100}})
    await add_eventbrite_order(db)
    row = await live(db)
    assert (row["currency"], row["total_gross"], row["total_orders"], row["other_currency_orders"]) == ("NZD", 7, 3, 2)


async def test_where_the_event_names_no_currency_it_is_that_of_most_orders(db: asyncpg.Connection) -> None:
    await add_session(db)
    await bridge(db, "eventbrite:B", "humanitix:S")
    await add_order(db, payload={"currency": "USD", "totals": {"total": 1}})
    await add_eventbrite_order(db)
    await add_eventbrite_order(db)
    row = await live(db)
    assert (row["currency"], row["total_gross"], row["other_currency_orders"]) == ("AUD", 20, 1)


async def test_where_nobody_names_a_currency_there_is_none_and_the_money_is_added_up(db: asyncpg.Connection) -> None:
    await add_session(db)
    await add_order(db, payload={"totals": {"total": 1}})
    await add_order(db, payload={"currency": None, "totals": {"total": 2}})
    row = await live(db)
    assert (row["currency"], row["total_gross"], row["other_currency_orders"]) == (None, 3, 0)


UNREADABLE = [
    "free",
    "",
    "12,50",
    "$5",
    "-3",
    "1e3",
    "NaN",
    "Infinity",
    "9" * 40,
    " 5",
    -1,
    -0.01,
    1e9,
    1e300,
    True,
    [],
    [5],
    {},
    {"value": -5},
    {"value": 1.5},
    {"value": "many"},
    {"value": -5, "major_value": "5.00"},
    {"value": [1]},
    {"major_value": "-1"},
    {"major_value": 10**12},
]


@pytest.mark.parametrize("amount", UNREADABLE, ids=lambda amount: json.dumps(amount)[:20])
async def test_an_amount_that_cannot_be_read_counts_as_nothing_and_its_order_is_one_to_look_at(
    db: asyncpg.Connection, amount: Any
) -> None:
    await add_session(db)
    await bridge(db, "eventbrite:B", "humanitix:S")
    for name in ("total", "refunds", "humanitixFee", "bookingFee", "taxes"):
        await add_order(db, payload={"totals": {"total": 1, name: amount}})
    for name in ("gross", "eventbrite_fee", "payment_fee", "tax"):
        await add_eventbrite_order(db, payload={"costs": {"gross": {"value": 100}, name: amount}})
    await refresh(db)
    row = await db.fetchrow("SELECT * FROM shows.event_sessions_overview_mv")
    assert row is not None
    assert (row["total_orders"], row["unreadable_orders"]) == (9, 9)
    assert (row["humanitix_gross"], row["eventbrite_gross"]) == (4, 3)
    assert (row["total_fees"], row["total_tax"]) == (0, 0)


@pytest.mark.parametrize(
    "payload", ["null", "[]", '"lost"', "7", "true", "{}", '{"totals": null}', '{"totals": []}', '{"costs": "none"}']
)
async def test_a_payload_of_another_shape_breaks_nothing(db: asyncpg.Connection, payload: str) -> None:
    await add_session(db)
    await bridge(db, "eventbrite:B", "humanitix:S")
    for table, session in (
        ("orders_htx", "S"),
        ("tickets_htx", "S"),
        ("orders_eventbrite", "B"),
        ("tickets_eventbrite", "B"),
    ):
        await add(db, table, source_id="1", session_source_id=session, payload=payload)
    await add(db, "events_htx", source_id="E", payload=payload)
    await refresh(db)
    row = await db.fetchrow("SELECT * FROM shows.event_sessions_overview_mv")
    assert row is not None
    assert (row["total_orders"], row["total_tickets"], row["total_gross"], row["discounts"]) == (2, 2, 0, "[]")
    assert row["unreadable_orders"] == (0 if payload.startswith("{") else 2)


#: Any JSON, of the keys that the functions look for.
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(string.printable, max_size=8),
    st.decimals(-5, 2_000_000_000, places=3).map(str),
)
KEYS = st.sampled_from(
    [
        *(
            "currency",
            "totals",
            "total",
            "refunds",
            "taxes",
            "costs",
            "gross",
            "tax",
            "value",
            "major_value",
            "discounts",
        ),
        *("code", "amount", "promotional_code", "location", "latLng", "banner", "recurrence"),
    ]
)
ANY_JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


def cents(amount: Any) -> int | None:
    """What `shows.cents` says of an amount, as Python would."""

    def dollars(text: str) -> int | None:
        whole, point, rest = text.partition(".")
        if not (1 <= len(whole) <= 9 and set(whole) <= set(string.digits)):
            return None
        if point and not (1 <= len(rest) <= 10 and set(rest) <= set(string.digits)):
            return None
        return int((Decimal(text) * 100).to_integral_value(rounding="ROUND_HALF_UP"))

    match amount:
        case bool() | None | list():
            return None
        case int() | float():
            exact = Decimal(json.dumps(amount))
            if not 0 <= exact < 10**9:
                return None
            return int((exact * 100).to_integral_value(rounding="ROUND_HALF_UP"))
        case str():
            return dollars(amount)
        case _:
            value = amount.get("value")
            text = json.dumps(value) if not isinstance(value, str) else value
            if value is not None and 1 <= len(text) <= 11 and set(text) <= set(string.digits):
                return int(text)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return None
            major = amount.get("major_value")
            return None if major is None else dollars(major if isinstance(major, str) else json.dumps(major))


@pytest.fixture
def database(server: ServerUnderTest, pack_template: str) -> Iterator[str]:
    """The address of a database with the pack in it, for a test that is no coroutine."""
    name = asyncio.run(server.create(pack_template))
    yield server.dsn(name)
    asyncio.run(server.drop(name))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(payloads=st.lists(ANY_JSON, min_size=25, max_size=25))
def test_no_payload_whatever_breaks_a_refresh(payloads: list[Any], database: str) -> None:
    async def whole() -> None:
        db = await asyncpg.connect(database)
        transaction = db.transaction()
        await transaction.start()
        await add_session(db)
        await bridge(db, "eventbrite:B", "humanitix:S")
        for number, payload in enumerate(payloads):
            written = json.dumps(payload)
            for table, session in (
                ("orders_htx", "S"),
                ("tickets_htx", "S"),
                ("orders_eventbrite", "B"),
                ("tickets_eventbrite", "B"),
            ):
                await add(db, table, source_id=f"{number}", session_source_id=session, payload=written)
            await add(db, "events_htx", source_id=f"{number}" if number else "E", payload=written)
            await add(db, "events", source="humanitix", source_session_id="S", banner_metadata=written)
            assert await db.fetchval("SELECT shows.cents($1)", written) == cents(payload)
        await db.execute("REFRESH MATERIALIZED VIEW shows.event_sessions_overview_mv")
        assert (await live(db))["total_orders"] == 2 * len(payloads)
        await db.fetch("TABLE shows.events_htx_view")
        await transaction.rollback()
        await db.close()

    asyncio.run(whole())


# Discounts, customers.


async def test_discounts_are_counted_by_code_from_orders_and_from_tickets_and_none_twice(
    db: asyncpg.Connection,
) -> None:
    await add_session(db)
    await bridge(db, "eventbrite:B", "humanitix:S")
    order = await add_order(
        db,
        payload={"totals": {"total": 1}, "discounts": [{"code": "vip", "amount": 5}, {"code": "EARLY", "amount": 1}]},
    )
    other = await add_order(db, payload={"totals": {"total": 1}, "discounts": []})
    used = {"discounts": [{"code": " Vip ", "amount": "2.50"}]}
    await add(db, "tickets_htx", source_id="1", session_source_id="S", order_source_id=order, payload=used)
    await add(db, "tickets_htx", source_id="2", session_source_id="S", order_source_id=other, payload=used)
    await add(db, "tickets_htx", source_id="3", session_source_id="S", order_source_id="unknown", payload=used)
    code = {"promotional_code": {"code": "vip", "amount": {"value": 150}}}
    await add(db, "tickets_eventbrite", source_id="1", session_source_id="B", payload=code)
    assert (await live(db))["discounts"] == [
        {"code": "VIP", "uses": 4, "amount": 11.5},
        {"code": "EARLY", "uses": 1, "amount": 1},
    ]


async def test_discounts_of_orders_and_tickets_that_came_to_nothing_are_not_counted(db: asyncpg.Connection) -> None:
    await add_session(db)
    used = {"discounts": {"code": "VIP", "amount": 5}}
    await add_order(db, payload=used, status="cancelled")
    await add(db, "tickets_htx", source_id="1", session_source_id="S", payload=used, status="refunded")
    assert (await live(db))["discounts"] == []


@pytest.mark.parametrize(
    ("discounts", "problem"),
    [
        ("none", True),
        (7, True),
        (True, True),
        (None, False),
        ([], False),
        ([None, 1, "VIP", [], {}, {"code": None}, {"code": " "}, {"code": {}, "amount": -1}], False),
    ],
)
async def test_discounts_of_another_shape_are_passed_over(
    db: asyncpg.Connection, discounts: Any, problem: bool
) -> None:
    await add_session(db)
    await add_order(db, payload={"totals": {"total": 1}, "discounts": discounts})
    await add(db, "tickets_htx", source_id="1", session_source_id="S", payload={"discounts": discounts})
    await refresh(db)
    row = await live(db)
    assert [entry for entry in row["discounts"] if entry["code"] != "{}"] == []
    assert (row["unreadable_orders"], row["total_gross"]) == (int(problem), 1)


async def test_sample_customers_are_the_latest_five_without_their_addresses(db: asyncpg.Connection) -> None:
    await add_session(db)
    await bridge(db, "eventbrite:B", "humanitix:S")
    await add(db, "customers_htx", source_id="c", first_name="Cleo", last_name="Chan", email="cleo@example.com")
    for day in range(1, 5):
        await add_order(
            db, ordered_at=datetime(2026, 1, day, tzinfo=UTC), customer_source_id="c", first_name=" ", last_name=None
        )
        await add_eventbrite_order(
            db, ordered_at=datetime(2026, 1, day, 12, tzinfo=UTC), first_name="Ben", last_name="West"
        )
    await add_order(db, ordered_at=None, first_name="Nobody knows when")
    customers = (await live(db))["sample_customers"]
    assert customers == [
        {"name": "Ben W.", "source": "eventbrite", "ordered_at": "2026-01-04T12:00:00Z"},
        {"name": "Cleo C.", "source": "humanitix", "ordered_at": "2026-01-04T00:00:00Z"},
        {"name": "Ben W.", "source": "eventbrite", "ordered_at": "2026-01-03T12:00:00Z"},
        {"name": "Cleo C.", "source": "humanitix", "ordered_at": "2026-01-03T00:00:00Z"},
        {"name": "Ben W.", "source": "eventbrite", "ordered_at": "2026-01-02T12:00:00Z"},
    ]


async def test_a_customer_without_a_name_is_somebody(db: asyncpg.Connection) -> None:
    await add_session(db)
    await add_order(db, customer_source_id="unknown")
    assert (await live(db))["sample_customers"] == [{"name": "Somebody", "source": "humanitix", "ordered_at": None}]


# Line-up, waiting list, spots, applications.


async def crm_event(db: asyncpg.Connection, **values: Any) -> UUID:
    await add_session(db)
    event = await add(db, "events", source="humanitix", source_session_id="S", **values)
    assert event is not None
    return event


async def test_the_line_up_is_the_confirmed_performers_in_their_order_with_their_profiles(
    db: asyncpg.Connection,
) -> None:
    event = await crm_event(db)
    ada = await add(db, "profiles", name="Ada Archer", stage_name="Ada", avatar_url="https://a", bio="Since 2001")
    ben = await add(db, "profiles", name="Ben West", instagram="@ben")
    confirmed = {"event_id": event, "status": "confirmed"}
    await add(db, "event_spots", **confirmed, position=2, performer_id=ada, spot_name="Headliner", duration_minutes=30)
    await add(db, "event_spots", **confirmed, position=1, performer_id=ben)
    await add(db, "event_spots", **confirmed, position=3)  # whose performer's profile has gone
    for status in ("available", "offered", "cancelled"):
        await add(db, "event_spots", event_id=event, status=status, performer_id=ada)
    for position, performer in ((2, ben), (1, ada)):
        await add(db, "event_spots", event_id=event, status="waitlist", position=position, performer_id=performer)
    row = await live(db)
    assert [(entry["name"], entry["position"]) for entry in row["lineup"]] == [("Ben West", 1), ("Ada", 2)]
    assert row["lineup"][1] == {
        "performer_id": str(ada),
        "name": "Ada",
        "avatar_url": "https://a",
        "bio": "Since 2001",
        "instagram": None,
        "spot": "Headliner",
        "position": 2,
        "duration_minutes": 30,
    }
    assert [entry["name"] for entry in row["waitlist"]] == ["Ada", "Ben West"]
    assert (row["spot_count"], row["confirmed_spot_count"], row["waitlist_count"], row["available_spots"]) == (
        5,
        3,
        2,
        1,
    )


@pytest.mark.parametrize(("spots", "available"), [(None, 0), (0, 0), (4, 4)])
async def test_without_listed_spots_the_event_says_how_many_there_are(
    db: asyncpg.Connection, spots: int | None, available: int
) -> None:
    event = await crm_event(db, spots=spots)
    assert (await live(db))["available_spots"] == available
    await add(db, "event_spots", event_id=event, status="waitlist")
    assert (await live(db))["available_spots"] == available
    await add(db, "event_spots", event_id=event, status="confirmed")
    assert (await live(db))["available_spots"] == 0


async def test_a_session_that_the_older_list_does_not_know_has_empty_lists(db: asyncpg.Connection) -> None:
    await add_session(db)
    row = await live(db)
    assert (row["lineup"], row["waitlist"], row["available_spots"], row["application_count"]) == ([], [], 0, 0)


async def test_applications_are_counted_by_what_became_of_them(db: asyncpg.Connection) -> None:
    event = await crm_event(db)
    for status in ("pending", "pending", "accepted", "declined", "withdrawn"):
        await add(db, "event_applications", event_id=event, status=status)
    row = await live(db)
    assert (row["application_count"], row["pending_application_count"], row["accepted_application_count"]) == (5, 2, 1)


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("event_spots", {"status": "perhaps"}),
        ("event_spots", {"duration_minutes": -1}),
        ("event_applications", {"status": "perhaps"}),
    ],
)
async def test_states_and_times_that_are_none_are_refused(
    db: asyncpg.Connection, table: str, values: dict[str, Any]
) -> None:
    event = await crm_event(db)
    with pytest.raises(asyncpg.CheckViolationError):
        await add(db, table, event_id=event, **values)


async def test_the_live_view_says_when_it_was_asked(db: asyncpg.Connection) -> None:
    await add_session(db)
    async with db.transaction():
        assert (await live(db))["refreshed_at"] == await db.fetchval("SELECT now()")


# Functions.


async def test_sessions_of_an_event_by_either_tables_id_in_their_order(db: asyncpg.Connection) -> None:
    event = await add(db, "events_htx", source_id="E", name="Gala")
    for name, day in (("late", 9), ("early", 2), ("twin", 3)):
        await add_session(db, name, start_date=datetime(2026, 5, day, tzinfo=UTC))
    await add_session(db, "other", event_source_id="another")
    await bridge(db, "humanitix:twin", "humanitix:early")
    crm = await add(db, "events", source="eventbrite", source_session_id="B")
    await bridge(db, "eventbrite:B", "humanitix:late")

    async def of(event_id: UUID | None) -> list[str]:
        rows = await db.fetch("SELECT stable_session_id FROM shows.get_event_sessions($1)", event_id)
        return [row[0] for row in rows]

    assert await of(event) == ["humanitix:early", "humanitix:late"]
    assert await of(crm) == ["humanitix:late"]
    assert await of(uuid4()) == []
    assert await of(None) == []


async def test_money_of_a_session_by_its_uuid_also_where_it_was_merged_into_another_one(
    db: asyncpg.Connection,
) -> None:
    session = await add_session(db, "S")
    twin = await add_session(db, "T")
    await add_order(db, "T", 12.5)
    await bridge(db, "humanitix:T", "humanitix:S")
    for one in (session, twin):
        rows = await db.fetch("SELECT * FROM shows.get_event_financials($1)", one)
        assert [(row["stable_session_id"], row["total_gross"]) for row in rows] == [("humanitix:S", Decimal("12.50"))]
    assert await db.fetch("SELECT * FROM shows.get_event_financials($1)", uuid4()) == []
    assert await db.fetch("SELECT * FROM shows.get_event_financials(NULL)") == []


@pytest.mark.parametrize("search", [None, "", " ", "&|!", "';--", ":*", "a:*", "\\", "'", "(", "<->"])
async def test_a_search_of_signs_is_no_error(db: asyncpg.Connection, search: str | None) -> None:
    await add_session(db)
    await refresh(db)
    await db.fetch("SELECT * FROM shows.browse($1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)", search)
