"""The pack ``shows`` at work: its settings, sample data, checks, demo, plans and refreshes."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from afresh_notifier import dependencies
from conftest import ServerUnderTest, migrate_up
from packs.shows_support import PACK, TABLES, VIEWS, load_sample, refresh

STALE = {
    "one row of event_sessions_overview_mv for each canonical session",
    "event_sessions_overview_mv equals event_sessions_overview_mv_live",
}

CHECKS = 141


@pytest.fixture(scope="module")
def pack_template(server: ServerUnderTest) -> Iterator[str]:
    """A database that holds the engine and the pack ``shows``; cloned, never changed."""
    name = asyncio.run(server.create())
    asyncio.run(migrate_up(server.dsn(name), PACK.name))
    yield name
    asyncio.run(server.drop(name))


@pytest.fixture
async def db(server: ServerUnderTest, pack_template: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to this test's own database, with the pack in it."""
    name = await server.create(pack_template)
    connection = await asyncpg.connect(server.dsn(name))
    yield connection
    await connection.close()
    await server.drop(name)


@pytest.fixture
async def filled(db: asyncpg.Connection) -> asyncpg.Connection:
    """The same, with the sample data of 50 sessions and a fresh overview."""
    await load_sample(db, None)
    await refresh(db)
    return db


async def failed_checks(db: asyncpg.Connection) -> set[str]:
    """The checks of verify.sql that are not ok; every row is looked at for its form."""
    rows = await db.fetch(PACK.read("verify.sql"))
    assert len(rows) == CHECKS
    assert len({row["check"] for row in rows}) == CHECKS
    for row in rows:
        assert list(row.keys()) == ["check", "expected", "found", "ok"]
        assert all(isinstance(row[column], str) and row[column] for column in ("check", "expected", "found"))
        assert isinstance(row["ok"], bool)
    return {row["check"] for row in rows if not row["ok"]}


# Settings, and what the engine makes of the pack.


def test_settings_name_every_table_and_both_families_of_answers() -> None:
    assert {table.name: table.patterns for table in PACK.settings.tables} == {
        f"shows.{table}": ("shows", "live-shows") for table in TABLES
    }
    assert {view.name: (view.patterns, view.every) for view in PACK.settings.views} == {
        "shows.event_sessions_overview_mv": (("shows",), None),
        "shows.refresh_status": (("status-shows",), None),
    }


async def test_the_engine_sees_through_both_views(db: asyncpg.Connection) -> None:
    catalogue = await dependencies.load(db)
    overview = catalogue.views["shows.event_sessions_overview_mv"]
    assert overview.tables == {f"shows.{table}" for table in TABLES}
    assert overview.blind_spots == []
    assert overview.usable_index
    status = catalogue.views["shows.refresh_status"]
    assert status.parents == {"shows.event_sessions_overview_mv"}
    assert (list(status.tables), status.blind_spots) == ([], [])
    assert status.usable_index
    assert list(catalogue.views) == [f"shows.{view}" for view in VIEWS]


async def test_watches_carry_the_keys_that_the_settings_name(db: asyncpg.Connection) -> None:
    rows = await db.fetch("SELECT table_name AS name, keys FROM afresh.watched")
    assert {row["name"]: tuple(row["keys"]) for row in rows} == {
        table.name: table.keys for table in PACK.settings.tables
    }


# Sample data.


async def test_everything_is_ok_on_an_empty_database(db: asyncpg.Connection) -> None:
    assert await failed_checks(db) == set()


@pytest.mark.parametrize("size", [1, 50, 1000])
async def test_sample_data_fill_every_table_and_pass_every_check(db: asyncpg.Connection, size: int) -> None:
    await load_sample(db, size)
    for table in TABLES:
        if size > 1:
            assert await db.fetchval(f"SELECT count(*) FROM shows.{table}") > 0, table
    assert await failed_checks(db) == STALE
    await refresh(db)
    assert await failed_checks(db) == set()
    assert await db.fetchval("SELECT count(*) FROM shows.event_sessions_overview_mv") == size


