"""The pack ``event_sessions`` as it is installed: its settings, migrations, sample data, checks, demo and triggers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from afresh_notifier.errors import MigrationError
from conftest import ServerUnderTest, eventually
from packs.event_sessions_support import (
    EVENT_SESSIONS,
    NEXT_60,
    NEXT_CHANGE,
    NOW,
    PACK,
    TABLES,
    VIEWS,
    Agenda,
    failed_checks,
    load_sample,
    pack_down,
    pack_up,
    refresh,
)
from packs.every_pack import clone, notices


@pytest.fixture
async def filled(server: ServerUnderTest, filled_template: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to this test's own database with sample data, in a transaction whose now() is later than both views'."""
    async with clone(server, filled_template) as connection, connection.transaction():
        await refresh(connection)
        yield connection


# Settings


def test_every_table_and_view_makes_the_answers_about_sessions_stale() -> None:
    assert {table.name for table in PACK.settings.tables} == set(TABLES)
    assert {table.patterns for table in PACK.settings.tables} == {("sessions",)}
    assert {view.name: view.patterns for view in PACK.settings.views} == {NOW: ("sessions",), NEXT_60: ("sessions",)}


def test_each_view_says_when_it_will_be_another_one() -> None:
    said = {view.name: view.next_change for view in PACK.settings.views}
    assert said == {view: statement.strip() for view, statement in NEXT_CHANGE.items()}


async def test_the_trigger_says_what_it_is(db: asyncpg.Connection) -> None:
    name = "trigger_event_agenda_items_refresh"
    assert await db.fetchval("SELECT obj_description(oid, 'pg_trigger') FROM pg_trigger WHERE tgname = $1", name)


# Migrations


async def test_down_keeps_rows_and_up_takes_them_up_again(db: asyncpg.Connection) -> None:
    await load_sample(db, 20)
    counts = {table: await db.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}
    heard = notices(db)
    await pack_down(db)
    assert [line for line in heard if "holds rows" in line] == [
        f"public.{table} stays: it holds rows"
        for table in ("event_attendees", "event_agenda_items", "event_speakers", "events", "contractors")
    ]
    assert await db.fetchval("SELECT count(*) FROM pg_matviews WHERE matviewname = ANY ($1)", list(VIEWS)) == 0
    assert await db.fetchval("SELECT count(*) FROM afresh.watched") == 0
    await pack_up(db)
    assert counts == {table: await db.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}
    assert await db.fetchval("SELECT count(*) FROM mv_sessions_now") > 0


async def test_down_keeps_a_table_on_which_something_else_depends(db: asyncpg.Connection) -> None:
    await db.execute("CREATE VIEW mine AS SELECT name FROM contractors")
    heard = notices(db)
    await pack_down(db)
    assert "public.contractors stays: other objects depend on it" in heard
    assert await db.fetchval("SELECT to_regclass('public.contractors') IS NOT NULL")


async def test_tables_of_somebody_else_are_named_and_left_alone(bare: asyncpg.Connection) -> None:
    await bare.execute("CREATE TABLE events (id uuid PRIMARY KEY); CREATE TABLE contractors (name text)")
    with pytest.raises(MigrationError, match="has not made: contractors, events"):
        await pack_up(bare)
    assert (
        await bare.fetchval("SELECT count(*) FROM pg_attribute WHERE attrelid = 'events'::regclass AND attnum > 0") == 1
    )


# Sample data


