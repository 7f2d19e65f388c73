"""The doctor: each finding is there when the thing is, and gone when what it says was done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from afresh_notifier import database, doctor, migrate, packs
from afresh_notifier.commands.sql import privileges
from afresh_notifier.doctor import Finding, clock, server
from afresh_notifier.embedded import DEFAULT_VERSION, EmbeddedServer
from afresh_notifier.settings import Settings
from conftest import SERVER_OPTIONS, ServerUnderTest
from notifier import folders
from notifier.command import afresh
from notifier.pooler import pooling
from support.named_queries import query


async def examined(dsn: str, **settings: Any) -> list[Finding]:
    """All findings but those that the test server itself is the cause of."""
    made = Settings(database={"dsn": dsn}, **settings)
    findings = await doctor.examine(made, made.database, packs.find_all(made.packs))
    return [finding for finding in findings if finding.about != "two-phase commit"]


async def bad(dsn: str, **settings: Any) -> list[Finding]:
    """The warnings and problems."""
    return [finding for finding in await examined(dsn, **settings) if finding.level != "ok"]


def statements(finding: Finding) -> str:
    """What there is to run: the lines after those that say so."""
    return finding.to_do.partition(":\n")[2]


async def only(dsn: str, **settings: Any) -> Finding:
    """The one warning or problem that there is."""
    findings = await bad(dsn, **settings)
    assert len(findings) == 1, findings
    return findings[0]


@pytest.fixture
async def orders(db: asyncpg.Connection) -> asyncpg.Connection:
    """A watched table and a view on it, with which all is well."""
    await db.execute(
        """
        CREATE TABLE orders (id int PRIMARY KEY, client text);
        INSERT INTO orders VALUES (1, 'a'), (2, 'b');
        SELECT afresh.watch('orders', '{id}');
        CREATE MATERIALIZED VIEW totals AS SELECT client, count(*) AS n FROM orders GROUP BY client;
        CREATE UNIQUE INDEX totals_key ON totals (client);
        """
    )
    return db


@pytest.fixture
async def empty(server: ServerUnderTest) -> AsyncIterator[str]:
    """The address of a database in which there is nothing."""
    name = await server.create()
    yield server.dsn(name)
    await server.drop(name)


async def test_where_all_is_well_it_says_so(dsn: str, orders: asyncpg.Connection) -> None:
    findings = await examined(dsn)
    assert {finding.level for finding in findings} == {"ok"}
    assert {finding.about for finding in findings} == {
        "server",
        "engine",
        "change log",
        "public.orders",
        "public.totals",
    }


# The server


async def test_an_unreachable_database_is_a_finding(tmp_path: Path) -> None:
    found = await only(f"postgresql:///x?host={tmp_path}")
    assert (found.level, found.about) == ("problem", "connection")
    assert "cannot be reached" in found.what


async def test_a_transaction_pooler_in_between(dsn: str) -> None:
    async with pooling(dsn) as pooled:
        found = await only(pooled)
    assert found.level == "problem"
    assert "a pooler is in between" in found.what
    assert await bad(dsn) == []


async def test_the_engine_is_missing(empty: str, tmp_path: Path) -> None:
    found = await only(empty)
    assert (found.level, found.to_do) == ("problem", "afresh migrate up")
    await afresh("migrate", "up", folder=tmp_path, dsn=empty)
    assert await bad(empty) == []


async def test_an_engine_made_by_hand_is_well(empty: str) -> None:
    connection = await asyncpg.connect(empty)
    try:
        await connection.execute(await migrate.script(migrate.engine_scope()))
    finally:
        await connection.close()
    assert "installed, though not by `afresh migrate`" in [finding.what for finding in await examined(empty)]
    assert await bad(empty) == []


async def test_migrations_that_are_not_applied(dsn: str, tmp_path: Path) -> None:
    pack = folders.pack(tmp_path, "mine")
    (tmp_path / "afresh.toml").write_text(f"packs = ['{pack}']", encoding="utf-8")
    assert not [finding for finding in await examined(dsn) if finding.about == "mine"]
    await afresh("migrate", "up", folder=tmp_path, dsn=dsn)
    folders.migration(
        Path(pack) / "migrations", "mine_0002_more", up="SELECT 1;", down="SELECT 1;", depends="mine_0001_table"
    )
    found = await only(dsn, packs=(pack,))
    assert (found.level, found.about, found.what) == ("problem", "mine", "not applied: mine_0002_more")
    await afresh("migrate", "up", folder=tmp_path, dsn=dsn)
    assert await bad(dsn, packs=(pack,)) == []


async def test_a_pack_of_the_settings_that_was_never_applied(dsn: str, tmp_path: Path) -> None:
    pack = folders.pack(tmp_path, "mine")
    found = await only(dsn, packs=(pack,))
    assert (found.level, found.about, found.to_do) == ("problem", "mine", "afresh migrate up")


async def test_migrations_of_a_newer_afresh(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(
        "INSERT INTO _pogo_migration (migration_hash, migration_id, schema_name, applied) "
        "VALUES ('x', 'afresh_9999_future', 'afresh', now())"
    )
    found = await only(dsn)
    assert (found.level, found.what) == ("warning", "made by a newer Afresh: afresh_9999_future")


@pytest.mark.parametrize("change", ["DROP EVENT TRIGGER {}", "ALTER EVENT TRIGGER {} DISABLE"])
@pytest.mark.parametrize("name", ["afresh_catalogue_change", "afresh_catalogue_drop"])
async def test_an_event_trigger_is_missing(dsn: str, db: asyncpg.Connection, change: str, name: str) -> None:
    await db.execute("CREATE TABLE before AS SELECT evtname, evtenabled, evttags FROM pg_event_trigger")
    await db.execute(change.format(name))
    found = await only(dsn)
    assert (found.level, found.about) == ("warning", "event triggers")
    assert name in found.what
    await db.execute(statements(found))
    assert await bad(dsn) == []
    assert not await db.fetch("TABLE before EXCEPT SELECT evtname, evtenabled, evttags FROM pg_event_trigger")


async def test_event_triggers_that_are_missing_are_one_warning(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute("DROP EVENT TRIGGER afresh_catalogue_change; ALTER EVENT TRIGGER afresh_catalogue_drop DISABLE")
    found = await only(dsn)
    assert "afresh_catalogue_change is not there, afresh_catalogue_drop is disabled" in found.what
    await db.execute(statements(found))
    assert await bad(dsn) == []


@pytest.mark.parametrize("path", ["afresh, public", "nowhere, afresh"])
async def test_a_role_whose_tables_land_in_our_schema(dsn: str, db: asyncpg.Connection, path: str) -> None:
    role = f"afresh_test_{db.get_server_pid()}"
    await db.execute(f"CREATE ROLE {role}; GRANT SELECT ON _pogo_migration TO {role}")
    try:
        await db.execute(f"ALTER ROLE {role} SET search_path = public")
        await db.execute(privileges(role))
        limited = f"{dsn}{'&' if '?' in dsn else '?'}role={role}"
        assert await bad(limited) == []
        await db.execute(f"ALTER ROLE {role} SET search_path = {path}")
        found = await only(limited)
        assert (found.level, found.about) == ("warning", f"role {role}")
        await db.execute(statements(found))
        assert await bad(limited) == []
    finally:
        await db.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_role_of_our_schema_s_name(dsn: str, db: asyncpg.Connection) -> None:
    """PostgreSQL's own search path begins with the schema that is called like the role."""
    await db.execute("CREATE ROLE afresh; GRANT SELECT ON _pogo_migration TO afresh")
    try:
        await db.execute(privileges("afresh"))
        found = await only(f"{dsn}{'&' if '?' in dsn else '?'}role=afresh")
        assert (found.level, found.about) == ("warning", "role afresh")
        assert '"$user", public' in found.what
    finally:
        await db.execute("DROP OWNED BY afresh; DROP ROLE afresh")