@pytest.mark.parametrize(
    "condition",
    [
        "provider = 'humanitix'",
        "provider = 'both'",
        "provider = 'eventbrite'",
        "total_orders = 0",
        "humanitix_orders > 0 AND eventbrite_orders > 0",
        "other_currency_orders > 0",
        "unreadable_orders > 0",
        "discounts <> '[]'",
        "jsonb_array_length(sample_customers) = 5",
        "sample_customers = '[]'",
        "lineup <> '[]'",
        "lineup = '[]' AND crm_event_id IS NOT NULL",
        "waitlist <> '[]'",
        "confirmed_spot_count > jsonb_array_length(lineup)",
        "available_spots > 0 AND spot_count > 0",
        "available_spots > 0 AND spot_count = 0",
        "crm_event_id IS NULL",
        "session_id IS NULL AND event_id IS NOT NULL",
        "session_id IS NULL AND event_id IS NULL",
        "venue_id IS NULL AND venue_city IS NOT NULL AND venue_lat IS NOT NULL",
        "venue_id IS NOT NULL",
        "timezone = 'UTC'",
        "session_end IS NULL",
        "session_status = 'cancelled'",
        "promoter_id IS NOT NULL",
        "promoter_id IS NULL AND promoter_name IS NOT NULL",
        "is_recurring AND recurrence ? 'pattern'",
        "recurrence ? 'provider'",
        "NOT is_recurring",
        "banner_metadata IS NULL",
        "application_count > accepted_application_count AND accepted_application_count > 0",
        "stable_event_id = stable_session_id",
        "session_name <> event_name",
        "session_date < (now() AT TIME ZONE 'UTC')::date",
        "session_date > (now() AT TIME ZONE 'UTC')::date",
    ],
)
async def test_sample_data_have_sessions_of_every_kind(filled: asyncpg.Connection, condition: str) -> None:
    assert await filled.fetchval(f"SELECT count(*) FROM shows.event_sessions_overview_mv WHERE {condition}") > 0


async def test_sample_data_have_twins_that_the_bridge_makes_one(filled: asyncpg.Connection) -> None:
    assert await filled.fetchval(
        "SELECT count(*) FROM shows.session_sources WHERE source = canonical_source AND NOT is_canonical"
    )
    assert await filled.fetchval("SELECT count(*) FROM shows.event_sessions_overview_mv") == 50


async def test_sample_data_are_the_same_every_time(
    server: ServerUnderTest, pack_template: str, db: asyncpg.Connection
) -> None:
    async def digest(connection: asyncpg.Connection) -> str:
        async with connection.transaction():
            await connection.execute("SET LOCAL afresh.sample_size = 200")
            await connection.execute(PACK.read("sample.sql"))
            found: str = await connection.fetchval(
                # Dates as days from today, so that midnight between the two loads makes no difference.
                "SELECT md5(string_agg(r, '|' ORDER BY r)) FROM ("
                "SELECT concat_ws(',', stable_session_id, event_name, total_gross, total_tickets, lineup, waitlist,"
                " discounts, session_date - (now() AT TIME ZONE 'UTC')::date, start_time, venue_name, available_spots)"
                " FROM shows.event_sessions_overview_mv_live) AS t (r)"
            )
            return found

    first = await digest(db)
    name = await server.create(pack_template)
    other = await asyncpg.connect(server.dsn(name))
    try:
        # Another plan: nothing may hang on the order in which rows are made.
        await other.execute("SET enable_hashjoin = off; SET enable_nestloop = off; SET work_mem = '64kB'")
        assert await digest(other) == first
    finally:
        await other.close()
        await server.drop(name)


async def test_sample_data_refuse_tables_that_hold_rows(filled: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match=r"shows\.venues holds rows") as raised:
        await load_sample(filled, 5)
    assert "empty the tables" in (raised.value.hint or "")


@pytest.mark.parametrize("size", ["0", "-1", "many", "1.5", "99999999", "1; DROP TABLE shows.venues"])
async def test_a_sample_size_that_is_none_is_refused(db: asyncpg.Connection, size: str) -> None:
    async with db.transaction():
        await db.execute("SELECT set_config('afresh.sample_size', $1, true)", size)
        with pytest.raises(asyncpg.InvalidParameterValueError, match="not a number of sessions"):
            async with db.transaction():
                await db.execute(PACK.read("sample.sql"))
    assert await db.fetchval("SELECT count(*) FROM shows.venues") == 0


