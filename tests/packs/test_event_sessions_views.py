"""The rules of the pack ``event_sessions``: which sessions are in its views, how they match, and when they change."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import ServerUnderTest
from packs.event_sessions_support import (
    NEXT_60,
    NEXT_CHANGE,
    NOW,
    TICK,
    VIEWS,
    Agenda,
    lasting,
    live,
    load_sample,
    refresh,
)
from packs.every_pack import clone


@pytest.fixture
async def db(server: ServerUnderTest, pack_template: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to this test's own database, in a transaction, so that now() is one moment throughout."""
    async with clone(server, pack_template) as connection, connection.transaction():
        yield connection


@pytest.fixture
def agenda(db: asyncpg.Connection) -> Agenda:
    return Agenda(db)


def minutes(n: float) -> timedelta:
    return timedelta(minutes=n)


async def only(db: asyncpg.Connection, view: str) -> dict[str, Any]:
    """The one row of the live view."""
    (row,) = await live(db, view)
    return row


# Which sessions


async def test_a_session_without_a_speaker_is_there_and_one_with_a_speaker_too(
    db: asyncpg.Connection, agenda: Agenda
) -> None:
    now = await agenda.now()
    event, contractor = await agenda.event(), await agenda.contractor()
    await agenda.attends(contractor, event)
    speaker = await agenda.speaker(event)
    for starts in (now - minutes(10), now + minutes(10)):
        await agenda.item(event, starts, starts + minutes(30))
        await agenda.item(event, starts, starts + minutes(30), speaker=speaker)
    for view in VIEWS:
        assert [row["speaker_name"] for row in await live(db, view)] == [None, "Ada"]


@pytest.mark.parametrize("item_type", ["break", "meal", "Session", ""])
async def test_only_sessions_are_there(db: asyncpg.Connection, agenda: Agenda, item_type: str) -> None:
    now = await agenda.now()
    event, contractor = await agenda.event(), await agenda.contractor()
    await agenda.attends(contractor, event)
    await agenda.item(event, now, now + minutes(30), item_type=item_type)
    assert [await live(db, view) for view in VIEWS] == [[], []]


@pytest.mark.parametrize(
    ("status", "there"),
    [("scheduled", True), ("confirmed", True), ("tentative", True), ("cancelled", False), ("draft", False)],
)
async def test_only_sessions_that_will_take_place_are_there(
    db: asyncpg.Connection, agenda: Agenda, status: str, there: bool
) -> None:
    now = await agenda.now()
    event, contractor = await agenda.event(), await agenda.contractor()
    await agenda.attends(contractor, event)
    await agenda.item(event, now, now + minutes(30), status=status)
    assert [len(await live(db, view)) for view in VIEWS] == [int(there)] * 2


async def test_a_session_without_a_start_or_an_end_is_not_there(db: asyncpg.Connection, agenda: Agenda) -> None:
    now = await agenda.now()
    event, contractor = await agenda.event(), await agenda.contractor()
    await agenda.attends(contractor, event)
    await agenda.item(event, now, None)
    await agenda.item(event, None, now)
    await agenda.item(event, None, None)
    assert [await live(db, view) for view in VIEWS] == [[], []]


async def test_there_is_a_row_for_each_contractor_who_attends_the_event(db: asyncpg.Connection, agenda: Agenda) -> None:
    now = await agenda.now()
    here, elsewhere = await agenda.event(name="Here"), await agenda.event(name="Elsewhere")
    contractors = [await agenda.contractor() for _ in range(3)]
    for contractor in contractors[:2]:
        await agenda.attends(contractor, here)
    await agenda.attends(contractors[1], elsewhere)
    one = await agenda.item(here, now, now + minutes(30))
    two = await agenda.item(elsewhere, now, now + minutes(30))
    for view in VIEWS:
        assert [(r["session_id"], r["contractor_id"], r["event_name"]) for r in await live(db, view)] == [
            (one, contractors[0], "Here"),
            (one, contractors[1], "Here"),
            (two, contractors[1], "Elsewhere"),
        ]


