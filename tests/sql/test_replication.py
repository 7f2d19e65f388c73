"""A table that a logical subscription writes to: its worker fires row-level triggers only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from conftest import ServerUnderTest, eventually
from sql.hearing import Hearing

SOURCE = """
    CREATE TABLE t (id int PRIMARY KEY, n int);
    CREATE TABLE visit (id int, region text, n int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
    CREATE TABLE visit_east PARTITION OF visit FOR VALUES IN ('east');
"""

SLOT = "afresh_test_slot"


@asynccontextmanager
async def subscribed(
    server: ServerUnderTest, target: asyncpg.Connection, *, tables: str
) -> AsyncIterator[asyncpg.Connection]:
    """A database that the one behind ``target`` subscribes to; yields a connection to it.

    Both are on one server, so the slot is made beforehand: CREATE SUBSCRIPTION would wait for its own transaction.
    """
    name = await server.create()
    slot = f"{SLOT}_{name}"
    source = await asyncpg.connect(server.dsn(name))
    try:
        if await source.fetchval("SELECT current_setting('wal_level') <> 'logical'"):
            pytest.skip("wal_level is not logical on this server")
        await source.execute(SOURCE)
        await source.execute(f"CREATE PUBLICATION p FOR TABLE {tables} WITH (publish_via_partition_root = true)")
        await source.execute("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", slot)
        try:
            await target.execute(
                f"CREATE SUBSCRIPTION s CONNECTION '{server.dsn(name)}' PUBLICATION p "
                f"WITH (create_slot = false, slot_name = '{slot}', copy_data = false)"
            )
            try:
                yield source
            finally:
                await target.execute(
                    "ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s"
                )
        finally:
            await eventually(
                lambda: source.fetchval("SELECT NOT active FROM pg_replication_slots WHERE slot_name = $1", slot)
            )
            await source.execute("SELECT pg_drop_replication_slot($1)", slot)
    finally:
        await source.close()
        await server.drop(name)


async def test_changes_that_a_subscription_applies_are_told(
    server: ServerUnderTest, db: asyncpg.Connection, each_capture: str, ear: Hearing
) -> None:
    await db.execute(SOURCE)
    async with subscribed(server, db, tables="t, visit") as source:
        await db.execute("SELECT afresh.watch('t', '{id}'), afresh.watch('visit', '{id}')")
        assert await db.fetchval("SELECT bool_and(complete) FROM afresh.watched")
        captures = await db.fetch("SELECT table_name, capture FROM afresh.watched ORDER BY table_name")
        assert [tuple(row) for row in captures] == [
            ("public.t", "notify"),
            ("public.visit", each_capture),
            ("public.visit_east", "notify"),
        ]
        await ear.raw()

        await source.execute("INSERT INTO t VALUES (1, 1), (2, 2)")
        await eventually(lambda: db.fetchval("SELECT count(*) = 2 FROM t"))
        assert await ear.changes() == [("public.t", "INSERT", None, None)]
        await source.execute("UPDATE t SET n = 9")
        await eventually(lambda: db.fetchval("SELECT bool_and(n = 9) FROM t"))
        assert await ear.changes() == [("public.t", "UPDATE", None, None)]
        await source.execute("DELETE FROM t WHERE id = 1")
        await eventually(lambda: db.fetchval("SELECT count(*) = 1 FROM t"))
        assert await ear.changes() == [("public.t", "DELETE", None, None)]
        await source.execute("TRUNCATE t")
        await eventually(lambda: db.fetchval("SELECT count(*) = 0 FROM t"))
        assert await ear.changes() == [("public.t", "TRUNCATE", None, None)]

        await source.execute("INSERT INTO visit VALUES (1, 'east', 1)")
        await eventually(lambda: db.fetchval("SELECT count(*) = 1 FROM visit"))
        assert await ear.changes() == [("public.visit_east", "INSERT", None, None)]

        # Local writers are told by the statement triggers alone.
        await db.execute("INSERT INTO t VALUES (5, 5)")
        assert await ear.changes() == [("public.t", "INSERT", [{"id": 5}], 1)]


async def test_table_that_becomes_a_subscriptions_target_is_told_of_too(
    server: ServerUnderTest, db: asyncpg.Connection, ear: Hearing
) -> None:
    await db.execute(SOURCE + "SELECT afresh.watch('t', '{id}')")
    async with subscribed(server, db, tables="t") as source:
        assert await db.fetchval("SELECT bool_and(complete) FROM afresh.watched")
        await ear.raw()
        await source.execute("INSERT INTO t VALUES (1, 1)")
        await eventually(lambda: db.fetchval("SELECT count(*) = 1 FROM t"))
        assert await ear.changes() == [("public.t", "INSERT", None, None)]


async def test_watch_notices_a_new_subscription_without_the_event_trigger(
    server: ServerUnderTest, db: asyncpg.Connection
) -> None:
    await db.execute("DROP EVENT TRIGGER afresh_catalogue_change")
    await db.execute(SOURCE + "SELECT afresh.watch('t', '{id}')")
    async with subscribed(server, db, tables="t"):
        assert not await db.fetchval("SELECT complete FROM afresh.watched")
        await db.execute("SELECT afresh.watch('t', '{id}')")
        assert await db.fetchval("SELECT complete FROM afresh.watched")
        assert await db.fetchval("SELECT enabled::text FROM afresh.triggers WHERE level = 'row'") == "R"
        assert sorted(await db.fetchval("SELECT afresh.unwatch('t')")) == ["public.t"]
        assert await db.fetchval("SELECT count(*) FROM afresh.triggers") == 0
