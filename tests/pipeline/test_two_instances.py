"""Two services on one database: double work, no harm."""

from __future__ import annotations

import asyncio

import asyncpg

from conftest import eventually
from support.scenario import DIAMOND, TICK, Running, afresh, connected, diamond_fresh, gates


async def _both_settled(db: asyncpg.Connection, *services: Running) -> None:
    for running in services:
        await running.settled(db)


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

    async with afresh(dsn) as first, afresh(dsn) as second:
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
    async with gates(dsn) as held, afresh(dsn) as first, afresh(dsn) as second:
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
