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


BASE_INDEXES = (
    "idx_nps_responses_client_date",
    "idx_unified_meetings_client_date",
    "idx_actions_client_status",
    "idx_segmentation_events_client_year",
)

#: Each formula as it is defined, and what it returns.
FORMULAS = {
    "nps_score(promoters bigint, detractors bigint, responses bigint)": "numeric",
    "action_is_open(status text)": "boolean",
    "action_is_completed(status text)": "boolean",
    "client_health_nps_part(nps numeric)": "numeric",
    "client_health_engagement_part(held bigint, held_lately bigint, days_since_last integer)": "numeric",
    "client_health_compliance_part(percentage numeric)": "numeric",
    "client_health_actions_part(open_actions bigint, overdue_actions bigint, completed_actions bigint)": "numeric",
    "client_health_score(nps_part numeric, engagement_part numeric, compliance_part numeric, actions_part numeric)": (
        "numeric"
    ),
    "client_health_status(health_score numeric)": "text",
    "compliance_percentage(actual_count bigint, expected_count bigint)": "numeric",
    "compliance_status(percentage numeric)": "text",
    "overall_compliance_score(compliant_event_types bigint, event_types bigint)": "numeric",
}

FIGURES = ("client_nps", "client_meetings", "client_actions", "client_compliance", "client_event_types")

