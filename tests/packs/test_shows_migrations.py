"""The migrations of the pack ``shows``: up and down, beside other people's tables, and nothing of theirs dropped."""

from __future__ import annotations

import asyncpg
import pytest

from afresh_notifier.errors import MigrationError
from packs.shows_support import pack_down, pack_up


async def test_tables_of_the_same_names_elsewhere_are_left_alone(bare: asyncpg.Connection) -> None:
    await bare.execute("CREATE TABLE events (id int); INSERT INTO events VALUES (1)")
    await pack_up(bare)
    assert await bare.fetchval("SELECT count(*) FROM events") == 1
    await pack_down(bare)
    assert await bare.fetchval("SELECT count(*) FROM events") == 1


async def test_a_schema_that_is_there_already_is_an_error_and_is_kept(bare: asyncpg.Connection) -> None:
    await bare.execute("CREATE SCHEMA shows; CREATE TABLE shows.mine (id int)")
    with pytest.raises(MigrationError, match='schema "shows" already exists'):
        await pack_up(bare)
    assert await bare.fetchval("SELECT count(*) FROM shows.mine") == 0


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("CREATE VIEW mine AS SELECT name FROM shows.venues", "view mine depends on"),
        ("CREATE TABLE shows.mine AS SELECT 1 AS event_name", "table shows.mine depends on"),
    ],
)
async def test_down_refuses_to_drop_what_somebody_built_on_it(
    bare: asyncpg.Connection, statement: str, named: str
) -> None:
    await pack_up(bare)
    await bare.execute(statement)
    with pytest.raises(MigrationError, match=named):
        await pack_down(bare)
    assert await bare.fetchval("SELECT count(*) >= 0 FROM " + ("shows.mine" if "TABLE" in statement else "mine"))
