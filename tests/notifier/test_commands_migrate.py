"""`afresh migrate`: what it does, what it refuses, and what it asks."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from afresh_notifier import migrate, packs
from conftest import ServerUnderTest
from notifier import folders
from notifier.command import PATIENCE, afresh, environment


@pytest.fixture
async def empty(server: ServerUnderTest) -> AsyncIterator[str]:
    """The address of a database in which there is nothing."""
    name = await server.create()
    yield server.dsn(name)
    await server.drop(name)


def as_role(dsn: str, role: str) -> str:
    """The same database, with that role's rights."""
    return f"{dsn}{'&' if '?' in dsn else '?'}role={role}"


def name_in(dsn: str) -> str:
    """The database's name."""
    return urlsplit(dsn).path.strip("/")


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


async def test_a_pack_in_the_folder_itself_can_be_removed(tmp_path: Path, empty: str) -> None:
    folders.pack(tmp_path, "mine")
    (tmp_path / "afresh.toml").write_text('packs = ["./mine"]', encoding="utf-8")
    assert (await afresh("migrate", "up", folder=tmp_path, dsn=empty)).code == 0
    down = await afresh("migrate", "down", "--yes", "--pack", "./mine", folder=tmp_path, dsn=empty)
    assert (down.code, down.err) == (0, "")
    assert "mine" not in await tables(empty)
    assert "afresh.watched" in await tables(empty)


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
    assert "    drops schema afresh" in said.splitlines()
    assert "    drops function public.notify_event_refresh()" in said.splitlines()
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


async def test_what_taking_back_drops_is_named() -> None:
    (pack,) = packs.find_all(["client_health"])
    drops = await migrate.dropped(pack.scope)
    assert drops["client_health_0005_client_health_summary"] == [
        "materialized view public.client_health_summary",
        "view public.client_health_summary_live",
    ]
    assert drops["client_health_0001_tables"] == ["what it finds to be its own when it runs"]
    assert drops["client_health_0007_watch"] == []


async def test_notices_of_migrations_are_shown(tmp_path: Path, empty: str) -> None:
    owner = await asyncpg.connect(empty)
    role = f"afresh_test_{owner.get_server_pid()}"
    await owner.execute(f"CREATE ROLE {role}; GRANT CREATE ON DATABASE {name_in(empty)} TO {role}")
    try:
        await owner.execute(f"GRANT CREATE ON SCHEMA public TO {role}")
        up = await afresh("migrate", "up", folder=tmp_path, dsn=as_role(empty, role))
        assert up.code == 0
        assert up.err.splitlines()[0].startswith("Note: Afresh makes no event trigger, which takes a superuser")
        down = await afresh("migrate", "down", "--yes", folder=tmp_path, dsn=as_role(empty, role))
        assert (down.code, down.err) == (0, "")  # "does not exist, skipping" is none of the user's business
    finally:
        await owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await owner.close()


async def test_what_the_role_lacks_is_named_as_statements(tmp_path: Path, empty: str) -> None:
    owner = await asyncpg.connect(empty)
    role = f"afresh_test_{owner.get_server_pid()}"
    await owner.execute(f"CREATE ROLE {role}; REVOKE CREATE ON SCHEMA public FROM public")
    try:
        refused = await afresh("migrate", "up", folder=tmp_path, dsn=as_role(empty, role))
        assert refused.code == 1
        statements = refused.err.partition("Hint: let the owner or a superuser run:\n")[2].splitlines()
        assert statements == [
            f"GRANT CREATE ON DATABASE {name_in(empty)} TO {role};",
            f"GRANT USAGE, CREATE ON SCHEMA public TO {role};",
        ]
        for statement in statements:
            await owner.execute(statement)
        assert (await afresh("migrate", "up", folder=tmp_path, dsn=as_role(empty, role))).code == 0
    finally:
        await owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await owner.close()


async def test_who_installed_the_engine_is_named_to_who_may_not_remove_it(
    tmp_path: Path, dsn: str, db: asyncpg.Connection
) -> None:
    role = f"afresh_test_{db.get_server_pid()}"
    await db.execute(f"CREATE ROLE {role}")
    try:
        ended = await afresh("migrate", "down", "--yes", folder=tmp_path, dsn=as_role(dsn, role))
        assert ended.code == 1
        assert (
            f"Hint: run it as the role {await db.fetchval('SELECT current_user')}, which installed Afresh" in ended.err
        )
    finally:
        await db.execute(f"DROP ROLE {role}")


async def test_an_engine_made_by_hand_is_told_with_the_way_out(tmp_path: Path, empty: str) -> None:
    connection = await asyncpg.connect(empty)
    try:
        await connection.execute(await migrate.script(migrate.engine_scope()))
        ended = await afresh("migrate", "up", folder=tmp_path, dsn=empty)
        assert ended.code == 1
        assert "the engine is in this database already, but not by `afresh migrate`" in ended.err
        assert "afresh sql --down | psql -1 -v ON_ERROR_STOP=1" in ended.err.splitlines()
        await connection.execute(await migrate.script(migrate.engine_scope(), down=True))
    finally:
        await connection.close()
    assert (await afresh("migrate", "up", folder=tmp_path, dsn=empty)).code == 0


async def test_a_schema_of_somebody_elses_is_told(tmp_path: Path, empty: str) -> None:
    connection = await asyncpg.connect(empty)
    await connection.execute("CREATE SCHEMA afresh")
    await connection.close()
    ended = await afresh("migrate", "up", folder=tmp_path, dsn=empty)
    assert ended.code == 1
    assert 'schema "afresh" already exists' in ended.err
    assert "rename the one that is there" in ended.err


async def test_cascade_is_no_advice(tmp_path: Path, dsn: str, db: asyncpg.Connection) -> None:
    await db.execute("CREATE VIEW mine AS SELECT * FROM afresh.watched")
    ended = await afresh("migrate", "down", "--yes", folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    assert "view mine depends on view afresh.watched" in ended.err
    assert "CASCADE" not in ended.err
    assert "drop what is named above, if nobody needs it any more" in ended.err
