"""HTTP: state, health, refreshes on demand, and errors that a program can rely on; its documents are held to the routes."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import jsonschema
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from afresh_notifier import app, origins
from afresh_notifier.errors import QueryError, ServeError, WrongDatabase
from afresh_notifier.observations import (
    Following,
    Listening,
    ListeningLost,
    RefreshDone,
    RefreshNotDone,
    Refused,
    Serving,
    SettingIgnored,
)
from afresh_notifier.openapi import document
from afresh_notifier.settings import Settings
from conftest import PATIENCE, eventually
from support.doors import connect, doors
from support.scenario import afresh, connected

DOCS = Path(__file__).parents[2] / "docs"
SERVICES = Path(__file__).parents[2] / "services" / "notifier" / "afresh_notifier"


@asynccontextmanager
async def asked(
    url: str, method: str = "GET", **arguments: Any
) -> AsyncIterator[tuple[aiohttp.ClientResponse, dict[str, Any]]]:
    """The answer to one request, and its JSON."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.request(method, url, **arguments) as response,
    ):
        if response.content_type in ("application/json", "application/problem+json"):
            yield response, await response.json(content_type=None)
        else:
            yield response, {}


async def problem(url: str, method: str = "GET", **arguments: Any) -> tuple[int, str, dict[str, Any]]:
    """The status, the code and the whole of a problem; holds it to the form that is documented."""
    async with asked(url, method, **arguments) as (response, body):
        assert response.content_type == "application/problem+json"
        jsonschema.validate(body, document()["components"]["schemas"]["Problem"])
        assert body["status"] == response.status
        assert body["title"] != "Error"
        return response.status, body["code"], body


@pytest.fixture
async def shop(db: asyncpg.Connection) -> asyncpg.Connection:
    """Orders, their total, and a view on that; `ratio` fails while there is an order of nothing."""
    await db.execute(
        """
        CREATE TABLE orders (id int PRIMARY KEY, amount int NOT NULL);
        INSERT INTO orders VALUES (1, 10);
        CREATE MATERIALIZED VIEW total AS SELECT 1 AS id, sum(amount) AS amount FROM orders;
        CREATE UNIQUE INDEX ON total (id);
        CREATE MATERIALIZED VIEW doubled AS SELECT id, amount * 2 AS amount FROM total;
        CREATE UNIQUE INDEX ON doubled (id);
        CREATE MATERIALIZED VIEW ratio AS SELECT id, 100 / amount AS ratio FROM orders;
        CREATE UNIQUE INDEX ON ratio (id);
        CREATE TABLE tick (id int PRIMARY KEY, n int NOT NULL);
        INSERT INTO tick VALUES (1, 0);
        SELECT afresh.watch('orders'), afresh.watch('tick');
        """
    )
    return db


async def test_views_say_how_they_are(shop: asyncpg.Connection, dsn: str) -> None:
    views = [{"name": "total", "patterns": ["totals", "orders"], "every": "5m"}]
    async with afresh(dsn, views=views, tables=[{"name": "missing"}]) as running:
        await running.ready()
        async with connect(running.url) as client:
            await client.hear()
            async with asked(f"{running.url}/views") as (response, body):
                assert response.status == 200
                assert response.headers["Cache-Control"] == "no-store"
        assert body["clients"] == 1
        assert body["listening"] is True
        assert body["reasons"] == ["there is no table missing"]
        assert body["role"] == "leader"
        assert body["offset"] == running.service.hub.position.offset > 0
        assert body["epoch"] == running.service.hub.position.epoch
        assert [one["name"] for one in body["ignored"]] == ["missing"]
        found = {view["name"]: view for view in body["views"]}
        assert found.keys() == {"public.total", "public.doubled", "public.ratio"}
        schema = document()["components"]["schemas"]["View"]
        for view in found.values():
            jsonschema.validate(view, {**schema, "additionalProperties": False, "required": list(schema["properties"])})
        total = found["public.total"]
        assert total["status"] == "fresh"
        assert total["patterns"] == ["totals", "orders"]
        assert total["tables"] == ["public.orders"]
        assert total["every_s"] == 300
        assert total["pending"] is False
        assert total["stale_ms"] == total["failures"] == 0
        assert total["refreshes"] >= 1
        assert total["duration_ms"] > 0
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", total["last_refresh"])
        assert found["public.doubled"]["parents"] == ["public.total"]
        assert found["public.doubled"]["patterns"] == ["doubled"]