async def test_sample_data_leave_nothing_temporary_behind(filled: asyncpg.Connection) -> None:
    assert await filled.fetchval("SELECT to_regclass('pg_temp.sample_sessions')") is None
    assert await filled.fetchval("SELECT to_regprocedure('pg_temp.draw(bigint, bigint)')") is None


def payload_cents(payload: Any, *path: str) -> int:
    """What a payload of the sample data says there; what cannot be read is nothing."""
    for step in path:
        payload = payload.get(step) if isinstance(payload, dict) else None
    if isinstance(payload, dict):
        value = payload.get("value")
        if isinstance(value, int):
            return max(value, 0)
        return 0 if "major_value" not in payload else round(float(payload["major_value"]) * 100)
    try:
        amount = float(payload) if payload is not None else 0.0
    except ValueError:
        return 0
    return round(max(amount, 0.0) * 100)


async def test_every_sessions_money_is_what_python_computes_from_the_payloads(db: asyncpg.Connection) -> None:
    await load_sample(db, 400)
    mapped = {row["source_key"]: row["stable_session_id"] for row in await db.fetch("TABLE shows.session_sources")}
    currencies: dict[str, str | None] = {}
    for row in await db.fetch(
        "SELECT s.stable_session_id, e.currency FROM shows.sessions_htx s JOIN shows.events_htx e"
        " ON e.source_id = s.event_source_id"
    ):
        currencies[row["stable_session_id"]] = row["currency"]
    orders: defaultdict[str, list[tuple[str | None, int, int, int]]] = defaultdict(list)
    for row in await db.fetch("SELECT * FROM shows.orders_htx WHERE status = 'complete'"):
        key = f"humanitix:{row['session_source_id']}"
        payload = json.loads(row["payload"])
        currency = payload.get("currency") if isinstance(payload, dict) else None
        gross = max(payload_cents(payload, "totals", "total") - payload_cents(payload, "totals", "refunds"), 0)
        fees = payload_cents(payload, "totals", "humanitixFee") + payload_cents(payload, "totals", "bookingFee")
        orders[mapped.get(key, key)].append((currency, gross, fees, payload_cents(payload, "totals", "taxes")))
    for row in await db.fetch("SELECT * FROM shows.orders_eventbrite WHERE status = 'placed'"):
        key = f"eventbrite:{row['session_source_id']}"
        costs = json.loads(row["payload"])["costs"]
        fees = payload_cents(costs, "eventbrite_fee") + payload_cents(costs, "payment_fee")
        orders[mapped.get(key, key)].append(
            (costs["gross"].get("currency"), payload_cents(costs, "gross"), fees, payload_cents(costs, "tax"))
        )

    rows = await db.fetch("SELECT * FROM shows.session_financials_agg")
    assert len(rows) == 400
    for row in rows:
        mine = orders[row["stable_session_id"]]
        currency = currencies.get(row["stable_session_id"])
        if currency is None:
            named = Counter(name for name, *_ in mine if name is not None)
            # Of two named as often, the first in the alphabet.
            currency = max(sorted(named), key=lambda name: named[name], default=None)
        assert row["currency"] == currency
        summed = [one for one in mine if one[0] is None or one[0] == currency]
        gross, fees, tax = sum(one[1] for one in summed), sum(one[2] for one in summed), sum(one[3] for one in summed)
        assert (
            row["total_orders"],
            row["total_gross_cents"],
            row["total_fees_cents"],
            row["total_tax_cents"],
            row["total_net_cents"],
        ) == (len(mine), gross, fees, tax, gross - fees - tax)
        assert row["other_currency_orders"] == len(mine) - len(summed)
    assert sum(len(mine) for mine in orders.values()) > 1000


# Checks.


