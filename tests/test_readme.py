"""The README is held true: its settings load, its commands exist, its clients hear what they should."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import asyncpg
import click
import pytest

from afresh_notifier import app, settings
from afresh_notifier.cli import cli
from afresh_notifier.settings import DatabaseSettings, ServerSettings, Settings, ViewSettings
from conftest import PATIENCE

README = Path(__file__).resolve().parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    """The README's code blocks in ``language``."""
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_settings_of_the_readme_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    (written,) = blocks("toml")
    file = tmp_path / "afresh.toml"
    file.write_text(written)
    loaded = settings.load(file)
    assert [table.name for table in loaded.tables] == ["orders"]
    assert [view.name for view in loaded.views] == ["customer_summary"]


def test_commands_of_the_readme_exist() -> None:
    shells = "".join(blocks("sh"))
    named = re.findall(r"^(?:.*; or: )?afresh ([a-z]+)(?: ([a-z]+))?", shells, re.MULTILINE)
    assert {command for command, _ in named} >= {"migrate", "watch", "doctor", "serve"}
    for command, subcommand in named:
        found = cli.commands[command]
        if isinstance(found, click.Group):
            assert subcommand in found.commands


def test_make_targets_of_the_readme_exist() -> None:
    makefile = README.with_name("Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([a-z]+)", "".join(blocks("sh")), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


async def test_python_client_of_the_readme_hears_a_change(dsn: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await db.execute("""
        CREATE TABLE orders (id int PRIMARY KEY, customer_id int NOT NULL);
        CREATE MATERIALIZED VIEW customer_summary AS SELECT customer_id, count(*) FROM orders GROUP BY customer_id;
        CREATE UNIQUE INDEX ON customer_summary (customer_id);
        SELECT afresh.watch('orders');
    """)
    program, _ = blocks("python")
    service_settings = Settings(
        database=DatabaseSettings(dsn=dsn),
        server=ServerSettings(port=0),
        views=(ViewSettings(name="customer_summary", patterns=("customers",)),),
    )
    async with app.running(service_settings) as service:
        file = tmp_path / "client.py"
        file.write_text(program.replace("http://127.0.0.1:8080", service.url))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-u", "-W", "error", str(file), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(PATIENCE):
                assert b"Connected" in await process.stdout.readline()
                await db.execute("INSERT INTO orders VALUES (1, 7)")
                line = b""
                while b"stale:" not in line:
                    line = await process.stdout.readline()
                assert b"customers" in line
        finally:
            process.terminate()
            await process.wait()


async def test_cache_of_the_readme_serves_what_it_holds(dsn: str, tmp_path: Path) -> None:
    _, program = blocks("python")
    async with app.running(Settings(database=DatabaseSettings(dsn=dsn), server=ServerSettings(port=0))) as service:
        asks = "await SUBSCRIBER.ready(); print(await customer(7), await customer(7), cache.stats().loads)"
        for written, meant in (
            ("http://127.0.0.1:8080", service.url),
            ('on_disconnect="bypass"):', 'on_disconnect="bypass") as SUBSCRIBER:'),
            ("...  # your query", "return customer_id + 1"),
            ("...  # your application", asks),
        ):
            assert written in program
            program = program.replace(written, meant)
        file = tmp_path / "application.py"
        file.write_text(f"import asyncio\n{program}\nasyncio.run(main())\n")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", str(file), stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(PATIENCE):
            answer, _ = await process.communicate()
    assert answer == b"8 8 1\n"
