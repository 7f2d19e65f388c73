"""`afresh.append_invalidation`: offsets are dense and in the order of the commits, whoever appends meanwhile."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from conftest import eventually
from sql.hearing import Hearing

APPEND = "SELECT afresh.append_invalidation('{clients}', '{public.t}', '{public.v}', NULL, now())"


async def test_append_returns_the_offset_and_tells_it_on_commit(db: asyncpg.Connection, ear: Hearing) -> None:
    assert [await db.fetchval(APPEND) for _ in range(2)] == [1, 2]
    assert await ear.notifications() == ['{"v":1,"op":"LOG","offset":1}', '{"v":1,"op":"LOG","offset":2}']
    [row] = await db.fetch("SELECT *, written - at < '1 hour' AS prompt FROM afresh.invalidation_log WHERE id = 2")
    assert (row["patterns"], row["tables"], row["views"], row["reason"]) == (
        ["clients"], ["public.t"], ["public.v"], None,
    )  # fmt: skip
    assert row["prompt"]


async def test_offset_of_a_rolled_back_append_is_given_again(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(APPEND)
    await db.execute(f"BEGIN; {APPEND}; {APPEND}; ROLLBACK")
    await db.execute(f"BEGIN; SAVEPOINT s; {APPEND}; ROLLBACK TO s; {APPEND}; COMMIT")
    rows = await db.fetch("SELECT id FROM afresh.invalidation_log ORDER BY id")
    assert [row["id"] for row in rows] == [1, 2]
    assert await ear.notifications() == ['{"v":1,"op":"LOG","offset":1}', '{"v":1,"op":"LOG","offset":2}']


async def test_offsets_go_on_after_the_log_was_trimmed_to_its_newest(db: asyncpg.Connection) -> None:
    for _ in range(3):
        await db.execute(APPEND)
    await db.execute("DELETE FROM afresh.invalidation_log WHERE id < 3")
    assert await db.fetchval(APPEND) == 4


async def test_second_append_waits_for_the_first_ones_end(dsn: str, db: asyncpg.Connection) -> None:
    other = await asyncpg.connect(dsn)
    try:
        transaction = db.transaction()
        await transaction.start()
        await db.execute(APPEND)
        appending = asyncio.create_task(other.fetchval(APPEND))
        blocked = "SELECT cardinality(pg_blocking_pids($1)) > 0"
        await eventually(lambda: db.fetchval(blocked, other.get_server_pid()))
        assert not appending.done()
        await transaction.commit()
        assert await appending == 2
    finally:
        await other.close()


async def test_reader_that_asks_for_what_is_above_the_last_offset_misses_none(dsn: str, db: asyncpg.Connection) -> None:
    """Eight append at once, a third of them in vain; whoever polls `id > last` sees 1, 2, 3, … and all of them."""
    seen: list[int] = []
    ended = asyncio.Event()

    async def look() -> None:
        rows = await db.fetch(
            "SELECT id FROM afresh.invalidation_log WHERE id > $1 ORDER BY id", seen[-1] if seen else 0
        )
        seen.extend(row["id"] for row in rows)

    async def read() -> None:
        while not ended.is_set():
            await look()
        await look()

    async def append(number: int) -> int:
        committed = 0
        connection = await asyncpg.connect(dsn)
        try:
            for n in range(30):
                transaction = connection.transaction()
                await transaction.start()
                await connection.execute(APPEND)
                if (number + n) % 3 == 0:
                    await transaction.rollback()
                else:
                    await transaction.commit()
                    committed += 1
        finally:
            await connection.close()
        return committed

    async with asyncio.TaskGroup() as group:
        reader = group.create_task(read(), name="reader")
        appenders = [group.create_task(append(number), name=f"appender {number}") for number in range(8)]
        await asyncio.wait(appenders)
        ended.set()
        await reader
    assert seen == list(range(1, sum(appender.result() for appender in appenders) + 1))
    assert len(seen) == 160


async def test_append_in_an_older_snapshot_fails_rather_than_reusing_an_offset(
    dsn: str, db: asyncpg.Connection
) -> None:
    other = await asyncpg.connect(dsn)
    try:
        await db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM afresh.invalidation_log")
        await other.execute(APPEND)
        with pytest.raises((asyncpg.UniqueViolationError, asyncpg.SerializationError)):
            await db.execute(APPEND)
        await db.execute("ROLLBACK")
    finally:
        await other.close()


async def test_identity_of_the_log_is_one_and_can_be_renewed(db: asyncpg.Connection) -> None:
    before = await db.fetchval("SELECT incarnation FROM afresh.log_identity")
    await db.execute("UPDATE afresh.log_identity SET incarnation = DEFAULT")
    [row] = await db.fetch("SELECT incarnation FROM afresh.log_identity")
    assert row["incarnation"] != before
    with pytest.raises(asyncpg.UniqueViolationError):
        await db.execute("INSERT INTO afresh.log_identity DEFAULT VALUES")