async def test_names_of_the_settings_that_are_misspelt(dsn: str, orders: asyncpg.Connection) -> None:
    findings = await bad(dsn, tables=[{"name": "ordres"}], views=[{"name": "total"}, {"name": "qqqqqq"}])
    assert [(finding.what, finding.to_do) for finding in findings[:2]] == [
        ("there is no table ordres", "did you mean orders?"),
        ("there is no materialized view total", "did you mean totals?"),
    ]
    assert findings[2].to_do.startswith("correct the name, create it")


async def test_a_filling_notification_queue() -> None:
    """On a server of its own, whose queue is small enough to be filled (PostgreSQL 17 and later can have one)."""
    with EmbeddedServer(version=DEFAULT_VERSION, options={**SERVER_OPTIONS, "max_notify_queue_pages": "64"}) as small:
        reader, writer = await asyncpg.connect(small.dsn()), await asyncpg.connect(small.dsn())
        try:
            await reader.execute("LISTEN c")
            await reader.execute("BEGIN")
            assert await server.check_queue(writer) == []
            levels = set()
            for n in range(48):
                await writer.execute("SELECT pg_notify('c', rpad($1::text, 7900, '.'))", str(n))
                levels |= {finding.level for finding in await server.check_queue(writer)}
            assert levels == {"warning", "problem"}
            (found,) = await server.check_queue(writer)
            (idle,) = await writer.fetch(statements(found))
            assert idle["pid"] == reader.get_server_pid()
            await reader.execute("COMMIT")
            await writer.execute("NOTIFY c")
            await reader.execute("SELECT 1")
            await writer.execute("LISTEN c")
            await writer.execute("NOTIFY c")
            assert await server.check_queue(writer) == []
        finally:
            await reader.close()
            await writer.close()


