"""Promises 3 and 4 under a storm: bounded work, bounded staleness; and how little a large statement says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import pairwise

import asyncpg
import pytest

from afresh_notifier.observations import ChangesHeard, GapFound, RefreshDone
from support.scenario import TICK, Recorder, afresh, connected

WRITERS, UPDATES = 4, 2_500

#: `limited` may always start, but for its load; `patient` waits for a quiet that does not come.
MAX_LOAD, MAX_WAIT = 0.2, 0.15
VIEWS = [
    {"name": "limited", "debounce": 0, "max_wait": 0.001, "max_load": MAX_LOAD},
    {"name": "patient", "debounce": 3600, "max_wait": MAX_WAIT, "max_load": 0.9},
]

#: Two lines of the service, between which it reads the clock and reports, may be this far apart in seconds when the machine
#: takes the processor away between them.
BLINK = 0.005

SALES = (
    TICK
    + """
CREATE TABLE sales (id int PRIMARY KEY, shop int NOT NULL, amount int NOT NULL);
INSERT INTO sales SELECT n, n % 10, 0 FROM generate_series(0, 99) AS n;
CREATE MATERIALIZED VIEW limited AS SELECT shop, sum(amount) AS amount, (SELECT pg_sleep(0.01)::text) AS slow
FROM sales GROUP BY shop;
CREATE MATERIALIZED VIEW patient AS SELECT shop, sum(amount) AS amount FROM sales GROUP BY shop;
CREATE UNIQUE INDEX ON limited (shop);
CREATE UNIQUE INDEX ON patient (shop);
SELECT afresh.watch('sales', '{shop}');
"""
)


@contextlib.asynccontextmanager
async def lateness() -> AsyncIterator[list[float]]:
    """How late the event loop was, at its worst, in seconds: what a timer of the service may be late by, too."""
    worst = [0.0]

    async def tick() -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + 0.005
            await asyncio.sleep(0.005)
            worst[0] = max(worst[0], loop.time() - due)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(tick())
        yield worst
        task.cancel()


def runs(seen: Recorder, view: str) -> list[tuple[float, float, RefreshDone]]:
    """When each refresh of ``view`` began and ended, and what was said of it."""
    return [(at - done.seconds, at, done) for at, done in seen.timed(RefreshDone, view=view)]


async def test_storm_of_10000_updates_keeps_to_max_load_and_max_wait(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(SALES)

    async def write(writer: int) -> None:
        async with connected(dsn) as connection:
            await connection.execute(
                f"DO $$ BEGIN FOR n IN 1..{UPDATES} LOOP "
                f"UPDATE sales SET amount = amount + 1 WHERE id = {writer} + {WRITERS} * (n % 25); COMMIT; "
                "END LOOP; END $$"
            )

    async with afresh(dsn, views=VIEWS) as running:
        await running.settled(db)
        running.seen.all.clear()
        loop = asyncio.get_running_loop()
        async with lateness() as worst:
            began = loop.time()
            await asyncio.gather(*(write(writer) for writer in range(WRITERS)))
            storm = loop.time() - began
            await running.settled(db)
        seen = running.seen
        assert seen.of(GapFound) == []
        assert seen.changed("public.sales") == WRITERS * UPDATES
        total = await db.fetchrow(
            "SELECT (SELECT sum(amount) FROM limited) AS limited, (SELECT sum(amount) FROM patient) AS patient"
        )
        assert total is not None
        assert dict(total) == {"limited": WRITERS * UPDATES, "patient": WRITERS * UPDATES}

        limited = runs(seen, "public.limited")
        for (_, ended, done), (starts, _, _) in pairwise(limited):
            assert starts - ended >= done.seconds * (1 / MAX_LOAD - 1) - BLINK
        busy = sum(done.seconds for _, _, done in limited[:-1])
        assert busy <= MAX_LOAD * (limited[-1][0] - limited[0][0]) + BLINK

        slack = BLINK + 2 * worst[0]
        for view, max_load, max_wait in (("public.limited", MAX_LOAD, 0.001), ("public.patient", 0.9, MAX_WAIT)):
            for (_, ended, before), (starts, _, done) in pairwise(runs(seen, view)):
                first_change = starts - done.dirty_for
                allowed_at = ended + before.seconds * (1 / max_load - 1)
                assert starts <= max(first_change + max_wait, allowed_at) + slack

        patient = runs(seen, "public.patient")
        longest = max(done.seconds for _, _, done in patient)
        rarest = max(MAX_WAIT, longest * (1 / 0.9 - 1)) + longest + slack
        assert len(patient) >= storm // rarest
        # Nor more often: the quiet that its debounce wants never came, so each one waited all of max_wait.
        assert all(done.dirty_for >= MAX_WAIT for _, _, done in patient[1:])


@pytest.mark.parametrize("level", ["statement", "row"])
async def test_statement_on_100000_rows_is_heard_as_one_change(dsn: str, db: asyncpg.Connection, level: str) -> None:
    await db.execute(TICK + "CREATE TABLE big (id int PRIMARY KEY, n int)")
    await db.execute("INSERT INTO big SELECT n, 0 FROM generate_series(1, 100000) AS n")
    if level == "statement":
        await db.execute("SELECT afresh.watch('big', '{id}')")
    else:
        await db.execute(
            "CREATE TRIGGER refresh AFTER INSERT OR UPDATE OR DELETE ON big "
            "FOR EACH ROW EXECUTE FUNCTION notify_event_refresh()"
        )
    async with afresh(dsn) as running:
        await running.settled(db)
        await db.execute("UPDATE big SET n = n + 1")
        await running.settled(db)
        assert [seen.count for seen in running.seen.of(ChangesHeard, table="public.big")] == [1]
