"""`afresh serve`, `afresh tail` and `afresh refresh`: from outside, on the running command."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from conftest import ServerUnderTest, eventually
from notifier.command import PATIENCE, afresh, afresh_process, environment


def free_port() -> int:
    """A port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@asynccontextmanager
async def serving(folder: Path, dsn: str, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """`afresh serve` in a process of its own, once it knows its views."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "afresh_notifier",
        "serve",
        "--port",
        str(port),
        cwd=folder,
        env=environment(DATABASE_URL=dsn),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as session:

            async def ready() -> bool:
                try:
                    async with session.get(f"http://127.0.0.1:{port}/views") as response:
                        return bool((await response.json())["views"])
                except aiohttp.ClientConnectionError:
                    return False

            await eventually(ready)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
async def views(db: asyncpg.Connection) -> asyncpg.Connection:
    """A view, one that stands on it, and one that cannot be refreshed beside its readers."""
    await db.execute(
        """
        CREATE TABLE orders (id int PRIMARY KEY);
        CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n, 1 AS id FROM orders;
        CREATE UNIQUE INDEX ON totals (id);
        CREATE MATERIALIZED VIEW doubled AS SELECT n * 2 AS n, id FROM totals;
        CREATE UNIQUE INDEX ON doubled (id);
        CREATE MATERIALIZED VIEW unindexed AS SELECT id FROM orders;
        INSERT INTO orders VALUES (1), (2);
        """
    )
    return db


async def test_serve_needs_a_database(tmp_path: Path, server: ServerUnderTest) -> None:
    ended = await afresh_process("serve", "--port", "0", folder=tmp_path)
    assert ended.code == 1
    assert "Error: no database is named" in ended.err
    ended = await afresh_process("serve", "--port", "0", "--dsn", server.dsn("postgres"), folder=tmp_path)
    assert ended.code == 1
    assert "Afresh is not installed in this database" in ended.err
    assert "Hint: run `afresh migrate up`" in ended.err


async def test_serve_says_when_its_port_is_taken(tmp_path: Path, dsn: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = await afresh_process("serve", "--port", str(taken.getsockname()[1]), folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    assert "cannot listen on 127.0.0.1:" in ended.err
    assert "try --port or --host" in ended.err


async def test_tail_says_once_that_there_is_no_service_and_waits_for_one(
    tmp_path: Path, dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute("CREATE TABLE plain (id int); SELECT afresh.watch('plain')")
    await db.execute(
        "CREATE TABLE orders (id int); CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM orders;"
        "CREATE UNIQUE INDEX ON totals (count); SELECT afresh.watch('orders')"
    )
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "afresh_notifier",
        "tail",
        "--url",
        url,
        "--patterns",
        "plain",
        "--count",
        "1",
        cwd=tmp_path,
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            assert f"no service at {url} (" in (await process.stdout.readline()).decode()
            async with serving(tmp_path, dsn, port):  # which takes longer than several tries
                assert "connected at" in (await process.stdout.readline()).decode()
                await db.execute("INSERT INTO plain VALUES (1)")
                line = (await process.stdout.readline()).decode()
            assert line.rstrip().endswith("plain  ← public.plain")
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_refresh_by_way_of_the_service(tmp_path: Path, dsn: str, views: asyncpg.Connection) -> None:
    port = free_port()
    (tmp_path / "afresh.toml").write_text(
        f"server.port = {port}\n[[views]]\nname = 'totals'\n[[views]]\nname = 'doubled'", encoding="utf-8"
    )
    async with serving(tmp_path, dsn, port) as process:
        ended = await afresh("refresh", "totals", "public.doubled", "totals", folder=tmp_path)
        assert (ended.code, ended.err) == (0, "")
        assert [line.split(" (")[0] for line in ended.out.splitlines()] == [
            "refreshed public.totals",
            "refreshed public.doubled",
        ]
        assert await views.fetchval("SELECT n FROM doubled") == 4

        await views.execute("INSERT INTO orders VALUES (3)")
        ended = await afresh("refresh", "--url", f"http://127.0.0.1:{port}/", folder=tmp_path)
        assert ended.code == 0
        assert await views.fetchval("SELECT n FROM doubled") == 6

        ended = await afresh("refresh", "total", folder=tmp_path)
        assert ended.code == 1
        assert "Error: the service refreshes no view total" in ended.err
        assert "Hint: did you mean totals?" in ended.err

        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0


async def test_refresh_tells_how_long_the_view_took_and_not_the_answer(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        if "view" in request.match_info:
            return web.json_response({"name": "public.totals", "duration_ms": 98765.4})
        return web.json_response({"refreshed": 1, "views": [{"view": "public.totals"}]})

    application = web.Application()
    application.router.add_post("/views/{view}/refresh", answer)
    application.router.add_post("/api/refresh-views", answer)
    async with TestServer(application) as fake:
        one = await afresh("refresh", "totals", "--url", str(fake.make_url("/")), folder=tmp_path)
        every = await afresh("refresh", "--url", str(fake.make_url("/")), folder=tmp_path)
    assert one.out == "refreshed public.totals (98.765 s)\n"
    assert every.out == "refreshed public.totals\n"


async def test_refresh_says_why_the_service_could_not(tmp_path: Path, dsn: str, views: asyncpg.Connection) -> None:
    port = free_port()
    (tmp_path / "afresh.toml").write_text(
        f"server.port = {port}\n[[views]]\nname = 'totals'\n[[views]]\nname = 'unindexed'", encoding="utf-8"
    )
    async with serving(tmp_path, dsn, port):
        for arguments in (["unindexed"], []):
            ended = await afresh("refresh", *arguments, folder=tmp_path)
            assert ended.code == 1
            assert "public.unindexed has no unique index that CONCURRENTLY can use" in ended.err
            assert "public.unindexed: public.unindexed" not in ended.err
            assert "Hint: `afresh doctor` prints the CREATE UNIQUE INDEX" in ended.err


async def test_refresh_says_when_the_service_is_not_there(tmp_path: Path) -> None:
    ended = await afresh("refresh", "--url", f"http://127.0.0.1:{free_port()}", folder=tmp_path)
    assert ended.code == 1
    assert "Error: no service answers at http://127.0.0.1:" in ended.err
    assert "`afresh serve`" in ended.err
    (tmp_path / "afresh.toml").write_text("server.port = 0", encoding="utf-8")
    ended = await afresh("refresh", folder=tmp_path)
    assert "server.port is 0" in ended.err


async def test_refresh_says_when_somebody_else_answers(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nConnection: close\r\n\r\nnope\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        ended = await afresh("refresh", "--url", f"http://127.0.0.1:{port}", folder=tmp_path)
    assert ended.code == 1
    assert "is not Afresh" in ended.err


async def test_direct_refreshes_parents_first_and_what_stands_on_them(
    tmp_path: Path, dsn: str, views: asyncpg.Connection
) -> None:
    ended = await afresh("refresh", "--direct", "totals", folder=tmp_path, dsn=dsn)
    assert ended.code == 0
    assert [line.split(" (")[0] for line in ended.out.splitlines()] == [
        "refreshed public.totals",
        "refreshed public.doubled",
    ]
    assert await views.fetchval("SELECT n FROM doubled") == 4
    told = await views.fetch("SELECT views FROM afresh.invalidation_log ORDER BY id")
    assert [row["views"] for row in told] == [["public.totals"], ["public.doubled"]]


async def test_direct_without_views_takes_those_that_the_service_would(
    tmp_path: Path, dsn: str, views: asyncpg.Connection
) -> None:
    (tmp_path / "afresh.toml").write_text("[[views]]\nname = 'totals'", encoding="utf-8")
    ended = await afresh("refresh", "--direct", folder=tmp_path, dsn=dsn)
    assert [line.split(" (")[0] for line in ended.out.splitlines()] == ["refreshed public.totals"]


async def test_direct_says_what_failed_and_leaves_out_what_stands_on_it(
    tmp_path: Path, dsn: str, views: asyncpg.Connection
) -> None:
    await views.execute("DROP INDEX totals_id_idx")
    ended = await afresh("refresh", "--direct", "totals", "unindexed", folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    assert ended.out == ""
    assert "public.totals has no unique index" in ended.err
    assert "public.unindexed has no unique index" in ended.err
    await views.execute("CREATE UNIQUE INDEX ON unindexed (id)")
    ended = await afresh("refresh", "--direct", "totals", "unindexed", folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    assert ended.out.startswith("refreshed public.unindexed")


async def test_direct_waits_for_whoever_has_the_view(tmp_path: Path, dsn: str, views: asyncpg.Connection) -> None:
    tries: set[object] = set()

    async def tried_twice() -> bool:
        tries.update(
            row["xact_start"]
            for row in await views.fetch(
                "SELECT xact_start FROM pg_stat_activity WHERE datname = current_database() "
                "AND query ~ 'REFRESH MATERIALIZED' AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
            )
        )
        return len(tries) > 1

    other = await asyncpg.connect(dsn)
    try:
        await other.execute("BEGIN; CREATE INDEX ON doubled (n)")
        running = asyncio.create_task(afresh("refresh", "--direct", "doubled", folder=tmp_path, dsn=dsn))
        await eventually(tried_twice)
        await other.execute("ROLLBACK")
        assert (await running).code == 0
    finally:
        await other.close()


async def test_direct_of_what_is_no_view_is_told(tmp_path: Path, dsn: str, views: asyncpg.Connection) -> None:
    ended = await afresh("refresh", "--direct", "orders", folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    assert "public.orders is not a materialized view" in ended.err
    ended = await afresh("refresh", "--direct", "totls", folder=tmp_path, dsn=dsn)
    assert "there is no materialized view totls" in ended.err
    assert "did you mean totals?" in ended.err


async def test_options_of_refresh_that_do_not_go_together(tmp_path: Path) -> None:
    assert (await afresh("refresh", "--direct", "--url", "http://x", folder=tmp_path)).code == 2
    assert (await afresh("refresh", "--dsn", "postgresql://x", folder=tmp_path)).code == 2