@pytest.mark.parametrize(
    ("starts", "ends", "there"),
    [
        (timedelta(), minutes(30), True),
        (TICK, minutes(30), False),
        (-minutes(30), timedelta(), True),
        (-minutes(30), -TICK, False),
        (timedelta(), timedelta(), True),
        (timedelta(days=-40), timedelta(days=40), True),
        (minutes(1), -minutes(1), False),
    ],
)
async def test_a_session_is_on_from_its_start_to_its_end_both_included(
    db: asyncpg.Connection, agenda: Agenda, starts: timedelta, ends: timedelta, there: bool
) -> None:
    now = await agenda.now()
    event, contractor = await agenda.event(), await agenda.contractor()
    await agenda.attends(contractor, event)
    await agenda.item(event, now + starts, now + ends)
    assert len(await live(db, NOW)) == there


@pytest.mark.parametrize(
    ("starts", "priority"),
    [
        (-TICK, None),
        (timedelta(), 100),
        (minutes(15) - TICK, 100),
        (minutes(15), 75),
        (minutes(30) - TICK, 75),
        (minutes(30), 50),
        (minutes(60), 50),
        (minutes(60) + TICK, None),
    ],
)
async def test_a_session_is_upcoming_in_the_hour_before_its_start_and_the_sooner_the_more_urgent(
    db: asyncpg.Connection, agenda: Agenda, starts: timedelta, priority: int | None
) -> None:
    now = await agenda.now()
    event, contractor = await agenda.event(), await agenda.contractor()
    await agenda.attends(contractor, event)
    await agenda.item(event, now + starts, now + minutes(90))
    rows = await live(db, NEXT_60)
    assert [row["priority_score"] for row in rows] == ([] if priority is None else [priority])
    if rows:
        assert float(rows[0]["minutes_until_start"]) == pytest.approx(starts.total_seconds() / 60, abs=1e-9)


async def test_each_match_adds_ten_to_the_priority(db: asyncpg.Connection, agenda: Agenda) -> None:
    now = await agenda.now()
    event, contractor = await agenda.event(), await agenda.contractor('["a", "b", "d"]')
    await agenda.attends(contractor, event)
    await agenda.item(event, now + minutes(20), now + minutes(90), focus_areas='["a", "b", "c"]')
    row = await only(db, NEXT_60)
    assert (row["match_count"], row["priority_score"]) == (2, 95)


ZONES = (
    "Pacific/Kiritimati",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "UTC",
    "America/St_Johns",
    "Pacific/Marquesas",
    "Etc/GMT+12",
)


@pytest.mark.parametrize("zone", ZONES)
async def test_times_are_meant_in_the_zone_of_the_event_whatever_the_session_s_is(
    db: asyncpg.Connection, agenda: Agenda, zone: str
) -> None:
    now = await agenda.now()
    contractor = await agenda.contractor()
    for other in {zone, "UTC"}:
        event = await agenda.event(other)
        await agenda.attends(contractor, event)
        await agenda.item(event, now - minutes(10), now + minutes(10))
        await agenda.item(event, now + minutes(10), now + minutes(20))
    found = [await live(db, view) for view in VIEWS]
    assert [len(rows) for rows in found] == [len({zone, "UTC"})] * 2
    assert {row["session_starts_at"] for row in found[0]} == {now - minutes(10)}
    await db.execute("SET LOCAL TimeZone = 'Asia/Tokyo'")
    assert [await live(db, view) for view in VIEWS] == found


