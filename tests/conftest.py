"""A real PostgreSQL for every test: one server a run, one migrated template, a clone of it for each test.

``AFRESH_TEST_POSTGRES=16`` runs the suite on another version that the wheel carries; ``AFRESH_TEST_DSN`` on a server
that is there already (a superuser's address; databases named ``afresh_test_*`` are made and dropped on it).
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from afresh_notifier import migrate, packs
from afresh_notifier.embedded import EmbeddedServer

#: How long a test waits for what must happen; generous, since it only matters where it does not.
PATIENCE = 30.0

#: Settings that make the test server quick and able to do all that the tests ask of it.
SERVER_OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "logical",
    "max_prepared_transactions": "10",
    "autovacuum_naptime": "5s",
}

_numbers = itertools.count(1)


class ServerUnderTest:
    """Where the tests' databases are made."""

    def __init__(self, dsn_of: Callable[[str], str]) -> None:
        self.dsn = dsn_of

    async def _admin(self, statement: str) -> None:
        connection = await asyncpg.connect(self.dsn("postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def create(self, template: str = "template1") -> str:
        """A new database cloned from ``template``; returns its name."""
        name = f"afresh_test_{os.getpid()}_{next(_numbers)}"
        await self._admin(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    async def drop(self, name: str) -> None:
        """Drop a database with whoever is still connected to it."""
        await self._admin(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def server() -> Iterator[ServerUnderTest]:
    """The run's PostgreSQL."""
    given = os.environ.get("AFRESH_TEST_DSN")
    if given:
        parts = urlsplit(given)
        yield ServerUnderTest(lambda database: urlunsplit(parts._replace(path=f"/{database}")))
    else:
        version = int(os.environ.get("AFRESH_TEST_POSTGRES", "18"))
        with EmbeddedServer(version=version, options=SERVER_OPTIONS) as embedded:
            yield ServerUnderTest(embedded.dsn)


async def migrate_up(dsn: str, *names: str) -> None:
    """The engine, and the packs named, into the database at ``dsn``."""
    connection = await asyncpg.connect(dsn)
    try:
        scopes = packs.installable(packs.find_all(names))
        async for _ in migrate.up(connection, scopes):
            pass
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def engine_template(server: ServerUnderTest) -> Iterator[str]:
    """A database that holds the engine's objects; cloned, never changed."""
    name = asyncio.run(server.create())
    asyncio.run(migrate_up(server.dsn(name)))
    yield name
    asyncio.run(server.drop(name))


@pytest.fixture
async def dsn(server: ServerUnderTest, engine_template: str) -> AsyncIterator[str]:
    """The address of this test's own database, with the engine in it."""
    name = await server.create(engine_template)
    yield server.dsn(name)
    await server.drop(name)


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's connection to this test's database."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def eventually(
    condition: Callable[[], Awaitable[bool]] | Callable[[], bool], *, patience: float = PATIENCE
) -> None:
    """Wait until ``condition`` holds; fail the test where it does not within ``patience`` seconds."""
    try:
        async with asyncio.timeout(patience):
            while True:
                answer = condition()
                if answer if isinstance(answer, bool) else await answer:
                    return
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"did not come true within {patience} s: {condition}")
