"""Promises 1 to 4 and what they mean to a client, each against the real server.

The random interleavings of promise 1 are in test_interleavings.py, the storm of promises 3 and 4 in test_storm.py."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

import asyncpg

from afresh_cache import client
from afresh_cache.messages import Invalidate
from afresh_notifier.observations import RefreshDone
from conftest import eventually
from support.scenario import (
    COUNTS,
    DIAMOND,
    OVERVIEW,
    TICK,
    TOTALS,
    afresh,
    connected,
    diamond_fresh,
    gates,
    listening,
)

#: A counter, a view of it, and a view of that view; each names the counts it shows in its patterns.
COUNTER = (
    TICK
    + """
CREATE TABLE counter (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO counter VALUES (1, 0);
CREATE MATERIALIZED VIEW latest AS SELECT id, n FROM counter;
CREATE UNIQUE INDEX ON latest (id);
CREATE MATERIALIZED VIEW copied AS SELECT id, n FROM latest;
CREATE UNIQUE INDEX ON copied (id);
SELECT afresh.watch('counter', '{n}');
"""
)


async def test_change_during_refresh_causes_exactly_one_more(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    async with gates(dsn) as held, afresh(dsn) as running:
        await running.settled(db)
        await held.close(1)
        before = running.seen.mark
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        await held.reached(1)
        for amount in range(2, 22):
            await db.execute("UPDATE entries SET amount = $1 WHERE id = 1", amount)
        await running.heard_all(db)
        assert running.seen.starts(TOTALS, since=before) == 1
        await held.open(1)
        await running.settled(db)
        assert running.seen.refreshes(TOTALS, since=before) == running.seen.starts(TOTALS, since=before) == 2
        assert await db.fetchval("SELECT total FROM totals WHERE writer = 1") == 21
        assert await diamond_fresh(db)


async def test_no_change_during_refresh_causes_none_more(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    async with gates(dsn) as held, afresh(dsn) as running:
        await running.settled(db)
        await held.close(1)
        before = running.seen.mark
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        await held.reached(1)
        await held.open(1)
        await running.settled(db)
        assert running.seen.refreshes(TOTALS, since=before) == 1


async def test_change_that_commits_after_the_snapshot_is_shown_however_long_it_was_open(
    dsn: str, db: asyncpg.Connection
) -> None:
    """The write comes before the refresh's snapshot, the commit after it: a row's time of writing says nothing."""
    await db.execute(DIAMOND)
    async with gates(dsn) as held, connected(dsn) as writer, afresh(dsn) as running:
        await running.settled(db)
        await writer.execute("BEGIN; UPDATE entries SET amount = 7 WHERE id = 1")
        await held.close(1)
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 2")
        await held.reached(1)
        await writer.execute("COMMIT")
        await running.heard_all(db)
        await held.open(1)
        await running.settled(db)
        assert await db.fetchval("SELECT total FROM totals WHERE writer = 1") == 7


async def test_rolled_back_change_refreshes_nothing(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    async with afresh(dsn) as running:
        await running.settled(db)
        before = running.seen.mark
        await db.execute("BEGIN; UPDATE entries SET amount = 7 WHERE id = 1; ROLLBACK")
        await running.settled(db)
        assert running.seen.starts(TOTALS, since=before) == 0


async def test_invalidation_leaves_only_after_the_refresh_has_committed(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    async with gates(dsn) as held, afresh(dsn) as running, listening(running.url) as heard:
        await running.settled(db)
        await held.close(1)
        before = heard.mark
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        await held.reached(1)
        await heard.told("counts", since=before)  # its sibling waits for nobody
        # Told in order: what is heard of a later tick is everything that was said before it.
        tick = await db.fetchval("INSERT INTO tick DEFAULT VALUES RETURNING n")
        await heard.told(f"tick:{tick}", since=before)
        assert heard.invalidations(since=before, view=TOTALS) == []
        assert heard.invalidations(since=before, view=OVERVIEW) == []
        await held.open(1)
        await heard.told("totals", since=before)
        assert await db.fetchval("SELECT total FROM totals WHERE writer = 1") == 1
        await heard.told("overview", since=before)
        assert await db.fetchval("SELECT total FROM overview WHERE writer = 1") == 1


async def test_view_on_views_is_refreshed_once_after_both_its_parents(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    async with gates(dsn) as held, afresh(dsn) as running:
        await running.settled(db)
        await held.close(1)
        await held.close(2)
        before = running.seen.mark
        await db.execute("INSERT INTO entries VALUES (50, 1, 5)")
        await held.reached(1)
        await held.reached(2)
        await held.open(2)
        await running.seen.until(RefreshDone, since=before, view=COUNTS)
        assert running.seen.starts(OVERVIEW, since=before) == 0
        await held.open(1)
        await running.settled(db)
        assert running.seen.refreshes(OVERVIEW, since=before) == 1
        assert await diamond_fresh(db)


async def test_client_that_reads_on_every_invalidation_never_once_sees_old_data(
    dsn: str, db: asyncpg.Connection
) -> None:
    """Each invalidation names the counts it speaks of, and when the oldest of them was heard. Whoever then reads the view
    must see them, all that was committed before that moment, and all that he has seen before."""
    await db.execute(COUNTER)
    committed: list[tuple[float, int]] = []
    read: list[tuple[Invalidate, str, int]] = []
    views = [{"name": name, "patterns": [f"{name}:{{n}}"]} for name in ("latest", "copied")]

    async def write() -> None:
        async with connected(dsn) as writer:
            for _ in range(300):
                n = await writer.fetchval("UPDATE counter SET n = n + 1 RETURNING n")
                committed.append((time.time(), n))

    async def read_back(url: str) -> None:
        async with connected(dsn) as reader:
            async for event in client.listen(url):
                if isinstance(event, Invalidate):
                    for view in event.views:
                        n = await reader.fetchval(
                            "SELECT n FROM latest" if "latest" in view else "SELECT n FROM copied"
                        )
                        read.append((event, view, n))

    async with afresh(dsn, views=views) as running, asyncio.TaskGroup() as group:
        reading = group.create_task(read_back(running.url))
        await eventually(lambda: running.service.hub.clients == 1)
        await asyncio.gather(write(), write())
        await running.settled(db)
        last = max(n for _, n in committed)
        await eventually(lambda: {view for _, view, n in read if n == last} == {"public.latest", "public.copied"})
        reading.cancel()

    seen = {"public.latest": 0, "public.copied": 0}
    offset = 0
    for event, view, n in read:
        named = [int(pattern.partition(":")[2] or 0) for pattern in event.patterns if pattern.startswith(view[7:])]
        heard_at = datetime.fromisoformat(event.at).timestamp()
        assert event.offset >= offset
        assert n >= max(named, default=0), f"{view} shows {n} on hearing {event}"
        assert n >= seen[view], f"{view} shows {n}, and showed {seen[view]} before {event}"
        assert n >= max((value for at, value in committed if at <= heard_at), default=0), f"{view}: {n} on {event}"
        offset, seen[view] = event.offset, n
    assert len(read) > 2


async def test_first_change_after_idle_time_is_acted_on_at_once(dsn: str, db: asyncpg.Connection) -> None:
    """With a debounce so long that, if it were waited for, the refresh would not come within a test's patience."""
    await db.execute(TICK + "CREATE TABLE t (id int PRIMARY KEY); SELECT afresh.watch('t')")
    paces = {"debounce": 3600, "max_wait": 7200, "max_load": 0.5}
    async with afresh(dsn, refresh=paces) as running:
        await db.execute("CREATE MATERIALIZED VIEW v AS SELECT id FROM t; CREATE UNIQUE INDEX ON v (id)")
        done = await running.seen.until(RefreshDone, view="public.v")
        assert done.dirty_for < 3600


async def test_change_after_a_pause_is_acted_on_at_once(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(COUNTER)
    async with afresh(dsn, refresh={"debounce": 1, "max_wait": 60}) as running:
        await running.settled(db)
        await eventually(running.service.refresher.rested)
        before = running.seen.mark
        await db.execute("UPDATE counter SET n = n + 1")
        done = await running.seen.until(RefreshDone, since=before, view="public.latest")
        assert done.dirty_for < 1


async def test_change_without_a_pause_before_it_is_debounced(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(COUNTER)
    async with afresh(dsn, refresh={"debounce": 3600, "max_wait": 0.2}) as running:
        await running.settled(db)
        before = running.seen.mark
        await db.execute("UPDATE counter SET n = n + 1")
        done = await running.seen.until(RefreshDone, since=before, view="public.latest")
        assert done.dirty_for >= 0.2
