"""The pack ``client_health`` at work: its settings, sample data, checks, demo, plans and refreshes."""

from __future__ import annotations

import json
from collections import Counter

import asyncpg
import pytest

from packs.client_health_support import CLIENT_HEALTH, LARGE, PACK, TABLES, VIEWS, failed_checks, load_sample, refresh
from packs.every_pack import identity_of_rows, scans, undone

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


async def test_each_broken_thing_fails_its_own_checks_and_no_others(filled: asyncpg.Connection) -> None:
    await CLIENT_HEALTH.fails_exactly(filled, BREAKAGES)


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
            async with undone(filled):
                await filled.execute(statement)
                # A table without its policy for service_role is still of the pack's making.
                assert await failed_checks(filled) == {check}, statement


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


async def test_a_concurrent_refresh_rewrites_only_the_client_who_changed(filled: asyncpg.Connection) -> None:
    subject = await filled.fetchval(PACK.read("demo/subject.sql"))
    others = "client_health_summary", "client_name <> $1", subject
    day = await filled.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date")
    before = await identity_of_rows(filled, *others)
    await filled.execute(PACK.read("demo/change.sql"), subject)
    await refresh(filled)
    if await filled.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date") == day:
        assert await identity_of_rows(filled, *others) == before


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


async def test_demo_traffic_changes_something_for_clients_without_records_too(db: asyncpg.Connection) -> None:
    await load_sample(db, 3)
    await db.execute("TRUNCATE nps_responses, actions, segmentation_events, segmentation_event_compliance")
    for number in range(60):
        await db.execute("SELECT setseed($1)", number / 60)
        async with db.transaction():
            await db.execute(PACK.read("demo/traffic.sql"))
            assert await db.fetchval("SELECT pg_current_xact_id_if_assigned()") is not None