async def test_sample_data_meet_every_rule(filled: asyncpg.Connection) -> None:
    async def distinct(statement: str) -> set[Any]:
        return {row[0] for row in await filled.fetch(statement)}

    assert await distinct("SELECT DISTINCT relevance_score FROM mv_sessions_now") == {50, 100}
    for view in VIEWS:
        assert await distinct(f"SELECT DISTINCT speaker_name IS NULL FROM {view}") == {True, False}
    assert len(await distinct("SELECT DISTINCT match_count FROM mv_sessions_next_60")) > 2
    assert await distinct("SELECT DISTINCT status FROM event_agenda_items") == {
        "scheduled", "confirmed", "tentative", "cancelled"
    }  # fmt: skip
    assert await distinct("SELECT DISTINCT item_type FROM event_agenda_items") == {"session", "break"}
    assert await distinct("SELECT DISTINCT jsonb_typeof(focus_areas) FROM event_agenda_items") >= {
        None, "array", "null", "object"
    }  # fmt: skip
    assert await distinct("SELECT DISTINCT jsonb_typeof(focus_areas) FROM event_speakers") >= {None, "array", "string"}
    assert await filled.fetchval("SELECT count(*) FROM event_agenda_items WHERE start_time IS NULL") == 5


async def test_sample_contractors_write_what_is_no_json_too(db: asyncpg.Connection) -> None:
    await load_sample(db, 400)
    unread = await db.fetch("SELECT DISTINCT focus_areas FROM contractors WHERE focus_area_names IS NULL")
    assert {row[0] for row in unread} == {None, "[]", "Sales, Marketing", '["Sales"', '{"first": "Sales"}'}


async def test_both_views_hold_rows_for_a_day_after_the_sample_data_are_loaded(filled: asyncpg.Connection) -> None:
    for view in VIEWS:
        definition = (await filled.fetchval("SELECT pg_get_viewdef($1::regclass)", f"public.{view}_live")).rstrip(";")
        for quarters in range(24 * 4):
            later = definition.replace("now()", f"now() + interval '{15 * quarters} minutes'")
            assert await filled.fetchval(f"SELECT count(*) FROM ({later}) AS v") > 0, (view, quarters)


async def test_nothing_happens_by_itself_in_the_two_minutes_after_the_sample_data_are_loaded(
    db: asyncpg.Connection,
) -> None:
    async with db.transaction():
        await load_sample(db, 200)
        start = await db.fetchval("SELECT date_trunc('minute', now())")
        changes = [await db.fetchval(NEXT_CHANGE[view]) for view in VIEWS]
    assert all(change >= start + timedelta(minutes=2) for change in changes)


async def test_more_sessions_are_seen_than_when_only_those_with_a_speaker_were(filled: asyncpg.Connection) -> None:
    # What the view was before agendas: each speaker's own session, in local time.
    before = await filled.fetchval(
        "SELECT count(*) FROM event_speakers AS s JOIN event_attendees AS a ON a.event_id = s.event_id"
        " JOIN events AS e ON e.id = s.event_id"
        " WHERE (now() AT TIME ZONE e.timezone) BETWEEN s.session_time AND s.session_end"
    )
    assert 0 < before < await filled.fetchval("SELECT count(*) FROM mv_sessions_now")


# Checks

INDEXES = {
    "idx_sessions_now_session_contractor": ("mv_sessions_now (session_id, contractor_id)", "UNIQUE"),
    "idx_sessions_now_contractor_event_relevance": ("mv_sessions_now (contractor_id, event_id, relevance_score DESC)", ""),
    "idx_sessions_next_60_session_contractor": ("mv_sessions_next_60 (session_id, contractor_id)", "UNIQUE"),
    "idx_sessions_next_60_contractor_event_priority": (
        "mv_sessions_next_60 (contractor_id, event_id, priority_score DESC)", ""
    ),
    "idx_agenda_sessions_start": ("event_agenda_items (start_time)", ""),
    "idx_agenda_sessions_end": ("event_agenda_items (end_time, start_time)", ""),
    "idx_agenda_items_event": ("event_agenda_items (event_id)", ""),
    "idx_agenda_items_speaker": ("event_agenda_items (speaker_id)", ""),
    "idx_event_speakers_event": ("event_speakers (event_id)", ""),
    "idx_event_attendees_contractor": ("event_attendees (contractor_id)", ""),
}  # fmt: skip

