"""Views that fail, are broken or are locked: what waits for them, what does not, and how they heal."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from afresh_notifier.observations import RefreshDone, RefreshNotDone, RefreshPostponed
from afresh_notifier.resources import query
from conftest import eventually
from support.scenario import COUNTS, DIAMOND, OVERVIEW, TOTALS, afresh, connected, diamond_fresh, gates, listening

#: The table's pattern is named by `totals` too, so that it waits for its refresh.
SHARED = {
    "tables": [{"name": "entries", "patterns": ["entries:{writer}"]}],
    "views": [{"name": "totals", "patterns": ["entries:{writer}", "totals"]}],
}


async def test_pattern_of_a_table_waits_for_its_view(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    async with gates(dsn) as held, afresh(dsn, **SHARED) as running, listening(running.url) as heard:
        await running.settled(db)
        await heard.told("entries:")
        await held.close(1)
        before = heard.mark
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        await held.reached(1)
        await running.heard_all(db)
        await heard.told(f"tick:{running.seen.tick}", since=before)
        assert "entries:1" not in heard.patterns(since=before)
        await held.open(1)
        await heard.told("entries:1", since=before)
        assert await db.fetchval("SELECT total FROM totals WHERE writer = 1") == 1


async def test_pattern_of_a_table_goes_out_at_once_when_its_only_view_is_broken(
    dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(DIAMOND)
    index = await db.fetchval("SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'totals'::regclass")
    async with afresh(dsn, **SHARED) as running, listening(running.url) as heard:
        await running.settled(db)
        await db.execute(f"DROP INDEX {index}")
        await running.seen.until(RefreshNotDone, view=TOTALS, broken=True)
        before = heard.mark
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        await heard.told("entries:1", since=before)
        assert heard.invalidations(since=before, view=TOTALS) == []

        before = heard.mark
        await db.execute("CREATE UNIQUE INDEX ON totals (writer)")
        await heard.told("totals", since=before)
        assert await db.fetchval("SELECT total FROM totals WHERE writer = 1") == 1


async def test_third_failure_releases_what_waits_and_recovery_sends_the_views(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    async with gates(dsn) as held, afresh(dsn, **SHARED) as running, listening(running.url) as heard:
        await running.settled(db)
        await heard.told("entries:")
        await held.fail(1)
        before, marked = heard.mark, running.seen.mark
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        await heard.told("entries:1", since=before)
        assert len(running.seen.failures(TOTALS, since=marked)) >= 3
        assert heard.invalidations(since=before, view=TOTALS) == []
        assert running.service.board.views[TOTALS].failures >= 3
        assert not running.service.board.views[TOTALS].broken

        # From then on nothing waits for it.
        before = heard.mark
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 2")
        await heard.told("entries:2", since=before)
        assert heard.invalidations(since=before, view=TOTALS) == []

        # When it works again it says so, and is waited for again.
        before = heard.mark
        await held.fail(1, fails=False)
        await heard.told("totals", since=before)
        assert await db.fetchval("SELECT sum(total) FROM totals") == 2
        await running.settled(db)
        assert await diamond_fresh(db)
        await held.close(1)
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 3")
        await held.reached(1)
        before = heard.mark
        await running.heard_all(db)
        await heard.told(f"tick:{running.seen.tick}", since=before)
        assert "entries:3" not in heard.patterns(since=before)
        await held.open(1)
        await heard.told("entries:3", since=before)


async def test_what_came_during_the_third_failure_is_released_with_it(dsn: str, db: asyncpg.Connection) -> None:
    """A change that is heard while the third refresh is in flight waits for that view, too."""
    await db.execute(DIAMOND)
    async with gates(dsn) as held, afresh(dsn, **SHARED) as running, listening(running.url) as heard:
        await running.settled(db)
        await heard.told("entries:")
        await held.fail(1)
        await held.close(1)
        before, marked = heard.mark, running.seen.mark
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        for failures in (1, 2):
            await held.reached(1)
            await held.open(1)
            await held.close(1)
            await eventually(lambda n=failures: len(running.seen.failures(TOTALS, since=marked)) >= n)
        if len(running.seen.failures(TOTALS, since=marked)) == 2:
            await held.reached(1)
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 2")
        await running.heard_all(db)
        await held.open(1)
        await heard.told("entries:1", since=before)
        await heard.told("entries:2", since=before)


async def test_failing_view_does_not_hold_up_the_others(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    async with gates(dsn) as held, afresh(dsn) as running:
        await running.settled(db)
        await held.fail(1)
        await db.execute("INSERT INTO entries VALUES (70, 1, 5)")
        await running.heard_all(db)
        await eventually(lambda: not running.stale(COUNTS) and not running.stale(OVERVIEW))
        assert running.stale(TOTALS)
        assert await db.fetchval("SELECT n FROM overview WHERE writer = 1") == 2
        await held.fail(1, fails=False)
        await running.settled(db)
        assert await diamond_fresh(db)


async def test_view_that_somebody_locks_is_postponed_and_refreshed_when_it_is_free(
    dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(DIAMOND)
    async with connected(dsn) as other, afresh(dsn, refresh={"lock_timeout": 0.01}) as running:
        await running.settled(db)
        await other.execute("BEGIN; REFRESH MATERIALIZED VIEW totals")
        before = running.seen.mark
        await db.execute("UPDATE entries SET amount = 3 WHERE id = 1")
        postponed = await running.seen.until(RefreshPostponed, since=before, view=TOTALS)
        assert TOTALS in postponed.problem
        await eventually(lambda: len(running.seen.of(RefreshPostponed, since=before, view=TOTALS)) >= 2)
        assert running.seen.refreshes(TOTALS, since=before) == 0
        assert running.seen.failures(TOTALS, since=before) == []
        await other.execute("COMMIT")
        await running.settled(db)
        assert await diamond_fresh(db)


async def test_autovacuum_gives_way_to_a_refresh(dsn: str, db: asyncpg.Connection) -> None:
    """It takes its time over a large view, here minutes; to a session that gives up soon it would never give way."""
    naps = await db.fetchval("SELECT setting::int FROM pg_settings WHERE name = 'autovacuum_naptime'")
    if naps > 10:
        pytest.skip("autovacuum seldom comes by on this server")
    await db.execute(
        """
        CREATE TABLE many (id int PRIMARY KEY, n int NOT NULL);
        INSERT INTO many SELECT n, 0 FROM generate_series(1, 30000) AS n;
        CREATE MATERIALIZED VIEW shown AS SELECT id, n FROM many;
        CREATE UNIQUE INDEX ON shown (id);
        SELECT afresh.watch('many', '{id}');
        ALTER MATERIALIZED VIEW shown SET (
            autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1,
            autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0
        );
        """
    )
    vacuumed = "SELECT count(*) > 0 FROM pg_stat_progress_vacuum WHERE relid = 'shown'::regclass"
    async with afresh(dsn) as running:
        await eventually(running.quiet)
        await db.execute("UPDATE many SET n = 1 WHERE id % 2 = 0")
        await eventually(lambda: _true(db, vacuumed))
        async with db.transaction():  # a role that may not see what others are doing
            await db.execute("SET LOCAL ROLE pg_signal_backend")
            oid = await db.fetchval("SELECT 'shown'::regclass::oid")
            assert await db.fetchval(query("outwait_autovacuum"), oid, 200) == "1200ms"
        before = running.seen.mark
        await db.execute("UPDATE many SET n = 2 WHERE id = 1")
        await running.seen.until(RefreshPostponed, since=before, view="public.shown")
        await running.seen.until(RefreshDone, since=before, view="public.shown")
        assert await db.fetchval("SELECT n FROM shown WHERE id = 1") == 2


async def test_refresh_that_is_the_victim_of_a_deadlock_is_postponed_and_done(dsn: str, db: asyncpg.Connection) -> None:
    """Ours has `slow`, and comes to wait for a gate that is held by somebody who already waits for `slow`. It is ours that
    finds the deadlock, since it waits last, and the other would look for one an hour later."""
    await db.execute(DIAMOND)
    await db.execute(
        """
        CREATE FUNCTION both_gates() RETURNS int LANGUAGE plpgsql AS $$
        BEGIN PERFORM public.gate(2); RETURN public.gate(3); END;
        $$;
        DROP MATERIALIZED VIEW counts CASCADE;
        CREATE MATERIALIZED VIEW slow AS SELECT (SELECT both_gates()) AS gates, sum(amount) AS total FROM entries;
        CREATE UNIQUE INDEX ON slow (total);
        """
    )
    name = await db.fetchval("SELECT current_database()")
    await db.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '10ms'")
    async with gates(dsn) as held, connected(dsn) as other, afresh(dsn) as running:
        await running.settled(db)
        await other.execute("SET deadlock_timeout = '1h'; BEGIN; SELECT pg_advisory_xact_lock(4711, 3)")
        await held.close(2)
        before = running.seen.mark
        await db.execute("UPDATE entries SET amount = 3 WHERE id = 1")
        await held.reached(2)
        async with asyncio.TaskGroup() as group:
            altering = group.create_task(other.execute("ALTER MATERIALIZED VIEW slow SET (fillfactor = 90)"))
            waiting = "SELECT count(*) = 1 FROM pg_locks WHERE relation = 'slow'::regclass AND NOT granted"
            await eventually(lambda: _true(db, waiting))
            await held.open(2)
            postponed = await running.seen.until(RefreshPostponed, since=before, view="public.slow")
            assert "deadlock" in postponed.problem
            await altering
        await other.execute("COMMIT")
        await running.seen.until(RefreshDone, since=before, view="public.slow")
        await running.settled(db)
        assert await db.fetchval("SELECT total FROM slow") == 3


async def test_refresh_that_exceeds_its_timeout_is_given_up_and_tried_again(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    async with gates(dsn) as held, afresh(dsn, views=[{"name": "totals", "timeout": 0.5}]) as running:
        await running.settled(db)
        await held.close(1)
        before = running.seen.mark
        await db.execute("UPDATE entries SET amount = 3 WHERE id = 1")
        failed = await running.seen.until(RefreshNotDone, since=before, view=TOTALS)
        assert "timeout" in failed.problem
        await held.open(1)
        await running.settled(db)
        assert await diamond_fresh(db)


async def _true(db: asyncpg.Connection, query: str) -> bool:
    return bool(await db.fetchval(query))