def test_the_notification_queue_is_judged_by_its_share() -> None:
    assert server.judge_queue(0.1) == []
    assert [finding.level for finding in server.judge_queue(0.11)] == ["warning"]
    assert [finding.level for finding in server.judge_queue(0.51)] == ["problem"]


async def test_a_replication_slot_that_nobody_reads(dsn: str, db: asyncpg.Connection) -> None:
    name = f"afresh_test_{db.get_server_pid()}"
    await db.execute("SELECT pg_create_physical_replication_slot($1, true)", name)
    try:
        assert await server.check_slots(db) == []  # it keeps next to nothing
        found = {finding.about: finding for finding in await server.check_slots(db, retained=0)}
        await db.execute(statements(found[f"replication slot {name}"]))
        assert f"replication slot {name}" not in [finding.about for finding in await server.check_slots(db, retained=0)]
    finally:
        await db.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", name
        )


async def test_two_phase_commit(db: asyncpg.Connection) -> None:
    most = await db.fetchval("SELECT current_setting('max_prepared_transactions')::int")
    assert bool(await server.check_prepared_transactions(db, "auto")) == (most > 0)
    assert server.judge_prepared(0, "auto") == []
    (found,) = server.judge_prepared(1, "auto")
    assert found.level == "warning"


def test_changes_that_nobody_takes() -> None:
    assert [finding.level for finding in server.judge_change_log(3, 5.0, None)] == ["ok"]
    (nobody,) = server.judge_change_log(1, 61.0, None)
    assert (nobody.level, nobody.to_do) == ("warning", "start one:\nafresh serve")
    assert "1 change not taken" in nobody.what
    (stuck,) = server.judge_change_log(10_000, 61.0, "host:1:a")
    assert stuck.level == "problem"
    assert "10,000 changes or more" in stuck.what


