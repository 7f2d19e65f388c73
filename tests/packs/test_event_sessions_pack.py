"""The pack ``event_sessions`` as it is installed: its settings, migrations, sample data, checks, demo and triggers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from afresh_notifier import migrate
from afresh_notifier.errors import MigrationError
from conftest import ServerUnderTest, eventually, migrate_up
from packs.event_sessions_support import NEXT_60, NEXT_CHANGE, NOW, PACK, TABLES, VIEWS, Agenda, load_sample, refresh
from packs.test_client_health_migrations import notices, schema_of

MIGRATIONS = [
    "event_sessions_0001_tables",
    "event_sessions_0002_event_sessions",
    "event_sessions_0003_mv_sessions_now",
    "event_sessions_0004_mv_sessions_next_60",
    "event_sessions_0005_watch",
]

CHECKS = 58


@pytest.fixture(scope="module")
def pack_template(server: ServerUnderTest) -> Iterator[str]:
    """A database that holds the engine and the pack; cloned, never changed."""
    name = asyncio.run(server.create())
    asyncio.run(migrate_up(server.dsn(name), PACK.name))
    yield name
    asyncio.run(server.drop(name))


@pytest.fixture(scope="module")
def filled_template(server: ServerUnderTest, pack_template: str) -> Iterator[str]:
    """The same with the sample data of 50 contractors, and both views refreshed at one moment with them."""

    async def fill(dsn: str) -> None:
        connection = await asyncpg.connect(dsn)
        async with connection.transaction():
            await load_sample(connection, None)
            await refresh(connection)
        await connection.close()

    name = asyncio.run(server.create(pack_template))
    asyncio.run(fill(server.dsn(name)))
    yield name
    asyncio.run(server.drop(name))


@pytest.fixture
async def pack_dsn(server: ServerUnderTest, pack_template: str) -> AsyncIterator[str]:
    """The address of this test's own database, with the pack in it."""
    name = await server.create(pack_template)
    yield server.dsn(name)
    await server.drop(name)


@pytest.fixture
async def installed(pack_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to it."""
    connection = await asyncpg.connect(pack_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def filled(server: ServerUnderTest, filled_template: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to this test's own database with sample data, in a transaction whose now() is later than both views'."""
    name = await server.create(filled_template)
    connection = await asyncpg.connect(server.dsn(name))
    async with connection.transaction():
        await refresh(connection)
        yield connection
    await connection.close()
    await server.drop(name)


async def pack_up(connection: asyncpg.Connection) -> list[str]:
    return [step.migration async for step in migrate.up(connection, [PACK.scope])]


async def pack_down(connection: asyncpg.Connection) -> list[str]:
    return [step.migration async for step in migrate.down(connection, [PACK.scope])]


async def failed_checks(db: asyncpg.Connection) -> set[str]:
    """The checks of verify.sql that are not ok; every row is looked at for its form."""
    rows = await db.fetch(PACK.read("verify.sql"))
    assert len(rows) == len({row["check"] for row in rows}) == CHECKS
    for row in rows:
        assert list(row.keys()) == ["check", "expected", "found", "ok"]
        assert all(isinstance(row[column], str) and row[column] for column in ("check", "expected", "found"))
        assert isinstance(row["ok"], bool)
    return {row["check"] for row in rows if not row["ok"]}


# Settings


def test_every_table_and_view_makes_the_answers_about_sessions_stale() -> None:
    assert {table.name for table in PACK.settings.tables} == set(TABLES)
    assert {table.patterns for table in PACK.settings.tables} == {("sessions",)}
    assert {view.name: view.patterns for view in PACK.settings.views} == {NOW: ("sessions",), NEXT_60: ("sessions",)}
    for query in PACK.settings.queries:
        assert query.template.literal.startswith("sessions"), query.name


def test_each_view_says_when_it_will_be_another_one() -> None:
    said = {view.name: view.next_change for view in PACK.settings.views}
    assert said == {view: statement.strip() for view, statement in NEXT_CHANGE.items()}


async def test_views_depend_on_no_table_that_the_settings_leave_out(installed: asyncpg.Connection) -> None:
    rows = await installed.fetch(
        """
        WITH RECURSIVE reached (relation) AS (
            SELECT unnest($1::text[])::regclass::oid
            UNION
            SELECT depends.refobjid
            FROM reached
            JOIN pg_rewrite AS rule ON rule.ev_class = reached.relation
            JOIN pg_depend AS depends ON depends.classid = 'pg_rewrite'::regclass AND depends.objid = rule.oid
                AND depends.refclassid = 'pg_class'::regclass
        )
        SELECT c.relname FROM reached JOIN pg_class AS c ON c.oid = reached.relation WHERE c.relkind = 'r'
        """,
        list(VIEWS),
    )
    assert {row["relname"] for row in rows} == set(TABLES)


async def test_everything_that_the_pack_makes_says_what_it_is(installed: asyncpg.Connection) -> None:
    silent = await installed.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'm')"
        " AND relname !~ 'pogo' AND obj_description(oid, 'pg_class') IS NULL"
        " UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        " AND proname IN ('focus_area_names', 'is_event_timezone') AND obj_description(oid, 'pg_proc') IS NULL"
        " UNION ALL SELECT tgname FROM pg_trigger WHERE tgname = 'trigger_event_agenda_items_refresh'"
        " AND obj_description(oid, 'pg_trigger') IS NULL"
    )
    assert silent == []


