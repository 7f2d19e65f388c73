"""The command line's trunk: what is said when there is nothing to work with, and exit codes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import sys
from pathlib import Path

import asyncpg
import pytest

from afresh_notifier import database, migrate
from conftest import ServerUnderTest, eventually
from notifier.command import afresh, afresh_process, environment

#: Every command that needs a database, with arguments that it takes.
ON_A_DATABASE = [
    ("migrate", "up"),
    ("migrate", "down", "--yes"),
    ("migrate", "status"),
    ("verify", "--pack", "client_health"),
    ("watch", "orders"),
    ("watch", "--list"),
    ("unwatch", "orders"),
    ("refresh", "--direct"),
]


async def test_help_and_version_need_nothing(tmp_path: Path) -> None:
    (tmp_path / "afresh.toml").write_text("this is no TOML", encoding="utf-8")
    for arguments in (["--help"], ["migrate", "--help"], ["migrate", "up", "-h"], ["--version"]):
        ended = await afresh_process(*arguments, folder=tmp_path)
        assert (ended.code, ended.err) == (0, "")
    assert "0.1.0" in ended.out


async def test_an_unknown_command_is_an_error_of_usage(tmp_path: Path) -> None:
    ended = await afresh("fly", folder=tmp_path)
    assert ended.code == 2
    assert "No such command 'fly'" in ended.err


async def test_wrong_settings_are_told_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("[server]\nprot = 1\n[refresh]\nmax_load = 7", encoding="utf-8")
    ended = await afresh("-c", "other.toml", "migrate", "status", folder=tmp_path)
    assert ended.code == 1
    assert ended.err.splitlines() == [
        "Error: other.toml: server.prot: unknown key; did you mean 'port'?",
        "other.toml: refresh.max_load: input should be less than or equal to 1, got 7",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("migrate", "status", "--config", "other.toml"),
        ("-c", "nowhere.toml", "migrate", "status", "-c", "other.toml"),
        ("doctor", "-c", "other.toml"),
    ],
    ids=" ".join,
)
async def test_the_file_may_be_named_after_the_command(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("[server]\nprot = 1", encoding="utf-8")
    ended = await afresh(*arguments, folder=tmp_path)
    assert ended.err.startswith("Error: other.toml: server.prot: unknown key")


async def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    ended = await afresh("--config", "nowhere.toml", "doctor", folder=tmp_path)
    assert ended.code == 1
    assert "nowhere.toml: there is no such file" in ended.err
    assert "Hint: give its path with --config" in ended.err


@pytest.mark.parametrize("arguments", ON_A_DATABASE, ids=" ".join)
async def test_without_a_database_every_command_says_how_to_name_one(arguments: list[str], tmp_path: Path) -> None:
    ended = await afresh(*arguments, folder=tmp_path)
    assert ended.code == 1
    assert "Error: no database is named" in ended.err
    assert f"afresh.toml (there is none in {tmp_path})" in ended.err
    assert "DATABASE_URL" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("arguments", ON_A_DATABASE, ids=" ".join)
async def test_an_unreachable_database_is_told(arguments: list[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    dsn = f"postgresql://shop:s3cret@127.0.0.1:{port}/x?sslmode=disable"
    ended = await afresh(*arguments, folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    assert f"Error: PostgreSQL cannot be reached at 127.0.0.1:{port}/x: " in ended.err
    assert "s3cret" not in ended.err
    assert "Hint: check that it runs" in ended.err
    assert "Traceback" not in ended.err


async def test_a_database_that_is_not_there_is_told(tmp_path: Path, server: ServerUnderTest) -> None:
    ended = await afresh("migrate", "up", folder=tmp_path, dsn=server.dsn("afresh_nowhere"))
    assert ended.code == 1
    assert 'database "afresh_nowhere" does not exist' in ended.err
    assert "correct the name at the end of database.dsn" in ended.err


async def test_a_role_that_is_not_there_is_told(tmp_path: Path, server: ServerUnderTest) -> None:
    dsn = server.dsn("postgres").replace("postgres@", "nobody@", 1)
    ended = await afresh("migrate", "up", folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    assert "PostgreSQL refuses us" in ended.err
    assert "correct the user or the password" in ended.err


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://shop:s3cret@db.example/shop", "db.example:5432/shop"),
        ("postgresql://shop:a%40b@db.example:6432/shop?sslmode=require", "db.example:6432/shop"),
        ("postgresql://a:1,b:2/shop", "a:1,b:2/shop"),
        ("postgresql:///shop?host=/run/postgresql&port=5433&password=s3cret", "/run/postgresql:5433/shop"),
        ("postgresql://[::1]/shop", "[::1]:5432/shop"),
        ("postgresql://", "localhost:5432/"),
    ],
)
def test_an_address_is_shown_without_who_and_password(monkeypatch: pytest.MonkeyPatch, dsn: str, shown: str) -> None:
    for variable in ("PGHOST", "PGPORT", "PGDATABASE"):
        monkeypatch.delenv(variable, raising=False)
    assert database.address(dsn) == shown


async def test_an_address_that_is_none_is_told(tmp_path: Path) -> None:
    ended = await afresh("migrate", "up", "--dsn", "mysql://localhost/x", folder=tmp_path)
    assert ended.code == 1
    assert "database.dsn cannot be read" in ended.err


async def test_an_address_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    """Somebody takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/x?sslmode=disable"
        ended = await afresh("migrate", "up", folder=tmp_path, dsn=dsn, AFRESH_DATABASE__CONNECT_TIMEOUT="200ms")
    assert ended.code == 1
    assert "did not answer within 0.2 s" in ended.err