async def objects(db: asyncpg.Connection) -> list[tuple[str, str]]:
    """Each object that has a check of its own: the statement that takes it away, and the check."""
    found = [
        (f"DROP {row['kind']} shows.{row['name']} CASCADE", f"{row['kind'].lower()} {row['name']}")
        for row in await db.fetch(
            "SELECT relname AS name, CASE relkind WHEN 'r' THEN 'TABLE' WHEN 'v' THEN 'VIEW'"
            " ELSE 'MATERIALIZED VIEW' END AS kind FROM pg_class"
            " WHERE relnamespace = 'shows'::regnamespace AND relkind IN ('r', 'v', 'm')"
        )
    ]
    for row in await db.fetch(
        "SELECT conrelid::regclass::text AS table, conname AS name FROM pg_constraint"
        " WHERE connamespace = 'shows'::regnamespace AND contype IN ('p', 'u', 'f', 'c')"
    ):
        statement = f"ALTER TABLE {row['table']} DROP CONSTRAINT {row['name']} CASCADE"
        found.append((statement, f"constraint {row['name']}"))
    for row in await db.fetch(
        "SELECT i.relname AS name FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid"
        " WHERE i.relnamespace = 'shows'::regnamespace"
        " AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.oid AND k.contype IN ('p', 'u'))"
    ):
        statement = f"DROP INDEX shows.{row['name']}"
        found.append((statement, f"index {row['name']}"))
    for row in await db.fetch(
        "SELECT oid::regprocedure::text AS name FROM pg_proc WHERE pronamespace = 'shows'::regnamespace"
    ):
        name = row["name"].replace(" without time zone", "")
        found.append((f"DROP FUNCTION {row['name']} CASCADE", f"function {name}"))
    found += [(f"SELECT afresh.unwatch('shows.{table}')", f"watch on {table}") for table in TABLES]
    found += [(f"REFRESH MATERIALIZED VIEW shows.{view} WITH NO DATA", f"{view} is populated") for view in VIEWS]
    return found


async def test_each_object_that_is_missing_fails_its_own_check_and_not_the_query(filled: asyncpg.Connection) -> None:
    await filled.execute("SET client_min_messages = error")
    listed = await objects(filled)
    rows = await filled.fetch(PACK.read("verify.sql"))
    # Every check is of an object, but those of the data.
    assert len({check for _, check in listed}) == len([row for row in rows if "0 are wrong" not in row["expected"]])
    for statement, check in listed:
        transaction = filled.transaction()
        await transaction.start()
        await filled.execute(statement)
        assert check in await failed_checks(filled), statement
        await transaction.rollback()
    assert await failed_checks(filled) == set()


BREAKAGES = [
    ("ALTER TABLE shows.orders_htx DISABLE TRIGGER USER", {"watch on orders_htx"}),
    ("ALTER TABLE shows.venues ADD COLUMN note text", {"table venues", "map pins are where the venue is"}),
    (
        """
        DROP INDEX shows.idx_event_sessions_overview_stable_session;
        CREATE INDEX idx_event_sessions_overview_stable_session ON shows.event_sessions_overview_mv (stable_session_id)
        """,
        {"index idx_event_sessions_overview_stable_session"},
    ),
    (
        """
        ALTER TABLE shows.event_spots DROP CONSTRAINT event_spots_event_id_fkey,
            ADD CONSTRAINT event_spots_event_id_fkey FOREIGN KEY (event_id) REFERENCES shows.events (id)
        """,
        {"constraint event_spots_event_id_fkey"},
    ),
    (
        """
        CREATE OR REPLACE FUNCTION shows.is_counted(status text) RETURNS boolean
        LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN true
        """,
        {"function shows.is_counted(text)"},
    ),
    (
        """
        CREATE OR REPLACE FUNCTION shows.dollars(cents bigint) RETURNS numeric
        LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN round(cents / 100.0, 1)
        """,
        {
            "function shows.dollars(bigint)",
            "session_financials and session_financials_agg agree to the cent",
            "event_sessions_overview_mv equals event_sessions_overview_mv_live",
        },
    ),
    (
        "UPDATE shows.event_spots SET status = 'available'",
        {"event_sessions_overview_mv equals event_sessions_overview_mv_live"},
    ),
    (
        "UPDATE shows.venues SET lat = 0, lng = 0",
        {"event_sessions_overview_mv equals event_sessions_overview_mv_live", "map pins are where the venue is"},
    ),
    (
        "INSERT INTO shows.sessions_htx (source_id, event_source_id, start_date) VALUES ('new', 'new', now())",
        STALE,
    ),
    (
        """
        TRUNCATE shows.sessions_htx, shows.session_sources;
        REFRESH MATERIALIZED VIEW shows.event_sessions_overview_mv
        """,
        {"refresh_status knows how many sessions there are"},
    ),
]