CONSTRAINTS = {
    "events_timezone_is_known": "events",
    "event_speakers_event": "event_speakers",
    "event_agenda_items_event": "event_agenda_items",
    "event_agenda_items_speaker": "event_agenda_items",
    "event_agenda_items_start_time_in_range": "event_agenda_items",
    "event_agenda_items_end_time_in_range": "event_agenda_items",
    "event_attendees_once": "event_attendees",
    "event_attendees_event": "event_attendees",
    "event_attendees_contractor": "event_attendees",
    "event_speakers_pkey": "event_speakers",
    "event_agenda_items_pkey": "event_agenda_items",
    "event_attendees_pkey": "event_attendees",
    "events_pkey": "events",
    "contractors_pkey": "contractors",
}


def checks_of(view: str) -> set[str]:
    """Those that cannot be answered without the view."""
    return {
        f"materialized view {view}",
        f"rows in {view}",
        f"rows without a speaker in {view}",
        f"{view} equals {view}_live",
        f"{view} is not confined to sessions with a speaker",
        f"focus areas in {view} come from agenda and speaker",
    }


def indexes_of(view: str) -> set[str]:
    return {f"index {name}" for name, (on, _) in INDEXES.items() if on.startswith(view)}


BREAKAGES: list[tuple[str, set[str]]] = [
    *((f"DROP INDEX {name}", {f"index {name}"}) for name in INDEXES),
    (
        (
            "DROP INDEX idx_sessions_now_session_contractor;"
            "CREATE INDEX idx_sessions_now_session_contractor ON mv_sessions_now (session_id, contractor_id)"
        ),
        {"index idx_sessions_now_session_contractor"},
    ),
    (
        "DROP INDEX idx_agenda_sessions_start; CREATE INDEX idx_agenda_sessions_start ON event_agenda_items (start_time)",
        {"index idx_agenda_sessions_start"},
    ),
    *(
        (f"ALTER TABLE {table} DROP CONSTRAINT {name}", {f"constraint {name}"})
        for name, table in CONSTRAINTS.items()
        if name not in ("events_pkey", "contractors_pkey", "event_speakers_pkey")
    ),
    (
        "ALTER TABLE events DROP CONSTRAINT events_pkey CASCADE",
        {
            "constraint events_pkey",
            "constraint event_speakers_event",
            "constraint event_agenda_items_event",
            "constraint event_attendees_event",
        },
    ),
    (
        (
            "ALTER TABLE event_agenda_items DROP CONSTRAINT event_agenda_items_speaker, ADD CONSTRAINT"
            " event_agenda_items_speaker FOREIGN KEY (speaker_id) REFERENCES event_speakers (id) ON DELETE CASCADE"
        ),
        {"constraint event_agenda_items_speaker"},
    ),
    (
        (
            "ALTER TABLE events DROP CONSTRAINT events_timezone_is_known;"
            "ALTER TABLE events ADD CONSTRAINT events_timezone_is_known CHECK (timezone <> '')"
        ),
        {"constraint events_timezone_is_known"},
    ),
    *((f"SELECT afresh.unwatch('{table}')", {f"watch on {table}"}) for table in TABLES),
    (
        "ALTER TABLE event_agenda_items DISABLE TRIGGER USER",
        {"watch on event_agenda_items", "trigger trigger_event_agenda_items_refresh"},
    ),
    (
        "DROP TRIGGER trigger_event_agenda_items_refresh ON event_agenda_items",
        {"trigger trigger_event_agenda_items_refresh"},
    ),
    (
        (
            "DROP TRIGGER trigger_event_agenda_items_refresh ON event_agenda_items;"
            "CREATE TRIGGER trigger_event_agenda_items_refresh AFTER INSERT OR UPDATE ON event_agenda_items"
            " FOR EACH ROW EXECUTE FUNCTION notify_event_refresh()"
        ),
        {"trigger trigger_event_agenda_items_refresh"},
    ),
    *((f"REFRESH MATERIALIZED VIEW {view} WITH NO DATA", checks_of(view)) for view in VIEWS),
    *((f"DROP MATERIALIZED VIEW {view}", {*checks_of(view), *indexes_of(view), f"view {view}"}) for view in VIEWS),
    (
        "DROP VIEW mv_sessions_now_live CASCADE",
        {
            *checks_of(NOW),
            *indexes_of(NOW),
            f"view {NOW}",
            f"view {NOW}_live",
            *checks_of(NEXT_60) - {f"materialized view {NEXT_60}"},
        },
    ),
    ("ALTER TABLE event_attendees RENAME registered_at TO since", {"table event_attendees"}),
    (
        (
            "CREATE OR REPLACE FUNCTION focus_area_names(areas text) RETURNS text[] LANGUAGE sql IMMUTABLE"
            " SET search_path = pg_catalog, pg_temp AS $$SELECT ARRAY['Sales']$$"
        ),
        {"focus areas that are broken JSON count as none"},
    ),
    (
        "CREATE OR REPLACE FUNCTION is_event_timezone(zone text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT true'",
        {"function is_event_timezone(text)", "unknown time zones are refused"},
    ),
    (
        "ALTER TABLE events DROP CONSTRAINT events_timezone_is_known; DROP FUNCTION is_event_timezone(text)",
        {
            "constraint events_timezone_is_known",
            "function is_event_timezone(text)",
            "unknown time zones are refused",
        },
    ),
    ("ALTER FUNCTION focus_area_names(text) RESET search_path", {"function focus_area_names(text)"}),
    (
        "CREATE OR REPLACE VIEW event_sessions AS SELECT s.session_id, s.event_id, s.speaker_name, s.session_title,"
        " s.session_time, s.session_end, s.session_location, s.session_description, s.focus_areas, s.event_name,"
        " s.event_timezone, s.session_starts_at, s.session_ends_at FROM (SELECT i.id AS session_id, i.event_id,"
        " p.name AS speaker_name, i.title AS session_title, i.start_time AS session_time, i.end_time AS session_end,"
        " i.location AS session_location, i.description AS session_description, i.focus_areas, e.name AS event_name,"
        " e.timezone AS event_timezone, i.start_time AT TIME ZONE e.timezone AS session_starts_at,"
        " i.end_time AT TIME ZONE e.timezone AS session_ends_at FROM event_agenda_items AS i"
        " JOIN events AS e ON e.id = i.event_id JOIN event_speakers AS p ON p.id = i.speaker_id"
        " WHERE jsonb_typeof(i.focus_areas) = 'array' AND jsonb_typeof(p.focus_areas) = 'array') AS s;"
        + "".join(f"REFRESH MATERIALIZED VIEW {view};" for view in VIEWS),
        {
            "event_sessions holds the sessions of the agenda, each once",
            *(f"focus areas in {view} come from agenda and speaker" for view in VIEWS),
        },
    ),
    (
        "UPDATE event_agenda_items SET location = 'Elsewhere'",
        {f"{view} equals {view}_live" for view in VIEWS},
    ),
    (
        "UPDATE event_agenda_items SET speaker_id = NULL",
        {
            *(f"{view} equals {view}_live" for view in VIEWS),
            *(f"rows without a speaker in {view}" for view in VIEWS),
            *(f"focus areas in {view} come from agenda and speaker" for view in VIEWS),
        },
    ),
    (
        "DELETE FROM event_attendees",
        {
            *(f"{view} equals {view}_live" for view in VIEWS),
            *(f"rows in {view}" for view in VIEWS),
            *(f"rows without a speaker in {view}" for view in VIEWS),
        },
    ),
]


