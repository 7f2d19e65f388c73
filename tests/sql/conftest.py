"""What the tests of the engine's SQL share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from sql.hearing import Hearing, capture_by_default, hearing


@pytest.fixture
async def ear(dsn: str) -> AsyncIterator[Hearing]:
    """An ear on this test's database."""
    async with hearing(dsn) as it:
        yield it


@pytest.fixture(params=["log", "notify"])
async def each_capture(request: pytest.FixtureRequest, db: asyncpg.Connection) -> str:
    """Runs the test once for each way to capture, which `afresh.watch` then has as its default."""
    capture = str(request.param)
    await capture_by_default(db, capture)
    return capture
