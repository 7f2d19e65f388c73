"""The pack ``client_health`` at work: its settings, sample data, checks, demo, plans and refreshes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from afresh_notifier.resources import query
from conftest import ServerUnderTest
from packs.client_health_support import PACK, TABLES, VIEWS, load_sample, refresh

INDEXES = (
    "idx_client_health_client_name",
    "idx_client_health_segment",
    "idx_client_health_cse",
    "idx_client_health_status",
    "idx_client_health_score",
    "idx_event_compliance_client_year",
    "idx_event_compliance_year",
    "idx_event_compliance_segment",
    "idx_event_compliance_status",
    "idx_event_compliance_score",
)


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
    """The same, with the sample data of 50 clients and fresh summaries."""
    await load_sample(db, None)
    await refresh(db)
    return db


async def failed_checks(db: asyncpg.Connection) -> set[str]:
    """The checks of verify.sql that are not ok; every row is looked at for its form."""
    rows = await db.fetch(PACK.read("verify.sql"))
    assert len(rows) == 30
    for row in rows:
        assert list(row.keys()) == ["check", "expected", "found", "ok"]
        assert all(isinstance(row[column], str) and row[column] for column in ("check", "expected", "found"))
        assert isinstance(row["ok"], bool)
    return {row["check"] for row in rows if not row["ok"]}


def test_settings_name_the_patterns_that_each_table_makes_stale() -> None:
    assert {table.name: table.patterns for table in PACK.settings.tables} == {
        "nps_clients": ("clients", "compliance"),
        "nps_responses": ("nps", "clients"),
        "unified_meetings": ("meetings", "clients"),
        "actions": ("actions", "clients"),
        "segmentation_events": ("compliance",),
        "segmentation_event_compliance": ("compliance", "clients"),
        "segmentation_tiers": ("compliance",),
        "segmentation_event_types": ("compliance",),
        "tier_event_requirements": ("compliance",),
    }
    assert {view.name: (view.patterns, view.every) for view in PACK.settings.views} == {
        "client_health_summary": (("clients",), 300),
        "event_compliance_summary": (("compliance",), 300),
    }


async def test_views_depend_on_the_tables_of_the_settings_as_the_service_reads_them(db: asyncpg.Connection) -> None:
    rows = await db.fetch(query("catalogue"))
    assert {row["name"] for row in rows} == {f"public.{view}" for view in VIEWS}
    assert {table for row in rows for table in row["tables"]} == {f"public.{t.name}" for t in PACK.settings.tables}
    assert [(row["opaque_functions"], row["unwatched"]) for row in rows] == [([], []), ([], [])]


async def test_everything_is_ok_on_an_empty_database(db: asyncpg.Connection) -> None:
    assert await failed_checks(db) == set()


@pytest.mark.parametrize("size", [1, 50, 1000])
async def test_sample_data_fill_every_table_and_pass_every_check(db: asyncpg.Connection, size: int) -> None:
    await load_sample(db, size)
    assert await db.fetchval("SELECT count(*) FROM nps_clients") == size
    for table in TABLES:
        if size > 1:
            assert await db.fetchval(f"SELECT count(*) FROM {table}") > 0, table
    assert await failed_checks(db) == {
        f"rows in {VIEWS[0]}",
        f"rows in {VIEWS[1]}",
        f"{VIEWS[0]} equals {VIEWS[0]}_live",
        f"{VIEWS[1]} equals {VIEWS[1]}_live",
    }
    await refresh(db)
    assert await failed_checks(db) == set()


async def test_sample_data_are_fifty_clients_unless_said_otherwise(filled: asyncpg.Connection) -> None:
    assert await filled.fetchval("SELECT count(*) FROM client_health_summary") == 50


async def test_sample_data_have_every_status(db: asyncpg.Connection) -> None:
    await load_sample(db, 1000)
    await refresh(db)
    health = {
        r["status"]: r["n"]
        for r in await db.fetch("SELECT status, count(*) AS n FROM client_health_summary GROUP BY 1")
    }
    assert set(health) == {"healthy", "at-risk", "critical"}
    assert min(health.values()) >= 100
    overall = await db.fetch("SELECT DISTINCT overall_status FROM event_compliance_summary")
    assert {r["overall_status"] for r in overall} == {"critical", "at-risk", "compliant"}
    events = await db.fetch(
        "SELECT DISTINCT event ->> 'status' AS status"
        " FROM event_compliance_summary, jsonb_array_elements(event_compliance) AS event"
    )
    assert {r["status"] for r in events} == {"critical", "at-risk", "compliant", "exceeded"}


async def test_names_of_many_clients_are_different_names(db: asyncpg.Connection) -> None:
    # More than the 10,000 combinations of words, where a number has to tell them apart.
    await load_sample(db, 10_050)
    assert await db.fetchval("SELECT count(DISTINCT client_name) FROM nps_clients") == 10_050
    assert await db.fetchval("SELECT count(*) FROM nps_clients WHERE client_name ~ ' 2$'") == 50


async def test_sample_data_are_the_same_every_time(
    server: ServerUnderTest, pack_template: str, db: asyncpg.Connection
) -> None:
    async def digest(connection: asyncpg.Connection) -> list[Any]:
        async with connection.transaction():
            # Dates as days before today, so that midnight between the two loads makes no difference.
            await connection.execute("SET LOCAL afresh.sample_size = 200")
            await connection.execute(PACK.read("sample.sql"))
            return [
                await connection.fetchval(f"SELECT md5(string_agg(r, '|' ORDER BY r)) FROM ({statement}) AS t (r)")
                for statement in (
                    "SELECT concat(id, client_name, segment, cse) FROM nps_clients",
                    "SELECT concat(client_name, score, current_date - response_date) FROM nps_responses",
                    "SELECT concat(client_name, title, current_date - meeting_date) FROM unified_meetings",
                    'SELECT concat("Client", "Description", "Status", current_date - "Due_Date") FROM actions',
                    "SELECT concat(client_name, event_type_id, year, actual_count) FROM segmentation_event_compliance",
                )
            ]

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
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match=r"public\.nps_clients holds rows") as raised:
        await load_sample(filled, 5)
    assert "empty the tables" in (raised.value.hint or "")
    assert await filled.fetchval("SELECT count(*) FROM nps_clients") == 50
    await filled.execute(f"TRUNCATE {', '.join(set(TABLES) - {'segmentation_event_types'})}, segmentation_event_types")
    await filled.execute("INSERT INTO segmentation_event_types (event_name) VALUES ('Visit')")
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match=r"public\.segmentation_event_types holds rows"):
        await load_sample(filled, 5)


@pytest.mark.parametrize("size", ["0", "-1", "many", "1.5", "99999999", "1; DROP TABLE nps_clients"])
async def test_a_sample_size_that_is_none_is_refused(db: asyncpg.Connection, size: str) -> None:
    async with db.transaction():
        await db.execute("SELECT set_config('afresh.sample_size', $1, true)", size)
        with pytest.raises(asyncpg.InvalidParameterValueError, match="not a number of clients"):
            async with db.transaction():
                await db.execute(PACK.read("sample.sql"))
    assert await db.fetchval("SELECT count(*) FROM nps_clients") == 0


async def test_sample_data_leave_nothing_temporary_behind(filled: asyncpg.Connection) -> None:
    assert await filled.fetchval("SELECT to_regclass('pg_temp.sample_clients')") is None
    assert await filled.fetchval("SELECT to_regprocedure('pg_temp.draw(bigint, bigint)')") is None


BREAKAGES = [
    *((f"DROP INDEX {name}", {f"index {name}"}) for name in INDEXES),
    (
        """
        DROP INDEX idx_client_health_client_name;
        CREATE INDEX idx_client_health_client_name ON client_health_summary (client_name)
        """,
        {"index idx_client_health_client_name"},
    ),
    (
        "DROP INDEX idx_client_health_score; CREATE INDEX idx_client_health_score ON client_health_summary (health_score)",
        {"index idx_client_health_score"},
    ),
    *(
        (f"ALTER TABLE {table} DROP CONSTRAINT {name}", {f"foreign key {name}"})
        for table, name in (
            ("nps_responses", "fk_nps_responses_client"),
            ("unified_meetings", "fk_unified_meetings_client"),
            ("actions", "fk_actions_client"),
            ("segmentation_events", "fk_segmentation_events_client"),
            ("segmentation_event_compliance", "fk_event_compliance_client"),
        )
    ),
    (
        """
        ALTER TABLE actions DROP CONSTRAINT fk_actions_client, ADD CONSTRAINT fk_actions_client
            FOREIGN KEY ("Client") REFERENCES nps_clients (client_name) ON UPDATE CASCADE ON DELETE CASCADE
        """,
        {"foreign key fk_actions_client"},
    ),
    (
        """
        ALTER TABLE actions DROP CONSTRAINT fk_actions_client, ADD CONSTRAINT fk_actions_client
            FOREIGN KEY ("Client") REFERENCES nps_clients (client_name) ON UPDATE CASCADE ON DELETE RESTRICT NOT VALID
        """,
        {"foreign key fk_actions_client"},
    ),
    *((f"SELECT afresh.unwatch('{table}')", {f"watch on {table}"}) for table in TABLES),
    ("ALTER TABLE nps_responses DISABLE TRIGGER USER", {"watch on nps_responses"}),
    (
        "REFRESH MATERIALIZED VIEW client_health_summary WITH NO DATA",
        {
            "materialized view client_health_summary",
            "rows in client_health_summary",
            "client_health_summary equals client_health_summary_live",
        },
    ),
    (
        "DROP MATERIALIZED VIEW event_compliance_summary",
        {
            "materialized view event_compliance_summary",
            *(f"index {name}" for name in INDEXES[5:]),
            "rows in event_compliance_summary",
            "event_compliance_summary equals event_compliance_summary_live",
        },
    ),
    (
        "DROP VIEW client_health_summary_live CASCADE",
        {
            "materialized view client_health_summary",
            *(f"index {name}" for name in INDEXES[:5]),
            "rows in client_health_summary",
            "client_health_summary equals client_health_summary_live",
        },
    ),
    (
        "INSERT INTO nps_clients (client_name) VALUES ('New Ltd')",
        {
            "rows in client_health_summary",
            "client_health_summary equals client_health_summary_live",
            "event_compliance_summary equals event_compliance_summary_live",
        },
    ),
    (
        "UPDATE unified_meetings SET meeting_date = meeting_date - 1000",
        {"client_health_summary equals client_health_summary_live"},
    ),
    (
        "UPDATE segmentation_events SET completed = NOT completed",
        {"event_compliance_summary equals event_compliance_summary_live"},
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


async def test_verify_says_what_it_found(filled: asyncpg.Connection) -> None:
    await filled.execute("ALTER TABLE actions DROP CONSTRAINT fk_actions_client")
    await filled.execute("SELECT afresh.unwatch('actions')")
    found = {row["check"]: row["found"] for row in await filled.fetch(PACK.read("verify.sql"))}
    assert found["foreign key fk_actions_client"] == "missing"
    assert found["watch on actions"] == "nothing"
    assert found["rows in client_health_summary"] == "50"
    assert found["client_health_summary equals client_health_summary_live"] == "0 rows differ"


async def test_verify_works_without_public_on_the_search_path(filled: asyncpg.Connection) -> None:
    await filled.execute("SET search_path = ''")
    assert await failed_checks(filled) == set()


async def test_verify_works_where_nothing_is_installed(db: asyncpg.Connection) -> None:
    await db.execute("DROP VIEW client_health_summary_live, event_compliance_summary_live CASCADE")
    await db.execute(f"DROP TABLE {', '.join(TABLES)} CASCADE")
    assert len(await failed_checks(db)) == 30


async def identity_of_rows(db: asyncpg.Connection, view: str) -> Any:
    """Where every row of the view lies and which transaction wrote it: a rewritten row has both changed."""
    return await db.fetch(f"SELECT ctid::text, xmin::text FROM {view} ORDER BY ctid")


@pytest.mark.parametrize("view", VIEWS)
async def test_a_concurrent_refresh_with_unchanged_data_rewrites_no_row(filled: asyncpg.Connection, view: str) -> None:
    before = await identity_of_rows(filled, view)
    day = await filled.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date")
    await filled.execute("SET TimeZone = 'Pacific/Kiritimati'")
    # An update without any change moves the rows in the tables, and so the order in which they are read.
    for table in TABLES:
        await filled.execute(f"UPDATE {table} SET updated_at = updated_at WHERE id % 2 = 0")
    await filled.execute(f"REFRESH MATERIALIZED VIEW CONCURRENTLY {view}")
    if await filled.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date") == day:
        assert await identity_of_rows(filled, view) == before


async def test_a_concurrent_refresh_rewrites_only_the_client_who_changed(filled: asyncpg.Connection) -> None:
    subject = await filled.fetchval(PACK.read("demo/subject.sql"))
    others = "SELECT ctid::text, xmin::text FROM client_health_summary WHERE client_name <> $1 ORDER BY ctid"
    day = await filled.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date")
    before = await filled.fetch(others, subject)
    await filled.execute(PACK.read("demo/change.sql"), subject)
    await refresh(filled)
    if await filled.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date") == day:
        assert await filled.fetch(others, subject) == before


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


LARGE = set(TABLES) - {"segmentation_tiers", "segmentation_event_types", "tier_event_requirements"}


async def test_a_condition_on_the_client_reaches_every_large_table_by_index(db: asyncpg.Connection) -> None:
    await load_sample(db, 2000)
    # The statistics of `sample.sql` are enough for these plans; what vacuum would add makes them only cheaper.
    name = await db.fetchval("SELECT client_name FROM nps_clients LIMIT 1 OFFSET 1000")
    conditions = (
        ("{view}_live AS v WHERE v.client_name = $1", name),
        ("{view}_live AS v WHERE v.client_name = ANY ($1)", [name, "nobody"]),
        ("(SELECT DISTINCT unnest($1::text[]) AS client_name) AS k JOIN {view}_live AS v USING (client_name)", [name]),
    )
    reached: Counter[str] = Counter()
    for view in VIEWS:
        for condition, value in conditions:
            statement = f"SELECT * FROM {condition.format(view=view)}"
            assert await db.fetch(statement, value)
            plan = json.loads(await db.fetchval(f"EXPLAIN (FORMAT json) {statement}", value))
            found = [(kind, table) for kind, table in scans(plan) if table in LARGE]
            assert {kind for kind, _ in found} <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}, plan
            reached.update(table for _, table in found)
            assert not any(part in json.dumps(plan) for part in ("CTE Scan", "WindowAgg")), plan
    assert set(reached) == LARGE


async def test_demo_change_shows_in_the_subject_s_row_every_time(filled: asyncpg.Connection) -> None:
    subject = await filled.fetchval(PACK.read("demo/subject.sql"))
    row = PACK.read("demo/row.sql")
    before = await filled.fetchrow(row, subject)
    assert before is not None
    assert before["client_name"] == subject
    for _ in range(6):
        assert await filled.execute(PACK.read("demo/change.sql"), subject) == "UPDATE 1"
        await refresh(filled)
        after = await filled.fetchrow(row, subject)
        assert after is not None
        assert (after["nps_score"], after["health_score"]) != (before["nps_score"], before["health_score"])
        assert after["health_score"] != before["health_score"]
        before = after


@pytest.mark.parametrize("score", range(11))
async def test_demo_change_shows_whatever_the_score_was(filled: asyncpg.Connection, score: int) -> None:
    await filled.execute("UPDATE nps_responses SET score = $1", score)
    subject = await filled.fetchval(PACK.read("demo/subject.sql"))
    live = "SELECT health_score FROM client_health_summary_live WHERE client_name = $1"
    before = await filled.fetchval(live, subject)
    await filled.execute(PACK.read("demo/change.sql"), subject)
    assert await filled.fetchval(live, subject) != before


async def test_demo_subject_answered_within_the_year(db: asyncpg.Connection) -> None:
    assert await db.fetchval(PACK.read("demo/subject.sql")) is None
    await db.execute("""
        INSERT INTO nps_clients (client_name) VALUES ('A never asked'), ('B asked long ago'), ('C asked'), ('D asked');
        INSERT INTO nps_responses (client_name, score, response_date)
        VALUES ('B asked long ago', 9, current_date - 400), ('C asked', 9, current_date - 10), ('D asked', 9, current_date)
    """)
    assert await db.fetchval(PACK.read("demo/subject.sql")) == "C asked"


async def test_demo_traffic_changes_something_each_time_in_every_busy_table(db: asyncpg.Connection) -> None:
    await load_sample(db, 5)
    statement = await db.prepare(PACK.read("demo/traffic.sql"))
    changed: Counter[str] = Counter()
    for number in range(400):
        await db.execute("SELECT setseed($1)", number / 400)
        async with db.transaction():
            await statement.fetch()
            assert await db.fetchval("SELECT pg_current_xact_id_if_assigned()") is not None
            xid = await db.fetchval("SELECT pg_current_xact_id()::xid")
            for table in LARGE:
                changed[table] += await db.fetchval(f"SELECT count(*) FROM {table} WHERE xmin = $1", xid)
    assert set(+changed) == LARGE
    assert (
        await db.fetchval("SELECT max(n) FROM (SELECT count(*) AS n FROM nps_responses GROUP BY client_name) AS t")
        <= 12
    )
    assert (
        await db.fetchval("SELECT max(n) FROM (SELECT count(*) AS n FROM unified_meetings GROUP BY client_name) AS t")
        <= 20
    )
    assert await db.fetchval('SELECT max(n) FROM (SELECT count(*) AS n FROM actions GROUP BY "Client") AS t') <= 15
    await refresh(db)
    assert await failed_checks(db) == set()


async def test_demo_traffic_does_nothing_where_there_are_no_clients(db: asyncpg.Connection) -> None:
    async with db.transaction():
        await db.execute(PACK.read("demo/traffic.sql"))
        assert await db.fetchval("SELECT pg_current_xact_id_if_assigned()") is None


async def test_demo_traffic_changes_something_for_clients_without_records_too(db: asyncpg.Connection) -> None:
    await load_sample(db, 3)
    await db.execute("TRUNCATE nps_responses, actions, segmentation_events, segmentation_event_compliance")
    for number in range(60):
        await db.execute("SELECT setseed($1)", number / 60)
        async with db.transaction():
            await db.execute(PACK.read("demo/traffic.sql"))
            assert await db.fetchval("SELECT pg_current_xact_id_if_assigned()") is not None
