"""Bad input, end to end: a clear word about it, and nothing lost around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from afresh_notifier import app, consumer, strangers
from afresh_notifier.errors import DatabaseError, ServeError, Unreachable, WrongDatabase
from afresh_notifier.observations import CatalogueRead, GapFound, PayloadRejected, RefreshDone, SettingIgnored
from afresh_notifier.settings import Settings
from conftest import ServerUnderTest, eventually
from support.scenario import DIAMOND, TICK, TOTALS, Running, afresh, diamond_fresh, listening

#: What somebody else may say on our channel, none of it a change.
RUBBISH = [
    " ",
    "hello",
    "null",
    "[]",
    "42",
    '"text"',
    "{}",
    '{"v":"1","table":"public.entries","op":"UPDATE","xid":"1"}',
    '{"v":1}',
    '{"v":1,"table":"public.entries"}',
    '{"v":1,"table":"public.entries","op":"EXPLODE","xid":"1"}',
    '{"v":1,"table":["public.entries"],"op":"UPDATE","xid":"1"}',
    '{"v":1,"table":"public.entries","op":"UPDATE","xid":"minus one"}',
    '{"v":1,"table":"public.entries","op":"UPDATE","xid":"' + "9" * 5000 + '"}',
    '{"v":1,"table":"public.entries","op":"UPDATE","keys":[{"writer":{"nested":1}}],"xid":"1"}',
    '{"v":1,"table":"public.entries","op":"UPDATE","keys":"all","xid":"1"}',
    '{"v":1,"table":"public.entries","op":"UPDATE","rows":-1,"xid":"1"}',
    "[" * 3900 + "]" * 3900,
    '{"v":99999999999999999999999,"op":"DDL"}',
    "x" * 7999,
    "\U0001f9e8" * 1000,
]


async def get(running: Running, path: str) -> tuple[int, Any]:
    """The status and the JSON body of a GET."""
    async with aiohttp.ClientSession() as session, session.get(running.url + path) as response:
        return response.status, await response.json()


async def post(running: Running, path: str) -> tuple[int, Any]:
    """The status and the JSON body of a POST."""
    async with aiohttp.ClientSession() as session, session.post(running.url + path) as response:
        return response.status, await response.json()


async def state(running: Running, view: str) -> dict[str, Any]:
    """What `GET /views` says of ``view``."""
    _, body = await get(running, "/views")
    found: dict[str, Any] = next(one for one in body["views"] if one["name"] == view)
    return found


async def test_rubbish_on_the_channel_is_reported_and_loses_nothing(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    async with afresh(dsn) as running, listening(running.url) as heard:
        await running.settled(db)
        before = heard.mark
        for amount, text in enumerate(RUBBISH, 1):
            async with db.transaction():
                await db.execute("SELECT pg_notify('afresh', $1)", text)
                await db.execute("UPDATE entries SET amount = $1 WHERE id = 1", amount)
        await running.settled(db)
        rejected = running.seen.of(PayloadRejected)
        assert len(rejected) == len(RUBBISH)
        assert all(one.problem and len(one.payload) <= 200 for one in rejected)
        assert running.seen.changed("public.entries") == len(RUBBISH)
        assert await diamond_fresh(db)
        assert heard.resyncs(since=before) == []
        assert len(running.seen.of(GapFound)) == 1  # that of the start


async def test_payload_of_another_version_is_a_gap(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    async with afresh(dsn) as running, listening(running.url) as heard:
        await running.settled(db)
        before, marked = heard.mark, running.seen.mark
        await db.execute("ALTER TABLE entries DISABLE TRIGGER ALL")
        await db.execute("UPDATE entries SET amount = 5 WHERE id = 1")
        await db.execute("""SELECT pg_notify('afresh', '{"v":2,"what":"something new"}')""")
        gap = await running.seen.until(GapFound, since=marked)
        assert "version 2" in gap.reason
        await eventually(lambda: heard.resyncs(since=before) == ["gap"])
        await running.settled(db)
        assert await diamond_fresh(db)


async def test_change_of_a_table_that_does_not_exist_harms_nobody(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    async with afresh(dsn) as running:
        await running.settled(db)
        await db.execute(
            "SELECT pg_notify('afresh', "
            """'{"v":1,"table":"no.where","op":"UPDATE","keys":null,"rows":null,"xid":"1"}')"""
        )
        await db.execute("UPDATE entries SET amount = 5 WHERE id = 1")
        await running.settled(db)
        assert await diamond_fresh(db)


async def test_table_that_is_not_known_is_looked_for_once(
    dsn: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strangers, "STRANGER_PACE", 0.0)
    await db.execute(TICK)

    async def say(table: str) -> None:
        """A change of ``table``, and wait until it was consumed."""
        count = running.seen.changed(consumer.UNKNOWN)
        await db.execute(
            """SELECT pg_notify('afresh', json_build_object('v', 1, 'table', $1::text, 'op', 'UPDATE', 'keys', NULL,
                'rows', NULL, 'xid', '1')::text)""",
            table,
        )
        await eventually(lambda: running.seen.changed(consumer.UNKNOWN) > count)

    async with afresh(dsn) as running:
        await running.settled(db)
        before = running.seen.mark
        for table in ("no.where", "no.where", "not.here", "no.where", "not.here"):
            await say(table)
        assert len(running.seen.of(CatalogueRead, since=before)) == 2
        monkeypatch.setattr(strangers, "MAX_STRANGERS", 3)
        for table in (
            "third",
            "fourth",
            "third",
        ):  # the third fills the memory, which is emptied when it was looked for
            await say(table)
        assert len(running.seen.of(CatalogueRead, since=before)) == 5


async def test_missing_table_and_view_in_the_settings_are_reported_and_heal_when_they_appear(
    dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(DIAMOND)
    settings: dict[str, Any] = {
        "tables": [{"name": "later", "patterns": ["later"]}, {"name": "totals"}],
        "views": [{"name": "sums", "patterns": ["sums-of-later"]}, {"name": "entries"}],
    }
    async with afresh(dsn, **settings) as running, listening(running.url) as heard:
        await running.settled(db)
        assert {seen.name for seen in running.seen.of(SettingIgnored)} == {"later", "sums", TOTALS, "public.entries"}
        status, body = await get(running, "/readyz")
        assert status == 503
        assert body["code"] == "not_ready"
        assert "there is no table later" in body["reasons"]
        assert "there is no materialized view sums" in body["reasons"]
        assert "public.entries is not a materialized view" in body["reasons"]
        _, body = await get(running, "/views")
        assert {one["name"] for one in body["ignored"]} == {"later", "sums", TOTALS, "public.entries"}
        assert all(one["hint"] for one in body["ignored"])

        await db.execute("UPDATE entries SET amount = 5 WHERE id = 1")
        await running.settled(db)
        assert await diamond_fresh(db)  # the rest works

        before = heard.mark
        await db.execute("CREATE TABLE later (n int PRIMARY KEY); SELECT afresh.watch('later')")
        await db.execute("CREATE MATERIALIZED VIEW sums AS SELECT n FROM later; CREATE UNIQUE INDEX ON sums (n)")
        await db.execute("INSERT INTO later VALUES (1)")
        await heard.told("later", since=before)
        await running.settled(db)
        assert await db.fetchval("SELECT n FROM sums") == 1
        await heard.told("sums-of-later", since=before)
        _, body = await get(running, "/readyz")
        assert "there is no table later" not in body["reasons"]
        assert "there is no materialized view sums" not in body["reasons"]


async def test_table_that_is_not_watched_is_reported_until_it_is(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(TICK + "CREATE TABLE quiet (n int)")
    async with afresh(dsn, tables=[{"name": "quiet"}]) as running:
        status, body = await get(running, "/readyz")
        assert (status, body["reasons"]) == (503, ["public.quiet is not watched: its changes are not heard"])
        await db.execute("SELECT afresh.watch('quiet')")

        async def ready() -> bool:
            return (await get(running, "/readyz"))[0] == 200

        await eventually(ready)


async def test_view_without_a_unique_index_is_broken_with_a_hint_until_it_has_one(
    dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(DIAMOND)
    index = await db.fetchval("SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'totals'::regclass")
    async with afresh(dsn) as running:
        await running.settled(db)
        assert (await get(running, "/readyz"))[0] == 200

        await db.execute(f"DROP INDEX {index}")
        await eventually(lambda: running.service.board.views[TOTALS].broken)
        said = await state(running, TOTALS)
        assert said["status"] == "broken"
        assert "unique index" in said["reason"]
        assert "CREATE UNIQUE INDEX" in said["hint"]
        status, body = await get(running, "/readyz")
        assert status == 503
        assert any(reason.startswith(f"{TOTALS} is broken") for reason in body["reasons"])
        status, body = await post(running, f"/views/{TOTALS}/refresh")
        assert (status, body["code"]) == (503, "refresh_failed")

        before = running.seen.mark
        await db.execute("INSERT INTO entries VALUES (60, 1, 5)")
        await running.heard_all(db)
        await eventually(lambda: not running.stale("public.overview") and not running.stale("public.counts"))
        assert running.seen.starts(TOTALS, since=before) == 0  # not tried in vain
        assert await db.fetchval("SELECT total FROM totals WHERE writer = 1") == 0

        await db.execute("CREATE UNIQUE INDEX ON totals (writer)")
        await running.settled(db)
        assert await diamond_fresh(db)
        assert (await get(running, "/readyz"))[0] == 200


@pytest.mark.parametrize(
    "index",
    [
        "CREATE UNIQUE INDEX ON v (n) WHERE n > 0",
        "CREATE UNIQUE INDEX ON v ((n + 1))",
        "CREATE INDEX ON v (n)",
    ],
    ids=["partial", "expression", "not-unique"],
)
async def test_index_that_concurrently_cannot_use_is_none(dsn: str, db: asyncpg.Connection, index: str) -> None:
    await db.execute(TICK + "CREATE TABLE t (n int PRIMARY KEY); SELECT afresh.watch('t')")
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT n FROM t")
    await db.execute(index)
    async with afresh(dsn) as running:
        await eventually(lambda: "public.v" in running.service.board.views)
        await eventually(lambda: running.service.board.views["public.v"].broken)


async def test_blocking_view_without_a_unique_index_is_refreshed_plainly(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(TICK + "CREATE TABLE t (n int PRIMARY KEY); SELECT afresh.watch('t')")
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT n FROM t")
    async with afresh(dsn, views=[{"name": "v", "blocking": True}]) as running:
        await db.execute("INSERT INTO t VALUES (1)")
        await running.settled(db)
        assert await db.fetchval("SELECT n FROM v") == 1
        assert {seen.method for seen in running.seen.of(RefreshDone, view="public.v")} == {"plain"}


async def test_unpopulated_view_is_first_refreshed_plainly_then_concurrently(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(TICK + "CREATE TABLE t (n int PRIMARY KEY); SELECT afresh.watch('t')")
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT n FROM t WITH NO DATA; CREATE UNIQUE INDEX ON v (n)")
    await db.execute("CREATE MATERIALIZED VIEW w AS SELECT n FROM v WITH NO DATA; CREATE UNIQUE INDEX ON w (n)")
    async with afresh(dsn) as running:
        await running.settled(db)
        await db.execute("INSERT INTO t VALUES (1)")
        await running.settled(db)
        assert await db.fetchval("SELECT n FROM w") == 1
        methods = [seen.method for seen in running.seen.of(RefreshDone, view="public.v")]
        assert methods == ["plain"] + ["concurrently"] * (len(methods) - 1)
        assert len(methods) > 1
        assert (await get(running, "/readyz"))[0] == 200


@pytest.fixture
def bare(server: ServerUnderTest, tmp_path: Path) -> dict[str, str]:
    """Addresses that cannot be served from."""
    return {
        "nobody there": f"postgresql://postgres@/postgres?host={tmp_path}",
        "refused": "postgresql://postgres@127.0.0.1:1/postgres",
        "no such database": server.dsn("afresh_test_no_such_database"),
        "not migrated": server.dsn("template1"),
        "no address": "not an address",
        "nothing": "",
    }


@pytest.mark.parametrize(
    ("which", "error", "hint"),
    [
        ("nobody there", Unreachable, "check that it runs"),
        ("refused", Unreachable, "check that it runs"),
        ("no such database", WrongDatabase, "create it, or correct the name"),
        ("not migrated", WrongDatabase, "afresh migrate up"),
        ("no address", WrongDatabase, "postgresql://user:password@host"),
        ("nothing", WrongDatabase, "database.dsn"),
    ],
)
async def test_database_that_cannot_be_served_from_is_named_at_the_start(
    bare: dict[str, str], which: str, error: type[DatabaseError], hint: str
) -> None:
    settings = Settings(database={"dsn": bare[which]}, server={"port": 0})
    with pytest.raises(error) as raised:
        async with app.running(settings):
            pass
    assert hint in raised.value.hint


async def test_port_in_use_is_said_at_the_start(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(TICK)
    async with afresh(dsn) as running:
        port = int(running.url.rpartition(":")[2])
        with pytest.raises(ServeError, match=f"cannot listen on 127.0.0.1:{port}") as raised:
            async with afresh(dsn, server={"port": port}):
                pass
        assert "--port" in raised.value.hint


async def test_keyed_patterns_reach_clients_escaped_or_as_their_literal_part(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(
        TICK
        + """
        CREATE TABLE clients (id int PRIMARY KEY, client_name text, n int NOT NULL DEFAULT 0);
        INSERT INTO clients (id, client_name) VALUES (1, 'Acme'), (2, 'A:b*c/d {e} "f"'), (3, ''), (4, 'Žluťoučký'),
            (5, NULL), (6, repeat('x', 5000));
        INSERT INTO clients (id, client_name) SELECT n, 'many ' || n FROM generate_series(1000, 1500) AS n;
        CREATE MATERIALIZED VIEW summary AS SELECT id, client_name, n FROM clients;
        CREATE UNIQUE INDEX ON summary (id);
        CREATE MATERIALIZED VIEW total AS SELECT 1 AS id, sum(n) AS n FROM summary;
        CREATE UNIQUE INDEX ON total (id);
        SELECT afresh.watch('clients', '{client_name}');
        """
    )
    views = [
        {"name": "summary", "patterns": ["clients:{client_name}", "all"]},
        {"name": "total", "patterns": ["total:{client_name}:x"]},
    ]
    tables = [{"name": "clients", "patterns": ["raw:{client_name}", "clients:{client_name}"]}]
    async with afresh(dsn, views=views, tables=tables) as running, listening(running.url) as heard:
        for where, escaped in [
            ("id = 1", "Acme"),
            ("id = 2", "A%3Ab%2Ac%2Fd%20%7Be%7D%20%22f%22"),
            ("id = 3", "%00"),
            ("id = 4", "%C5%BDlu%C5%A5ou%C4%8Dk%C3%BD"),
            ("id = 5", None),  # null
            ("id = 6", None),  # longer than a payload may be
            ("id >= 1000", None),  # too many
        ]:
            await running.settled(db)
            await eventually(lambda: running.service.hub.position.offset == running.service.hub.newest)
            tick = running.seen.tick
            await heard.told(f"tick:{tick}")
            before = heard.mark
            await db.execute(f"UPDATE clients SET n = n + 1 WHERE {where}")
            await running.settled(db)
            await heard.told(f"tick:{running.seen.tick}", since=before)
            ends = ("", "") if escaped is None else (escaped, f"{escaped}:x")
            expected = {f"raw:{ends[0]}", f"clients:{ends[0]}", "all", f"total:{ends[1]}"}
            await heard.told(f"total:{ends[1]}", since=before)
            ticks = {pattern for pattern in heard.patterns(since=before) if pattern.startswith("tick:")}
            assert heard.patterns(since=before) - ticks == expected, where
