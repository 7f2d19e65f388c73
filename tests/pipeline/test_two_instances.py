"""Services on one database: one leads; two that both believe it do double work, and no harm; and none stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from afresh_notifier.observations import Following, Leading, RefreshDone
from conftest import eventually
from support.scenario import DIAMOND, OVERVIEW, TICK, Running, afresh, connected, diamond_fresh, gates, listening


@asynccontextmanager
async def two_leaders(dsn: str, db: asyncpg.Connection) -> AsyncIterator[tuple[Running, Running]]:
    """Two services that both believe to lead: the first does not look after its lease for an hour, and it is taken away."""
    async with afresh(dsn, lease={"length": 7200, "renew": 3600}) as first:
        await first.seen.until(Leading)
        await db.execute("UPDATE afresh.lease SET expires = '-infinity'")
        async with afresh(dsn) as second:
            await second.seen.until(Leading)
            assert first.service.board.leading
            yield first, second


async def _both_settled(db: asyncpg.Connection, *services: Running) -> None:
    for running in services:
        await running.settled(db)


async def test_one_of_two_leads_and_both_tell(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    async with afresh(dsn) as first, afresh(dsn) as second:
        await first.seen.until(Leading)
        await second.seen.until(Following)
        async with listening(first.url) as one, listening(second.url) as other:
            await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
            await _both_settled(db, first, second)
            await eventually(lambda: bool(one.invalidations(view=OVERVIEW) and other.invalidations(view=OVERVIEW)))
        assert await diamond_fresh(db)
        assert not second.seen.of(RefreshDone)
        assert not second.seen.of(Leading)
        assert first.seen.refreshes(OVERVIEW) > 0


async def test_follower_takes_over_at_once_from_a_leader_that_stops(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    # The lease would not run out within the test: it is given up.
    lease = {"length": 3600, "renew": 60}
    async with AsyncExitStack() as first_stands, AsyncExitStack() as stack:
        first = await first_stands.enter_async_context(afresh(dsn, lease=lease))
        await first.seen.until(Leading)
        second = await stack.enter_async_context(afresh(dsn, lease=lease))
        await second.seen.until(Following)
        await first_stands.aclose()
        await second.seen.until(Leading)
        await db.execute("UPDATE entries SET amount = 5 WHERE id = 2")
        await second.settled(db)
        assert await diamond_fresh(db)


async def test_two_instances_never_move_a_view_backwards(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(
        TICK
        + """
        CREATE TABLE counter (id int PRIMARY KEY, n int NOT NULL);
        INSERT INTO counter VALUES (1, 0);
        CREATE MATERIALIZED VIEW latest AS SELECT id, n FROM counter;
        CREATE UNIQUE INDEX ON latest (id);
        SELECT afresh.watch('counter');
        """
    )
    shown: list[int] = []

    async def watch() -> None:
        async with connected(dsn) as reader:
            while True:
                shown.append(await reader.fetchval("SELECT n FROM latest"))

    async def write() -> None:
        async with connected(dsn) as writer:
            for _ in range(300):
                await writer.execute("UPDATE counter SET n = n + 1")

    async with two_leaders(dsn, db) as (first, second):
        await _both_settled(db, first, second)
        before = first.seen.mark, second.seen.mark
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch())
            await asyncio.gather(write(), write())
            await _both_settled(db, first, second)
            await eventually(lambda: shown[-1] == 600)
            watching.cancel()
        assert shown == sorted(shown)
        assert first.seen.refreshes("public.latest", since=before[0]) > 0
        assert second.seen.refreshes("public.latest", since=before[1]) > 0


async def test_refresh_of_one_instance_does_not_satisfy_the_other_with_older_data(
    dsn: str, db: asyncpg.Connection
) -> None:
    """One holds a refresh with an old snapshot; the other hears of a newer change, and takes its turn after that."""
    await db.execute(DIAMOND)
    async with gates(dsn) as held, two_leaders(dsn, db) as (first, second):
        await _both_settled(db, first, second)
        await held.close(1)
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        await held.reached(1)
        await db.execute("UPDATE entries SET amount = 2 WHERE id = 1")
        await first.heard_all(db)
        await second.heard_all(db)
        await held.open(1)
        await _both_settled(db, first, second)
        assert await db.fetchval("SELECT total FROM overview WHERE writer = 1") == 2
        assert await diamond_fresh(db)
        assert first.seen.failures("public.totals") == second.seen.failures("public.totals") == []


async def test_leader_whose_lease_is_renewed_late_does_not_stand_still(dsn: str, db: asyncpg.Connection) -> None:
    """It has stepped aside, by its own clock, when it learns that the lease is its own after all. Nobody rings for it."""
    await db.execute(DIAMOND)
    lease, capture = {"length": 1.0, "renew": 0.25}, {"bell": "never"}
    async with afresh(dsn, lease=lease, capture=capture) as running, connected(dsn) as stuck:
        await running.settled(db)
        for amount in (1, 2):
            async with stuck.transaction():
                await stuck.execute("SELECT FROM afresh.lease FOR UPDATE")
                await eventually(lambda: running.service.refresher._term is None)
            await db.execute("UPDATE entries SET amount = $1 WHERE id = 1", amount)
            await running.settled(db)
            assert await diamond_fresh(db)
