"""Schedules in which something was lost once, or nearly: each is played step by step, by locks and by what is put in the
service's way."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import aiohttp
import asyncpg
import pytest

from afresh_notifier import change_log, database, survey
from afresh_notifier.changes import Gap
from afresh_notifier.database import Connection
from afresh_notifier.listener import Inbox
from afresh_notifier.observations import CatalogueRead, Following, Leading, RefreshDone, RefreshNotDone
from afresh_notifier.settings import DatabaseSettings
from conftest import eventually
from support.scenario import DIAMOND, TOTALS, afresh, connected, diamond_fresh, gates, listening

#: One pattern that a table and a view name.
SHARED: dict[str, Any] = {
    "tables": [{"name": "entries", "patterns": ["entries:{writer}"]}],
    "views": [{"name": "totals", "patterns": ["entries:{writer}", "totals"]}],
}

INDEX_OF_TOTALS = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'totals'::regclass"

#: Somebody waits for a row of the marks.
WAITS_FOR_A_MARK = """
SELECT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND query LIKE '%afresh.dirty%' AND datname = current_database()
)
"""


@pytest.mark.parametrize("key", ['"\\u0000"', '"\\ud800"', "NaN"])
@pytest.mark.parametrize("how", ["notify", "log"])
async def test_key_that_cannot_be_stored_stops_nothing(dsn: str, db: asyncpg.Connection, key: str, how: str) -> None:
    await db.execute(DIAMOND)
    async with afresh(dsn, tables=SHARED["tables"]) as running:
        await running.settled(db)
        keys = f'[{{"writer":{key}}}]'
        if how == "notify":
            text = f'{{"v":1,"table":"public.entries","op":"UPDATE","keys":{keys},"rows":1,"xid":"1"}}'
            await db.execute("SELECT pg_notify('afresh', $1)", text)
        else:
            statement = "INSERT INTO afresh.change_log (target, operation, keys) VALUES ('entries', 'UPDATE', $1)"
            await db.execute(statement, keys)
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        await running.settled(db)
        assert await diamond_fresh(db)


async def test_broken_view_is_given_up_though_it_could_not_be_said_at_first(dsn: str, db: asyncpg.Connection) -> None:
    """The append fails once, when the view is found to be broken; nothing may wait for that view ever after."""
    await db.execute(DIAMOND)
    index = await db.fetchval(INDEX_OF_TOTALS)
    async with connected(dsn) as other, afresh(dsn, **SHARED) as running, listening(running.url) as heard:
        await running.settled(db)
        await db.execute("ALTER FUNCTION afresh.append_invalidation SET lock_timeout = '300ms'")
        seen = running.seen.mark
        await other.execute("SELECT pg_advisory_lock(hashtext('afresh.invalidation_log'), 0)")
        await db.execute(f"DROP INDEX {index}")
        await running.seen.until(RefreshNotDone, since=seen, view=TOTALS, broken=True)
        await other.execute("SELECT pg_advisory_unlock_all()")
        await running.heard_all(db)
        before = heard.mark
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        await heard.told("entries:1", since=before)


async def test_pattern_that_waited_for_a_grandchild_is_told_when_that_is_dropped(
    dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(DIAMOND)
    settings = {
        "tables": [{"name": "entries", "patterns": ["entries:{writer}"]}],
        "views": [{"name": "overview", "patterns": ["entries:{writer}", "overview"]}],
    }
    async with gates(dsn) as held, afresh(dsn, **settings) as running, listening(running.url) as heard:
        await running.settled(db)
        await held.close(1)
        await held.close(2)
        before = heard.mark
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        await held.reached(1)
        await running.heard_all(db)
        seen = running.seen.mark
        await db.execute("DROP MATERIALIZED VIEW overview")
        await running.seen.until(CatalogueRead, since=seen)
        await held.open(1)
        await held.open(2)
        await running.settled(db)
        await heard.told("entries:1", since=before)


async def test_change_that_is_consumed_while_its_view_is_given_up(dsn: str, db: asyncpg.Connection) -> None:
    """What waits for a view is decided before the marks are put, and what is owed is reckoned before the commit."""
    await db.execute(DIAMOND)
    async with (
        gates(dsn) as held,
        connected(dsn) as other,
        afresh(dsn, **SHARED) as running,
        listening(running.url) as heard,
    ):
        await running.settled(db)
        await held.close(1)
        seen = running.seen.mark
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        await held.reached(1)
        # The consumer's next marks are held up by somebody who has the mark's row.
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 3")
        await running.heard_all(db)
        await other.execute("BEGIN; SELECT FROM afresh.dirty WHERE view_name = 'public.totals' FOR UPDATE")
        before = heard.mark
        await db.execute("UPDATE entries SET amount = 2 WHERE id = 2")

        async def held_up() -> bool:
            return bool(await db.fetchval(WAITS_FOR_A_MARK))

        await eventually(held_up)
        # Now the refresh in flight fails, three times over.
        await held.fail(1)
        await held.open(1)
        await eventually(lambda: len(running.seen.failures(TOTALS, since=seen)) >= 3)
        await heard.told("entries:3", since=before)  # what it owed, as far as it knew
        await other.execute("COMMIT")
        await running.heard_all(db)
        await heard.told("entries:2", since=before)


async def test_refreshing_by_hand_on_a_follower_does_not_starve_its_tail(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    for n in range(8):
        await db.execute(
            f"CREATE MATERIALIZED VIEW m{n} AS SELECT * FROM totals_live; CREATE UNIQUE INDEX ON m{n} (writer)"
        )
    few = {"concurrency": 1}
    async with gates(dsn) as held, afresh(dsn, refresh=few) as first, afresh(dsn, refresh=few) as second:
        await first.seen.until(Leading)
        await second.seen.until(Following)
        await first.settled(db)
        async with listening(second.url) as heard, aiohttp.ClientSession() as session:
            await held.close(1)

            async def post() -> int:
                async with session.post(second.url + "/api/refresh-views") as response:
                    return response.status

            posting = asyncio.create_task(post())
            await held.reached(1)
            before = heard.mark
            tick = await db.fetchval("INSERT INTO tick DEFAULT VALUES RETURNING n")
            await heard.told(f"tick:{tick}", since=before)
            await held.open(1)
            assert await posting == 200


async def test_commit_of_adopt_whose_answer_is_lost_still_mends(
    dsn: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index comes back; the transaction that notes it commits, but we hear of a failure."""
    await db.execute(DIAMOND)
    index = await db.fetchval(INDEX_OF_TOTALS)
    async with afresh(dsn) as running:
        await running.settled(db)
        await db.execute(f"DROP INDEX {index}")
        await running.seen.until(RefreshNotDone, view=TOTALS, broken=True)
        adopt, lost = survey.adopt, asyncio.Event()

        async def answer_lost(*arguments: Any) -> Any:
            result = await adopt(*arguments)
            if not lost.is_set():
                lost.set()
                raise ConnectionResetError("the commit's answer was lost")
            return result

        monkeypatch.setattr(survey, "adopt", answer_lost)
        seen = running.seen.mark
        await db.execute("CREATE UNIQUE INDEX ON totals (writer)")
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        await running.seen.until(RefreshDone, since=seen, view=TOTALS)
        assert lost.is_set()