async def test_a_local_time_that_the_clock_shows_twice_brings_a_session_up_once(
    db: asyncpg.Connection, agenda: Agenda
) -> None:
    event, contractor = await agenda.event("America/New_York"), await agenda.contractor()
    await agenda.attends(contractor, event)
    # On this day half past one comes at 5:30 and again at 6:30 UTC.
    session = await db.fetchval(
        "INSERT INTO event_agenda_items (event_id, title, start_time, end_time)"
        " VALUES ($1, 'Talk', '2026-11-01 01:30', '2026-11-01 01:45') RETURNING id",
        event,
    )
    on = {}
    for minute in range(5 * 60, 7 * 60, 5):
        moment = datetime(2026, 11, 1, tzinfo=UTC) + minutes(minute)
        on[minute] = {view: [row["session_id"] for row in await live(db, view, moment)] for view in VIEWS}
    assert [minute for minute, rows in on.items() if rows[NOW] == [session]] == [390, 395, 400, 405]
    assert [minute for minute, rows in on.items() if rows[NEXT_60] == [session]] == list(range(330, 395, 5))


async def test_an_hour_is_an_hour_where_the_clock_is_put_forward(db: asyncpg.Connection, agenda: Agenda) -> None:
    event, contractor = await agenda.event("America/New_York"), await agenda.contractor()
    await agenda.attends(contractor, event)
    # At 7:00 UTC it is three o'clock, one minute after 1:59.
    await db.execute(
        "INSERT INTO event_agenda_items (event_id, title, start_time, end_time)"
        " VALUES ($1, 'Talk', '2026-03-08 03:15', '2026-03-08 03:45')",
        event,
    )
    (row,) = await live(db, NEXT_60, datetime(2026, 3, 8, 6, 45, tzinfo=UTC))
    assert row["minutes_until_start"] == 30


# Focus areas


@pytest.mark.parametrize(
    ("of_item", "of_speaker", "combined"),
    [
        ('["b", "a"]', '["c", "a"]', ["a", "b", "c"]),
        ('["a", "a"]', None, ["a"]),
        ("[]", '["x"]', ["x"]),
        (None, '["x"]', ["x"]),
        ("[]", "[]", []),
        (None, None, []),
        ("null", "null", []),
        ('{"a": 1}', '["x"]', ["x"]),
        ('["a"]', '{"x": 1}', ["a"]),
        ('"a"', "7", []),
        ('["a", null]', "[null]", ["a", None]),
        ('[1, "1", true]', '[{"k": 1}, [2]]', ["1", "[2]", "true", '{"k": 1}']),
        ('[""]', '[" "]', ["", " "]),
    ],
)
async def test_focus_areas_are_those_of_the_agenda_item_and_the_speaker_together(
    db: asyncpg.Connection, agenda: Agenda, of_item: str | None, of_speaker: str | None, combined: list[str | None]
) -> None:
    now = await agenda.now()
    event, contractor = await agenda.event(), await agenda.contractor('["a"]')
    await agenda.attends(contractor, event)
    speaker = await agenda.speaker(event, of_speaker)
    await agenda.item(event, now, now + minutes(10), focus_areas=of_item, speaker=speaker)
    for view in VIEWS:
        found = json.loads((await only(db, view))["focus_areas"])
        assert sorted(found, key=repr) == sorted(combined, key=repr)
        # In the order that PostgreSQL sorts them in, so that the same areas are the same value.
        assert found == json.loads(
            await db.fetchval("SELECT jsonb_agg(x ORDER BY x)::text FROM unnest($1::text[]) AS x", combined) or "[]"
        )


async def test_focus_areas_without_a_speaker_are_those_of_the_agenda_item(
    db: asyncpg.Connection, agenda: Agenda
) -> None:
    now = await agenda.now()
    event, contractor = await agenda.event(), await agenda.contractor()
    await agenda.attends(contractor, event)
    await agenda.item(event, now, now + minutes(10), focus_areas='["b", "a"]')
    assert [json.loads((await only(db, view))["focus_areas"]) for view in VIEWS] == [["a", "b"]] * 2


