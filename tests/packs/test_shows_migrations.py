"""The migrations of the pack ``shows``: up and down, beside other people's tables, and nothing of theirs dropped."""

from __future__ import annotations

import asyncpg
import pytest

from afresh_notifier.errors import MigrationError
from packs.shows_support import TABLES, load_sample, pack_down, pack_up
from packs.test_client_health_migrations import schema_of

MIGRATIONS = [
    "shows_0001_schema",
    "shows_0002_crm",
    "shows_0003_humanitix",
    "shows_0004_eventbrite",
    "shows_0005_financials",
    "shows_0006_event_sessions_overview",
    "shows_0007_functions",
    "shows_0008_watch",
]


async def test_the_pack_is_eight_migrations(db: asyncpg.Connection) -> None:
    assert await pack_up(db) == MIGRATIONS
    assert await pack_up(db) == []
    assert await pack_down(db) == MIGRATIONS[::-1]


async def test_up_down_up_leaves_an_identical_schema(db: asyncpg.Connection, dsn: str) -> None:
    await pack_up(db)
    await pack_down(db)
    without = await schema_of(db, dsn)
    assert "shows" not in without.replace("afresh", "")
    await pack_up(db)
    with_pack = await schema_of(db, dsn)
    assert all(f"CREATE TABLE shows.{table} " in with_pack for table in TABLES)
    await load_sample(db, 10)
    await pack_down(db)
    assert await schema_of(db, dsn) == without
    await pack_up(db)
    assert await schema_of(db, dsn) == with_pack


async def test_tables_of_the_same_names_elsewhere_are_left_alone(db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE events (id int); INSERT INTO events VALUES (1)")
    await pack_up(db)
    assert await db.fetchval("SELECT count(*) FROM events") == 1
    await pack_down(db)
    assert await db.fetchval("SELECT count(*) FROM events") == 1


async def test_a_schema_that_is_there_already_is_an_error_and_is_kept(db: asyncpg.Connection) -> None:
    await db.execute("CREATE SCHEMA shows; CREATE TABLE shows.mine (id int)")
    with pytest.raises(MigrationError, match='schema "shows" already exists'):
        await pack_up(db)
    assert await db.fetchval("SELECT count(*) FROM shows.mine") == 0


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("CREATE VIEW mine AS SELECT event_name FROM shows.event_sessions_overview_mv", "view mine depends on"),
        ("CREATE VIEW mine AS SELECT name FROM shows.venues", "view mine depends on"),
        ("CREATE TABLE shows.mine AS SELECT 1 AS event_name", "table shows.mine depends on"),
    ],
)
async def test_down_refuses_to_drop_what_somebody_built_on_it(
    db: asyncpg.Connection, statement: str, named: str
) -> None:
    await pack_up(db)
    await db.execute(statement)
    with pytest.raises(MigrationError, match=named):
        await pack_down(db)
    assert await db.fetchval("SELECT count(*) >= 0 FROM " + ("shows.mine" if "TABLE" in statement else "mine"))


async def test_everything_that_a_user_sees_is_described(db: asyncpg.Connection) -> None:
    await pack_up(db)
    undescribed = await db.fetch(
        "SELECT relname AS name FROM pg_class WHERE relnamespace = 'shows'::regnamespace AND relkind IN ('r', 'v', 'm')"
        "   AND obj_description(oid, 'pg_class') IS NULL"
        " UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'shows'::regnamespace"
        "   AND obj_description(oid, 'pg_proc') IS NULL"
    )
    assert [row["name"] for row in undescribed] == []
