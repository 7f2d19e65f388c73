"""A server that takes a statement and does not answer: whatever waits for it has an end, and so has a stop of the service.

The answer is withheld by a proxy, at a statement that each test chooses; everybody else is answered as ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from afresh_notifier import app, database, dependencies, embedder, jobs
from afresh_notifier.errors import AfreshError, Unreachable
from afresh_notifier.named_queries import library
from afresh_notifier.observations import JobDone, LogMeasured, RefreshDone
from afresh_notifier.resources import query as statement
from afresh_notifier.settings import DatabaseSettings
from conftest import PATIENCE, eventually
from support.named_queries import asking, query
from support.proxy import Proxy
from support.scenario import afresh, connected

#: As many bytes of a statement as tell it from all others.
TELLING = 100

SETUP = """
CREATE TABLE numbers (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO numbers VALUES (1, 10);
SELECT afresh.watch('numbers', '{id}');
"""


@pytest.fixture
async def proxied(dsn: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy, and the address of the test's database through it."""
    async with Proxy.before(dsn) as (proxy, through):
        yield proxy, through


def bytes_of(name: str) -> bytes:
    """What tells the service's own statement of this name."""
    return statement(name).encode()[:TELLING]


@pytest.mark.parametrize("name", ["catalogue", "watched_tables", "known", "remember"])
async def test_a_stop_ends_while_the_plan_is_being_read(
    db: asyncpg.Connection, proxied: tuple[Proxy, str], name: str
) -> None:
    proxy, through = proxied
    await db.execute(SETUP)
    async with asyncio.timeout(PATIENCE):
        async with afresh(through, server={"shutdown_timeout": 0.2}):
            hold = proxy.hold(bytes_of(name), deliver=True)
            await db.execute("CREATE MATERIALIZED VIEW totals AS SELECT sum(n) FROM numbers")
            await hold.reached(PATIENCE)


async def test_a_stop_ends_while_a_query_is_looked_at(
    db: asyncpg.Connection, proxied: tuple[Proxy, str], tmp_path: Path
) -> None:
    proxy, through = proxied
    await db.execute(SETUP)
    made = query(tmp_path, "number", "SELECT n, 'as it is' AS how FROM numbers")
    hold = proxy.hold(b"as it is", deliver=True)
    async with asyncio.timeout(PATIENCE):
        async with asking(through, made, server={"shutdown_timeout": 0.2}):
            await hold.reached(PATIENCE)


async def test_a_stop_ends_while_what_is_left_of_a_view_is_told(
    db: asyncpg.Connection, proxied: tuple[Proxy, str]
) -> None:
    proxy, through = proxied
    await db.execute(SETUP + "CREATE MATERIALIZED VIEW ratio AS SELECT id, 10 / n AS ratio FROM numbers")
    await db.execute("CREATE UNIQUE INDEX ON ratio (id)")
    # What both name waits for the view, and is told without it when that is given up.
    named = [{"name": "ratio", "patterns": ["ratios"]}], [{"name": "numbers", "patterns": ["ratios"]}]
    async with asyncio.timeout(PATIENCE):
        async with afresh(through, views=named[0], tables=named[1], server={"shutdown_timeout": 0.2}) as running:
            await running.seen.until(RefreshDone, view="public.ratio")
            await eventually(running.quiet)
            hold = proxy.hold(b"ratios", deliver=True)  # no refresh comes so far as to tell them
            await db.execute("UPDATE numbers SET n = 0")
            await hold.reached(PATIENCE)


async def _transaction(connection: asyncpg.Connection) -> object:
    async with database.transaction(connection, isolation="repeatable_read", readonly=True):
        return await connection.fetch(statement("catalogue"))


@pytest.mark.parametrize("work", [dependencies.load, _transaction])
async def test_what_is_cancelled_ends_as_cancelled(
    proxied: tuple[Proxy, str], work: Callable[[asyncpg.Connection], Awaitable[object]]
) -> None:
    proxy, through = proxied
    settings = DatabaseSettings(dsn=through)

    async def wait() -> None:
        async with database.connection(settings) as connection:
            await work(connection)

    hold = proxy.hold(bytes_of("catalogue"), deliver=True)
    task = asyncio.create_task(wait())
    await hold.reached(PATIENCE)
    task.cancel()
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.cancelled()


async def test_an_error_of_ours_undoes_a_transaction_and_leaves_a_clean_connection(dsn: str) -> None:
    async with connected(dsn) as connection:
        with pytest.raises(AfreshError):  # noqa: PT012 - what raises is in the block
            async with database.transaction(connection):
                await connection.execute("CREATE TABLE undone ()")
                raise AfreshError("no")
        assert not connection.is_in_transaction()
        assert await connection.fetchval("SELECT to_regclass('undone') IS NULL")


@pytest.mark.parametrize("how", ["frozen", "slow"])
async def test_a_start_says_that_it_gets_no_answer(proxied: tuple[Proxy, str], how: str) -> None:
    proxy, through = proxied
    proxy.hold(bytes_of("server_facts"), deliver=how == "slow")
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(Unreachable, match=r"did not answer within 0\.2 s"):
            async with afresh(through, database={"connect_timeout": 0.2}):
                pass


async def test_a_connection_that_freezes_when_it_is_made_is_replaced(
    db: asyncpg.Connection, proxied: tuple[Proxy, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "BROKEN_PACE", 0.05)
    proxy, through = proxied
    await db.execute(SETUP)
    hold = proxy.hold(bytes_of("query_session"), deliver=True)
    limits = {"database": {"connect_timeout": 0.5}, "query": {"concurrency": 1}}
    async with asking(through, query(tmp_path, "number", "SELECT n FROM numbers"), **limits) as ask:
        await hold.reached(PATIENCE)
        await ask.usable("number")
        assert (await ask("number")).rows == [{"n": 10}]


async def test_a_process_that_was_stopped_meanwhile_is_told_that_it_is_late(dsn: str) -> None:
    async with connected(dsn) as connection:
        loop = asyncio.get_running_loop()
        loop.call_soon(time.sleep, 0.3)  # when it goes on, the answer is there, and it is late
        with pytest.raises(TimeoutError, match="no answer within"), database.cut_after(connection, 0.1):
            await connection.fetchval("SELECT 1")
        assert connection.is_closed()


async def test_a_look_at_a_query_that_is_not_answered_is_made_again(
    db: asyncpg.Connection, proxied: tuple[Proxy, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "BROKEN_PACE", 0.05)
    proxy, through = proxied
    await db.execute(SETUP)
    made = query(tmp_path, "number", "SELECT t.*, 'as it is' AS how FROM numbers AS t")
    async with asking(through, made) as ask:
        await ask.usable("number")
        assert (await ask("number")).rows == [{"id": 1, "n": 10, "how": "as it is"}]
        await db.execute("ALTER TABLE numbers ADD COLUMN m int NOT NULL DEFAULT 5")
        for _ in range(6):  # more often than word of the change alone makes it look
            hold = proxy.hold(b"as it is", deliver=True)
            await hold.reached(PATIENCE)
            hold.cut()
        rows = [{"id": 1, "n": 10, "m": 5, "how": "as it is"}]

        async def is_new() -> bool:
            return (await ask("number")).rows == rows

        await eventually(is_new)


async def test_jobs_are_looked_at_again(
    db: asyncpg.Connection, proxied: tuple[Proxy, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PACE", 0.02)
    monkeypatch.setattr(jobs, "GRACE", 0.2)
    proxy, through = proxied
    file = tmp_path / "job.sql"
    file.write_text("SELECT 1")
    await db.execute("INSERT INTO afresh.jobs (name, due) VALUES ('one', $1)", datetime.now(UTC) - timedelta(days=2))
    hold = proxy.hold(bytes_of("job_rows"), deliver=True)
    section = {"name": "one", "schedule": "0 3 * * *", "file": str(file), "timeout": "5s"}
    async with afresh(through, jobs=[section]) as running:
        await hold.reached(PATIENCE)
        await running.seen.until(JobDone, job="one")


@pytest.mark.parametrize("name", ["embedding_source", "embedding_waiting"])
async def test_embeddings_are_looked_for_again(
    db: asyncpg.Connection, proxied: tuple[Proxy, str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(embedder, "LOOK_PATIENCE", 0.2)
    monkeypatch.setattr(embedder, "RETRY_FIRST", 0.02)
    proxy, through = proxied
    await db.execute("""
        CREATE EXTENSION vector;
        CREATE TABLE documents (id int PRIMARY KEY, body text, made vector(8));
        SELECT afresh.watch_embedding('documents', 'body');
    """)
    sections = [{"table": "documents", "text": "body", "column": "made", "dimensions": 8}]
    hold = proxy.hold(bytes_of(name), deliver=True)
    async with afresh(through, embeddings=sections, embedding={"dimensions": 8}):
        await hold.reached(PATIENCE)
        await db.execute("INSERT INTO documents VALUES (1, 'a text')")

        async def made() -> bool:
            return bool(await db.fetchval("SELECT made IS NOT NULL FROM documents"))

        await eventually(made)


async def test_the_change_log_is_measured_again(proxied: tuple[Proxy, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "MEASURE_PACE", 0.2)
    proxy, through = proxied
    hold = proxy.hold(bytes_of("change_log_depth"), deliver=True)
    async with afresh(through) as running:
        await hold.reached(PATIENCE)
        await running.seen.until(LogMeasured)