@pytest.mark.parametrize(
    ("focus_areas", "matches"),
    [
        ('["Sales"]', 1),
        ('["Sales", "Sales", "Safety"]', 2),
        ('["Safety", "Hiring"]', 1),
        ('["sales"]', 0),
        ('["Sale"]', 0),
        ('["7"]', 1),
        ("[7]", 1),
        ("[null]", 0),
        ('[null, "Sales"]', 1),
        ("[]", 0),
        (None, 0),
        ("null", 0),
        ('"Sales"', 0),
        ('{"Sales": 1}', 0),
        ("Sales", 0),
        ('["Sales"', 0),
        ("", 0),
        ('["Sales", "\\u0000"]', 0),
        ('["\\ud800"]', 0),
        ("[1e999999]", 0),
        ("[" * 20_000 + "]" * 20_000, 0),
    ],
)
async def test_what_a_contractor_wrote_matches_or_counts_as_nothing_and_never_breaks_a_refresh(
    db: asyncpg.Connection, agenda: Agenda, focus_areas: str | None, matches: int
) -> None:
    now = await agenda.now()
    event, contractor = await agenda.event(), await agenda.contractor(focus_areas)
    await agenda.attends(contractor, event)
    speaker = await agenda.speaker(event, '["Sales", 7, null]')
    await agenda.item(event, now, now + minutes(10), focus_areas='["Safety", null]', speaker=speaker)
    row = await only(db, NOW)
    assert (row["relevance_score"], row["focus_area_match_count"]) == (100 if matches else 50, matches)
    upcoming = await only(db, NEXT_60)
    assert (upcoming["match_count"], upcoming["priority_score"]) == (matches, 100 + 10 * matches)
    await refresh(db)
    assert await db.fetchval("SELECT focus_area_match_count FROM mv_sessions_now") == matches


async def test_one_broken_row_leaves_the_others_as_they_are(db: asyncpg.Connection, agenda: Agenda) -> None:
    now = await agenda.now()
    event = await agenda.event()
    for written in ('["Sales"]', "{broken", '["Sales"]'):
        await agenda.attends(await agenda.contractor(written), event)
    await agenda.item(event, now, now + minutes(10), focus_areas='["Sales"]')
    await refresh(db)
    rows = await db.fetch("SELECT relevance_score FROM mv_sessions_now ORDER BY contractor_id")
    assert [row["relevance_score"] for row in rows] == [100, 50, 100]


async def test_a_contractor_s_names_follow_what_he_writes(db: asyncpg.Connection, agenda: Agenda) -> None:
    contractor = await agenda.contractor("{broken")
    names = "SELECT focus_area_names FROM contractors WHERE id = $1"
    assert await db.fetchval(names, contractor) is None
    await db.execute("""UPDATE contractors SET focus_areas = '["Sales", "Safety"]'""")
    assert await db.fetchval(names, contractor) == ["Sales", "Safety"]


async def test_the_safe_cast_does_not_depend_on_the_search_path(db: asyncpg.Connection) -> None:
    await db.execute(
        "CREATE FUNCTION public.jsonb_array_elements_text(jsonb) RETURNS SETOF text LANGUAGE sql AS $$SELECT 'evil'$$"
    )
    await db.execute("SET LOCAL search_path = public, pg_catalog")
    assert await db.fetchval("""SELECT focus_area_names('["a"]')""") == ["a"]


# Bad data


@pytest.mark.parametrize(
    "zone",
    ["Nowhere/Else", "Europe/Pari", "", " ", "EST", "IST", "+05:30", "Nowhere/Far+100", "<A>+3", "A5B,M3.2.0,M11.1.0",
     "America/New_York ", "'; DROP TABLE events"],
)  # fmt: skip
async def test_a_time_zone_that_could_break_a_refresh_is_refused(
    db: asyncpg.Connection, agenda: Agenda, zone: str
) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="events_timezone_is_known"):
        async with db.transaction():
            await agenda.event(zone)
    event = await agenda.event()
    with pytest.raises(asyncpg.CheckViolationError, match="events_timezone_is_known"):
        async with db.transaction():
            await db.execute("UPDATE events SET timezone = $1 WHERE id = $2", zone, event)


async def test_every_area_and_location_that_the_server_knows_is_a_zone(db: asyncpg.Connection) -> None:
    refused = await db.fetch(
        "SELECT name FROM pg_timezone_names WHERE name LIKE '%/%' AND name !~ '^(posix|right)/'"
        " AND NOT is_event_timezone(name)"
    )
    assert refused == []