async def test_a_view_that_fails_says_so_and_recovers(shop: asyncpg.Connection, dsn: str) -> None:
    async with afresh(dsn) as running:
        await running.ready()
        await shop.execute("INSERT INTO orders VALUES (2, 0)")
        await running.seen.until(RefreshNotDone, view="public.ratio")
        async with asked(f"{running.url}/views") as (_, body):
            [ratio] = [view for view in body["views"] if view["name"] == "public.ratio"]
        assert ratio["status"] == "failing"
        assert ratio["failures"] >= 1
        assert "division by zero" in ratio["reason"]
        mark = running.seen.mark
        await shop.execute("DELETE FROM orders WHERE amount = 0")
        await running.seen.until(RefreshDone, since=mark, view="public.ratio")
        async with asked(f"{running.url}/views") as (_, body):
            [ratio] = [view for view in body["views"] if view["name"] == "public.ratio"]
        assert ratio["failures"] == 0
        assert ratio["reason"] is None


async def test_a_refresh_by_hand_has_committed_when_it_is_answered(shop: asyncpg.Connection, dsn: str) -> None:
    """Nothing but the request can have refreshed it: the table is not watched any more, and the pace allows nothing."""
    await shop.execute("SELECT afresh.unwatch('orders')")
    views = [{"name": "total"}, {"name": "doubled"}]
    async with afresh(dsn, views=views, refresh={"debounce": 60, "max_load": 0.0001}) as running:
        await running.ready()
        for amount in (11, 12, 13):
            await shop.execute("UPDATE orders SET amount = $1", amount)
            assert await shop.fetchval("SELECT amount FROM total") == amount - 1
            name = "total" if amount % 2 else "public.total"
            async with asked(f"{running.url}/views/{name}/refresh", "POST") as (response, body):
                assert response.status == 200
                assert await shop.fetchval("SELECT amount FROM total") == amount
            assert body["name"] == "public.total"
            jsonschema.validate(body, document()["components"]["schemas"]["View"])


async def test_a_refresh_by_hand_that_meets_a_lock_is_done_when_the_lock_is_gone(
    shop: asyncpg.Connection, dsn: str
) -> None:
    async with afresh(dsn, refresh={"debounce": 60, "max_load": 0.0001, "lock_timeout": 0.01}) as running:
        await running.ready()
        async with connected(dsn) as locker, asyncio.TaskGroup() as group:
            making = locker.transaction()
            await making.start()
            await locker.execute("CREATE INDEX ON total (amount)")
            await shop.execute("UPDATE orders SET amount = 77")
            started = running.seen.starts("public.total")
            asking = group.create_task(_refreshed(running.url, "total"))
            await eventually(lambda: running.seen.starts("public.total") > started + 1)
            assert not asking.done()
            await making.rollback()
            assert await asking == 200
        assert await shop.fetchval("SELECT amount FROM total") == 77


async def _refreshed(url: str, view: str) -> int:
    async with asked(f"{url}/views/{view}/refresh", "POST") as (response, _):
        return response.status


async def test_a_refresh_by_hand_that_fails_says_why(shop: asyncpg.Connection, dsn: str) -> None:
    async with afresh(dsn) as running:
        await running.ready()
        await shop.execute("INSERT INTO orders VALUES (2, 0)")
        status, code, body = await problem(f"{running.url}/views/ratio/refresh", "POST")
        assert (status, code) == (503, "refresh_failed")
        assert "division by zero" in body["detail"]
        assert body["view"] == "public.ratio"
        status, code, body = await problem(f"{running.url}/api/refresh-views", "POST")
        assert (status, code) == (503, "refresh_failed")
        assert body["detail"] == "1 of 3 views were not refreshed"
        outcomes = {one["view"]: "problem" in one for one in body["views"]}
        assert outcomes == {"public.total": False, "public.doubled": False, "public.ratio": True}
        assert await shop.fetchval("SELECT amount FROM doubled") == 20


async def test_a_refresh_of_a_view_that_is_not_there_names_those_that_are(shop: asyncpg.Connection, dsn: str) -> None:
    async with afresh(dsn) as running:
        for name in ("missing", "public.missing", "orders", "%00", "%22;drop"):
            status, code, body = await problem(f"{running.url}/views/{name}/refresh", "POST")
            assert (status, code) == (404, "no_such_view")
            assert sorted(body["views"]) == ["public.doubled", "public.ratio", "public.total"]


