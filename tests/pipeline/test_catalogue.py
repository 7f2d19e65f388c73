"""Views and tables that come, go and change while the service runs."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from afresh_notifier.observations import CatalogueRead, RefreshDone
from conftest import eventually
from support.scenario import DIAMOND, TICK, TOTALS, afresh, connected, diamond_fresh, gates, listening

SHOP = (
    TICK
    + """
CREATE TABLE sales (id int PRIMARY KEY, amount int NOT NULL);
INSERT INTO sales VALUES (1, 10);
CREATE VIEW doubled AS SELECT id, amount * 2 AS amount FROM sales;
CREATE MATERIALIZED VIEW report AS SELECT id, amount FROM doubled;
CREATE UNIQUE INDEX ON report (id);
SELECT afresh.watch('sales');
"""
)


async def test_view_created_while_running_is_refreshed_and_told(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(SHOP)
    async with afresh(dsn) as running, listening(running.url) as heard:
        await running.settled(db)
        await db.execute("CREATE MATERIALIZED VIEW more AS SELECT id FROM sales; CREATE UNIQUE INDEX ON more (id)")
        await heard.told("more")
        before = heard.mark
        await db.execute("INSERT INTO sales VALUES (2, 20)")
        await heard.told("more", since=before)
        assert await db.fetchval("SELECT count(*) FROM more") == 2


async def test_plain_view_replaced_under_a_view_refreshes_and_tells_it(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(SHOP)
    async with afresh(dsn) as running, listening(running.url) as heard:
        await running.settled(db)
        await heard.told("report")
        before = heard.mark
        await db.execute("CREATE OR REPLACE VIEW doubled AS SELECT id, amount * 3 AS amount FROM sales")
        await heard.told("report", since=before)
        assert await db.fetchval("SELECT amount FROM report") == 30


async def test_view_dropped_recreated_and_redefined_is_refreshed_and_told(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(SHOP)
    async with afresh(dsn) as running, listening(running.url) as heard:
        await running.settled(db)
        await db.execute("DROP MATERIALIZED VIEW report")
        await eventually(lambda: "public.report" not in running.views)
        before = heard.mark
        await db.execute(
            "CREATE MATERIALIZED VIEW report AS SELECT id, amount + 1 AS amount FROM sales WITH NO DATA;"
            "CREATE UNIQUE INDEX ON report (id)"
        )
        await heard.told("report", since=before)
        assert await db.fetchval("SELECT amount FROM report") == 11

        # And in one transaction, so that no moment is without it.
        before = heard.mark
        await db.execute(
            "BEGIN; DROP MATERIALIZED VIEW report; CREATE TABLE other (id int PRIMARY KEY);"
            "CREATE MATERIALIZED VIEW report AS SELECT id FROM other WITH NO DATA; CREATE UNIQUE INDEX ON report (id);"
            "SELECT afresh.watch('other'); COMMIT"
        )
        await heard.told("report", since=before)
        before = heard.mark
        await db.execute("INSERT INTO other VALUES (5)")
        await heard.told("report", since=before)
        assert await db.fetchval("SELECT id FROM report") == 5


async def test_view_dropped_under_a_refresh_in_flight_harms_nobody(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    async with gates(dsn) as held, connected(dsn) as other, afresh(dsn) as running:
        await running.settled(db)
        await held.close(1)
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        pid = await held.reached(1)
        await other.execute(f"SELECT pg_terminate_backend({pid})")
        await db.execute("DROP MATERIALIZED VIEW totals CASCADE")
        await held.open(1)
        await running.settled(db)
        assert running.views == ["public.counts"]
        assert await db.fetchval("SELECT bool_and(n = 1) FROM counts")


async def test_what_waited_for_a_view_goes_out_when_the_view_is_dropped(dsn: str, db: asyncpg.Connection) -> None:
    """The table's pattern is named by the view, so it waits for its refresh, which then never comes."""
    await db.execute(DIAMOND)
    settings: dict[str, Any] = {
        "tables": [{"name": "entries", "patterns": ["entries:{writer}"]}],
        "views": [{"name": "totals", "patterns": ["entries:{writer}"], "debounce": 3600, "max_wait": 7200}],
    }
    async with afresh(dsn, **settings) as running, listening(running.url) as heard:
        # Until nothing is dirty any more: what is, with keys unknown, would be told along with what waited.
        await running.settled(db)
        await heard.told("entries:")
        before = heard.mark
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 2")
        await running.heard_all(db)
        await heard.told(f"tick:{running.seen.tick}", since=before)
        assert not {"entries:2", "entries:"} & heard.patterns(since=before)
        await db.execute("DROP MATERIALIZED VIEW totals CASCADE")
        await heard.told("entries:2", since=before)