async def test_table_that_had_another_name_for_a_moment(
    dsn: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written under a name that the plan does not know, and back before the plan is read."""
    await db.execute(DIAMOND)
    async with connected(dsn) as other, afresh(dsn) as running:
        await running.settled(db)
        take, done = change_log.take, asyncio.Event()

        async def slow_take(connection: Connection, horizon: change_log.Horizon) -> change_log.Taken:
            if not done.is_set():
                done.set()
                await other.execute("ALTER TABLE entries RENAME TO passing")
                await other.execute("UPDATE passing SET amount = 7 WHERE id = 1")
                try:
                    return await take(connection, horizon)
                finally:
                    await other.execute("ALTER TABLE passing RENAME TO entries")
            return await take(connection, horizon)

        seen = running.seen.mark
        await db.execute("CREATE TABLE stranger (a int)")  # the plan is read, and for a second for no stranger's sake
        await running.seen.until(CatalogueRead, since=seen)
        monkeypatch.setattr(change_log, "take", slow_take)
        await db.execute("INSERT INTO tick DEFAULT VALUES")
        await done.wait()
        await eventually(lambda: diamond_fresh(db))


async def test_frozen_holder_of_the_append_lock_does_not_stop_the_next_leader(dsn: str, db: asyncpg.Connection) -> None:
    """What a consumer that was stopped between its append and its commit leaves: its session is given up soon."""
    await db.execute(DIAMOND)
    async with database.pool(DatabaseSettings(dsn=dsn), size=1) as pool, pool.acquire() as frozen:
        await frozen.execute("BEGIN")
        await frozen.execute("SELECT afresh.append_invalidation('{a}', '{}', '{}', NULL, now())")
        async with afresh(dsn) as running:
            await running.settled(db)


def test_total_gap_stays_total() -> None:
    inbox = Inbox()
    inbox.put(Gap(reason="a payload of version 2 was heard", heard_at=datetime.now(UTC), total=True))
    inbox.put(Gap(reason="the connection was lost", heard_at=datetime.now(UTC)))
    taken = asyncio.run(inbox.take())
    assert taken is not None
    assert any(isinstance(item, Gap) and item.total for item in taken)