async def test_who_leads_is_said_until_his_lease_has_run_out(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute("INSERT INTO afresh.lease VALUES (1, 'host:1:a', clock_timestamp() + interval '1 hour')")
    facts = await database.facts(db)
    assert [finding.what for finding in await server.check_change_log(db, facts)] == ["host:1:a takes changes"]
    await db.execute("UPDATE afresh.lease SET expires = '-infinity'")
    (found,) = await server.check_change_log(db, facts)
    assert found.what == "no service runs; 0 changes not taken yet"


async def test_a_publication_of_all_tables(dsn: str, db: asyncpg.Connection) -> None:
    assert await server.check_publications(db) == []
    await db.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    (found,) = await server.check_publications(db)
    assert (found.level, found.about) == ("warning", "publication")


# What is watched


async def test_a_table_that_is_not_there(dsn: str, orders: asyncpg.Connection) -> None:
    found = await only(dsn, tables=[{"name": "ordres"}])
    assert (found.level, found.about, found.what) == ("problem", "ordres", "there is no table ordres")


async def test_a_table_that_is_no_table(dsn: str, orders: asyncpg.Connection) -> None:
    found = await only(dsn, tables=[{"name": "totals"}])
    assert (found.level, found.what) == ("problem", "public.totals is not a table")


async def test_a_table_that_nobody_watches(dsn: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await db.execute("CREATE TABLE orders (id int)")
    found = await only(dsn, tables=[{"name": "orders"}])
    assert (found.level, found.about) == ("problem", "public.orders")
    assert found.to_do == "run `afresh watch orders`"
    await afresh("watch", "orders", folder=tmp_path, dsn=dsn)
    assert await bad(dsn, tables=[{"name": "orders"}]) == []


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE orders DISABLE TRIGGER afresh_update",
        "ALTER TABLE orders ENABLE REPLICA TRIGGER afresh_update",
        "DROP TRIGGER afresh_update ON orders",
    ],
)
async def test_a_watch_that_is_not_complete(dsn: str, orders: asyncpg.Connection, change: str) -> None:
    await orders.execute("ALTER EVENT TRIGGER afresh_catalogue_change DISABLE")  # or it would be mended at once
    await orders.execute(change)
    await orders.execute("ALTER EVENT TRIGGER afresh_catalogue_change ENABLE ALWAYS")
    found = await only(dsn)
    assert (found.level, found.about) == ("problem", "public.orders")
    assert "afresh_update on public.orders is " in found.what
    await orders.execute(found.to_do)
    assert await bad(dsn) == []