# Migrations


async def test_the_pack_is_five_migrations(db: asyncpg.Connection) -> None:
    assert await pack_up(db) == MIGRATIONS
    assert await pack_up(db) == []
    assert await pack_down(db) == MIGRATIONS[::-1]


async def test_up_down_up_leaves_an_identical_schema(db: asyncpg.Connection, dsn: str) -> None:
    await pack_up(db)
    await pack_down(db)
    without = await schema_of(db, dsn)
    assert "event" not in without.replace("notify_event_refresh", "").replace("event_trigger", "").lower() or (
        "event_agenda_items" not in without and "is_event_timezone" not in without
    )
    await pack_up(db)
    with_pack = await schema_of(db, dsn)
    await pack_down(db)
    assert await schema_of(db, dsn) == without
    await pack_up(db)
    assert await schema_of(db, dsn) == with_pack
    assert all(f"CREATE TABLE public.{table} " in with_pack for table in TABLES)


async def test_down_keeps_rows_and_up_takes_them_up_again(installed: asyncpg.Connection, pack_dsn: str) -> None:
    await load_sample(installed, 20)
    with_pack = await schema_of(installed, pack_dsn)
    counts = {table: await installed.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}
    heard = notices(installed)
    await pack_down(installed)
    assert [line for line in heard if "holds rows" in line] == [
        f"public.{table} stays: it holds rows"
        for table in ("event_attendees", "event_agenda_items", "event_speakers", "events", "contractors")
    ]
    assert await installed.fetchval("SELECT count(*) FROM pg_matviews WHERE matviewname = ANY ($1)", list(VIEWS)) == 0
    assert await installed.fetchval("SELECT count(*) FROM afresh.watched") == 0
    await pack_up(installed)
    assert await schema_of(installed, pack_dsn) == with_pack
    assert counts == {table: await installed.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}
    assert await installed.fetchval("SELECT count(*) FROM mv_sessions_now") > 0


async def test_down_refuses_to_drop_what_somebody_built_on_a_view(installed: asyncpg.Connection) -> None:
    await installed.execute("CREATE VIEW mine AS SELECT session_title FROM mv_sessions_now")
    with pytest.raises(MigrationError, match="view mine depends on materialized view mv_sessions_now"):
        await pack_down(installed)
    assert await installed.fetchval("SELECT count(*) FROM mine") == 0


async def test_down_keeps_a_table_on_which_something_else_depends(installed: asyncpg.Connection) -> None:
    await installed.execute("CREATE VIEW mine AS SELECT name FROM contractors")
    heard = notices(installed)
    await pack_down(installed)
    assert "public.contractors stays: other objects depend on it" in heard
    assert await installed.fetchval("SELECT to_regclass('public.contractors') IS NOT NULL")