async def test_all_views_are_refreshed_parents_first(shop: asyncpg.Connection, dsn: str) -> None:
    await shop.execute("SELECT afresh.unwatch('orders')")
    views = [{"name": name} for name in ("total", "doubled", "ratio")]
    async with afresh(dsn, views=views, refresh={"debounce": 60, "max_load": 0.0001}) as running:
        await running.ready()
        await shop.execute("UPDATE orders SET amount = 50")
        mark = running.seen.mark
        async with asked(f"{running.url}/api/refresh-views", "POST") as (response, body):
            assert response.status == 200
            found = await shop.fetchrow("SELECT (SELECT amount FROM doubled), (SELECT ratio FROM ratio)")
        assert tuple(found or ()) == (100, 2)
        assert body["refreshed"] == 3
        assert sorted(one["view"] for one in body["views"]) == ["public.doubled", "public.ratio", "public.total"]
        done = [seen.view for seen in running.seen.of(RefreshDone, since=mark)]
        assert done.index("public.total") < done.index("public.doubled")


async def test_ready_when_it_listens_and_nothing_is_broken(shop: asyncpg.Connection, dsn: str) -> None:
    async with afresh(dsn) as running:
        await running.ready()
        async with asked(f"{running.url}/readyz") as (response, body):
            assert response.status == 200
            assert body == {"status": "ready", "role": "leader", "views": 3}


async def test_a_follower_says_that_it_is_one_and_who_leads_and_refreshes_when_it_is_asked(
    shop: asyncpg.Connection, dsn: str
) -> None:
    views = [{"name": "total"}]
    async with afresh(dsn, views=views) as leader:
        await leader.ready()
        async with afresh(dsn, views=views) as follower:
            await follower.seen.until(Following)
            await eventually(lambda: follower.service.board.listening)
            async with asked(f"{follower.url}/readyz") as (response, body):
                assert response.status == 200
                assert body["role"] == "follower"
            async with asked(f"{follower.url}/views") as (_, body):
                assert body["role"] == "follower"
                assert body["leader"]
                assert {one["status"] for one in body["views"]} <= {"fresh", "unknown"}
                for one in body["views"]:
                    jsonschema.validate(one, document()["components"]["schemas"]["View"])
            await shop.execute("SELECT afresh.unwatch('orders'); UPDATE orders SET amount = 99")
            async with asked(f"{follower.url}/views/total/refresh", "POST") as (response, body):
                assert response.status == 200
                assert await shop.fetchval("SELECT amount FROM total") == 99
            assert follower.seen.starts("public.total") == 0


async def test_not_ready_while_a_view_is_broken(shop: asyncpg.Connection, dsn: str) -> None:
    await shop.execute("CREATE MATERIALIZED VIEW bare AS SELECT id FROM orders")
    async with afresh(dsn) as running:
        await running.seen.until(RefreshNotDone, view="public.bare", broken=True)
        status, code, body = await problem(f"{running.url}/readyz")
        assert (status, code) == (503, "not_ready")
        [reason] = body["reasons"]
        assert reason.startswith("public.bare is broken: ")
        assert "unique index" in reason
        async with asked(f"{running.url}/views") as (_, body):
            [bare] = [view for view in body["views"] if view["name"] == "public.bare"]
        assert bare["status"] == "broken"
        assert "CREATE UNIQUE INDEX" in bare["hint"]
        await shop.execute("CREATE UNIQUE INDEX ON bare (id)")
        await running.seen.until(RefreshDone, view="public.bare")
        async with asked(f"{running.url}/readyz") as (response, _):
            assert response.status == 200


async def test_not_ready_where_the_settings_name_what_is_not_there(shop: asyncpg.Connection, dsn: str) -> None:
    async with afresh(dsn, views=[{"name": "missing"}]) as running:
        await running.seen.until(SettingIgnored, name="missing")
        _, code, body = await problem(f"{running.url}/readyz")
        assert code == "not_ready"
        assert body["reasons"] == ["there is no materialized view missing"]


async def test_not_ready_before_it_listens_and_alive_all_the_same() -> None:
    async with doors() as open_doors:
        status, code, body = await problem(f"{open_doors.url}/readyz")
        assert (status, code) == (503, "not_ready")
        assert body["reasons"] == [
            "not listening: the listening connection is not there yet",
            "the catalogue was not read yet",
        ]
        assert body["detail"] == "; ".join(body["reasons"])
        open_doors.observe(Listening(backend_pid=1))
        open_doors.observe(ListeningLost(reason="the server went away"))
        _, _, body = await problem(f"{open_doors.url}/readyz")
        assert body["reasons"][0] == "not listening: the server went away"
        async with asked(f"{open_doors.url}/healthz") as (response, body):
            assert (response.status, body) == (200, {"status": "ok"})