@pytest.mark.parametrize(
    ("statement", "failed"), BREAKAGES, ids=[" ".join(statement.split())[:60] for statement, _ in BREAKAGES]
)
async def test_each_broken_thing_fails_its_own_checks_and_no_others(
    filled: asyncpg.Connection, statement: str, failed: set[str]
) -> None:
    await filled.execute(statement)
    assert await failed_checks(filled) == failed


async def test_an_order_that_is_counted_twice_is_noticed(filled: asyncpg.Connection) -> None:
    definition = await filled.fetchval("SELECT pg_get_viewdef('shows.session_financials_agg')")
    # Older versions write the view's name before each column.
    twice = re.sub(r"\((\S*humanitix_orders) \+", r"(2 * \1 +", definition)
    assert twice != definition
    await filled.execute(f"CREATE OR REPLACE VIEW shows.session_financials_agg AS {twice}")
    assert await failed_checks(filled) == {"each order and ticket of a known session is counted once"}


async def test_verify_works_without_public_on_the_search_path(filled: asyncpg.Connection) -> None:
    await filled.execute("SET search_path = ''")
    assert await failed_checks(filled) == set()


async def test_verify_works_where_nothing_is_installed(db: asyncpg.Connection) -> None:
    await db.execute("DROP SCHEMA shows CASCADE")
    assert len(await failed_checks(db)) == CHECKS


# Refreshes and plans.


async def identity_of_rows(db: asyncpg.Connection, condition: str = "true", *values: Any) -> Any:
    """Where every row of the overview lies and which transaction wrote it: a rewritten row has both changed."""
    return await db.fetch(
        f"SELECT ctid::text, xmin::text FROM shows.event_sessions_overview_mv WHERE {condition} ORDER BY ctid", *values
    )


async def test_a_concurrent_refresh_with_unchanged_data_rewrites_no_row(filled: asyncpg.Connection) -> None:
    before = await identity_of_rows(filled)
    await filled.execute("SET TimeZone = 'Pacific/Kiritimati'; SET DateStyle = 'German'")
    # An update without any change moves the rows in the tables, and so the order in which they are read.
    for table in TABLES:
        await filled.execute(await moving(filled, table))
    await refresh(filled)
    assert await identity_of_rows(filled) == before


async def moving(db: asyncpg.Connection, table: str) -> str:
    """A statement that writes about half of the table's rows again, as they are."""
    column = await db.fetchval(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('shows.' || $1::text) AND attnum > 0"
        " AND attgenerated = '' AND NOT attisdropped ORDER BY attnum LIMIT 1",
        table,
    )
    return f"UPDATE shows.{table} AS t SET {column} = {column} WHERE hashtext(t::text) % 2 = 0"


async def test_a_concurrent_refresh_rewrites_only_the_session_that_changed(filled: asyncpg.Connection) -> None:
    subject = await filled.fetchval(PACK.read("demo/subject.sql"))
    before = await identity_of_rows(filled, "stable_session_id <> $1", subject)
    await filled.execute(PACK.read("demo/change.sql"), subject)
    await refresh(filled)
    assert await identity_of_rows(filled, "stable_session_id <> $1", subject) == before


async def test_refresh_status_moves_with_each_refresh_and_counts_the_sessions(filled: asyncpg.Connection) -> None:
    first = await filled.fetchrow("TABLE shows.refresh_status")
    await filled.execute("DELETE FROM shows.event_spots")
    await refresh(filled)
    second = await filled.fetchrow("TABLE shows.refresh_status")
    assert first is not None
    assert second is not None
    assert second["refreshed_at"] > first["refreshed_at"]
    assert (second["view_name"], second["sessions"]) == ("shows.event_sessions_overview_mv", 50)


