"""The change log: no row is missed whenever it commits, what is taken is folded, and whoever is stuck stops nobody."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afresh_notifier import change_log
from afresh_notifier.change_log import EVERYTHING, Horizon, Taken
from afresh_notifier.changes import Key
from afresh_notifier.resources import query
from conftest import ServerUnderTest
from support.scenario import connected

WRITE = "INSERT INTO afresh.change_log (target, operation, keys, rows) VALUES ($1::text::regclass, $2, $3, 1)"


@pytest.fixture
async def log(db: asyncpg.Connection) -> asyncpg.Connection:
    await db.execute('CREATE TABLE a (id int); CREATE TABLE b (id int); CREATE SCHEMA s; CREATE TABLE s."B" (id int)')
    return db


async def write(db: asyncpg.Connection, table: str = "a", keys: str | None = '[{"id":1}]', op: str = "INSERT") -> None:
    await db.execute(WRITE, table, op, keys)


def ids(*numbers: int) -> frozenset[Key]:
    return frozenset((("id", number),) for number in numbers)


async def take(db: asyncpg.Connection, horizon: Horizon = EVERYTHING) -> Taken:
    async with db.transaction(isolation="read_committed"):
        return await change_log.take(db, horizon)


async def test_what_is_taken_is_folded_to_one_change_a_table_and_is_gone(log: asyncpg.Connection) -> None:
    await write(log, "a", '[{"id":1}]')
    await write(log, "a", '[{"id":1},{"id":2}]', "UPDATE")
    await write(log, "b", None)
    await write(log, 's."B"', '[{"id":3}]', "DELETE")
    assert (await change_log.peek(log, EVERYTHING))[0]
    taken = await take(log)
    found = {change.table: (change.count, change.keys) for change in taken.changes}
    assert found == {"public.a": (2, ids(1, 2)), "public.b": (1, None), 's."B"': (1, ids(3))}
    assert (taken.rows, taken.more) == (4, False)
    assert not (await change_log.peek(log, EVERYTHING))[0]
    again = await take(log)
    assert (again.changes, again.rows, again.more) == ([], 0, False)


@pytest.mark.parametrize("unknown", [None, "{}", "nonsense", '[{"id":[1]}]'])
async def test_one_change_of_unknown_keys_makes_all_unknown(log: asyncpg.Connection, unknown: str | None) -> None:
    await write(log, "a", '[{"id":1}]')
    await write(log, "a", unknown)
    [change] = (await take(log)).changes
    assert (change.keys, change.count) == (None, 2)


async def test_too_many_lists_of_keys_are_all_keys(log: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_log, "MAX_KEY_LISTS", 3)
    for number in (1, 2, 3, 3, 3):
        await write(log, "a", f'[{{"id":{number}}}]')
    [change] = (await take(log)).changes
    assert change.keys == ids(1, 2, 3)
    for number in range(4):
        await write(log, "a", f'[{{"id":{number}}}]')
    [change] = (await take(log)).changes
    assert change.keys is None


async def test_a_take_that_is_rolled_back_took_nothing(log: asyncpg.Connection) -> None:
    await write(log)
    transaction = log.transaction()
    await transaction.start()
    assert (await change_log.take(log, EVERYTHING)).rows == 1
    await transaction.rollback()
    assert (await take(log)).rows == 1


async def test_a_table_that_was_dropped_is_taken_without_a_name(log: asyncpg.Connection) -> None:
    await write(log, "a")
    await write(log, "b")
    await log.execute("DROP TABLE a")
    taken = await take(log)
    assert [change.table for change in taken.changes] == ["public.b"]
    assert not (await change_log.peek(log, EVERYTHING))[0]


async def test_more_than_one_take_takes_is_taken_oldest_first(
    log: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_log, "BATCH", 3)
    for number in range(7):
        await write(log, "a", f'[{{"id":{number}}}]')
    taken = [await take(log)]
    while taken[-1].more:
        taken.append(await take(log, taken[-1].horizon))
    assert [(one.rows, one.more) for one in taken] == [(3, True), (3, True), (1, False)]
    assert [change.keys for one in taken for change in one.changes] == [ids(0, 1, 2), ids(3, 4, 5), ids(6)]


async def test_a_change_is_as_old_as_its_commit_where_that_is_tracked(log: asyncpg.Connection) -> None:
    await write(log)
    [change] = (await take(log)).changes
    assert abs(change.heard_at - datetime.now(UTC)) < timedelta(seconds=60)


async def test_a_horizon_passes_over_nobody_who_has_not_ended(log: asyncpg.Connection, dsn: str) -> None:
    async with connected(dsn) as late:
        transaction = late.transaction()
        await transaction.start()
        await write(late)  # the smaller id and the smaller transaction number
        await write(log, "b")
        taken = await take(log)
        assert [change.table for change in taken.changes] == ["public.b"]
        something, horizon = await change_log.peek(log, taken.horizon)
        assert not something
        await write(log, "b")
        taken = await take(log, horizon)
        await transaction.commit()
    assert (await change_log.peek(log, taken.horizon))[0]
    assert [change.table for change in (await take(log, taken.horizon)).changes] == ["public.a"]


async def test_rows_that_another_session_is_taking_are_passed_over_and_found_when_it_fails(
    log: asyncpg.Connection, dsn: str
) -> None:
    await write(log, "a")
    async with connected(dsn) as other:
        transaction = other.transaction()
        await transaction.start()
        assert (await change_log.take(other, EVERYTHING)).rows == 1
        await write(log, "b")
        async with asyncio.timeout(20):
            taken = await take(log)
        assert [change.table for change in taken.changes] == ["public.b"]
        await transaction.rollback()
    assert [change.table for change in (await take(log, EVERYTHING)).changes] == ["public.a"]


async def test_one_change_is_taken_by_one_of_two(log: asyncpg.Connection, dsn: str) -> None:
    for number in range(200):
        await write(log, "a", f'[{{"id":{number}}}]')
    async with connected(dsn) as other:
        one, another = await asyncio.gather(take(log), take(other))
    assert one.rows + another.rows == 200


#: What a writer does: begin, write, write in a savepoint that is kept or undone, end well or not; and the leader's look.
STEPS = st.tuples(
    st.integers(0, 3),
    st.sampled_from(["write", "write", "savepoint", "undone", "commit", "commit", "rollback", "look"]),
)


@asynccontextmanager
async def writers(dsn: str) -> AsyncIterator[list[asyncpg.Connection]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(connected(dsn)) for _ in range(5)]


async def play(dsn: str, steps: list[tuple[int, str]], *, reader_first: bool) -> None:
    """Looks with horizons, in the midst of writers who commit in any order; each row once, and none is missed."""
    async with writers(dsn) as (leader, *others):
        await leader.execute("CREATE TABLE IF NOT EXISTS t (id int); TRUNCATE afresh.change_log")
        transactions: dict[int, asyncpg.transaction.Transaction] = {}
        pending: dict[int, list[int]] = {}
        due: Counter[int] = Counter()
        seen: Counter[int] = Counter()
        horizon, number = EVERYTHING, 0

        async def look() -> None:
            nonlocal horizon
            if reader_first:
                something, later = await change_log.peek(leader, horizon)
                if not something:
                    horizon = later
                    return
            taken = await take(leader, horizon)
            horizon = taken.horizon
            for change in taken.changes:
                assert change.keys is not None
                seen.update(int(str(value)) for key in change.keys for _, value in key)

        for who, step in steps:
            if step == "look":
                await look()
                continue
            writer = others[who]
            if step in ("commit", "rollback"):
                if who in transactions:
                    ending = transactions.pop(who)
                    await (ending.commit() if step == "commit" else ending.rollback())
                    due.update(pending.pop(who) if step == "commit" else ())
                continue
            if who not in transactions:
                transactions[who] = writer.transaction()
                await transactions[who].start()
                pending[who] = []
            number += 1
            inner = writer.transaction()
            if step != "write":
                await inner.start()
            await writer.execute(WRITE, "public.t", "INSERT", f'[{{"id":{number}}}]')
            if step == "savepoint":
                await inner.commit()
            elif step == "undone":
                await inner.rollback()
            if step != "undone":
                pending[who].append(number)
        for who, ending in transactions.items():
            await ending.commit()
            due.update(pending[who])
        await look()
        assert seen == due


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEPS, min_size=4, max_size=40), reader_first=st.booleans())
def test_whenever_writers_commit_each_change_is_taken_once(
    property_dsn: str, steps: list[tuple[int, str]], reader_first: bool
) -> None:
    asyncio.run(play(property_dsn, steps, reader_first=reader_first))


@pytest.fixture
def property_dsn(server: ServerUnderTest, engine_template: str) -> Iterator[str]:
    """One database for all histories, each of which empties the log."""
    name = asyncio.run(server.create(engine_template))
    yield server.dsn(name)
    asyncio.run(server.drop(name))


@pytest.mark.parametrize("statement", ["take_changes", "compact_changes"])
async def test_what_is_taken_is_never_compared_each_with_each_after_a_vacuum_of_the_empty_log(
    log: asyncpg.Connection, statement: str
) -> None:
    await log.executemany(WRITE, [("a", "INSERT", None)] * 200)
    await take(log)
    await log.execute("VACUUM afresh.change_log")  # from now on the planner takes it for empty
    await log.executemany(WRITE, [("a", "INSERT", None)] * 200)
    arguments = (
        (EVERYTHING.snapshot, EVERYTHING.after, 100, 100) if statement == "take_changes" else ("1000000000", 100)
    )
    rows = await log.fetch(f"EXPLAIN (ANALYZE, TIMING off, SUMMARY off, BUFFERS off) {query(statement)}", *arguments)
    plan = "\n".join(row[0] for row in rows)
    assert "hashed SubPlan" in plan
    assert "Join Filter: ((c" not in plan


@pytest.mark.parametrize("statement", ["peek_changes", "take_changes"])
async def test_a_look_reads_nothing_of_what_cannot_be_vacuumed_however_long_somebody_goes_on(
    log: asyncpg.Connection, dsn: str, statement: str
) -> None:
    async with connected(dsn) as other:
        await other.execute("BEGIN; INSERT INTO a VALUES (1)")  # holds a number, and keeps vacuum away
        for _ in range(20):
            await log.executemany(WRITE, [("a", "INSERT", None)] * 500)
            await take(log)
        await log.execute("VACUUM afresh.change_log")
        _, horizon = await change_log.peek(log, EVERYTHING)
        limits = () if statement == "peek_changes" else (100, 100)
        read = f"EXPLAIN (ANALYZE, TIMING off, SUMMARY off, BUFFERS, FORMAT json) {query(statement)}"
        [plan] = json.loads(await log.fetchval(read, horizon.snapshot, horizon.after, *limits))
        [everything] = json.loads(await log.fetchval(read, EVERYTHING.snapshot, EVERYTHING.after, *limits))
        assert plan["Plan"]["Shared Hit Blocks"] < 40
        assert everything["Plan"]["Shared Hit Blocks"] > 60  # or this would not be about anything
