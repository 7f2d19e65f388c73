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
        CREATE TABLE orders (
            id int PRIMARY KEY, customer_id int, ordered_at timestamptz DEFAULT '2026-03-01T09:30:00Z',
            total numeric(10, 2), state text
        );
        INSERT INTO orders VALUES (31, 7, DEFAULT, 12.5, 'open'), (32, 8, DEFAULT, 1, 'paid');
        SELECT afresh.watch('orders', '{customer_id}');
        """
    )
    document = tomllib.loads(block("toml"))
    file = tmp_path / "open_orders.sql"
    file.write_text(block("sql"), encoding="utf-8")
    document["queries"][0]["file"] = str(file)
    async with asking(dsn, *document["queries"], tables=document["tables"]) as ask:
        await ask.usable("open_orders")
        said = re.search(r"^(\{\"rows\".*\})$", PAGE, re.MULTILINE)
        assert said
        path = "/api/customers/7/orders"
        assert (await ask(f"{path}?state=open")).body.decode() == said[1]
        assert (await ask("/api/customers/8/orders")).how == "miss"
        await db.execute("UPDATE orders SET total = 13 WHERE id = 31")

        async def anew() -> bool:
            return bool((await ask(f"{path}?state=open")).rows[0]["total"] == 13)

        await eventually(anew)
        assert (await ask("/api/customers/8/orders")).how == "hit"


def test_the_page_names_every_type_that_a_client_can_send() -> None:
    table = PAGE.partition("| type | what a client sends |")[2].partition("\n\n")[0]
    named = {by_name(name) for name in re.findall(r"`([a-z ]+)`", table)} | {KINDS["bpchar"]}
    for name, kind in (KINDS | OF_EXTENSIONS).items():
        assert any(kind is one for one in named), f"docs/queries.md does not say what {name} takes"