async def test_metrics_can_be_parsed_and_count(shop: asyncpg.Connection, dsn: str) -> None:
    async with afresh(dsn) as running:
        await running.ready()
        async with (
            connect(running.url) as client,
            aiohttp.ClientSession() as session,
            session.get(f"{running.url}/metrics") as response,
        ):
            await client.hear()
            assert response.content_type == "text/plain"
            text = await response.text()
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["afresh_listening",] == 1
    assert samples["afresh_views",] == 3
    assert samples["afresh_clients", ("kind", "websocket")] == 1
    assert samples["afresh_gaps_total",] == 1
    total = samples["afresh_refreshes_total", ("method", "concurrently"), ("view", "public.total")]
    assert total == samples["afresh_refresh_seconds_count", ("view", "public.total")] >= 1
    assert samples["afresh_offset",] >= samples["afresh_invalidations_total",] >= 3


async def test_the_dashboard_is_served_and_loads_only_from_here() -> None:
    async with doors() as open_doors:
        async with asked(f"{open_doors.url}/") as (response, _):
            assert response.status == 200
            assert response.content_type == "text/html"
            assert "default-src 'self'" in response.headers["Content-Security-Policy"]
            assert response.headers["Cache-Control"] == "no-cache"
        async with asked(f"{open_doors.url}/static/afresh.js") as (response, _):
            assert response.status == 200
            assert response.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("path", ["/missing", "/views/x", "/static/", "/static/../../README.md", "/%FF"])
async def test_what_is_not_there_is_a_problem(path: str) -> None:
    async with doors() as open_doors:
        status, code, _ = await problem(open_doors.url + path)
        assert (status, code) == (404, "no_such_page")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/views", "GET, HEAD"), ("GET", "/views/v/refresh", "POST"), ("DELETE", "/api/refresh-views", "POST")],
)
async def test_a_method_that_is_not_taken_is_a_problem(method: str, path: str, allowed: str) -> None:
    async with doors() as open_doors, asked(open_doors.url + path, method) as (response, body):
        assert (response.status, body["code"]) == (405, "method_not_allowed")
        assert response.headers["Allow"] == allowed


async def test_bytes_that_are_no_text_are_answered_with_a_problem() -> None:
    """The answer repeats what was sent, and is valid JSON all the same."""
    async with doors() as open_doors:
        reader, writer = await asyncio.open_connection(*open_doors.address)
        try:
            writer.write(b"GET /views HTTP/1.1\r\nHost: localhost\r\nOrigin: http://\xff\r\nConnection: close\r\n\r\n")
            async with asyncio.timeout(PATIENCE):
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
            await writer.wait_closed()
        assert head.startswith(b"HTTP/1.1 403 ")
        assert "http://\\udcff" in orjson.loads(body)["detail"]


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("GET", "/events?pattern=clients", "patterns"),
        ("GET", "/events?patterns=a&since=e:1", "patterns"),
        ("GET", "/ws?patterns=clients", '"patterns":'),
        ("GET", "/views?name=v", "none"),
        ("POST", "/views/v/refresh?wait=1", "none"),
        ("POST", "/api/refresh-views?views=v", "none"),
        ("GET", "/openapi.json?v=1", "none"),
    ],
)
async def test_a_parameter_that_means_nothing_is_a_problem_that_names_the_right_one(
    method: str, path: str, right: str
) -> None:
    async with doors() as open_doors:
        status, code, body = await problem(open_doors.url + path, method)
        assert (status, code) == (400, "bad_request")
        wrong = path.rpartition("?")[2].rpartition("&")[2].partition("=")[0]
        assert body["detail"].startswith(f"there is no parameter {wrong}; ")
        assert right in body["detail"].partition("; ")[2]


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/static/afresh.js", "/missing"])
async def test_pages_and_probes_may_be_asked_with_parameters(path: str) -> None:
    async with doors() as open_doors, asked(f"{open_doors.url}{path}?probe=1") as (response, _):
        assert response.status != 400


# Pages of other origins.