async def test_each_broken_thing_fails_its_own_checks_and_no_others(filled: asyncpg.Connection) -> None:
    await EVENT_SESSIONS.fails_exactly(filled, BREAKAGES)


async def test_a_view_that_lacks_rows_of_sessions_with_speakers_is_found_out(filled: asyncpg.Connection) -> None:
    await filled.execute("UPDATE event_agenda_items SET speaker_id = (SELECT min(id) FROM event_speakers)")
    await filled.execute("INSERT INTO event_attendees (event_id, contractor_id) SELECT e.id, c.id FROM events AS e,"
                         " contractors AS c ON CONFLICT DO NOTHING")  # fmt: skip
    await filled.execute(
        "INSERT INTO event_agenda_items (event_id, title, start_time, end_time, speaker_id) SELECT event_id, title,"
        " start_time, end_time, speaker_id FROM event_agenda_items"
    )
    assert {f"{view} is not confined to sessions with a speaker" for view in VIEWS} <= await failed_checks(filled)


async def test_verify_says_what_it_found(filled: asyncpg.Connection) -> None:
    await filled.execute("ALTER TABLE event_attendees DROP CONSTRAINT event_attendees_once")
    await filled.execute("SELECT afresh.unwatch('events')")
    found = {row["check"]: row["found"] for row in await filled.fetch(PACK.read("verify.sql"))}
    assert found["constraint event_attendees_once"] == "missing"
    assert found["watch on events"] == "nothing"
    assert found[f"rows in {NOW}"] == str(await filled.fetchval("SELECT count(*) FROM mv_sessions_now"))
    assert found[f"rows without a speaker in {NOW}"] == str(
        await filled.fetchval("SELECT count(*) FROM mv_sessions_now WHERE speaker_name IS NULL")
    )
    assert found[f"{NOW} equals {NOW}_live"] == "0 rows differ"


