"""The dashboard in a real browser, against the real service: it updates itself, and never passes old data off as live."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from afresh_notifier import app
from afresh_notifier.settings import DatabaseSettings, ServerSettings, Settings
from conftest import ServerUnderTest
from support.scenario import connected

pytestmark = pytest.mark.browser

#: How long the page may take to show what it must, in milliseconds.
PATIENCE = 30_000


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """The machine's own Chromium, without a window."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.fail("the browser tests need Chromium: install it, or leave them out with -m 'not browser'")
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield opened
        await opened.close()


def settings(dsn: str, port: int = 0) -> Settings:
    return Settings(database=DatabaseSettings(dsn=dsn), server=ServerSettings(port=port))


@pytest.fixture
async def view(db: asyncpg.Connection) -> str:
    await db.execute("""
        CREATE TABLE orders (id int PRIMARY KEY, amount int NOT NULL);
        INSERT INTO orders VALUES (1, 10);
        CREATE MATERIALIZED VIEW order_totals AS SELECT 1 AS id, sum(amount) AS total FROM orders;
        CREATE UNIQUE INDEX ON order_totals (id);
        SELECT afresh.watch('orders');
    """)
    return "public.order_totals"


async def refreshes(page: Page) -> int:
    """How many refreshes the first view's row shows."""
    return int(await page.locator("#views tbody tr td.number").nth(1).inner_text())


async def test_dashboard_shows_a_change_by_itself(dsn: str, db: asyncpg.Connection, view: str) -> None:
    async with app.running(settings(dsn)) as service, browser() as opened:
        page = await opened.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        await page.goto(service.url)
        await expect(page.locator("#state-text")).to_have_text("live", timeout=PATIENCE)
        row = page.locator("#views tbody tr").first
        await expect(row).to_contain_text("order_totals", timeout=PATIENCE)
        await expect(row).to_contain_text("fresh", timeout=PATIENCE)
        before = await refreshes(page)

        await db.execute("UPDATE orders SET amount = amount + 1")

        await expect(page.locator("#stream li").first).to_contain_text("order_totals", timeout=PATIENCE)
        await page.wait_for_function(
            "before => Number(document.querySelectorAll('#views tbody tr td.number')[1].innerText) > before",
            arg=before,
            timeout=PATIENCE,
        )
        assert errors == []


async def test_dashboard_refreshes_a_view_on_demand(dsn: str, view: str) -> None:
    async with app.running(settings(dsn)) as service, browser() as opened:
        page = await opened.new_page()
        await page.goto(service.url)
        await expect(page.locator("#views tbody tr").first).to_contain_text("fresh", timeout=PATIENCE)
        before = await refreshes(page)
        await page.get_by_role("button", name="Refresh").first.click()
        await page.wait_for_function(
            "before => Number(document.querySelectorAll('#views tbody tr td.number')[1].innerText) > before",
            arg=before,
            timeout=PATIENCE,
        )


async def test_dashboard_says_that_the_service_is_degraded_and_why(
    server: ServerUnderTest, dsn: str, db: asyncpg.Connection, view: str
) -> None:
    """The page hears the service all the time: it is the database that is gone."""
    name = await db.fetchval("SELECT current_database()")
    async with (
        connected(server.dsn("postgres")) as elsewhere,
        app.running(settings(dsn)) as service,
        browser() as opened,
    ):
        page = await opened.new_page()
        await page.goto(service.url)
        await expect(page.locator("#state-text")).to_have_text("live", timeout=PATIENCE)
        await elsewhere.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await elsewhere.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
            name,
        )
        await expect(page.locator("#state-text")).to_have_text("degraded", timeout=PATIENCE)
        await expect(page.locator("#banner-text")).to_contain_text("not listening: ", timeout=PATIENCE)
        await expect(page).to_have_title("Afresh (degraded)")
        await elsewhere.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await expect(page.locator("#state-text")).to_have_text("live", timeout=PATIENCE)
        await expect(page.locator("#banner")).to_be_hidden(timeout=PATIENCE)


async def test_dashboard_says_that_it_is_not_live_and_comes_back(dsn: str, view: str) -> None:
    async with browser() as opened:
        page = await opened.new_page()
        async with app.running(settings(dsn)) as service:
            port = urlsplit(service.url).port
            assert port is not None
            await page.goto(service.url)
            await expect(page.locator("body")).to_have_attribute("data-state", "live", timeout=PATIENCE)
        await expect(page.locator("body")).not_to_have_attribute("data-state", "live", timeout=PATIENCE)
        await expect(page.locator("#banner")).to_be_visible(timeout=PATIENCE)
        async with app.running(settings(dsn, port)):
            await expect(page.locator("body")).to_have_attribute("data-state", "live", timeout=PATIENCE)
            await expect(page.locator("#banner")).to_be_hidden(timeout=PATIENCE)