def scans(plan: Any) -> Iterator[tuple[str, str]]:
    """The scans in an EXPLAIN's JSON: what kind, of which table."""
    if isinstance(plan, list):
        for part in plan:
            yield from scans(part)
    elif isinstance(plan, dict):
        if "Relation Name" in plan:
            yield plan["Node Type"], plan["Relation Name"]
        for part in plan.values():
            yield from scans(part)


#: Those that grow with the number of sessions.
LARGE = {
    "events",
    "event_spots",
    "event_applications",
    "events_htx",
    "sessions_htx",
    "customers_htx",
    "orders_htx",
    "tickets_htx",
    "orders_eventbrite",
    "tickets_eventbrite",
    "session_sources",
}


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM shows.event_sessions_overview_mv_live WHERE stable_session_id = $1",
        "SELECT * FROM shows.event_sessions_overview_v WHERE stable_session_id = (SELECT shows.find_session($1))",
        """
        SELECT v.* FROM (VALUES ($1)) AS k (key) CROSS JOIN LATERAL (
            SELECT * FROM shows.event_sessions_overview_mv_live AS o WHERE o.stable_session_id = k.key
        ) AS v
        """,
        "SELECT * FROM shows.session_financials WHERE stable_session_id = $1",
        "SELECT * FROM shows.session_financials_agg WHERE stable_session_id = $1",
        PACK.read("queries/show_session.sql"),
        PACK.read("queries/show_financials.sql"),
    ],
)
async def test_a_condition_on_the_session_reaches_every_large_table_by_index(
    db: asyncpg.Connection, statement: str
) -> None:
    await load_sample(db, 3000)
    key = await db.fetchval("SELECT stable_session_id FROM shows.sessions_htx OFFSET 100 LIMIT 1")
    assert await db.fetch(statement, key)
    plan = json.loads(await db.fetchval(f"EXPLAIN (FORMAT json) {statement}", key))
    found = [(kind, table) for kind, table in scans(plan) if table in LARGE]
    assert {kind for kind, _ in found} <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}, found
    assert {table for _, table in found} >= {"sessions_htx", "orders_htx", "orders_eventbrite", "session_sources"}


async def test_a_condition_on_the_start_reaches_the_sessions_by_index(
    db: asyncpg.Connection,
) -> None:
    await load_sample(db, 3000)
    today = "(now() AT TIME ZONE 'UTC')::date"
    statement = (
        "SELECT * FROM shows.event_sessions_overview_v"
        f" WHERE session_start_local >= {today} AND session_start_local < {today} + 1"
    )
    plan = json.loads(await db.fetchval(f"EXPLAIN (FORMAT json) {statement}"))
    assert "idx_sessions_htx_start_local" in json.dumps(plan)
    assert not [table for kind, table in scans(plan) if kind == "Seq Scan" and table in ("orders_htx", "tickets_htx")]


@pytest.mark.parametrize(
    ("condition", "index"),
    [
        ("ORDER BY session_start_local, stable_session_id LIMIT 50", "idx_event_sessions_overview_start_local"),
        ("WHERE session_date = '2020-01-01'", "idx_event_sessions_overview_date"),
        ("WHERE stable_session_id = 'humanitix:x'", "idx_event_sessions_overview_stable_session"),
        ("WHERE session_id = '00000000-0000-0000-0000-000000000000'", "idx_event_sessions_overview_session"),
        ("WHERE event_id = '00000000-0000-0000-0000-000000000000'", "idx_event_sessions_overview_event"),
        ("WHERE available_spots >= 100", "idx_event_sessions_overview_available_spots"),
    ],
)
async def test_the_materialized_overview_is_filtered_by_index(
    db: asyncpg.Connection, condition: str, index: str
) -> None:
    await load_sample(db, 1000)
    await refresh(db)
    await db.execute("ANALYZE shows.event_sessions_overview_mv; SET enable_seqscan = off")
    assert index in await db.fetchval(
        f"EXPLAIN (FORMAT json) SELECT * FROM shows.event_sessions_overview_mv {condition}"
    )