async def test_pages_of_other_origins_are_refused_and_told_how_to_be_let_in() -> None:
    async with doors() as open_doors:
        status, code, body = await problem(f"{open_doors.url}/views", headers={"Origin": "https://elsewhere.example"})
        assert (status, code) == (403, "origin_refused")
        assert "server.origins" in body["detail"]
        async with asked(f"{open_doors.url}/views", headers={"Origin": open_doors.url}) as (response, _):
            assert response.status == 200
            assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("named", ["https://app.example", "*"])
async def test_pages_of_named_origins_may_read_the_answers(named: str) -> None:
    page = {"Origin": "https://app.example"}
    async with doors(origins=named) as open_doors:
        for path in ("/views", "/readyz", "/missing", "/static/afresh.js"):
            async with asked(open_doors.url + path, headers=page) as (response, _):
                assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
                assert response.headers["Vary"] == "Origin"
        preflight = {**page, "Access-Control-Request-Method": "POST"}
        async with asked(f"{open_doors.url}/views/v/refresh", "OPTIONS", headers=preflight) as (response, _):
            assert response.status == 204
            assert "POST" in response.headers["Access-Control-Allow-Methods"]
        async with asked(f"{open_doors.url}/views") as (response, _):
            assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize(
    ("setting", "page"),
    [
        ("https://app.example/", "https://app.example"),
        ("HTTPS://App.Example:443", "https://app.example"),
        ("http://app.example:8000", "http://app.example:8000"),
    ],
)
async def test_an_origin_may_be_written_as_people_write_it(setting: str, page: str) -> None:
    async with (
        doors(origins=[setting]) as open_doors,
        asked(f"{open_doors.url}/views", headers={"Origin": page}) as (response, _),
    ):
        assert response.status == 200
        assert response.headers["Access-Control-Allow-Origin"] == page


@pytest.mark.parametrize("page", ["http://app.example", "https://app.example:444", "https://app.example.org", "null"])
async def test_an_origin_is_its_scheme_host_and_port(page: str) -> None:
    async with doors(origins=["https://app.example"]) as open_doors:
        assert (await problem(f"{open_doors.url}/views", headers={"Origin": page}))[:2] == (403, "origin_refused")


async def test_what_is_refused_is_reported_once_and_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins, "MAX_REPORTED", 3)
    async with doors() as open_doors:
        for number in (1, 2, 1, 2):
            await problem(f"{open_doors.url}/views", headers={"Origin": f"https://{number}.example"})
        for name in ("a.example", "b.example"):
            await problem(f"{open_doors.url}/views", headers={"Host": name})
        assert open_doors.observations(Refused) == [
            Refused(header="Origin", value="https://1.example"),
            Refused(header="Origin", value="https://2.example"),
            Refused(header="Host", value="a.example"),
        ]


# By which name we are called.


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST.:8080", "app.localhost", "127.0.0.1", "127.9.9.9:1", "[::1]:8080", "app.example:81"],
)
async def test_on_loopback_we_answer_to_our_own_names_and_to_those_in_origins(host: str) -> None:
    async with (
        doors(origins=["https://app.example"]) as open_doors,
        asked(f"{open_doors.url}/healthz", headers={"Host": host}) as (response, _),
    ):
        assert response.status == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "notlocalhost", "10.0.0.1", "[", "a@b"])
async def test_on_loopback_a_page_that_calls_us_by_its_own_name_is_refused(host: str) -> None:
    """DNS rebinding: to the browser the page is of our origin."""
    async with doors() as open_doors:
        headers = {"Host": host, "Origin": f"http://{host}"}
        for path in ("/views", "/ws", "/events", "/static/afresh.js"):
            status, code, body = await problem(open_doors.url + path, headers=headers)
            assert (status, code) == (403, "host_refused")
            assert "server.origins" in body["detail"]


@pytest.mark.parametrize("server", [{"host": "0.0.0.0"}, {"origins": "*"}])
async def test_elsewhere_and_where_any_page_may_connect_the_name_is_not_asked_for(server: dict[str, Any]) -> None:
    async with (
        doors(**server) as open_doors,
        asked(f"{open_doors.url}/healthz", headers={"Host": "db.internal"}) as (response, _),
    ):
        assert response.status == 200


async def test_a_request_without_a_name_is_answered() -> None:
    async with doors() as open_doors:
        reader, writer = await asyncio.open_connection(*open_doors.address)
        try:
            writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
            async with asyncio.timeout(PATIENCE):
                assert (await reader.readline()).startswith(b"HTTP/1.0 200 ")
        finally:
            writer.close()
            await writer.wait_closed()


