"""The endpoints of the pack ``event_sessions``, as they are served: what they answer, and that changes reach them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from conftest import eventually
from packs.event_sessions_support import EVENT_SESSIONS, NEXT_60, NOW, PACK, Agenda, load_sample, refresh
from support.named_queries import Asking, Reply

PATHS = ("/api/ai-concierge/event-sessions", "/api/ai-concierge/test-event-tool")


async def post(ask: Asking, contractor: Any, event: Any, window: Any, path: str = PATHS[0]) -> Reply:
    return await ask(path, "POST", json={"contractorId": contractor, "eventId": event, "timeWindow": window})


def minutes(n: float) -> timedelta:
    return timedelta(minutes=n)


async def one_event(db: asyncpg.Connection, focus_areas: str | None = '["Sales", "Safety"]') -> tuple[Agenda, int, int]:
    """An event and a contractor who attends it."""
    agenda = Agenda(db)
    event, contractor = await agenda.event("Asia/Kathmandu"), await agenda.contractor(focus_areas)
    await agenda.attends(contractor, event)
    return agenda, event, contractor


async def ids(ask: Asking, contractor: int, event: int, window: str) -> list[int]:
    return [row["session_id"] for row in (await post(ask, contractor, event, window)).rows]


@pytest.mark.parametrize("path", PATHS)
async def test_both_paths_answer_with_sessions_with_and_without_a_speaker(
    db: asyncpg.Connection, pack_dsn: str, path: str
) -> None:
    agenda, event, contractor = await one_event(db)
    now = await agenda.now()
    speaker = await agenda.speaker(event, '["Safety"]')
    both = await agenda.item(event, now - minutes(5), now + minutes(200), focus_areas='["Sales"]', speaker=speaker)
    alone = await agenda.item(event, now - minutes(5), now + minutes(200), focus_areas='["Sales"]')
    await refresh(db)
    async with EVENT_SESSIONS.served(pack_dsn) as ask:
        rows = (await post(ask, contractor, event, "now", path)).rows
        assert [(r["session_id"], r["speaker_name"], r["focus_areas"]) for r in rows] == [
            (both, "Ada", ["Safety", "Sales"]),
            (alone, None, ["Sales"]),
        ]
        assert [(r["relevance_score"], r["focus_area_match_count"], r["priority_score"]) for r in rows] == [
            (100, 2, None),
            (100, 1, None),
        ]
        assert datetime.fromisoformat(rows[0]["session_starts_at"]) == now - minutes(5)


async def test_the_five_that_suit_best_are_chosen_and_ties_are_always_broken_alike(
    db: asyncpg.Connection, pack_dsn: str
) -> None:
    agenda, event, contractor = await one_event(db)
    now = await agenda.now()
    end = now + minutes(300)

    async def item(starts: timedelta, areas: str) -> int:
        return await agenda.item(event, now + starts, end, focus_areas=areas)

    await item(-minutes(3), "[]")
    late = await item(-minutes(1), '["Sales"]')
    early = await item(-minutes(9), '["Sales"]')
    twin = await item(-minutes(9), '["Sales"]')
    best = await item(-minutes(2), '["Sales", "Safety", "Hiring"]')
    other = await item(-minutes(8), '["Hiring"]')
    upcoming = [await item(minutes(m), areas) for m, areas in (
        (50, '["Sales", "Safety"]'), (40, '["Sales", "Safety"]'), (40, "[]"), (20, "[]"), (5, "[]"), (45, "[]"),
    )]  # fmt: skip
    await refresh(db)
    async with EVENT_SESSIONS.served(pack_dsn) as ask:
        assert await ids(ask, contractor, event, "now") == [best, early, twin, late, other]
        assert await ids(ask, contractor, event, "next_60") == [upcoming[i] for i in (4, 3, 1, 0, 2)]
        rows = (await post(ask, contractor, event, "next_60")).rows
        assert [row["priority_score"] for row in rows] == [100, 75, 70, 70, 50]
        assert [row["relevance_score"] for row in rows] == [None] * 5


async def test_minutes_are_those_of_the_moment_of_asking(db: asyncpg.Connection) -> None:
    agenda, event, contractor = await one_event(db)
    now = await agenda.now()
    await agenda.item(event, now + minutes(40), now + minutes(90))
    await refresh(db)
    # A day passes for the view, not for the clock.
    statement = PACK.read("queries/event_sessions.sql").replace("now()", "(now() + interval '10 minutes')")
    (row,) = await db.fetch(statement, contractor, event, "next_60")
    held = await db.fetchval("SELECT minutes_until_start FROM mv_sessions_next_60")
    assert float(held - row["minutes_until_start"]) == pytest.approx(10, abs=0.2)


async def test_what_has_ended_or_begun_since_the_refresh_is_left_out(db: asyncpg.Connection) -> None:
    agenda, event, contractor = await one_event(db)
    now = await agenda.now()
    await agenda.item(event, now - minutes(10), now + minutes(20))
    await agenda.item(event, now + minutes(20), now + minutes(40))
    await refresh(db)
    statement = PACK.read("queries/event_sessions.sql")
    later = statement.replace("now()", "(now() + interval '21 minutes')")
    for window in ("now", "next_60"):
        assert len(await db.fetch(statement, contractor, event, window)) == 1
        assert await db.fetch(later, contractor, event, window) == []


async def test_nobody_is_shown_the_sessions_of_another_event_or_contractor(
    db: asyncpg.Connection, pack_dsn: str
) -> None:
    agenda, event, contractor = await one_event(db)
    now = await agenda.now()
    stranger, elsewhere = await agenda.contractor(), await agenda.event()
    await agenda.attends(stranger, elsewhere)
    here = await agenda.item(event, now - minutes(5), now + minutes(90))
    await agenda.item(elsewhere, now - minutes(5), now + minutes(90))
    await refresh(db)
    async with EVENT_SESSIONS.served(pack_dsn) as ask:
        assert await ids(ask, contractor, event, "now") == [here]
        for somebody, somewhere in ((stranger, event), (contractor, elsewhere), (0, event), (contractor, -1)):
            assert await ids(ask, somebody, somewhere, "now") == []
            assert await ids(ask, somebody, somewhere, "next_60") == []


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({"contractorId": "ten", "eventId": 1, "timeWindow": "now"}, "contractorId"),
        ({"contractorId": 1.5, "eventId": 1, "timeWindow": "now"}, "contractorId"),
        ({"contractorId": None, "eventId": 1, "timeWindow": "now"}, "contractorId"),
        ({"contractorId": 2**31, "eventId": 1, "timeWindow": "now"}, "contractorId"),
        ({"contractorId": 1, "eventId": [1], "timeWindow": "now"}, "eventId"),
        ({"contractorId": 1, "timeWindow": "now"}, "eventId"),
        ({"contractorId": 1, "eventId": 1}, "timeWindow"),
        ({"contractorId": 1, "eventId": 1, "timeWindow": "later"}, "timeWindow"),
        ({"contractorId": 1, "eventId": 1, "timeWindow": "now", "limit": 9}, "limit"),
    ],
)
async def test_a_parameter_that_is_none_is_refused_by_its_name(
    pack_dsn: str, body: dict[str, Any], parameter: str
) -> None:
    async with EVENT_SESSIONS.served(pack_dsn) as ask:
        for path in PATHS:
            reply = await ask(path, "POST", json=body)
            assert (reply.status, reply.json["parameter"]) == (400, parameter)


async def test_a_body_that_is_no_json_is_refused(pack_dsn: str) -> None:
    async with EVENT_SESSIONS.served(pack_dsn) as ask:
        reply = await ask(PATHS[0], "POST", data=b"{", headers={"Content-Type": "application/json"})
        assert reply.status == 400
        assert (await ask(PATHS[0])).status == 405


CHANGES = {
    "an agenda item changes": "UPDATE event_agenda_items SET title = 'Panel'",
    "a session is cancelled": "UPDATE event_agenda_items SET status = 'cancelled'",
    "the agenda is emptied": "TRUNCATE event_agenda_items",
    "a speaker is renamed": "UPDATE event_speakers SET name = 'Bruno'",
    "the event is renamed": "UPDATE events SET name = 'Summit'",
    "the event moves to another zone": "UPDATE events SET timezone = 'America/Denver'",
    "the contractor's interests change": """UPDATE contractors SET focus_areas = '["Sales"]'""",
    "the contractor leaves": "DELETE FROM event_attendees",
    "somebody replicates": "SET session_replication_role = replica; UPDATE event_agenda_items SET title = 'Panel'",
}


@pytest.mark.parametrize("statement", CHANGES.values(), ids=CHANGES.keys())
async def test_every_kind_of_change_reaches_an_answer_that_is_kept(
    db: asyncpg.Connection, pack_dsn: str, statement: str
) -> None:
    agenda, event, contractor = await one_event(db, "{broken")
    now = await agenda.now()
    speaker = await agenda.speaker(event)
    await agenda.item(event, now - minutes(5), now + minutes(200), focus_areas='["Sales"]', speaker=speaker)
    await refresh(db)
    async with EVENT_SESSIONS.served(pack_dsn) as ask:
        first = (await post(ask, contractor, event, "now")).rows
        assert first
        assert (await post(ask, contractor, event, "now")).how == "hit"
        await db.execute(statement)

        async def changed() -> bool:
            return (await post(ask, contractor, event, "now")).rows != first

        await eventually(changed)


async def test_a_session_comes_and_goes_by_the_clock_though_nobody_writes(
    db: asyncpg.Connection, pack_dsn: str
) -> None:
    agenda, event, contractor = await one_event(db)
    async with EVENT_SESSIONS.served(pack_dsn) as ask:
        now = await db.fetchval("SELECT clock_timestamp()")
        soon = timedelta(seconds=2)
        comes = await agenda.item(event, now + soon, now + minutes(500))
        goes = await agenda.item(event, now - minutes(5), now + soon)
        near = await agenda.item(event, now + minutes(60) + soon, now + minutes(500))

        async def shown() -> tuple[list[int], list[int]]:
            return await ids(ask, contractor, event, "now"), await ids(ask, contractor, event, "next_60")

        async def written_is_shown() -> bool:
            on, upcoming = await shown()
            return (goes in on or comes in on) and (comes in upcoming or near in upcoming)

        async def time_is_shown() -> bool:
            return await shown() == ([comes], [near])

        await eventually(written_is_shown)
        await eventually(time_is_shown)


async def test_the_answers_of_the_sample_data_are_those_of_the_views(db: asyncpg.Connection, pack_dsn: str) -> None:
    await load_sample(db, 50)
    await refresh(db)
    async with EVENT_SESSIONS.served(pack_dsn) as ask:
        for view, window in ((NOW, "now"), (NEXT_60, "next_60")):
            row = await db.fetchrow(
                f"SELECT contractor_id, event_id, count(*) AS n FROM {view} GROUP BY 1, 2 ORDER BY 1, 2 LIMIT 1"
            )
            assert row is not None
            rows = (await post(ask, row["contractor_id"], row["event_id"], window)).rows
            assert len(rows) == min(row["n"], 5)
            assert {r["contractor_id"] for r in rows} == {row["contractor_id"]}
