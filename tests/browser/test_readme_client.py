"""The README's ten lines of JavaScript, and the browser client that the service brings, in a real browser."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from afresh_notifier import app
from browser.test_dashboard import browser, settings
from conftest import eventually
from test_readme import blocks

pytestmark = pytest.mark.browser

_TABLE = """
    CREATE TABLE customers (id int PRIMARY KEY);
    SELECT afresh.watch('customers');
"""


async def test_javascript_of_the_readme_hears_a_change(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(_TABLE)
    (program,) = blocks("js")
    async with app.running(settings(dsn)) as service, browser() as opened:
        page = await opened.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        await page.goto(f"{service.url}/healthz")
        address = service.url.replace("http:", "ws:")
        await page.evaluate(f"() => {{ {program.replace('ws://127.0.0.1:8080', address)} }}")
        await eventually(lambda: service.hub.clients == 1)
        await asyncio.wait_for(_heard(db, said), 30)


async def test_browser_client_hears_a_change(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(_TABLE)
    async with app.running(settings(dsn)) as service, browser() as opened:
        page = await opened.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        await page.goto(f"{service.url}/healthz")
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


async def _heard(db: asyncpg.Connection, said: list[str]) -> None:
    """Write until the page says that it has heard: its subscription may stand a moment after its connection."""
    number = 0
    while not any("stale:" in line and "customers" in line for line in said):
        number += 1
        await db.execute("INSERT INTO customers VALUES ($1)", number)
        await asyncio.sleep(0)