@pytest.mark.parametrize(
    ("host", "is_one"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("db", False)],
)
def test_what_a_loopback_address_is(host: str, is_one: bool) -> None:
    assert origins.is_loopback(host) is is_one


# Starting.


async def test_a_port_in_use_is_an_error_that_says_what_to_do(dsn: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = Settings.model_validate({"database": {"dsn": dsn}, "server": {"port": port}})
        with pytest.raises(ServeError, match=f"cannot listen on 127.0.0.1:{port}") as caught:
            async with app.running(settings):
                pytest.fail("it serves on a port that is taken")
    assert "--port" in caught.value.hint


async def test_a_database_without_the_engine_is_an_error_that_says_what_to_do(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("DROP FUNCTION public.notify_event_refresh() CASCADE")
    await connection.close()
    with pytest.raises(WrongDatabase) as caught:
        async with app.running(Settings.model_validate({"database": {"dsn": dsn}})):
            pytest.fail("it serves from a database that is not migrated")
    assert "afresh migrate up" in caught.value.hint


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "http://127.0.0.1:"), ("127.0.0.1", "http://127.0.0.1:")])
async def test_the_address_that_is_shown_can_be_opened(dsn: str, host: str, shown: str) -> None:
    async with afresh(dsn, server={"host": host}) as running:
        assert running.url.startswith(shown)
        assert running.seen.of(Serving) == [Serving(url=running.url)]
        async with asked(f"{running.url}/healthz") as (response, _):
            assert response.status == 200


# The documents.


def routes() -> set[tuple[str, str]]:
    """Every route there is, as (method, path); the files of the dashboard are one of their own."""
    made: set[tuple[str, str]] = set()

    async def collect() -> None:
        async with doors() as open_doors:
            for route in open_doors.api.application().router.routes():
                assert route.resource is not None
                made.add((route.method, route.resource.canonical))

    asyncio.run(collect())
    return {(method, path) for method, path in made if method != "HEAD"}


def test_the_openapi_document_describes_the_routes_that_there_are() -> None:
    described = {(method.upper(), path) for path, item in document()["paths"].items() for method in item}
    assert described == routes() - {("GET", "/static")}


def test_the_openapi_document_holds_together() -> None:
    """Every reference leads somewhere, every schema is one, and every parameter in a path is described."""
    whole = document()
    text = repr(whole)
    for reference in re.findall(r"'\$ref': '#/([^']+)'", text):
        place: Any = whole
        for part in reference.split("/"):
            place = place[part]
    for schema in whole["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for path, item in whole["paths"].items():
        for operation in item.values():
            in_path = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
            assert in_path == set(re.findall(r"\{(\w+)\}", path))
            assert operation["summary"]
            assert operation["responses"]


async def test_the_openapi_document_is_served() -> None:
    async with doors() as open_doors, asked(f"{open_doors.url}/openapi.json") as (response, body):
        assert response.status == 200
        assert body == document()


def test_docs_name_every_route_and_no_other() -> None:
    text = (DOCS / "http.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^### `(GET|POST) (/[^`?]*)", text, flags=re.MULTILINE))
    assert named == routes() - {("GET", "/static")} | {("GET", "/static/{file}")}


def test_docs_name_every_code_and_no_other() -> None:
    """The codes are where problems are made: each call of `problem` has its status and its code in front, and so has each
    error of a named query."""
    made = {
        (status, code)
        for file in SERVICES.rglob("*.py")
        for status, code in re.findall(r'problem\(\s*(\d{3}),\s*"(\w+)"', file.read_text(encoding="utf-8"))
    }
    kinds: list[type[QueryError]] = [QueryError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    made |= {(str(kind.status), kind.code) for kind in kinds}
    text = (DOCS / "http.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", text, flags=re.MULTILINE))
    assert len(made) >= 8
    assert {(code, status) for status, code in made} == named


def test_docs_name_every_field_of_a_view() -> None:
    text = (DOCS / "http.md").read_text(encoding="utf-8")
    for field in document()["components"]["schemas"]["View"]["properties"]:
        assert f"| `{field}` |" in text, f"docs/http.md does not explain {field}"
    for status in document()["components"]["schemas"]["View"]["properties"]["status"]["enum"]:
        assert f"`{status}`" in text
