"""`afresh migrate`: what it does, what it refuses, and what it asks."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from conftest import ServerUnderTest
from notifier import folders
from notifier.command import PATIENCE, afresh, environment


@pytest.fixture
async def empty(server: ServerUnderTest) -> AsyncIterator[str]:
    """The address of a database in which there is nothing."""
    name = await server.create()
    yield server.dsn(name)
    await server.drop(name)


async def tables(dsn: str) -> set[str]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT oid::regclass::text AS name FROM pg_class WHERE relkind IN ('r', 'v', 'm')"
        )
        return {row["name"] for row in rows}
    finally:
        await connection.close()


async def test_up_status_and_down(tmp_path: Path, empty: str) -> None:
    pack = folders.pack(tmp_path, "mine")
    (tmp_path / "afresh.toml").write_text(f'packs = ["{pack}"]', encoding="utf-8")

    before = await afresh("migrate", "status", folder=tmp_path, dsn=empty)
    assert before.code == 0
    assert "not applied" in before.out
    assert not {"_pogo_migration", "mine"} & await tables(empty)

    up = await afresh("migrate", "up", folder=tmp_path, dsn=empty)
    assert (up.code, up.err) == (0, "")
    assert up.out.splitlines()[0].startswith("applied afresh_0001_schema  ")
    assert up.out.splitlines()[-1] == "applied mine_0001_table  The migration mine_0001_table"
    assert "afresh.watched" in await tables(empty)

    again = await afresh("migrate", "up", folder=tmp_path, dsn=empty)
    assert again.out == "Nothing to do.\n"
    after = await afresh("migrate", "status", folder=tmp_path, dsn=empty)
    assert "not applied" not in after.out
    assert "mine_0001_table" in after.out

    down = await afresh("migrate", "down", "--yes", folder=tmp_path, dsn=empty)
    assert down.code == 0
    assert down.out.splitlines()[0].startswith("removed mine_0001_table  ")
    assert not {"afresh.watched", "mine"} & await tables(empty)


async def test_dsn_goes_before_the_settings(tmp_path: Path, empty: str) -> None:
    ended = await afresh("migrate", "up", "--dsn", empty, folder=tmp_path, dsn="postgresql://nowhere/x")
    assert ended.code == 0
    assert "afresh.watched" in await tables(empty)


async def test_a_pack_brings_what_it_requires(tmp_path: Path, empty: str) -> None:
    base = folders.pack(tmp_path, "base")
    top = folders.pack(tmp_path, "top", requires=(base,))
    ended = await afresh("migrate", "up", "--pack", top, folder=tmp_path, dsn=empty)
    assert ended.code == 0
    assert {"base", "top"} <= await tables(empty)


async def test_down_with_a_pack_leaves_the_engine_and_what_it_requires(tmp_path: Path, empty: str) -> None:
    base = folders.pack(tmp_path, "base")
    top = folders.pack(tmp_path, "top", requires=(base,))
    await afresh("migrate", "up", "--pack", top, folder=tmp_path, dsn=empty)
    ended = await afresh("migrate", "down", "--yes", "--pack", top, folder=tmp_path, dsn=empty)
    assert ended.code == 0
    there = await tables(empty)
    assert "top" not in there
    assert {"base", "afresh.watched"} <= there


async def test_what_others_require_is_not_removed(tmp_path: Path, empty: str) -> None:
    base = folders.pack(tmp_path, "base")
    top = folders.pack(tmp_path, "top", requires=(base,))
    (tmp_path / "afresh.toml").write_text(f'packs = ["{top}"]', encoding="utf-8")
    await afresh("migrate", "up", folder=tmp_path, dsn=empty)

    refused = await afresh("migrate", "down", "--yes", "--pack", base, folder=tmp_path, dsn=empty)
    assert refused.code == 1
    assert "Error: pack top is applied, and needs base" in refused.err
    assert "afresh migrate down --pack top" in refused.err

    (tmp_path / "afresh.toml").unlink()  # now the packs are unknown, and need the engine all the same
    refused = await afresh("migrate", "down", "--yes", folder=tmp_path, dsn=empty)
    assert refused.code == 1
    assert "Error: pack base is applied, and needs engine" in refused.err
    assert {"base", "top", "afresh.watched"} <= await tables(empty)


async def test_down_without_a_terminal_wants_yes(tmp_path: Path, dsn: str) -> None:
    ended = await afresh("migrate", "down", folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    assert "nobody can be asked" in ended.err
    assert "--yes" in ended.err
    assert "afresh.watched" in await tables(dsn)


async def answered(answer: bytes, folder: Path, dsn: str) -> tuple[int, str]:
    """Run `migrate down` at a terminal, and answer its question."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "afresh_notifier",
        "migrate",
        "down",
        cwd=folder,
        env=environment(DATABASE_URL=dsn, TERM="dumb"),
        stdin=theirs,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        os.write(ours, answer)
        async with asyncio.timeout(PATIENCE):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
        os.close(ours)
        os.close(theirs)
    assert process.returncode is not None
    return process.returncode, out.decode()


async def test_down_at_a_terminal_names_what_it_removes_and_asks(tmp_path: Path, dsn: str) -> None:
    code, said = await answered(b"n\n", tmp_path, dsn)
    assert code == 1
    assert "migrations will be taken back" in said
    assert "afresh_0001_schema" in said
    assert "nothing was removed" in said
    assert "afresh.watched" in await tables(dsn)

    code, _ = await answered(b"y\n", tmp_path, dsn)
    assert code == 0
    assert "afresh.watched" not in await tables(dsn)


async def test_down_says_why_the_engine_must_stay(tmp_path: Path, dsn: str, db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE orders (id int); SELECT afresh.watch('orders')")
    ended = await afresh("migrate", "down", "--yes", folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    assert "public.orders" in ended.err
    assert "afresh.unwatch" in ended.err


async def test_migrations_of_a_newer_afresh(tmp_path: Path, dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(
        "INSERT INTO _pogo_migration (migration_hash, migration_id, schema_name, applied) "
        "VALUES ('x', 'afresh_9999_future', 'afresh', now())"
    )
    status = await afresh("migrate", "status", folder=tmp_path, dsn=dsn)
    (line,) = (line for line in status.out.splitlines() if "afresh_9999_future" in line)
    assert "made by a newer Afresh" in line
    up = await afresh("migrate", "up", folder=tmp_path, dsn=dsn)
    assert up.code == 0
    assert "afresh_9999_future" in up.err
    down = await afresh("migrate", "down", "--yes", folder=tmp_path, dsn=dsn)
    assert down.code == 1
    assert "only a newer Afresh can take back: afresh_9999_future" in down.err
    assert "afresh.watched" in await tables(dsn)


async def test_a_failure_in_the_middle_is_told_and_what_was_done_stays(tmp_path: Path, dsn: str) -> None:
    pack = Path(folders.pack(tmp_path, "mine"))
    folders.migration(pack / "migrations", "mine_0002_bad", up="SELECT 1 / 0;", down="", depends="mine_0001_table")
    ended = await afresh("migrate", "up", "--pack", str(pack), folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    assert "applied mine_0001_table" in ended.out
    assert "Error: mine_0002_bad was not carried out, nothing of it remains: division by zero" in ended.err
    assert "mine" in await tables(dsn)


async def test_an_unknown_pack_is_told(tmp_path: Path, dsn: str) -> None:
    for command in ("up", "down", "status"):
        ended = await afresh("migrate", command, "--pack", "nothing", folder=tmp_path, dsn=dsn)
        assert ended.code == 1
        assert "there is no pack 'nothing'" in ended.err
