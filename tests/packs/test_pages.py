"""The pages of the packs say what the packs have."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from afresh_notifier import pack_page, packs
from conftest import ServerUnderTest, migrate_up

PAGES = Path(__file__).resolve().parents[2] / "docs/packs"


@pytest.mark.parametrize("name", packs.available())
def test_the_page_of_a_pack_is_that_of_its_settings_and_comments(server: ServerUnderTest, name: str) -> None:
    async def generated(dsn: str) -> str:
        await migrate_up(dsn, name)
        connection = await asyncpg.connect(dsn)
        try:
            return await pack_page.page(connection, packs.find(name))
        finally:
            await connection.close()

    database = asyncio.run(server.create())
    try:
        text = asyncio.run(generated(server.dsn(database)))
    finally:
        asyncio.run(server.drop(database))
    file = PAGES / f"{name}.md"
    written = file.read_text(encoding="utf-8")
    assert pack_page.written(written, text) == written, "write it anew: python -m afresh_notifier.pack_page docs/packs"
    assert "||" not in text.replace("| |", ""), "something has no comment"


def test_a_page_without_markers_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected <!-- pack -->"):
        pack_page.written("# A page", "text")