async def test_a_pooler_that_refuses_our_session_is_told(tmp_path: Path) -> None:
    """PgBouncer takes no settings that it was not told to ignore."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        await reader.readexactly(length - 4)
        fields = b"SFATAL\0C08P01\0Munsupported startup parameter: search_path\0\0"
        writer.write(b"E" + struct.pack("!i", len(fields) + 4) + fields)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as pooler:
        port = pooler.sockets[0].getsockname()[1]
        ended = await afresh("migrate", "up", folder=tmp_path, dsn=f"postgresql://u@127.0.0.1:{port}/x?sslmode=disable")
    assert ended.code == 1
    assert f"Error: what answers at 127.0.0.1:{port}/x is not PostgreSQL itself, a pooler perhaps" in ended.err
    assert "unsupported startup parameter" in ended.err
    assert "let database.dsn name PostgreSQL itself" in ended.err


async def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    ended = await afresh_process("--debug", "migrate", "up", folder=tmp_path)
    assert ended.code == 1
    assert "Traceback" in ended.err


async def test_the_missing_extra_is_told(tmp_path: Path) -> None:
    """Somebody installed the client only: `click` cannot be imported."""
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError('No module', name='click')", encoding="utf-8")
    ended = await afresh_process("serve", folder=tmp_path, PYTHONPATH=str(tmp_path))
    assert ended.code == 1
    assert "click is missing" in ended.err
    assert "pip install '.[server]'" in ended.err


async def test_output_that_nobody_reads_ends_quietly(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        f"'{sys.executable}' -m afresh_notifier sql | true",
        cwd=tmp_path,
        env=environment(),
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    assert err == b""


async def test_ctrl_c_ends_with_130(tmp_path: Path, dsn: str, db: asyncpg.Connection) -> None:
    """While it waits for another run of `migrate`."""
    await db.execute("SELECT pg_advisory_lock(hashtext('afresh migrate'), 1)")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # the tests may run in the background
        "from afresh_notifier.__main__ import main; main()",
        "migrate",
        "up",
        cwd=tmp_path,
        env=environment(DATABASE_URL=dsn),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )

    async def waiting() -> bool:
        return bool(
            await db.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name = 'afresh migrate' AND query ~ 'pg_try_advisory_lock'"
            )
        )

    try:
        await eventually(waiting)
        os.kill(process.pid, signal.SIGINT)
        _, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 130
    assert b"Traceback" not in err


async def test_sql_prints_what_migrate_would_run(tmp_path: Path, server: ServerUnderTest) -> None:
    up, down = await afresh("sql", folder=tmp_path), await afresh("sql", "--down", folder=tmp_path)
    assert (up.code, up.err, down.code, down.err) == (0, "", 0, "")
    name = await server.create()
    connection = await asyncpg.connect(server.dsn(name))
    try:
        await connection.execute(up.out)
        assert await connection.fetchval("SELECT to_regprocedure('afresh.watch(regclass,text[],text)') IS NOT NULL")
        pack = await afresh("sql", "--pack", "client_health", folder=tmp_path)
        await connection.execute(pack.out)
        assert await connection.fetchval("SELECT to_regclass('client_health_summary') IS NOT NULL")
        await connection.execute((await afresh("sql", "--pack", "client_health", "--down", folder=tmp_path)).out)
        await connection.execute(down.out)
        assert await connection.fetchval("SELECT to_regnamespace('afresh') IS NULL")
        assert await migrate.recorded(connection) == {}
    finally:
        await connection.close()
        await server.drop(name)


async def test_sql_of_an_unknown_pack_is_an_error(tmp_path: Path) -> None:
    ended = await afresh("sql", "--pack", "nothing", folder=tmp_path)
    assert ended.code == 1
    assert "there is no pack 'nothing'" in ended.err
    assert "known packs: client_health" in ended.err
