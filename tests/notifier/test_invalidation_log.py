"""The invalidation log: numbered in the order of commits, told apart from others, trimmed but for its end."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import pytest

from afresh_cache.messages import Position
from afresh_notifier import invalidation_log
from afresh_notifier.invalidation import Invalidation
from conftest import eventually
from support.scenario import connected

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def entry(*patterns: str) -> Invalidation:
    return Invalidation(patterns=patterns, at=AT)


async def append(db: asyncpg.Connection, count: int) -> None:
    for number in range(count):
        await invalidation_log.append(db, entry(f"p{number}"))


async def offsets(db: asyncpg.Connection, after: int = 0, most: int = 1_000) -> list[int]:
    return [one.offset for one, _ in (await invalidation_log.read(db, after, most)).entries]


async def test_what_was_appended_is_read_with_its_number_age_and_position(db: asyncpg.Connection) -> None:
    written = Invalidation(
        patterns=("a:{x}", "b"), tables=frozenset({"public.t"}), views=frozenset({"public.v"}), reason="gap", at=AT
    )
    assert (await invalidation_log.append(db, written)).newest == 1
    assert (await invalidation_log.append(db, entry("c"))).newest == 2
    position = await db.fetchval("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
    reading = await invalidation_log.read(db, 0, 100)
    (first, age), (second, _) = reading.entries
    assert (first.patterns, first.tables, first.views, first.reason, first.at, first.offset) == (
        (*written.patterns,),
        written.tables,
        written.views,
        "gap",
        AT,
        1,
    )
    assert 0 <= age < 60
    assert (second.patterns, second.reason, second.offset) == (("c",), None, 2)
    assert first.lsn is not None
    assert first.lsn >= position
    assert reading.newest == 2


async def test_what_was_appended_is_what_will_be_read(db: asyncpg.Connection, dsn: str) -> None:
    async with connected(dsn) as own:
        async with own.transaction():
            assert await invalidation_log.append_all(own, []) is None
            appended = await invalidation_log.append_all(own, [entry("a"), entry("b", "c")])
        assert appended is not None
        reading = await invalidation_log.read(db, 0, 100)
        assert (appended.epoch, appended.newest) == (reading.epoch, reading.newest) == (reading.epoch, 2)
        for (told, age), (read, _) in zip(appended.entries, reading.entries, strict=True):
            assert replace(told, lsn=None) == replace(read, lsn=None)
            assert (told.lsn or 0) <= (read.lsn or 0)
            assert age == 0


async def test_the_position_of_what_is_appended_covers_what_was_committed_before(db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE numbers (n int); INSERT INTO numbers VALUES (1)")
    committed = await db.fetchval("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
    ((told, _),) = (await invalidation_log.append(db, entry("a"))).entries
    assert told.lsn is not None
    assert told.lsn >= committed


async def test_what_follows_a_position_is_the_next_of_the_same_log(db: asyncpg.Connection) -> None:
    await append(db, 3)
    appended = await invalidation_log.append(db, entry("d"))
    assert appended.follows(Position(epoch=appended.epoch, offset=3))
    assert not appended.follows(Position(epoch=appended.epoch, offset=2))
    assert not appended.follows(Position(epoch=appended.epoch, offset=4))
    assert not appended.follows(Position(epoch="another", offset=3))


async def test_only_what_comes_after_is_read_and_of_that_the_newest(db: asyncpg.Connection) -> None:
    assert (await invalidation_log.read(db, 0, 10)).newest == 0
    await append(db, 6)
    assert await offsets(db, after=2) == [3, 4, 5, 6]
    assert await offsets(db, after=6) == []
    assert await offsets(db, after=2, most=2) == [5, 6]
    empty = await invalidation_log.read(db, 9, 10)
    assert (empty.newest, empty.entries) == (6, [])


async def test_the_epoch_is_that_of_this_log_alone(db: asyncpg.Connection) -> None:
    epoch = (await invalidation_log.read(db, 0, 10)).epoch
    await append(db, 1)
    assert (await invalidation_log.read(db, 0, 10)).epoch == epoch
    assert ":" not in epoch
    system, timeline, database, _ = epoch.split("-")
    assert int(system, 16) == await db.fetchval("SELECT system_identifier FROM pg_control_system()")
    assert int(timeline, 16) == await db.fetchval("SELECT timeline_id FROM pg_control_checkpoint()")
    assert int(database) == await db.fetchval("SELECT oid FROM pg_database WHERE datname = current_database()")
    await db.execute("UPDATE afresh.log_identity SET incarnation = DEFAULT")
    other = (await invalidation_log.read(db, 0, 10)).epoch
    assert other != epoch
    assert other.split("-")[:3] == [system, timeline, database]


async def test_trimming_keeps_what_is_new_and_always_the_newest(db: asyncpg.Connection) -> None:
    await append(db, 10)
    await invalidation_log.trim(db, max_entries=4, max_age=3600)
    assert await offsets(db) == [7, 8, 9, 10]
    await db.execute("UPDATE afresh.invalidation_log SET written = written - interval '1 hour' WHERE id < 9")
    await invalidation_log.trim(db, max_entries=100, max_age=1800)
    assert await offsets(db) == [9, 10]
    await invalidation_log.trim(db, max_entries=1, max_age=1e-6)
    assert await offsets(db) == [10]
    assert (await invalidation_log.append(db, entry("next"))).newest == 11


async def test_an_append_that_is_rolled_back_leaves_no_hole(db: asyncpg.Connection) -> None:
    transaction = db.transaction()
    await transaction.start()
    assert (await invalidation_log.append(db, entry("a"))).newest == 1
    await transaction.rollback()
    assert (await invalidation_log.append(db, entry("b"))).newest == 1


async def test_who_appends_second_waits_for_the_first_to_end_and_is_told_of_a_frozen_one(
    db: asyncpg.Connection, dsn: str
) -> None:
    async with connected(dsn) as first:
        transaction = first.transaction()
        await transaction.start()
        assert (await invalidation_log.append(first, entry("a"))).newest == 1
        with pytest.raises(asyncpg.LockNotAvailableError):
            await invalidation_log.append(db, entry("b"))
        waiting = asyncio.create_task(invalidation_log.append(db, entry("b")))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        assert await offsets(first) == [1]
        await transaction.commit()
        assert (await waiting).newest == 2


async def test_who_reads_all_after_the_last_offset_misses_nothing(db: asyncpg.Connection, dsn: str) -> None:
    """Many append at once, each in a transaction that goes on for a while; one follows."""
    found: list[int] = []

    async def writer(seed: int) -> None:
        chance = random.Random(seed)
        async with connected(dsn) as connection:
            for _ in range(15):
                async with connection.transaction():
                    await invalidation_log.append(connection, entry("a"))
                    await asyncio.sleep(chance.random() * 0.003)

    writing = asyncio.gather(*map(writer, range(6)))

    async def all_found() -> bool:
        found.extend(await offsets(db, after=found[-1] if found else 0))
        return writing.done() and len(found) >= 90

    await eventually(all_found)
    await writing
    assert found == list(range(1, 91))


async def test_every_instance_is_told_how_far_the_log_goes(db: asyncpg.Connection, dsn: str) -> None:
    heard: list[object] = []
    async with connected(dsn) as listener:
        await listener.add_listener("afresh", lambda *arguments: heard.append(arguments[3]))
        await append(db, 2)
        await eventually(lambda: len(heard) == 2)
    assert heard == ['{"v":1,"op":"LOG","offset":1}', '{"v":1,"op":"LOG","offset":2}']