async def test_tables_of_somebody_else_are_named_and_left_alone(db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE events (id uuid PRIMARY KEY); CREATE TABLE contractors (name text)")
    with pytest.raises(MigrationError, match="has not made: contractors, events"):
        await pack_up(db)
    assert (
        await db.fetchval("SELECT count(*) FROM pg_attribute WHERE attrelid = 'events'::regclass AND attnum > 0") == 1
    )


# Sample data


@pytest.mark.parametrize("size", [1, 50, 400])
async def test_sample_data_fill_every_table_and_pass_every_check(installed: asyncpg.Connection, size: int) -> None:
    assert await failed_checks(installed) == set()
    await load_sample(installed, size)
    assert await installed.fetchval("SELECT count(*) FROM contractors") == size
    assert await installed.fetchval("SELECT count(*) FROM events") == -(-size // 10)
    for table in TABLES:
        assert await installed.fetchval(f"SELECT count(*) FROM {table}") > 0, table
    stale = await failed_checks(installed)
    assert stale
    assert all(check.startswith(("rows", "mv_sessions")) for check in stale)
    async with installed.transaction():
        await refresh(installed)
        assert await failed_checks(installed) == set()


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


async def test_sample_contractors_write_what_is_no_json_too(installed: asyncpg.Connection) -> None:
    await load_sample(installed, 400)
    unread = await installed.fetch("SELECT DISTINCT focus_areas FROM contractors WHERE focus_area_names IS NULL")
    assert {row[0] for row in unread} == {None, "[]", "Sales, Marketing", '["Sales"', '{"first": "Sales"}'}


async def test_both_views_hold_rows_for_a_day_after_the_sample_data_are_loaded(filled: asyncpg.Connection) -> None:
    for view in VIEWS:
        definition = (await filled.fetchval("SELECT pg_get_viewdef($1::regclass)", f"public.{view}_live")).rstrip(";")
        for quarters in range(24 * 4):
            later = definition.replace("now()", f"now() + interval '{15 * quarters} minutes'")
            assert await filled.fetchval(f"SELECT count(*) FROM ({later}) AS v") > 0, (view, quarters)


async def test_nothing_happens_by_itself_in_the_two_minutes_after_the_sample_data_are_loaded(
    installed: asyncpg.Connection,
) -> None:
    async with installed.transaction():
        await load_sample(installed, 200)
        start = await installed.fetchval("SELECT date_trunc('minute', now())")
        changes = [await installed.fetchval(NEXT_CHANGE[view]) for view in VIEWS]
    assert all(change >= start + timedelta(minutes=2) for change in changes)


async def test_sample_data_are_the_same_every_time(
    server: ServerUnderTest, pack_template: str, installed: asyncpg.Connection
) -> None:
    async def digest(connection: asyncpg.Connection) -> list[Any]:
        async with connection.transaction():
            await load_sample(connection, 100)
            return [
                await connection.fetchval(f"SELECT md5(string_agg(r, '|' ORDER BY r)) FROM ({statement}) AS t (r)")
                for statement in (
                    "SELECT concat(id, name, focus_areas) FROM contractors",
                    "SELECT concat(id, name, timezone) FROM events",
                    "SELECT concat(id, name, focus_areas, session_title) FROM event_speakers",
                    (
                        "SELECT concat(title, speaker_id, focus_areas, status, location,"
                        " session_starts_at - date_trunc('minute', now()))"
                        " FROM event_agenda_items LEFT JOIN (SELECT session_id, session_starts_at FROM event_sessions)"
                        " AS s ON s.session_id = id"
                    ),
                    "SELECT concat(event_id, ' ', contractor_id) FROM event_attendees",
                )
            ]

    first = await digest(installed)
    name = await server.create(pack_template)
    other = await asyncpg.connect(server.dsn(name))
    try:
        # Another plan: nothing may hang on the order in which rows are made.
        await other.execute("SET enable_hashjoin = off; SET enable_nestloop = off; SET work_mem = '64kB'")
        await other.execute("SET TimeZone = 'Asia/Kathmandu'")
        assert await digest(other) == first
    finally:
        await other.close()
        await server.drop(name)


@pytest.mark.parametrize("table", TABLES)
async def test_sample_data_refuse_a_table_that_holds_rows(installed: asyncpg.Connection, table: str) -> None:
    agenda = Agenda(installed)
    event, contractor = await agenda.event(), await agenda.contractor()
    await agenda.speaker(event)
    await agenda.attends(contractor, event)
    await agenda.item(event, None, None)
    keep = {table} | (
        {"events", "contractors"} if table == "event_attendees" else {"events"} if "event_" in table else set()
    )
    for other in reversed(TABLES):
        if other not in keep:
            await installed.execute(f"DELETE FROM {other}")
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match=r"holds rows") as raised:
        await load_sample(installed, 5)
    assert "empty the tables" in (raised.value.hint or "")


@pytest.mark.parametrize("size", ["0", "-1", "many", "1.5", "99999999", "1; DROP TABLE events"])
async def test_a_sample_size_that_is_none_is_refused(installed: asyncpg.Connection, size: str) -> None:
    async with installed.transaction():
        await installed.execute("SELECT set_config('afresh.sample_size', $1, true)", size)
        with pytest.raises(asyncpg.InvalidParameterValueError, match="not a number of contractors"):
            async with installed.transaction():
                await installed.execute(PACK.read("sample.sql"))
    assert await installed.fetchval("SELECT count(*) FROM events") == 0


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


@pytest.mark.parametrize(
    ("statement", "failed"), BREAKAGES, ids=[" ".join(statement.split())[:60] for statement, _ in BREAKAGES]
)
async def test_each_broken_thing_fails_its_own_checks_and_no_others(
    filled: asyncpg.Connection, statement: str, failed: set[str]
) -> None:
    await filled.execute(statement)
    assert await failed_checks(filled) == failed


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


async def test_verify_works_without_public_on_the_search_path_and_in_any_style(filled: asyncpg.Connection) -> None:
    await filled.execute(
        "SET LOCAL search_path = ''; SET LOCAL DateStyle = 'German'; SET LOCAL TimeZone = 'Asia/Tokyo'"
    )
    assert await failed_checks(filled) == set()


async def test_verify_works_where_nothing_is_installed(db: asyncpg.Connection) -> None:
    assert len(await failed_checks(db)) == CHECKS - 1  # the engine has its function


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


async def test_demo_has_no_subject_where_nothing_is_on(installed: asyncpg.Connection) -> None:
    assert await installed.fetchval(PACK.read("demo/subject.sql")) is None
    assert await installed.execute(PACK.read("demo/traffic.sql")) == "DO"


async def test_demo_traffic_changes_something_each_time_and_keeps_the_tables_as_large(
    server: ServerUnderTest, filled_template: str
) -> None:
    name = await server.create(filled_template)
    db = await asyncpg.connect(server.dsn(name))
    try:
        sizes = {table: await db.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}
        await db.execute("SELECT setseed(0.5)")
        changed: Counter[str] = Counter()
        for _ in range(150):
            await db.execute("DELETE FROM afresh.change_log")
            await db.execute(PACK.read("demo/traffic.sql"))
            tables = await db.fetch("SELECT DISTINCT target::text AS name FROM afresh.change_log")
            assert tables
            changed.update(row["name"] for row in tables)
        assert set(changed) == {"event_agenda_items", "contractors", "event_attendees"}
        assert sizes == {table: await db.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}
    finally:
        await db.close()
        await server.drop(name)


async def test_demo_traffic_puts_what_is_long_over_on_again(server: ServerUnderTest, filled_template: str) -> None:
    name = await server.create(filled_template)
    db = await asyncpg.connect(server.dsn(name))
    try:
        await db.execute(
            "UPDATE event_agenda_items SET start_time = start_time - interval '37 hours',"
            " end_time = end_time - interval '37 hours'"
        )
        live = "SELECT count(*) FROM mv_sessions_next_60_live"
        assert await db.fetchval(live) == 0
        for _ in range(600):
            await db.execute(PACK.read("demo/traffic.sql"))
        assert await db.fetchval(live) > 0
    finally:
        await db.close()
        await server.drop(name)


# Triggers


async def test_the_row_level_trigger_tells_of_every_operation(installed: asyncpg.Connection, pack_dsn: str) -> None:
    heard: list[str] = []
    listener = await asyncpg.connect(pack_dsn)
    await listener.add_listener("afresh", lambda *call: heard.append(str(call[3])))
    event = await Agenda(installed).event()
    await installed.execute(f"INSERT INTO event_agenda_items (event_id, title) VALUES ({event}, 'Talk')")
    await installed.execute("UPDATE event_agenda_items SET title = 'Panel'")
    await installed.execute("DELETE FROM event_agenda_items")
    for operation in ("INSERT", "UPDATE", "DELETE"):
        told = f'"table":"public.event_agenda_items","op":"{operation}"'
        await eventually(lambda told=told: any(told in payload for payload in heard))
    await listener.close()


@pytest.mark.parametrize("statement", ["TRUNCATE event_agenda_items", "UPDATE event_agenda_items SET title = 'Panel'"])
async def test_the_watch_hears_what_the_row_level_trigger_cannot(installed: asyncpg.Connection, statement: str) -> None:
    event = await Agenda(installed).event()
    await installed.execute(f"INSERT INTO event_agenda_items (event_id, title) VALUES ({event}, 'Talk')")
    await installed.execute("DELETE FROM afresh.change_log")
    await installed.execute("SET session_replication_role = replica")
    await installed.execute(statement)
    told = await installed.fetch("SELECT target::text, operation FROM afresh.change_log")
    assert [tuple(row) for row in told] == [("event_agenda_items", statement.split()[0])]
