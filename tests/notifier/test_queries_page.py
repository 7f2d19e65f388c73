"""The page about named queries: its example is one, and does what it says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import asyncpg

from afresh_notifier.named_queries.kinds import KINDS, OF_EXTENSIONS, by_name
from conftest import eventually
from support.named_queries import asking

PAGE = (Path(__file__).parents[2] / "docs" / "queries.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


async def test_the_example_of_the_page(db: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    await db.execute(
        """
        CREATE TABLE client_health_summary (client_name text PRIMARY KEY, health_score int, status text);
        INSERT INTO client_health_summary VALUES ('Acme', 41, 'critical'), ('Best', 99, 'healthy');
        SELECT afresh.watch('client_health_summary');
        """
    )
    document = tomllib.loads(block("toml"))
    file = tmp_path / "scores.sql"
    file.write_text(block("sql"), encoding="utf-8")
    document["queries"][0]["file"] = str(file)
    tables = [{"name": "client_health_summary", "patterns": ["clients"]}]
    async with asking(dsn, *document["queries"], tables=tables) as ask:
        await ask.usable("scores")
        path, said = re.findall(r"^curl 'http://[^/]+(/[^']*)'\n# (.*)$", block("sh"), re.MULTILINE)[0]
        assert (await ask(path)).body.decode() == said
        assert (await ask(path)).how == "hit"
        await db.execute("UPDATE client_health_summary SET health_score = 42")

        async def anew() -> bool:
            return bool((await ask(path)).rows[0]["health_score"] == 42)

        await eventually(anew)


def test_the_page_names_every_type_that_a_client_can_send() -> None:
    table = PAGE.partition("| type | a client writes |")[2].partition("\n\n")[0]
    named = {by_name(name) for name in re.findall(r"`([a-z ]+)`", table)} | {KINDS["bpchar"]}
    for name, kind in (KINDS | OF_EXTENSIONS).items():
        assert any(kind is one for one in named), f"docs/queries.md does not say what {name} takes"