async def test_unique_index_replaced_and_renamed_view_go_on(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(SHOP)
    async with afresh(dsn) as running:
        await running.settled(db)
        await db.execute("ALTER MATERIALIZED VIEW report RENAME TO summary")
        await eventually(lambda: running.views == ["public.summary"])
        await db.execute("UPDATE sales SET amount = 7")
        await running.settled(db)
        assert await db.fetchval("SELECT amount FROM summary") == 14


async def test_new_partition_is_a_change_and_is_watched(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(
        TICK
        + """
        CREATE TABLE events (day int NOT NULL, n int NOT NULL) PARTITION BY LIST (day);
        CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
        CREATE MATERIALIZED VIEW days AS SELECT day, sum(n) AS n FROM events GROUP BY day;
        CREATE UNIQUE INDEX ON days (day);
        SELECT afresh.watch('events');
        """
    )
    async with afresh(dsn) as running:
        await running.settled(db)
        await db.execute("CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2)")
        await db.execute("INSERT INTO events_2 VALUES (2, 20)")
        await running.settled(db)
        assert await db.fetchval("SELECT n FROM days WHERE day = 2") == 20

        await db.execute(
            "CREATE TABLE events_3 (day int NOT NULL, n int NOT NULL); INSERT INTO events_3 VALUES (3, 30)"
        )
        await db.execute("ALTER TABLE events ATTACH PARTITION events_3 FOR VALUES IN (3)")
        await running.settled(db)
        await eventually(lambda: _one(db, "SELECT n = 30 FROM days WHERE day = 3"))

        await db.execute("ALTER TABLE events DETACH PARTITION events_3")
        await eventually(lambda: _one(db, "SELECT NOT EXISTS (SELECT FROM days WHERE day = 3)"))


async def test_rewriting_alter_table_is_a_change(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(
        TICK
        + """
        CREATE TABLE t (id int PRIMARY KEY, n int);
        INSERT INTO t VALUES (1, 1);
        CREATE MATERIALIZED VIEW v AS SELECT id FROM t;
        CREATE UNIQUE INDEX ON v (id);
        SELECT afresh.watch('t');
        """
    )
    async with afresh(dsn) as running:
        await running.settled(db)
        before = running.seen.mark
        await db.execute("ALTER TABLE t ALTER n TYPE text USING 'changed'")
        await running.seen.until(RefreshDone, since=before, view="public.v")


@pytest.mark.parametrize("change", ["created", "redefined"])
async def test_poll_notices_what_no_event_trigger_tells(dsn: str, db: asyncpg.Connection, change: str) -> None:
    await db.execute(SHOP)
    await db.execute("DROP EVENT TRIGGER afresh_catalogue_change; DROP EVENT TRIGGER afresh_catalogue_drop")
    async with afresh(dsn, database={"catalogue_poll": 0.05}) as running, listening(running.url) as heard:
        await running.settled(db)
        await heard.told("report")
        before = heard.mark
        if change == "created":
            await db.execute("CREATE MATERIALIZED VIEW more AS SELECT id FROM sales; CREATE UNIQUE INDEX ON more (id)")
            await heard.told("more", since=before)
        else:
            await db.execute("CREATE OR REPLACE VIEW doubled AS SELECT id, amount * 3 AS amount FROM sales")
            await heard.told("report", since=before)
            assert await db.fetchval("SELECT amount FROM report") == 30


async def test_poll_watches_a_new_partition_that_no_event_trigger_told_of(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(
        TICK
        + """
        CREATE TABLE events (day int NOT NULL, n int NOT NULL) PARTITION BY LIST (day);
        CREATE MATERIALIZED VIEW days AS SELECT day, sum(n) AS n FROM events GROUP BY day;
        CREATE UNIQUE INDEX ON days (day);
        SELECT afresh.watch('events');
        DROP EVENT TRIGGER afresh_catalogue_change; DROP EVENT TRIGGER afresh_catalogue_drop;
        """
    )
    async with afresh(dsn, database={"catalogue_poll": 0.05}) as running:
        await running.settled(db)
        await db.execute(
            "CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2); INSERT INTO events_2 VALUES (2, 1)"
        )
        await eventually(lambda: _one(db, "SELECT n = 1 FROM days WHERE day = 2"))
        await running.settled(db)
        await db.execute("UPDATE events_2 SET n = 2")
        await eventually(lambda: _one(db, "SELECT n = 2 FROM days WHERE day = 2"))


async def test_catalogue_is_not_polled_where_an_event_trigger_tells(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    async with afresh(dsn, database={"catalogue_poll": 0.001}) as running:
        await running.settled(db)
        before = running.seen.mark
        for amount in range(50):
            await db.execute("UPDATE entries SET amount = $1 WHERE id = 1", amount)
        await running.settled(db)
        assert running.seen.of(CatalogueRead, since=before) == []
        assert running.seen.refreshes(TOTALS, since=before) > 0
        assert await diamond_fresh(db)


async def _one(db: asyncpg.Connection, query: str) -> bool:
    return bool(await db.fetchval(query))
