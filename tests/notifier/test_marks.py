"""Marks: what a refresh has read it clears, and nothing that was added meanwhile; nobody waits for a lock to clear one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg

from afresh_notifier import marks
from afresh_notifier.changes import Key
from afresh_notifier.debounce import MAX_KEYS, Dirt
from afresh_notifier.marks import Mark
from support.scenario import connected

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def key(number: int) -> Key:
    return (("id", number),)


def mark(
    view: str, *numbers: int, slot: int = 0, tables: frozenset[str] = frozenset({"public.t"}), at: datetime = AT
) -> Mark:
    """A mark with the keys ``numbers``; with none of them, of unknown keys."""
    return Mark(view=view, slot=slot, tables=tables, keys=frozenset(map(key, numbers)) if numbers else None, since=at)


async def test_what_was_put_is_read(db: asyncpg.Connection) -> None:
    put = [mark("public.a", 1, 2), mark("public.a", slot=3), mark("public.b", 7, tables=frozenset({"x", "y"}))]
    await marks.put(db, put)
    found = await marks.read(db)
    assert [(one.view, one.slot, one.tables, one.keys, one.since) for one in found] == [
        (one.view, one.slot, one.tables, one.keys, one.since) for one in put
    ]
    assert len({one.generation for one in found}) == 3
    assert [one.view for one in await marks.read(db, "public.b")] == ["public.b"]
    assert await marks.read(db, "public.c") == []
    assert found[0].dirt() == Dirt(tables={"public.t"}, keys={key(1), key(2)}, heard_at=AT)


async def test_nothing_is_put_and_cleared_without_a_word(db: asyncpg.Connection) -> None:
    await marks.put(db, [])
    await marks.clear(db, [])
    assert await marks.read(db) == []


async def test_keys_of_every_kind_come_back_as_they_were(db: asyncpg.Connection) -> None:
    keys: frozenset[Key] = frozenset(
        {(("a", "é\"'\\"), ("b", None)), (("a", 2**62), ("b", True)), (("a", "1.50"), ("b", False))}
    )
    await marks.put(db, [marks.of("v", Dirt(tables={"t"}, keys=set(keys), heard_at=AT))])
    [found] = await marks.read(db)
    assert found.keys == keys


async def test_a_mark_that_was_put_after_the_reading_survives_the_clearing(db: asyncpg.Connection) -> None:
    await marks.put(db, [mark("v", 1), mark("v", 1, slot=1), mark("w", 1)])
    read = await marks.read(db)
    await marks.put(db, [mark("v", 2, slot=1), mark("v", slot=2)])
    await marks.clear(db, read)
    left = await marks.read(db)
    assert [(one.view, one.slot) for one in left] == [("v", 1), ("v", 2)]
    assert left[0].keys == frozenset({key(1), key(2)})
    await marks.clear(db, read)  # once more does nothing
    assert len(await marks.read(db)) == 2
    await marks.clear(db, left)
    assert await marks.read(db) == []


async def test_what_comes_together_in_one_slot_is_the_union_since_the_oldest(db: asyncpg.Connection) -> None:
    await marks.put(db, [mark("v", 1, 2, tables=frozenset({"t"}), at=AT)])
    await marks.put(db, [mark("v", 2, 3, tables=frozenset({"t", "u"}), at=AT - timedelta(seconds=5))])
    await marks.put(db, [mark("v", 3, tables=frozenset({"t"}), at=AT + timedelta(seconds=5))])
    [found] = await marks.read(db)
    assert found.keys == frozenset({key(1), key(2), key(3)})
    assert found.tables == {"t", "u"}
    assert found.since == AT - timedelta(seconds=5)


async def test_unknown_keys_stay_unknown(db: asyncpg.Connection) -> None:
    await marks.put(db, [mark("v", 1), mark("w")])
    await marks.put(db, [mark("v"), mark("w", 1)])
    await marks.put(db, [mark("v", 1), mark("w", 2)])
    assert [one.keys for one in await marks.read(db)] == [None, None]


async def test_too_many_keys_are_all_keys(db: asyncpg.Connection) -> None:
    await marks.put(db, [mark("v", *range(MAX_KEYS))])
    await marks.put(db, [mark("v", 0)])
    [found] = await marks.read(db)
    assert found.keys is not None
    assert len(found.keys) == MAX_KEYS
    await marks.put(db, [mark("v", MAX_KEYS)])
    [found] = await marks.read(db)
    assert found.keys is None


async def test_a_mark_that_another_session_has_locked_is_passed_over(db: asyncpg.Connection, dsn: str) -> None:
    await marks.put(db, [mark("v", 1), mark("w", 1)])
    read = await marks.read(db)
    async with connected(dsn) as other, other.transaction():
        await other.execute("SELECT FROM afresh.dirty WHERE view_name = 'v' FOR UPDATE")
        async with asyncio.timeout(20):
            await marks.clear(db, read)
    assert [one.view for one in await marks.read(db)] == ["v"]


async def test_a_mark_that_is_being_added_to_survives(db: asyncpg.Connection, dsn: str) -> None:
    await marks.put(db, [mark("v", 1)])
    async with connected(dsn) as other, other.transaction():
        await marks.put(other, [mark("v", 2)])
        read = await marks.read(db)
        assert read[0].keys == frozenset({key(1)})
        async with asyncio.timeout(20):
            await marks.clear(db, read)
    [found] = await marks.read(db)
    assert found.keys == frozenset({key(1), key(2)})


async def test_slots_keep_apart_so_that_nobody_waits(db: asyncpg.Connection, dsn: str) -> None:
    async with connected(dsn) as other, other.transaction():
        await marks.put(other, [mark("v", 1, slot=2)])
        async with asyncio.timeout(20):
            await marks.put(db, [mark("v", 2, slot=3)])
    assert [one.slot for one in await marks.read(db)] == [2, 3]
