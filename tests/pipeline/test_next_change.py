"""Views whose content changes because the clock moves: refreshed at the instant that `next_change` names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from afresh_notifier import next_change
from afresh_notifier.observations import NextChangeUnknown, RefreshDone
from conftest import eventually
from support.scenario import Running, afresh

BEGUN = """
CREATE TABLE events (id int PRIMARY KEY, begins timestamptz NOT NULL);
CREATE MATERIALIZED VIEW begun AS SELECT id, begins FROM events WHERE begins <= now();
CREATE UNIQUE INDEX ON begun (id);
SELECT afresh.watch('events');
"""

NEXT = "SELECT min(begins) FROM events WHERE begins > now()"


@pytest.fixture
async def events(db: asyncpg.Connection) -> asyncpg.Connection:
    await db.execute(BEGUN)
    return db


@asynccontextmanager
async def clocked(dsn: str, statement: str = NEXT, **view: Any) -> AsyncIterator[Running]:
    async with afresh(dsn, views=[{"name": "begun", "next_change": statement, **view}]) as running:
        yield running


async def at_rest(running: Running) -> None:
    """Wait until the view was refreshed for the start, and nothing more is to be done."""
    await eventually(lambda: running.seen.refreshes("public.begun") > 0 and running.service.refresher.rested())


async def begun(db: asyncpg.Connection) -> list[int]:
    return [row["id"] for row in await db.fetch("SELECT id FROM begun ORDER BY id")]


async def test_a_view_is_refreshed_at_each_instant_and_not_in_between(events: asyncpg.Connection, dsn: str) -> None:
    async with clocked(dsn) as running:
        await at_rest(running)
        mark = running.seen.mark
        await events.execute("""
            INSERT INTO events
            SELECT id, clock_timestamp() + wait * interval '1 second'
            FROM (VALUES (1, 0), (2, 1.2), (3, 1.7)) AS e (id, wait)
        """)

        async def all_begun() -> bool:
            return await begun(events) == [1, 2, 3]

        await eventually(all_begun)
        # One for the change, and one for each of the two instants; each told when the next one is.
        await eventually(lambda: running.seen.refreshes("public.begun", since=mark) >= 3)
        done = running.seen.of(RefreshDone, since=mark, view="public.begun")
        assert len(done) == 3, done
        assert [one.next_change is not None for one in done] == [True, True, False]
        assert running.service.board.views["public.begun"].next_change is None


async def test_the_time_that_a_commit_takes_is_none_that_the_view_is_old(events: asyncpg.Connection, dsn: str) -> None:
    await events.execute("""
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON afresh.invalidation_log DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION slow();
    """)
    async with clocked(dsn, "SELECT now() + interval '1 hour'") as running:
        done = await running.seen.until(RefreshDone, view="public.begun")
        assert done.next_change is not None
        assert done.next_change < 3599.5


async def test_what_came_due_while_nobody_served_is_shown_when_somebody_does(
    events: asyncpg.Connection, dsn: str
) -> None:
    async with clocked(dsn) as running:
        await at_rest(running)
        await events.execute("INSERT INTO events VALUES (1, now() + interval '1 hour')")
        await eventually(lambda: running.service.board.views["public.begun"].next_change is not None)
    # The hour passes: by data, and without a word to anybody.
    await events.execute("ALTER TABLE events DISABLE TRIGGER USER; UPDATE events SET begins = now()")
    await events.execute("ALTER TABLE events ENABLE TRIGGER USER")
    assert await begun(events) == []
    async with clocked(dsn):

        async def shown() -> bool:
            return await begun(events) == [1]

        await eventually(shown)


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("SELECT nowhere FROM events", 'column "nowhere" does not exist'),
        ("SELECT 1", "which is no instant"),
        ("SELECT localtimestamp + interval '1 hour'", "which is no instant"),
        ("SELECT now()", "already"),
        ("SELECT timestamptz '0044-03-15 BC'", "cannot be read"),
        ("SELECT timestamptz '20000-01-01'", "cannot be read"),
        ("SELECT now(), now()", "1 rows of 2 columns"),
        ("SELECT now() FROM generate_series(1, 2)", "2 rows of 1 columns"),
        ("SELECT 1 / 0 WHERE true", "division by zero"),
        ("SELECT pg_sleep(60)::text::timestamptz", "statement timeout"),
    ],
)
async def test_a_question_without_an_answer_stops_no_refresh_and_is_asked_again(
    events: asyncpg.Connection, dsn: str, statement: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(next_change, "FALLBACK", 0.2)
    await events.execute("INSERT INTO events VALUES (1, now())")
    await events.execute("CREATE FUNCTION mended() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    async with clocked(dsn, statement) as running:
        await eventually(lambda: len(running.seen.of(NextChangeUnknown, view="public.begun")) >= 2)
        unknown = running.seen.of(NextChangeUnknown)[0]
        assert problem in unknown.problem
        assert unknown.hint
        assert await begun(events) == [1]
        assert not running.seen.failures("public.begun")


async def test_never_is_an_answer(events: asyncpg.Connection, dsn: str) -> None:
    for statement in ("SELECT NULL::timestamptz", "SELECT now() WHERE false", "SELECT 'infinity'::timestamptz"):
        async with clocked(dsn, statement) as running:
            mark = running.seen.mark
            await events.execute("INSERT INTO events SELECT coalesce(max(id), 0) + 1, now() FROM events")
            await running.seen.until(RefreshDone, since=mark, view="public.begun")
            assert not running.seen.of(NextChangeUnknown)