@pytest.mark.parametrize(
    "moment", ["infinity", "-infinity", "294276-12-31", "4713-01-01 BC", "0026-11-27", "2200-01-01"]
)
async def test_a_time_that_could_overflow_in_a_refresh_is_refused(
    db: asyncpg.Connection, agenda: Agenda, moment: str
) -> None:
    event = await agenda.event()
    for column in ("start_time", "end_time"):
        with pytest.raises(asyncpg.CheckViolationError, match=f"event_agenda_items_{column}_in_range"):
            async with db.transaction():
                await db.execute(
                    f"INSERT INTO event_agenda_items (event_id, title, {column}) VALUES ({event}, 'x', '{moment}')"
                )


async def test_nobody_attends_an_event_twice_and_nothing_refers_to_what_is_not_there(
    db: asyncpg.Connection, agenda: Agenda
) -> None:
    event, contractor = await agenda.event(), await agenda.contractor()
    await agenda.attends(contractor, event)
    with pytest.raises(asyncpg.UniqueViolationError):
        async with db.transaction():
            await agenda.attends(contractor, event)
    for statement in (
        "INSERT INTO event_attendees (event_id, contractor_id) VALUES (0, 0)",
        "INSERT INTO event_speakers (event_id, name) VALUES (0, 'Ada')",
        "INSERT INTO event_agenda_items (event_id, title) VALUES (0, 'Talk')",
    ):
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            async with db.transaction():
                await db.execute(statement)


async def test_who_and_what_is_deleted_leaves_the_views_and_a_session_outlives_its_speaker(
    db: asyncpg.Connection, agenda: Agenda
) -> None:
    now = await agenda.now()
    event, contractor = await agenda.event(), await agenda.contractor()
    await agenda.attends(contractor, event)
    speaker = await agenda.speaker(event)
    await agenda.item(event, now, now + minutes(10), speaker=speaker)
    await db.execute("DELETE FROM event_speakers")
    assert (await only(db, NOW))["speaker_name"] is None
    await db.execute("DELETE FROM contractors")
    assert await live(db, NOW) == []
    await db.execute("DELETE FROM events")
    assert await db.fetchval("SELECT count(*) FROM event_agenda_items") == 0


# Everything at once, held against Python

AREAS = ("Sales", "Safety", "Hiring", "7", "ä")
AREA = st.sampled_from(AREAS)
JSON = st.one_of(
    st.lists(st.one_of(AREA, st.none(), st.just(7)), max_size=4),
    st.none(),
    st.just({"Sales": 1}),
    AREA,
)
#: What stands in the column, and what it says: None for SQL's NULL.
JSON_COLUMN = st.one_of(st.none(), JSON.map(json.dumps))
TEXT_COLUMN = st.one_of(JSON_COLUMN, st.sampled_from(["", "Sales", '["Sales"', '["\\u0000"]', "{}"]))

#: Minutes from now at which something is likely to be on the brink.
BRINK = st.sampled_from([0, 15, 30, 60, -15, -45, 90])
OFFSET = st.one_of(
    st.builds(lambda whole, ticks: minutes(whole) + ticks * TICK, BRINK, st.integers(-1, 1)),
    st.integers(-100_000_000, 100_000_000).map(lambda n: n * TICK * 50),
    st.integers(-3000, 3000).map(minutes),
)
LENGTH = st.one_of(st.sampled_from([minutes(45), timedelta(), TICK, -minutes(5)]), st.integers(1, 5000).map(minutes))


