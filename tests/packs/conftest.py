"""What the packs' tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from conftest import ServerUnderTest, migrate_up
from packs.client_health_support import PACK


@pytest.fixture(scope="module")
def pack_template(server: ServerUnderTest) -> Iterator[str]:
    """A database that holds the engine and the pack ``client_health``; cloned, never changed."""
    name = asyncio.run(server.create())
    asyncio.run(migrate_up(server.dsn(name), PACK.name))
    yield name
    asyncio.run(server.drop(name))
