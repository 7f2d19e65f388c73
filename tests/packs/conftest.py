"""Each test's own database with a pack in it. Which pack: a test file's name begins with the pack's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from afresh_notifier import packs
from conftest import ServerUnderTest, migrate_up
from packs.every_pack import PackUnderTest, clone
from support.named_queries import Asking


class Templates:
    """Databases that hold the engine and a pack, each made when it is first asked for; cloned, never changed."""

    def __init__(self, server: ServerUnderTest) -> None:
        self._server = server
        self._made: dict[tuple[str, bool], str] = {}

    def of(self, subject: PackUnderTest, *, filled: bool = False) -> str:
        """The name of that with nothing in its tables, or of that with sample data of the usual size and fresh views."""
        key = (subject.pack.name, filled)
        if key not in self._made:
            self._made[key] = asyncio.run(self._fill(subject) if filled else self._install(subject))
        return self._made[key]

    async def _install(self, subject: PackUnderTest) -> str:
        name = await self._server.create()
        await migrate_up(self._server.dsn(name), subject.pack.name)
        return name

    async def _fill(self, subject: PackUnderTest) -> str:
        name = await self._server.create(self._made[(subject.pack.name, False)])
        connection = await asyncpg.connect(self._server.dsn(name))
        async with connection.transaction():
            await subject.load_sample(connection, None)
            await subject.refresh(connection)
        await connection.close()
        return name

    def drop(self) -> None:
        """Drop them all."""
        for name in self._made.values():
            asyncio.run(self._server.drop(name))


@pytest.fixture(scope="session")
def templates(server: ServerUnderTest) -> Iterator[Templates]:
    """The run's databases with packs."""
    made = Templates(server)
    yield made
    made.drop()


@pytest.fixture(scope="module")
def subject(request: pytest.FixtureRequest) -> PackUnderTest:
    """The pack that the test file is about."""
    file = request.module.__name__.rpartition(".")[2].removeprefix("test_")
    (name,) = [name for name in packs.available() if file == name or file.startswith(f"{name}_")]
    return PackUnderTest(name)


@pytest.fixture(scope="module")
def pack_template(templates: Templates, subject: PackUnderTest) -> str:
    """A database that holds the engine and the pack; cloned, never changed."""
    return templates.of(subject)


@pytest.fixture(scope="module")
def filled_template(templates: Templates, subject: PackUnderTest, pack_template: str) -> str:
    """The same with the sample data of the usual size, and views that were refreshed with them."""
    del pack_template
    return templates.of(subject, filled=True)


@pytest.fixture
async def pack_dsn(server: ServerUnderTest, pack_template: str) -> AsyncIterator[str]:
    """The address of this test's own database, with the pack in it."""
    name = await server.create(pack_template)
    yield server.dsn(name)
    await server.drop(name)


@pytest.fixture
async def db(pack_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's connection to it."""
    connection = await asyncpg.connect(pack_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def bare(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's connection to this test's own database, with the engine alone in it."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def filled(
    server: ServerUnderTest, subject: PackUnderTest, filled_template: str
) -> AsyncIterator[asyncpg.Connection]:
    """A connection to this test's own database, with sample data and fresh views."""
    async with clone(server, filled_template) as connection:
        # The template may be of yesterday.
        await subject.refresh(connection)
        yield connection


@pytest.fixture
async def ask(subject: PackUnderTest, pack_dsn: str) -> AsyncIterator[Asking]:
    """The service with the pack."""
    async with subject.served(pack_dsn) as asked:
        yield asked
