"""The demo's preparations: what cannot be installed is said, with what else can be done."""

from __future__ import annotations

from pathlib import Path

import pytest

from afresh_notifier import packs
from afresh_notifier.demo import prepare
from afresh_notifier.errors import MigrationError
from afresh_notifier.settings import DatabaseSettings
from notifier import folders

LACKING = "DO $$ BEGIN RAISE 'this server has no vectors' USING HINT = 'Install them.'; END $$;"


async def test_a_pack_that_the_server_cannot_hold_can_be_left_out(dsn: str, tmp_path: Path) -> None:
    paths = [folders.pack(tmp_path, name) for name in ("fine", "hungry")]
    folders.migration(
        tmp_path / "hungry" / "migrations", "hungry_0002_more", up=LACKING, down="", depends="hungry_0001_table"
    )
    with pytest.raises(MigrationError, match="no vectors") as caught:
        async for _ in prepare(DatabaseSettings(dsn=dsn), packs.find_all(paths), 1):
            pass
    assert caught.value.hint == ("Install them. Or leave out the pack that it is about: --pack fine --pack hungry")