@st.composite
def session_(draw: st.DrawFn, events: int) -> dict[str, Any]:
    return {
        "event": draw(st.integers(0, events - 1)),
        "starts": draw(OFFSET),
        "length": draw(LENGTH),
        "focus_areas": draw(JSON_COLUMN),
        "speaker": draw(st.one_of(st.none(), st.tuples(JSON_COLUMN))),
        "item_type": draw(st.sampled_from(["session"] * 5 + ["break"])),
        "status": draw(st.sampled_from(["scheduled", "confirmed", "tentative", "cancelled"])),
    }


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    zones = draw(st.lists(st.sampled_from(ZONES), min_size=1, max_size=3))
    return {
        "zones": zones,
        "contractors": draw(st.lists(TEXT_COLUMN, min_size=1, max_size=3)),
        "attends": draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), unique=True, max_size=7)),
        "sessions": draw(st.lists(session_(len(zones)), max_size=6)),
    }


class World:
    """A drawn agenda in the database, with what is known of it."""

    def __init__(self) -> None:
        self.attendees: dict[int, list[tuple[int, str | None]]] = {}
        self.sessions: list[dict[str, Any]] = []


async def build(agenda: Agenda, drawn: dict[str, Any], now: datetime) -> World:
    world = World()
    events = [await agenda.event(zone) for zone in drawn["zones"]]
    contractors = [(await agenda.contractor(written), written) for written in drawn["contractors"]]
    for contractor, event in drawn["attends"]:
        if contractor < len(contractors) and event < len(events):
            await agenda.attends(contractors[contractor][0], events[event])
            world.attendees.setdefault(events[event], []).append(contractors[contractor])
    for session in drawn["sessions"]:
        event = events[session["event"]]
        speaker = None if session["speaker"] is None else await agenda.speaker(event, session["speaker"][0])
        starts = now + session["starts"]
        made = await agenda.item(
            event,
            starts,
            starts + session["length"],
            focus_areas=session["focus_areas"],
            speaker=speaker,
            item_type=session["item_type"],
            status=session["status"],
        )
        world.sessions.append(
            {**session, "id": made, "event_id": event, "starts_at": starts, "ends_at": starts + session["length"]}
        )
    return world


def names(written: str | None) -> list[str | None]:
    """The elements of an array of JSON as texts, as PostgreSQL writes them; nothing for anything else."""
    try:
        value = json.loads(written or "")
    except json.JSONDecodeError:
        return []
    if not isinstance(value, list) or "\x00" in "".join(str(one) for one in value):
        return []
    return [str(one) if one is not None else None for one in value]


def expected(world: World, view: str, moment: datetime) -> list[tuple[Any, ...]]:
    """The rows at ``moment``, by the rules as one would say them."""
    rows = []
    for session in world.sessions:
        if session["item_type"] != "session" or session["status"] == "cancelled":
            continue
        until = session["starts_at"] - moment
        if view == NOW and not session["starts_at"] <= moment <= session["ends_at"]:
            continue
        if view == NEXT_60 and not timedelta() <= until <= minutes(60):
            continue
        areas = set(names(session["focus_areas"]))
        areas |= set(names(session["speaker"][0])) if session["speaker"] else set()
        for contractor, written in world.attendees.get(session["event_id"], []):
            matches = len({area for area in names(written) if area is not None} & areas)
            if view == NOW:
                scores: tuple[Any, ...] = (100 if matches else 50, matches)
            else:
                urgency = 100 if until < minutes(15) else 75 if until < minutes(30) else 50
                scores = (matches, urgency + 10 * matches)
            rows.append((session["id"], contractor, frozenset(areas), *scores))
    return sorted(rows, key=lambda row: row[:2])


async def found(db: asyncpg.Connection, view: str, moment: datetime) -> list[tuple[Any, ...]]:
    columns = ("relevance_score", "focus_area_match_count") if view == NOW else ("match_count", "priority_score")
    return [
        (
            row["session_id"],
            row["contractor_id"],
            frozenset(json.loads(row["focus_areas"])),
            *(row[column] for column in columns),
        )
        for row in await live(db, view, moment)
    ]


MANY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@given(drawn=worlds())
@MANY
async def test_any_agenda_gives_the_rows_that_python_finds_by_the_rules(
    db: asyncpg.Connection, agenda: Agenda, drawn: dict[str, Any]
) -> None:
    now = await agenda.now()
    attempt = db.transaction()
    await attempt.start()
    world = await build(agenda, drawn, now)
    for view in VIEWS:
        assert await found(db, view, now) == expected(world, view, now)
    await attempt.rollback()


