"""The README's ten lines of JavaScript, and the browser client that the service brings, in a real browser."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest
from playwright.async_api import Browser, Page

from afresh_notifier import app
from afresh_notifier.settings_queries import ParameterSettings, QuerySettings
from browser.test_dashboard import browser, settings
from conftest import eventually
from test_readme import blocks

pytestmark = pytest.mark.browser

_TABLE = """
    CREATE TABLE customers (id int PRIMARY KEY);
    SELECT afresh.watch('customers');
"""


async def listened_to(opened: Browser, url: str) -> tuple[Page, list[str]]:
    """A page of the service's own origin, and what it says on its console."""
    page = await opened.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    await page.goto(f"{url}/healthz")
    return page, said


async def test_javascript_of_the_readme_hears_a_change(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(_TABLE)
    program, _ = blocks("js")
    async with app.running(settings(dsn)) as service, browser() as opened:
        page, said = await listened_to(opened, service.url)
        address = service.url.replace("http:", "ws:")
        await page.evaluate(f"() => {{ {program.replace('ws://127.0.0.1:8080', address)} }}")
        await eventually(lambda: service.hub.clients == 1)
        await asyncio.wait_for(_heard(db, said), 30)


async def test_browser_client_hears_a_change(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(_TABLE)
    async with app.running(settings(dsn)) as service, browser() as opened:
        page, said = await listened_to(opened, service.url)
        await page.evaluate(
            """async () => {
              const { Afresh } = await import("/static/afresh.js");
              new Afresh("/ws", {
                patterns: ["customers"],
                onInvalidate: ({ patterns }) => console.log("stale:", patterns.join()),
              });
            }"""
        )
        await eventually(lambda: service.hub.clients == 1)
        await asyncio.wait_for(_heard(db, said), 30)


async def test_browser_client_shows_the_rows_of_a_query_and_ends_it(
    dsn: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await db.execute(_TABLE)
    file = tmp_path / "many.sql"
    file.write_text("SELECT count(*) AS many FROM customers WHERE id >= $1::int")
    many = QuerySettings(
        name="many", file=str(file), cache_key="customers:{least}", parameters=(ParameterSettings(name="least"),)
    )
    with_query = settings(dsn).model_copy(update={"queries": (many,)})
    async with app.running(with_query) as service, browser() as opened:
        page, said = await listened_to(opened, service.url)
        await page.evaluate(
            """async () => {
              const { Afresh } = await import("/static/afresh.js");
              window.afresh = new Afresh("/ws", { patterns: ["nothing"] });
              window.end = afresh.query("many", { least: 5 }, (rows) => console.log("many:", rows[0].many));
              afresh.query("mani", {}, () => {}, ({ code }) => console.log("error:", code));
            }"""
        )
        await eventually(lambda: {"error: unknown_query", "many: 0"} <= set(said))
        await db.execute("INSERT INTO customers VALUES (7)")
        await eventually(lambda: "many: 1" in said)
        await db.execute("INSERT INTO customers VALUES (1)")  # which is another answer to nobody
        await page.evaluate("() => afresh.reconnect()")  # and what comes back asks again
        await eventually(lambda: said.count("many: 1") == 2)
        await page.evaluate("() => end()")
        await eventually(lambda: all(one.queries == 0 for one in service.hub._subscribers))
        await db.execute("INSERT INTO customers VALUES (8)")
        await eventually(lambda: service.hub.newest >= 3)
        assert "many: 2" not in said


async def _heard(db: asyncpg.Connection, said: list[str]) -> None:
    """Write until the page says that it has heard: its subscription may stand a moment after its connection."""
    number = 0
    while not any("stale:" in line and "customers" in line for line in said):
        number += 1
        await db.execute("INSERT INTO customers VALUES ($1)", number)
        await asyncio.sleep(0)