async def test_triggers_made_by_hand_that_are_disabled(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(
        """
        CREATE TABLE orders (id int);
        CREATE TRIGGER t AFTER INSERT OR UPDATE OR DELETE ON orders
        FOR EACH ROW EXECUTE FUNCTION notify_event_refresh();
        """
    )
    assert await bad(dsn) == []
    await db.execute("ALTER TABLE orders DISABLE TRIGGER t")
    found = await only(dsn)
    assert (found.level, found.about) == ("problem", "public.orders")
    await db.execute(statements(found))
    assert await bad(dsn) == []


async def test_keys_that_are_not_those_of_the_settings(dsn: str, orders: asyncpg.Connection) -> None:
    tables = [{"name": "orders", "keys": ["client"], "patterns": ["clients:{client}"]}]
    found = await only(dsn, tables=tables)
    assert (found.level, found.about) == ("warning", "public.orders")
    assert "the settings want the keys client; its changes carry id" in found.what
    await orders.execute(found.to_do)
    assert await bad(dsn, tables=tables) == []
    await orders.execute("SELECT afresh.watch('orders', '{client,id}')")
    assert await bad(dsn, tables=[{"name": "orders", "keys": ["id", "client"]}]) == []


async def test_a_pattern_with_a_place_for_what_is_no_key(dsn: str, orders: asyncpg.Connection) -> None:
    found = await only(dsn, tables=[{"name": "orders", "keys": ["id"], "patterns": ["clients:{client}"]}])
    assert (found.level, found.about) == ("warning", "public.orders")
    assert "its pattern clients:{client} has places for client" in found.what


async def test_partitions_carry_the_keys_of_the_table_that_is_watched(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(
        """
        CREATE TABLE visits (id int, day date) PARTITION BY RANGE (day);
        CREATE TABLE visits_2026 PARTITION OF visits FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        SELECT afresh.watch('visits', '{id}');
        """
    )
    assert await bad(dsn, tables=[{"name": "visits", "keys": ["id"], "patterns": ["visits:{id}"]}]) == []


# What is refreshed


async def test_a_view_that_is_not_there(dsn: str, orders: asyncpg.Connection) -> None:
    found = await only(dsn, views=[{"name": "total"}])
    assert (found.level, found.what) == ("problem", "there is no materialized view total")
    found = await only(dsn, views=[{"name": "orders"}])
    assert (found.level, found.what) == ("problem", "public.orders is not a materialized view")


@pytest.mark.parametrize(
    "index",
    [
        "SELECT",
        "CREATE INDEX ON totals (client)",
        "CREATE UNIQUE INDEX ON totals (client) WHERE n > 0",
        "CREATE UNIQUE INDEX ON totals (lower(client))",
    ],
)
async def test_a_view_without_a_usable_unique_index(dsn: str, orders: asyncpg.Connection, index: str) -> None:
    await orders.execute(f"DROP INDEX totals_key; {index}")
    found = await only(dsn)
    assert (found.level, found.about) == ("problem", "public.totals")
    assert statements(found) == "CREATE UNIQUE INDEX ON public.totals (client);"
    assert await bad(dsn, views=[{"name": "totals", "blocking": True}]) == []
    assert await bad(dsn, views=[{"name": "totals", "enabled": False}]) == []
    await orders.execute(statements(found))
    assert await bad(dsn) == []


async def test_a_unique_index_that_is_not_valid(dsn: str, orders: asyncpg.Connection) -> None:
    await orders.execute("CREATE MATERIALIZED VIEW twice AS SELECT client FROM orders, generate_series(1, 2)")
    with pytest.raises(asyncpg.UniqueViolationError):
        await orders.execute("CREATE UNIQUE INDEX CONCURRENTLY ON twice (client)")
    found = await only(dsn)
    assert (found.level, found.about) == ("problem", "public.twice")
    assert "it holds the same row more than once" in found.to_do


async def test_nulls_in_the_unique_key(dsn: str, orders: asyncpg.Connection) -> None:
    await orders.execute("INSERT INTO orders VALUES (3, NULL); REFRESH MATERIALIZED VIEW totals")
    found = await only(dsn)
    assert (found.level, found.about) == ("warning", "public.totals")
    assert "client of its unique key holds NULLs" in found.what
    await orders.execute(
        """
        DROP MATERIALIZED VIEW totals;
        CREATE MATERIALIZED VIEW totals AS SELECT COALESCE(client, '') AS client, count(*) FROM orders GROUP BY 1;
        CREATE UNIQUE INDEX ON totals (client);
        """
    )
    assert await bad(dsn) == []


async def test_nulls_where_concurrently_does_not_look(dsn: str, orders: asyncpg.Connection) -> None:
    await orders.execute(
        """
        INSERT INTO orders VALUES (3, NULL);
        CREATE MATERIALIZED VIEW copy AS TABLE orders;
        CREATE UNIQUE INDEX ON copy (id);
        CREATE UNIQUE INDEX ON copy (client) WHERE id > 0;
        """
    )
    assert await bad(dsn) == []


async def test_a_view_that_reads_the_clock(dsn: str, orders: asyncpg.Connection) -> None:
    """Also through a plain view, and whatever it is called there."""
    await orders.execute(
        """
        CREATE VIEW aged_live AS SELECT id, now() AS seen FROM orders;
        CREATE MATERIALIZED VIEW aged AS SELECT * FROM aged_live;
        CREATE UNIQUE INDEX ON aged (id);
        """
    )
    old, rewritten = await bad(dsn)
    assert "it reads the clock" in old.what
    assert 'set every = "5m" for public.aged' in old.to_do
    assert "CONCURRENTLY rewrites them all" in rewritten.what
    assert await bad(dsn, views=[{"name": "aged", "every": "5m"}]) == [rewritten]
    await orders.execute("CREATE OR REPLACE VIEW aged_live AS SELECT id, now()::date::timestamptz AS seen FROM orders")
    assert await bad(dsn, views=[{"name": "aged", "every": "5m"}]) == []


async def test_how_postgresql_writes_the_clock(db: asyncpg.Connection) -> None:
    """The deparsed form is what is looked at, so each way to write it goes through the server."""
    moments = [
        "now()",
        "CURRENT_TIMESTAMP",
        "CURRENT_TIMESTAMP(3)",
        "LOCALTIMESTAMP",
        "CURRENT_TIME",
        "clock_timestamp()",
        "statement_timestamp()",
        "timeofday()",
        "now() - interval '1 day'",
        "(now() + interval '1 hour')::date",
        "EXTRACT(epoch FROM now())",
    ]
    cut = [
        "CURRENT_DATE",
        "now()::date",
        "CAST(now() AS date)",
        "(now() AT TIME ZONE 'UTC')::date",
        "(CURRENT_TIMESTAMP AT TIME ZONE 'UTC')::date",
        "CURRENT_TIMESTAMP::date",
        "date_trunc('hour', now())",
        "date_trunc('month', now() AT TIME ZONE 'UTC')",
        "CURRENT_DATE - 30",
        "EXTRACT(year FROM now())",
        "EXTRACT(month FROM (now() AT TIME ZONE 'UTC'))",
    ]
    neither = ["'now()'::text", "'it''s now() CURRENT_DATE'::text", '1 AS "now()"', "date '2024-01-01'"]
    for expressions, expected in ((moments, (True, False)), (cut, (False, True)), (neither, (False, False))):
        for expression in expressions:
            await db.execute(f"CREATE VIEW v AS SELECT {expression}")
            definition = await db.fetchval("SELECT pg_get_viewdef('v'::regclass)")
            assert clock.read_by([definition]) == expected, definition
            await db.execute("DROP VIEW v")


async def test_the_role_may_not_refresh(dsn: str, orders: asyncpg.Connection) -> None:
    role = f"afresh_test_{orders.get_server_pid()}"
    await orders.execute(f"CREATE ROLE {role}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    try:
        limited = f"{dsn}{'&' if '?' in dsn else '?'}role={role}"
        problems = {finding.about: finding for finding in await bad(limited)}
        assert problems.keys() == {"change log", "public.totals"}
        assert f"`afresh sql --role {role}`" in problems["change log"].to_do
        found = problems["public.totals"]
        assert f"the role {role} may not refresh it" in found.what
        await orders.execute(statements(found))
        assert [finding.about for finding in await bad(limited)] == ["change log"]
        await orders.execute(f"SET ROLE {role}; REFRESH MATERIALIZED VIEW CONCURRENTLY totals; RESET ROLE")
    finally:
        await orders.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


async def test_the_role_may_not_read_the_view(dsn: str, orders: asyncpg.Connection) -> None:
    """Then its rows are not looked at, and that is no error."""
    role = f"afresh_test_{orders.get_server_pid()}"
    await orders.execute(f"CREATE ROLE {role}; GRANT SELECT ON _pogo_migration TO {role}; DROP INDEX totals_key")
    try:
        findings = await bad(f"{dsn}{'&' if '?' in dsn else '?'}role={role}")
        assert any(f"the role {role} may not read it" in finding.to_do for finding in findings)
    finally:
        await orders.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_view_on_a_table_that_nobody_watches(dsn: str, orders: asyncpg.Connection, tmp_path: Path) -> None:
    await orders.execute(
        """
        CREATE TABLE clients (client text PRIMARY KEY);
        CREATE MATERIALIZED VIEW known AS SELECT client FROM orders JOIN clients USING (client);
        CREATE UNIQUE INDEX ON known (client);
        INSERT INTO clients VALUES ('a');
        """
    )
    found = await only(dsn)
    assert (found.level, found.about) == ("warning", "public.known")
    assert "table public.clients is not watched" in found.what
    assert "afresh watch 'public.clients'" in found.to_do
    assert await bad(dsn, views=[{"name": "known", "every": "5m"}]) == []
    await afresh("watch", "public.clients", folder=tmp_path, dsn=dsn)
    assert await bad(dsn) == []


async def test_a_view_on_what_the_catalogue_cannot_see(dsn: str, orders: asyncpg.Connection) -> None:
    await orders.execute(
        """
        CREATE FOREIGN DATA WRAPPER nothing;
        CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing;
        CREATE FOREIGN TABLE far (id int) SERVER elsewhere;
        CREATE FUNCTION hidden() RETURNS bigint STABLE LANGUAGE sql AS 'SELECT count(*) FROM public.orders';
        CREATE MATERIALIZED VIEW mixed AS
        SELECT o.id, hidden() AS n FROM orders AS o WHERE o.id NOT IN (SELECT f.id FROM far AS f) WITH NO DATA;
        CREATE UNIQUE INDEX ON mixed (id);
        """
    )
    unpopulated, found = await bad(dsn)
    assert (found.level, found.about) == ("warning", "public.mixed")
    assert "foreign table public.far cannot be watched" in found.what
    assert "function public.hidden() hides what it reads" in found.what
    assert await bad(dsn, views=[{"name": "mixed", "every": "5m"}]) == [unpopulated]


async def test_a_view_that_is_not_populated(dsn: str, orders: asyncpg.Connection) -> None:
    await orders.execute("REFRESH MATERIALIZED VIEW totals WITH NO DATA")
    found = await only(dsn)
    assert (found.level, found.about) == ("warning", "public.totals")
    await orders.execute(statements(found))
    assert await bad(dsn) == []


async def test_a_view_that_is_neither_populated_nor_indexed(dsn: str, orders: asyncpg.Connection) -> None:
    await orders.execute("DROP INDEX totals_key; REFRESH MATERIALIZED VIEW totals WITH NO DATA")
    missing, _ = await bad(dsn)
    await orders.execute(statements(missing))
    found = await only(dsn)
    assert statements(found).startswith("CREATE UNIQUE INDEX")


async def test_jobs_of_pg_cron_that_refresh_the_same_views(dsn: str, orders: asyncpg.Connection) -> None:
    """With the part of pg_cron's schema that is looked at; the extension itself must be preloaded."""
    await orders.execute(
        """
        CREATE SCHEMA cron;
        CREATE TABLE cron.job (jobid bigint, schedule text, command text, active boolean);
        CREATE FUNCTION cron.unschedule(bigint) RETURNS void LANGUAGE sql AS 'DELETE FROM cron.job WHERE jobid = $1';
        INSERT INTO cron.job VALUES
            (1, '*/5 * * * *', 'refresh  materialized view concurrently "totals"', true),
            (2, '* * * * *', 'REFRESH MATERIALIZED VIEW totals', false),
            (3, '* * * * *', 'REFRESH MATERIALIZED VIEW totals_of_others', true),
            (4, '* * * * *', 'VACUUM totals', true);
        """
    )
    found = await only(dsn)
    assert (found.level, found.about) == ("warning", "pg_cron job 1")
    assert "public.totals" in found.what
    await orders.execute(found.to_do)
    assert await bad(dsn) == []


async def test_jobs_of_pg_cron_that_may_not_be_read_are_left_alone(dsn: str, orders: asyncpg.Connection) -> None:
    role = f"afresh_test_{orders.get_server_pid()}"
    await orders.execute(
        f"CREATE SCHEMA cron; CREATE TABLE cron.job (x int); CREATE ROLE {role}; "
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    )
    try:
        findings = await bad(f"{dsn}{'&' if '?' in dsn else '?'}role={role}")
        assert [finding.about for finding in findings] == ["change log", "public.totals"]
    finally:
        await orders.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_the_packs_that_come_with_afresh_give_nothing_to_say(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "afresh.toml").write_text('packs = ["client_health"]', encoding="utf-8")
    await afresh("migrate", "up", folder=tmp_path, dsn=dsn)
    assert await bad(dsn, packs=("client_health",)) == []


# The command


async def test_the_command_fails_for_a_problem_and_not_for_a_warning(
    tmp_path: Path, dsn: str, orders: asyncpg.Connection
) -> None:
    await orders.execute("REFRESH MATERIALIZED VIEW totals WITH NO DATA")
    ended = await afresh("doctor", folder=tmp_path, dsn=dsn)
    assert (ended.code, ended.err) == (0, "")
    assert "warning public.totals: it is not populated" in ended.out
    assert ended.out.splitlines()[-1].startswith("0 problems, ")

    await orders.execute("DROP INDEX totals_key; REFRESH MATERIALIZED VIEW totals")
    ended = await afresh("doctor", folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    assert ended.out.startswith("problem public.totals: ")  # what is worst is read first
    assert "CREATE UNIQUE INDEX ON public.totals (client);" in [line.strip() for line in ended.out.splitlines()]
    assert ended.out.splitlines()[-1].startswith("1 problem, ")

    ended = await afresh("doctor", "--json", folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    (found,) = (finding for finding in orjson.loads(ended.out) if finding["level"] == "problem")
    assert found["about"] == "public.totals"
    assert set(found) == {"level", "about", "what", "to_do"}


async def test_the_command_without_a_database_says_how_to_name_one(tmp_path: Path) -> None:
    ended = await afresh("doctor", folder=tmp_path)
    assert ended.code == 1
    assert "no database is named" in ended.out
    assert "DATABASE_URL" in ended.out


# Named queries.


async def test_a_named_query_that_cannot_be_run(dsn: str, orders: asyncpg.Connection, tmp_path: Path) -> None:
    made = query(tmp_path, "late", "SELECT id FROM late WHERE id = $1", "id", cache_key="orders:{id}")
    finding = await only(dsn, queries=[made])
    assert (finding.level, finding.about) == ("problem", "query late")
    assert 'relation "late" does not exist' in finding.what
    await orders.execute("CREATE TABLE late (id int)")
    assert await bad(dsn, queries=[made]) == []
    assert ("query late", "can be run, at GET /api/queries/late") in {
        (one.about, one.what) for one in await examined(dsn, queries=[made])
    }


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"cache_key": "nothing"}, "nothing ever makes its answers stale"),
        ({"cache_key": "order", "ttl": "30s"}, "only its ttl of 30 s ends an answer"),
        ({}, "nothing ever makes its answers stale: no pattern is a beginning of asked"),
    ],
)
async def test_a_named_query_that_no_pattern_means(
    dsn: str, orders: asyncpg.Connection, tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    finding = await only(dsn, queries=[query(tmp_path, "asked", "SELECT id FROM orders", **more)])
    assert (finding.level, finding.about) == ("warning", "query asked")
    assert said in finding.what
    assert "orders, totals" in finding.to_do
    well = query(tmp_path, "asked", "SELECT id FROM orders", cache_key="orders:all")
    assert await bad(dsn, queries=[well]) == []