@pytest.mark.parametrize(
    ("arguments", "index"),
    [
        ("'nosuchword', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL", "idx_event_sessions_overview_event_name"),
        ("NULL, 'PERTH', NULL, NULL, NULL, NULL, NULL, NULL, NULL", "idx_event_sessions_overview_city"),
        (
            "NULL, NULL, NULL, NULL, '2020-01-05', NULL, NULL, NULL, 'hide'",
            "idx_event_sessions_overview_start_local",
        ),
        ("NULL, NULL, NULL, NULL, NULL, NULL, 100, NULL, NULL", "idx_event_sessions_overview_available_spots"),
    ],
)
async def test_the_filters_of_the_page_are_part_of_the_query_and_use_the_indexes(
    db: asyncpg.Connection, arguments: str, index: str
) -> None:
    await load_sample(db, 1000)
    await refresh(db)
    await db.execute("ANALYZE shows.event_sessions_overview_mv; SET enable_seqscan = off")
    plan = await db.fetchval(f"EXPLAIN (FORMAT json) SELECT * FROM shows.browse({arguments})")
    assert index in plan
    assert "Function Scan" not in plan


# The demo.


async def test_demo_change_shows_in_the_subjects_row_every_time(filled: asyncpg.Connection) -> None:
    subject = await filled.fetchval(PACK.read("demo/subject.sql"))
    row = PACK.read("demo/row.sql")
    before = await filled.fetchrow(row, subject)
    assert before is not None
    assert before["stable_session_id"] == subject
    for _ in range(3):
        assert await filled.execute(PACK.read("demo/change.sql"), subject) == "INSERT 0 1"
        await refresh(filled)
        after = await filled.fetchrow(row, subject)
        assert after is not None
        assert after["total_orders"] == before["total_orders"] + 1
        assert after["total_gross"] == before["total_gross"] + 42
        before = after


async def test_demo_has_no_subject_where_there_are_no_orders(db: asyncpg.Connection) -> None:
    assert await db.fetchval(PACK.read("demo/subject.sql")) is None


async def test_demo_traffic_changes_something_each_time_and_the_tables_stay_about_as_large(
    db: asyncpg.Connection,
) -> None:
    await load_sample(db, 20)
    statement = await db.prepare(PACK.read("demo/traffic.sql"))
    changed: Counter[str] = Counter()
    for number in range(600):
        await db.execute("SELECT setseed($1)", number / 600)
        async with db.transaction():
            await statement.fetch()
            assert await db.fetchval("SELECT pg_current_xact_id_if_assigned()") is not None
            xid = await db.fetchval("SELECT pg_current_xact_id()::xid")
            for table in ("orders_htx", "tickets_htx", "orders_eventbrite", "event_spots", "event_applications"):
                changed[table] += await db.fetchval(f"SELECT count(*) FROM shows.{table} WHERE xmin = $1", xid)
    assert set(+changed) == {"orders_htx", "tickets_htx", "orders_eventbrite", "event_spots", "event_applications"}
    for table in ("orders_htx", "orders_eventbrite"):
        largest = f"SELECT max(n) FROM (SELECT count(*) AS n FROM shows.{table} GROUP BY session_source_id) AS t"
        assert await db.fetchval(largest) <= 10
    await refresh(db)
    assert await failed_checks(db) == set()


async def test_demo_traffic_is_no_error_where_there_is_nothing(db: asyncpg.Connection) -> None:
    for _ in range(20):
        await db.execute(PACK.read("demo/traffic.sql"))


async def test_verify_says_what_is_missing_and_what_is_there_besides(filled: asyncpg.Connection) -> None:
    await filled.execute("ALTER TABLE shows.profiles DROP COLUMN updated_at, ADD COLUMN note text")
    await filled.execute("SELECT afresh.unwatch('shows.profiles'); DROP INDEX shows.idx_venues_city")
    found = {row["check"]: row["found"] for row in await filled.fetch(PACK.read("verify.sql"))}
    assert found["table profiles"].startswith(
        "without updated_at timestamp with time zone (not null); with note text; in this order: id uuid (not null), name"
    )
    assert (found["watch on profiles"], found["index idx_venues_city"]) == ("nothing", "missing")
    assert found["table venues"] == "11 columns of their types"