def instants(session: dict[str, Any]) -> Iterator[datetime]:
    """Whenever anything may become of a session, and the instants beside that."""
    for moment in (
        session["starts_at"],
        session["ends_at"],
        *(session["starts_at"] - minutes(n) for n in (15, 30, 60)),
    ):
        yield from (moment - TICK, moment, moment + TICK, moment + 2 * TICK)


@given(drawn=worlds())
@MANY
async def test_next_change_is_the_first_instant_at_which_the_live_view_is_another(
    db: asyncpg.Connection, agenda: Agenda, drawn: dict[str, Any]
) -> None:
    now = await agenda.now()
    attempt = db.transaction()
    await attempt.start()
    world = await build(agenda, drawn, now)
    later = sorted({moment for session in world.sessions for moment in instants(session) if moment > now})
    for view in VIEWS:
        change = await db.fetchval(NEXT_CHANGE[view])
        before = await lasting(db, view, now)
        quiet = [moment for moment in later if change is None or moment < change]
        for moment in quiet:
            assert await lasting(db, view, moment) == before, (view, moment - now, change)
        if change is not None:
            assert change > now
            assert await lasting(db, view, change - TICK) == before
            assert await lasting(db, view, change) != before, (view, change - now)
    await attempt.rollback()


# Single cases of next_change


@pytest.mark.parametrize(
    ("starts", "ends", "change"),
    [
        (minutes(5), minutes(50), minutes(5)),
        (TICK, minutes(50), TICK),
        (timedelta(), minutes(50), minutes(50) + TICK),
        (-minutes(5), timedelta(), TICK),
        (-minutes(5), -TICK, None),
        (minutes(5), minutes(5), minutes(5)),
        (minutes(5), minutes(4), None),
        (timedelta(days=300), timedelta(days=301), timedelta(days=300)),
    ],
)
async def test_what_is_on_changes_next_at_a_start_or_right_after_an_end(
    db: asyncpg.Connection, agenda: Agenda, starts: timedelta, ends: timedelta, change: timedelta | None
) -> None:
    now = await agenda.now()
    event, contractor = await agenda.event("Pacific/Kiritimati"), await agenda.contractor()
    await agenda.attends(contractor, event)
    await agenda.item(event, now + starts, now + ends)
    assert await db.fetchval(NEXT_CHANGE[NOW]) == (None if change is None else now + change)


@pytest.mark.parametrize(
    ("starts", "change"),
    [
        (timedelta(days=300), timedelta(days=300) - minutes(60)),
        (minutes(60) + TICK, TICK),
        (minutes(60), minutes(30) + TICK),
        (minutes(30) + TICK, 2 * TICK),
        (minutes(30), TICK),
        (minutes(30) - TICK, minutes(15)),
        (minutes(15), TICK),
        (minutes(15) - TICK, minutes(15)),
        (timedelta(), TICK),
        (-TICK, None),
    ],
)
async def test_what_is_upcoming_changes_next_as_a_session_comes_nearer(
    db: asyncpg.Connection, agenda: Agenda, starts: timedelta, change: timedelta | None
) -> None:
    now = await agenda.now()
    event, contractor = await agenda.event("Etc/GMT+12"), await agenda.contractor()
    await agenda.attends(contractor, event)
    await agenda.item(event, now + starts, now + minutes(500))
    assert await db.fetchval(NEXT_CHANGE[NEXT_60]) == (None if change is None else now + change)