# The demo


async def test_demo_change_shows_in_both_views_every_time(filled: asyncpg.Connection) -> None:
    subject = await filled.fetchval(PACK.read("demo/subject.sql"))
    assert subject is not None
    row = PACK.read("demo/row.sql")
    before = await filled.fetchrow(row, subject)
    for _ in range(4):
        assert await filled.execute(PACK.read("demo/change.sql"), subject) == "UPDATE 1"
        # It shows as soon as either view is refreshed.
        for view in VIEWS:
            await filled.execute(f"REFRESH MATERIALIZED VIEW CONCURRENTLY {view}")
            after = await filled.fetchrow(row, subject)
            assert after != before, view
            before = after


async def test_demo_traffic_puts_what_is_long_over_on_again(server: ServerUnderTest, filled_template: str) -> None:
    async with clone(server, filled_template) as db:
        await db.execute(
            "UPDATE event_agenda_items SET start_time = start_time - interval '37 hours',"
            " end_time = end_time - interval '37 hours'"
        )
        live = "SELECT count(*) FROM mv_sessions_next_60_live"
        assert await db.fetchval(live) == 0
        for _ in range(600):
            await db.execute(PACK.read("demo/traffic.sql"))
        assert await db.fetchval(live) > 0


# Triggers


async def test_the_row_level_trigger_tells_of_every_operation(db: asyncpg.Connection, pack_dsn: str) -> None:
    heard: list[str] = []
    listener = await asyncpg.connect(pack_dsn)
    await listener.add_listener("afresh", lambda *call: heard.append(str(call[3])))
    event = await Agenda(db).event()
    await db.execute(f"INSERT INTO event_agenda_items (event_id, title) VALUES ({event}, 'Talk')")
    await db.execute("UPDATE event_agenda_items SET title = 'Panel'")
    await db.execute("DELETE FROM event_agenda_items")
    for operation in ("INSERT", "UPDATE", "DELETE"):
        told = f'"table":"public.event_agenda_items","op":"{operation}"'
        await eventually(lambda told=told: any(told in payload for payload in heard))
    await listener.close()


@pytest.mark.parametrize("statement", ["TRUNCATE event_agenda_items", "UPDATE event_agenda_items SET title = 'Panel'"])
async def test_the_watch_hears_what_the_row_level_trigger_cannot(db: asyncpg.Connection, statement: str) -> None:
    event = await Agenda(db).event()
    await db.execute(f"INSERT INTO event_agenda_items (event_id, title) VALUES ({event}, 'Talk')")
    await db.execute("DELETE FROM afresh.change_log")
    await db.execute("SET session_replication_role = replica")
    await db.execute(statement)
    told = await db.fetch("SELECT target::text, operation FROM afresh.change_log")
    assert [tuple(row) for row in told] == [("event_agenda_items", statement.split()[0])]
