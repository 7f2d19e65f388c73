"""Live queries end to end: a row changes, its view is refreshed, and whoever asked is told the new answer, by one query."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from afresh_cache.messages import Error, Invalidate, Result, ServerMessage, Subscribed
from afresh_notifier.observations import QueryAnswered
from conftest import eventually
from support.doors import Client, connect
from support.named_queries import asking, query
from support.scenario import gates

#: What is asked reads a view, and a table that nothing else reads, so that the server counts how often it is asked.
SCHEMA = """
CREATE TABLE scores (client int PRIMARY KEY, score int NOT NULL);
INSERT INTO scores VALUES (7, 1), (8, 1);
CREATE MATERIALIZED VIEW summary AS SELECT client, score FROM scores;
CREATE UNIQUE INDEX ON summary (client);
SELECT afresh.watch('scores', '{client}');
CREATE TABLE counted (n int);
INSERT INTO counted VALUES (1);
CREATE FUNCTION gate(which int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared(4711, which); RETURN which; END $$;
"""
SQL = "SELECT s.client, s.score FROM summary AS s CROSS JOIN counted AS c WHERE s.client = $1::int"
#: The table names the same pattern as the view, which so goes out once, after the refresh.
SETTINGS: dict[str, Any] = {
    "tables": [{"name": "scores", "keys": ["client"], "patterns": ["scores:{client}:"]}],
    "views": [{"name": "summary", "patterns": ["scores:{client}:"]}],
}


@pytest.fixture
async def scores(db: asyncpg.Connection) -> asyncpg.Connection:
    await db.execute(SCHEMA)
    return db


def made(folder: Path, sql: str = SQL) -> dict[str, Any]:
    return query(folder, "score", sql, "client", cache_key="scores:{client}:")


async def ask(client: Client, name: str = "score", /, *, id: str = "1", **params: object) -> None:  # noqa: A002
    await client.say({"type": "query", "id": id, "name": name, "params": params})


async def answered(client: Client, id: str = "1") -> list[Any]:  # noqa: A002
    """The rows of the next result; other messages are passed over."""
    while True:
        message: ServerMessage = await client.hear()
        if isinstance(message, Result) and message.id == id:
            return message.rows


async def times_asked(db: asyncpg.Connection) -> int:
    """How often the query has been run, by the server's own count, which it makes up within a second or so."""
    count: int = await db.fetchval("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'counted'")
    return count


async def test_a_row_changes_and_whoever_asked_is_told(scores: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    async with asking(dsn, made(tmp_path), **SETTINGS) as running, connect(running.running.url) as client:
        await client.hear()
        await ask(client, client=7)
        assert await answered(client) == [{"client": 7, "score": 1}]
        await scores.execute("UPDATE scores SET score = 2 WHERE client = 7")
        assert await answered(client) == [{"client": 7, "score": 2}]
        # A refresh that changes nothing for this client, and then one that does: only that is told.
        await scores.execute("UPDATE scores SET score = 5 WHERE client = 8")
        await scores.execute("UPDATE scores SET score = 3 WHERE client = 7")
        assert await answered(client) == [{"client": 7, "score": 3}]
        await client.say({"type": "unsubscribe", "id": "1"})
        await client.subscribe("scores", id="2")
        assert isinstance(await client.hear(), Subscribed)
        await scores.execute("UPDATE scores SET score = 4 WHERE client = 7")
        assert isinstance(await client.hear(), Invalidate)


async def test_a_thousand_who_ask_the_same_cost_one_query_for_each_invalidation(
    scores: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    async with asking(dsn, made(tmp_path), **SETTINGS) as running, AsyncExitStack() as stack:
        clients: list[Client] = []
        for _ in range(100):  # ten questions on each of a hundred connections
            client = await stack.enter_async_context(connect(running.running.url))
            await client.hear()
            clients.append(client)
        before = await times_asked(scores)
        for client in clients:
            for number in range(10):
                await ask(client, id=str(number), client=7)

        async def all_told(score: int) -> None:
            for client in clients:
                told = [await client.hear() for _ in range(10)]
                assert all(isinstance(one, Result) and one.rows == [{"client": 7, "score": score}] for one in told)
                assert len({one.id for one in told if isinstance(one, Result)}) == 10

        await all_told(1)
        for score in (2, 3, 4):
            await scores.execute("UPDATE scores SET score = $1 WHERE client = 7", score)
            await all_told(score)

        async def counted() -> bool:
            return await times_asked(scores) - before == 4

        await eventually(counted)
        assert len(running.running.seen.of(QueryAnswered, how="miss")) == 4


async def test_an_answer_that_was_overtaken_is_followed_by_the_newer_one(
    scores: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    """The query hangs with its snapshot taken while the row changes and its view is refreshed."""
    held = made(tmp_path, SQL.replace("CROSS JOIN counted AS c", "CROSS JOIN LATERAL gate(1 + 0 * s.client) AS g"))
    async with asking(dsn, held, **SETTINGS) as running, connect(running.running.url) as client, gates(dsn) as gate:
        await client.hear()
        await client.subscribe("scores", id="2")
        assert isinstance(await client.hear(), Subscribed)
        await running.usable("score")
        await gate.close(1)
        await ask(client, client=7)
        await gate.reached(1)
        await scores.execute("UPDATE scores SET score = 2 WHERE client = 7")
        assert isinstance(await client.hear(), Invalidate)
        await gate.open(1)
        told: list[Any] = []
        while told[-1:] != [[{"client": 7, "score": 2}]]:
            told.append(await answered(client))
        assert len(told) <= 2
        # Nor is the old one kept for those who come later.
        assert (await running("score?client=7")).rows == [{"client": 7, "score": 2}]


async def test_what_is_asked_wrongly_is_said_and_the_connection_stays(
    scores: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    async with asking(dsn, made(tmp_path), **SETTINGS) as running, connect(running.running.url) as client:
        await client.hear()
        for name, params, code in (
            ("skore", {}, "unknown_query"),
            ("score", {}, "bad_parameter"),
            ("score", {"client": "x"}, "bad_parameter"),
            ("score", {"client": 7, "klient": 7}, "bad_parameter"),
        ):
            await ask(client, name, **params)
            error = await client.hear()
            assert isinstance(error, Error)
            assert (error.id, error.code) == ("1", code)
        await client.say({"type": "unsubscribe", "id": "1"})
        unknown = await client.hear()
        assert isinstance(unknown, Error)
        assert unknown.code == "unknown_subscription"
        await ask(client, client=8)
        assert await answered(client) == [{"client": 8, "score": 1}]


async def test_a_query_that_cannot_be_run_is_said_and_answered_once_it_can(
    scores: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    async with asking(dsn, made(tmp_path), **SETTINGS) as running, connect(running.running.url) as client:
        await client.hear()
        await ask(client, client=7)
        assert await answered(client) == [{"client": 7, "score": 1}]
        await scores.execute("ALTER TABLE counted RENAME TO gone")
        await scores.execute("UPDATE scores SET score = 2 WHERE client = 7")
        error = await client.hear()
        assert isinstance(error, Error)
        assert (error.id, error.code) == ("1", "query_unusable")
        await scores.execute("ALTER TABLE gone RENAME TO counted")
        assert await answered(client) == [{"client": 7, "score": 2}]


async def test_when_the_connections_are_gone_nothing_is_asked_any_more(
    scores: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    async with asking(dsn, made(tmp_path), **SETTINGS) as running:
        async with connect(running.running.url) as client:
            await client.hear()
            await ask(client, client=7)
            await answered(client)
        await eventually(lambda: running.running.service.hub.clients == 0)
        asked = len(running.running.seen.of(QueryAnswered))
        await scores.execute("UPDATE scores SET score = 2 WHERE client = 7")
        await eventually(lambda: running.running.service.hub.newest > 0)
        await asyncio.sleep(0.05)
        assert len(running.running.seen.of(QueryAnswered)) == asked
