"""The unique index that a view lacks, found from its rows: it can be made, and CONCURRENTLY can use it."""

from __future__ import annotations

import asyncpg
import pytest

from afresh_notifier import unique_index
from afresh_notifier.unique_index import Proposal


async def proposed(db: asyncpg.Connection, definition: str) -> Proposal:
    """What is proposed for a materialized view of this definition; a proposed index is made and used."""
    await db.execute(f"CREATE MATERIALIZED VIEW v AS {definition}")
    proposal = await unique_index.propose(db, await db.fetchval("SELECT 'v'::regclass::oid"))
    if proposal.statement is not None:
        await db.execute(proposal.statement)
        await db.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY v")
    return proposal


@pytest.mark.parametrize(
    ("definition", "columns"),
    [
        ("SELECT n AS id, n % 3 AS kind FROM generate_series(1, 9) AS n", "id"),
        ("SELECT n % 3 AS kind, n AS id FROM generate_series(1, 9) AS n", "id"),
        ('SELECT n AS "Odd ""Name" FROM generate_series(1, 9) AS n', '"Odd ""Name"'),
        # What identifies things is tried before what may be unique by chance.
        ("SELECT n * 1.5 AS amount, 'c' || n AS name FROM generate_series(1, 9) AS n", "name"),
        ("SELECT now() + n * interval '1 day' AS at, n AS id FROM generate_series(1, 9) AS n", "id"),
        ("SELECT n * 1.5 AS amount FROM generate_series(1, 9) AS n", "amount"),
        ("SELECT n::float8 AS f, n AS id FROM generate_series(1, 9) AS n", "id"),
        # A column with a NULL would have its rows rewritten at each refresh.
        ("SELECT nullif(n, 1) AS a, n AS b FROM generate_series(1, 9) AS n", "b"),
        # Types without an order cannot be in an index.
        ("SELECT json_build_array(n) AS a, point(n, n) AS p, n AS b FROM generate_series(1, 9) AS n", "b"),
        ("SELECT a, b FROM generate_series(1, 3) AS a, generate_series(1, 3) AS b", "a, b"),
        ("SELECT 1 AS one, a, b FROM generate_series(1, 3) AS a, generate_series(1, 3) AS b", "a, b"),
        (
            "SELECT a, b, c FROM generate_series(1, 2) AS a, generate_series(1, 2) AS b, generate_series(1, 2) AS c",
            "a, b, c",
        ),
    ],
)
async def test_the_shortest_key_of_the_first_columns_is_found(
    db: asyncpg.Connection, definition: str, columns: str
) -> None:
    proposal = await proposed(db, definition)
    assert proposal.statement == f"CREATE UNIQUE INDEX ON public.v ({columns});"


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        ("SELECT n FROM generate_series(1, 0) AS n", "it has no rows"),
        ("SELECT 1 AS n FROM generate_series(1, 2)", "the same row more than once"),
        ("SELECT 1 AS rows, '{}'::json AS r FROM generate_series(1, 2)", "the same row more than once"),
        ("SELECT json_build_array(n) AS j FROM generate_series(1, 2) AS n", "identify its rows"),
        ("SELECT nullif(n, 1) AS a FROM generate_series(1, 9) AS n", "identify its rows"),
        ("SELECT n::float8 AS f, n * interval '1 s' AS i FROM generate_series(1, 9) AS n", "identify its rows"),
        ("SELECT n & 1 AS a, n & 2 AS b, n & 4 AS c, n & 8 AS d FROM generate_series(0, 15) AS n", "identify its rows"),
        ("SELECT FROM generate_series(1, 2)", "the same row more than once"),
    ],
)
async def test_where_there_is_no_key_the_reason_is_told(db: asyncpg.Connection, definition: str, reason: str) -> None:
    proposal = await proposed(db, definition)
    assert proposal.statement is None
    assert reason in proposal.reason


async def test_the_search_ends_in_time(db: asyncpg.Connection) -> None:
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT n FROM generate_series(1, 300000) AS n")
    view = await db.fetchval("SELECT 'v'::regclass::oid")
    for patience in (0.0, 0.001):  # before the first look, and in the middle of it
        proposal = await unique_index.propose(db, view, patience=patience)
        assert proposal.statement is None
        assert "of looking" in proposal.reason
    assert await db.fetchval("SHOW statement_timeout") == "0"


async def test_a_view_that_was_dropped_meanwhile_is_an_error(db: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await unique_index.propose(db, 4711)