async def test_the_next_change_is_the_first_by_instant_and_not_by_local_time(
    db: asyncpg.Connection, agenda: Agenda
) -> None:
    now = await agenda.now()
    contractor = await agenda.contractor()
    # The later one of the two has a local time that is more than a day earlier.
    for zone, starts in (("Etc/GMT+12", timedelta(days=10, hours=1)), ("Pacific/Kiritimati", timedelta(days=10))):
        event = await agenda.event(zone)
        await agenda.attends(contractor, event)
        await agenda.item(event, now + starts, now + starts + minutes(45))
    assert await db.fetchval(NEXT_CHANGE[NOW]) == now + timedelta(days=10)
    assert await db.fetchval(NEXT_CHANGE[NEXT_60]) == now + timedelta(days=10) - minutes(60)


async def test_a_session_that_ends_before_it_starts_is_no_change_of_what_is_on(
    db: asyncpg.Connection, agenda: Agenda
) -> None:
    now = await agenda.now()
    event, contractor = await agenda.event(), await agenda.contractor()
    await agenda.attends(contractor, event)
    await agenda.item(event, now + minutes(5), now + minutes(4))
    await agenda.item(event, now + minutes(10), now + minutes(50))
    assert await db.fetchval(NEXT_CHANGE[NOW]) == now + minutes(10)


async def test_what_has_no_rows_does_not_change_a_view(db: asyncpg.Connection, agenda: Agenda) -> None:
    now = await agenda.now()
    event, contractor = await agenda.event(), await agenda.contractor()
    deserted = await agenda.event()
    await agenda.attends(contractor, event)
    for starts in (-minutes(5), minutes(5)):
        ends = starts + minutes(20)
        await agenda.item(deserted, now + starts, now + ends)
        await agenda.item(event, now + starts, now + ends, item_type="break")
        await agenda.item(event, now + starts, now + ends, status="cancelled")
        await agenda.item(event, now + starts, None)
    assert [await db.fetchval(NEXT_CHANGE[view]) for view in VIEWS] == [None, None]
    assert [len(await db.fetch(NEXT_CHANGE[view])) for view in VIEWS] == [1, 1]


# The materialized views


@pytest.mark.parametrize("view", VIEWS)
async def test_a_refreshed_view_equals_its_live_definition(db: asyncpg.Connection, view: str) -> None:
    await load_sample(db, 60)
    await refresh(db)
    rows = await db.fetch(f"SELECT * FROM {view} ORDER BY session_id, contractor_id")
    assert [dict(row) for row in rows] == await live(db, view)
    assert len(rows) > 50


async def test_a_concurrent_refresh_with_unchanged_data_rewrites_no_row_of_what_is_on(db: asyncpg.Connection) -> None:
    await load_sample(db, 60)
    await refresh(db)
    identity = "SELECT ctid::text, xmin::text FROM mv_sessions_now ORDER BY ctid"
    before = await db.fetch(identity)
    await db.execute("UPDATE event_agenda_items SET updated_at = updated_at")
    await db.execute("UPDATE event_attendees SET registered_at = registered_at")
    await db.execute("SET LOCAL TimeZone = 'Asia/Tokyo'")
    await refresh(db)
    assert await db.fetch(identity) == before


async def test_focus_areas_are_put_together_once_for_each_session_and_not_for_each_attendee(
    db: asyncpg.Connection,
) -> None:
    await load_sample(db, 300)
    for view in VIEWS:
        statement = f"EXPLAIN (ANALYZE, FORMAT json) SELECT * FROM {view}_live"
        plan = json.loads(await db.fetchval(statement))[0]["Plan"]
        sessions = await db.fetchval(f"SELECT count(DISTINCT session_id) FROM {view}_live")
        loops = [node["Actual Loops"] for node in nodes(plan) if node["Node Type"] == "Aggregate"]
        assert loops == [sessions], view
        assert plan["Actual Rows"] > 50 * sessions


async def test_next_change_puts_no_focus_areas_together_and_uses_the_index(db: asyncpg.Connection) -> None:
    await load_sample(db, 300)
    for view in VIEWS:
        plan = json.loads(await db.fetchval(f"EXPLAIN (FORMAT json) {NEXT_CHANGE[view]}"))[0]["Plan"]
        assert "jsonb_array_elements_text" not in json.dumps(plan)
        assert "idx_agenda_sessions_start" in json.dumps(plan)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)
