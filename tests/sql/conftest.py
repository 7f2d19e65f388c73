"""What the tests of the engine's SQL share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sql.hearing import Hearing, hearing


@pytest.fixture
async def ear(dsn: str) -> AsyncIterator[Hearing]:
    """An ear on this test's database."""
    async with hearing(dsn) as it:
        yield it
