"""The pack ``shows`` at work: its settings, sample data, checks, demo, plans and refreshes."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from typing import Any

import asyncpg
import pytest

from afresh_notifier import dependencies
from packs.every_pack import identity_of_rows, scans
from packs.shows_support import PACK, SHOWS, STALE, TABLES, VIEWS, failed_checks, load_sample, refresh

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


# Sample data.


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


async def objects_and_checks(db: asyncpg.Connection) -> list[tuple[str, str]]:
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
    listed = await objects_and_checks(filled)
    rows = await filled.fetch(PACK.read("verify.sql"))
    # Every check is of an object, but those of the data.
    assert len({check for _, check in listed}) == len([row for row in rows if "0 are wrong" not in row["expected"]])
    await SHOWS.fails_among_others(filled, listed)


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


async def test_each_broken_thing_fails_its_own_checks_and_no_others(filled: asyncpg.Connection) -> None:
    await SHOWS.fails_exactly(filled, BREAKAGES)


async def test_an_order_that_is_counted_twice_is_noticed(filled: asyncpg.Connection) -> None:
    definition = await filled.fetchval("SELECT pg_get_viewdef('shows.session_financials_agg')")
    # Older versions write the view's name before each column.
    twice = re.sub(r"\((\S*humanitix_orders) \+", r"(2 * \1 +", definition)
    assert twice != definition
    await filled.execute(f"CREATE OR REPLACE VIEW shows.session_financials_agg AS {twice}")
    assert await failed_checks(filled) == {"each order and ticket of a known session is counted once"}


# Refreshes and plans.


async def test_a_concurrent_refresh_rewrites_only_the_session_that_changed(filled: asyncpg.Connection) -> None:
    subject = await filled.fetchval(PACK.read("demo/subject.sql"))
    before = await identity_of_rows(filled, f"shows.{VIEWS[0]}", "stable_session_id <> $1", subject)
    await filled.execute(PACK.read("demo/change.sql"), subject)
    await refresh(filled)
    assert await identity_of_rows(filled, f"shows.{VIEWS[0]}", "stable_session_id <> $1", subject) == before


async def test_refresh_status_moves_with_each_refresh_and_counts_the_sessions(filled: asyncpg.Connection) -> None:
    first = await filled.fetchrow("TABLE shows.refresh_status")
    await filled.execute("DELETE FROM shows.event_spots")
    await refresh(filled)
    second = await filled.fetchrow("TABLE shows.refresh_status")
    assert first is not None
    assert second is not None
    assert second["refreshed_at"] > first["refreshed_at"]
    assert (second["view_name"], second["sessions"]) == ("shows.event_sessions_overview_mv", 50)


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


async def test_verify_says_what_is_missing_and_what_is_there_besides(filled: asyncpg.Connection) -> None:
    await filled.execute("ALTER TABLE shows.profiles DROP COLUMN updated_at, ADD COLUMN note text")
    await filled.execute("SELECT afresh.unwatch('shows.profiles'); DROP INDEX shows.idx_venues_city")
    found = {row["check"]: row["found"] for row in await filled.fetch(PACK.read("verify.sql"))}
    assert found["table profiles"].startswith(
        "without updated_at timestamp with time zone (not null); with note text; in this order: id uuid (not null), name"
    )
    assert (found["watch on profiles"], found["index idx_venues_city"]) == ("nothing", "missing")
    assert found["table venues"] == "11 columns of their types"
