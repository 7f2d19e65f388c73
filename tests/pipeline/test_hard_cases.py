"""Cases in which a plausible implementation loses a change, stops for good, or runs somebody else's code."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from afresh_notifier import database
from afresh_notifier.settings import DatabaseSettings
from conftest import eventually
from support.scenario import TICK, afresh, listening

SALES = (
    TICK
    + """
CREATE TABLE sales (id int PRIMARY KEY, amount int NOT NULL);
INSERT INTO sales VALUES (1, 10);
CREATE MATERIALIZED VIEW report AS SELECT id, amount FROM sales;
CREATE UNIQUE INDEX ON report (id);
SELECT afresh.watch('sales');
"""
)


async def amount(db: asyncpg.Connection) -> int:
    return int(await db.fetchval("SELECT amount FROM report WHERE id = 1"))


async def test_change_of_a_table_that_is_renamed_with_it_is_shown_and_told(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(SALES)
    async with afresh(dsn) as running, listening(running.url) as heard:
        await running.settled(db)
        before = heard.mark
        await db.execute("BEGIN; UPDATE sales SET amount = 20; ALTER TABLE sales RENAME TO sold; COMMIT")

        async def shown() -> bool:
            return await amount(db) == 20

        await eventually(shown)
        await heard.told("sales", since=before)


async def test_views_that_stand_on_one_another_in_a_circle_stop_nothing(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(SALES)
    async with afresh(dsn) as running, listening(running.url) as heard:
        await running.settled(db)
        await db.execute("""
            CREATE VIEW step AS SELECT id FROM sales;
            CREATE MATERIALIZED VIEW ring AS SELECT id FROM step;
            CREATE UNIQUE INDEX ON ring (id);
            CREATE OR REPLACE VIEW step AS SELECT id FROM ring;
        """)
        await eventually(lambda: "public.ring" in running.views or heard.mark > 0)
        await db.execute("UPDATE sales SET amount = 30")

        async def shown() -> bool:
            return await amount(db) == 30

        await eventually(shown)


async def test_catalogue_is_polled_although_changes_never_pause(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(SALES + "DROP EVENT TRIGGER afresh_catalogue_change; DROP EVENT TRIGGER afresh_catalogue_drop;")
    async with afresh(dsn, database={"catalogue_poll": 0.3}) as running:
        await running.settled(db)
        await db.execute("CREATE MATERIALIZED VIEW more AS SELECT id FROM sales; CREATE UNIQUE INDEX ON more (id)")

        async def found() -> bool:
            await db.execute("UPDATE sales SET amount = amount + 1")
            return "public.more" in running.views

        await eventually(found)


async def test_change_that_was_heard_is_shown_although_the_watch_ends(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(SALES)
    async with afresh(dsn) as running:
        await running.settled(db)
        await db.execute("BEGIN; UPDATE sales SET amount = 40; SELECT afresh.unwatch('sales'); COMMIT")

        async def shown() -> bool:
            return await amount(db) == 40

        await eventually(shown)


async def test_change_on_a_partition_tells_what_its_parent_names(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(
        TICK
        + """
        CREATE TABLE orders (year int, id int) PARTITION BY LIST (year);
        CREATE TABLE orders_2026 PARTITION OF orders FOR VALUES IN (2026);
        SELECT afresh.watch('orders');
        """
    )
    tables = [{"name": "orders", "patterns": ["shop"]}]
    async with afresh(dsn, tables=tables) as running, listening(running.url) as heard:
        await running.settled(db)
        for target in ("orders", "orders_2026"):
            before = heard.mark
            await db.execute(f"INSERT INTO {target} VALUES (2026, 1)")
            await heard.told("shop", since=before)


async def test_operators_in_public_are_not_ours(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(
        SALES
        + """
        CREATE TABLE ran (as_whom name);
        CREATE FUNCTION public.same(oid, regclass) RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO public.ran VALUES (current_user);
            RETURN $1 OPERATOR(pg_catalog.=) $2::oid;
        END $$;
        CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = public.same);
        """
    )
    async with afresh(dsn) as running:
        await running.settled(db)
        await db.execute("CREATE MATERIALIZED VIEW more AS SELECT id FROM sales; CREATE UNIQUE INDEX ON more (id)")
        await eventually(lambda: "public.more" in running.views)
    assert await db.fetchval("SELECT count(*) FROM ran") == 0


async def test_lent_connection_is_cut_in_time_and_replaced(dsn: str) -> None:
    async with database.pool(DatabaseSettings(dsn=dsn), size=1) as pool:
        with pytest.raises((*database.TRANSIENT, asyncio.CancelledError)):
            async with database.lent(pool, 0.2) as connection:
                await connection.execute("SELECT pg_sleep(600)")
        async with database.lent(pool, 30) as connection:
            assert await connection.fetchval("SELECT 1") == 1