#: The tables under policies, and which they have besides those that all have.
POLICIES = {
    "nps_clients": ("cse", "cse_update"),
    **dict.fromkeys(
        ("nps_responses", "unified_meetings", "actions", "segmentation_events", "segmentation_event_compliance"),
        ("cse",),
    ),
    **dict.fromkeys(("segmentation_tiers", "segmentation_event_types", "tier_event_requirements"), ("everybody",)),
}


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
    assert len(rows) == 132
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
    *((f"DROP INDEX {name}", {f"index {name}"}) for name in (*INDEXES, *BASE_INDEXES)),
    (
        "ALTER TABLE segmentation_event_compliance DROP CONSTRAINT idx_segmentation_compliance_client_year",
        {"index idx_segmentation_compliance_client_year"},
    ),
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
        "DROP MATERIALIZED VIEW event_compliance_summary CASCADE",
        {
            "materialized view event_compliance_summary",
            "grants on event_compliance_summary",
            "grants on my_event_compliance",
            *(f"index {name}" for name in INDEXES[5:]),
            "rows in event_compliance_summary",
            "event_compliance_summary equals event_compliance_summary_live",
        },
    ),
    (
        "DROP VIEW client_health_summary_live CASCADE",
        {
            "materialized view client_health_summary",
            *(f"function {name}" for name in ("client_nps", "client_meetings", "client_actions", "client_compliance")),
            "grants on client_health_summary",
            "grants on client_health_summary_live",
            "grants on my_client_health",
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


def signature(formula: str) -> str:
    """`nps_score(a bigint, b bigint)` as the catalogue and the checks name it: `nps_score(bigint, bigint)`."""
    name, _, arguments = formula.rstrip(")").partition("(")
    return f"{name}({', '.join(argument.split()[-1] for argument in arguments.split(', '))})"


@pytest.mark.parametrize("formula", FORMULAS)
async def test_a_formula_that_is_missing_or_another_one_fails_its_check(
    filled: asyncpg.Connection, formula: str
) -> None:
    check = f"function {signature(formula)}"
    await filled.execute(
        f"CREATE OR REPLACE FUNCTION {formula} RETURNS {FORMULAS[formula]} LANGUAGE sql IMMUTABLE"
        f" RETURN NULL::{FORMULAS[formula]}"
    )
    assert check in await failed_checks(filled)
    async with filled.transaction():
        await filled.execute(f"DROP FUNCTION {signature(formula)} CASCADE")
        assert check in await failed_checks(filled)


@pytest.mark.parametrize("change", ["STRICT", "SECURITY DEFINER", "SET search_path = public", "VOLATILE"])
async def test_a_function_that_would_be_called_for_each_row_fails_its_check(
    filled: asyncpg.Connection, change: str
) -> None:
    await filled.execute(f"ALTER FUNCTION compliance_status(numeric) {change}")
    await filled.execute(f"ALTER FUNCTION client_nps {change}")
    await filled.execute(f"ALTER FUNCTION client_event_types {change}")
    # Called with a NULL for the last day, a strict one gives no row at all: the view is another one then.
    failed = {check for check in await failed_checks(filled) if not check.startswith("client_health_summary equals")}
    assert failed == {
        "function compliance_status(numeric)",
        "function client_nps",
        "function client_event_types",
    }


@pytest.mark.parametrize("name", FIGURES)
async def test_a_missing_function_of_figures_fails_its_check(filled: asyncpg.Connection, name: str) -> None:
    await filled.execute(f"DROP FUNCTION {name} CASCADE")
    assert f"function {name}" in await failed_checks(filled)


@pytest.mark.parametrize("name", ["claim(text)", "sees_all()", "own_cse()", "owns_summary()"])
async def test_a_function_of_claims_that_is_missing_or_another_one_fails_its_check(
    filled: asyncpg.Connection, name: str
) -> None:
    check = f"function client_health_{name}"
    await filled.execute(f"ALTER FUNCTION client_health_{name} SECURITY DEFINER")
    assert await failed_checks(filled) == {check}
    await filled.execute(f"ALTER FUNCTION client_health_{name} SECURITY INVOKER")
    async with filled.transaction():
        await filled.execute(f"DROP FUNCTION client_health_{name} CASCADE")
        assert check in await failed_checks(filled)
    arguments, kind = ("(name text)", "text") if name == "claim(text)" else ("()", "boolean")
    if name != "own_cse()":
        await filled.execute(
            f"CREATE FUNCTION client_health_{name.partition('(')[0]}{arguments} RETURNS {kind} LANGUAGE sql"
            f" RETURN NULL::{kind}"
        )
        assert check in await failed_checks(filled)


@pytest.mark.parametrize("name", ["protect", "unprotect"])
async def test_a_function_that_sets_policies_is_checked(filled: asyncpg.Connection, name: str) -> None:
    check = f"function client_health_{name}(regclass)"
    await filled.execute(f"GRANT EXECUTE ON FUNCTION client_health_{name} TO anon")
    assert await failed_checks(filled) == {check}
    await filled.execute(f"DROP FUNCTION client_health_{name}")
    assert await failed_checks(filled) == {check}


@pytest.mark.parametrize("table", POLICIES)
async def test_each_policy_is_checked_by_its_name_and_what_it_says(filled: asyncpg.Connection, table: str) -> None:
    for name in ("manager", "service_role", "summary_owner", *POLICIES[table]):
        policy = f"client_health_{name}"
        check = f"policy {policy} on {table}"
        for statement in (
            f"DROP POLICY {policy} ON {table}",
            f"ALTER POLICY {policy} ON {table} USING (1 = 1)",
            f"ALTER POLICY {policy} ON {table} TO anon",
        ):
            transaction = filled.transaction()
            await transaction.start()
            await filled.execute(statement)
            # A table without its policy for service_role is still of the pack's making.
            assert await failed_checks(filled) == {check}, statement
            await transaction.rollback()


@pytest.mark.parametrize("table", POLICIES)
async def test_a_table_that_lies_open_fails_its_checks(filled: asyncpg.Connection, table: str) -> None:
    await filled.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    assert await failed_checks(filled) == {f"row-level security on {table}"}
    await filled.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; GRANT SELECT ON {table} TO anon")
    assert await failed_checks(filled) == {f"grants on {table}"}
    await filled.execute(f"REVOKE SELECT ON {table} FROM anon; CREATE POLICY mine ON {table} USING (true)")
    assert await failed_checks(filled) == {f"other policies on {table}"}


@pytest.mark.parametrize(
    "view", [*VIEWS, *(f"{view}_live" for view in VIEWS), "my_client_health", "my_event_compliance"]
)
async def test_a_summary_that_lies_open_fails_its_check(filled: asyncpg.Connection, view: str) -> None:
    await filled.execute(f"GRANT SELECT ON {view} TO PUBLIC")
    assert await failed_checks(filled) == {f"grants on {view}"}
    await filled.execute(f"REVOKE SELECT ON {view} FROM PUBLIC")
    if view not in VIEWS and not (view.endswith("_live") and filled.get_server_version().major < 15):
        option = "security_barrier" if view.startswith("my_") else "security_invoker"
        await filled.execute(f"ALTER VIEW {view} RESET ({option})")
        assert await failed_checks(filled) == {f"grants on {view}"}


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
    await db.execute("DROP FUNCTION client_health_protect, client_health_unprotect, client_health_claim CASCADE")
    formulas = await db.fetch(
        "SELECT oid::regprocedure AS name FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    )
    for row in formulas:
        await db.execute(f"DROP FUNCTION IF EXISTS {row['name']} CASCADE")
    # The roles are the cluster's, and no job is needed; the engine's own function went with the rest.
    rows = await db.fetch(PACK.read("verify.sql"))
    assert {row["check"] for row in rows if row["ok"]} == {
        "role anon",
        "role authenticated",
        "role service_role",
        "jobs of pg_cron",
    }
    assert len(rows) == 132


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
