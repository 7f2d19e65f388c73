"""The functions of ``client_health``: what each answers by hand, and that the views hold the same and call none of them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from afresh_notifier.resources import query
from conftest import ServerUnderTest
from packs.client_health_support import VIEWS, load_sample, pack_down, pack_up

FUNCTIONS = (
    "nps_score",
    "action_is_open",
    "action_is_completed",
    "client_health_nps_part",
    "client_health_engagement_part",
    "client_health_compliance_part",
    "client_health_actions_part",
    "client_health_score",
    "client_health_status",
    "compliance_percentage",
    "compliance_status",
    "overall_compliance_score",
    "client_nps",
    "client_meetings",
    "client_actions",
    "client_compliance",
    "client_event_types",
)


@pytest.fixture
async def db(server: ServerUnderTest, pack_template: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection in a transaction, in which today stays the same day; nothing of it remains."""
    connection = await asyncpg.connect(server.dsn(pack_template))
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("nps_score(0, 0, 0)", None),
        ("nps_score(1, 0, 1)", 100),
        ("nps_score(0, 3, 3)", -100),
        ("round(nps_score(1, 2, 3), 2)", Decimal("-33.33")),
        ("nps_score(NULL, 0, 1)", None),
        ("action_is_open(NULL)", True),
        ("action_is_open('')", True),
        ("action_is_open('waiting')", True),
        ("action_is_open('cLoSeD')", False),
        ("action_is_open('Cancelled')", False),
        ("action_is_open(' done')", True),
        ("action_is_completed(NULL)", False),
        ("action_is_completed('Completed')", True),
        ("action_is_completed('canceled')", False),
        ("client_health_nps_part(NULL)", 50),
        ("client_health_nps_part(-100)", 0),
        ("client_health_nps_part(0)", 50),
        ("client_health_nps_part(100)", 100),
        ("client_health_engagement_part(0, 0, NULL)", 50),
        ("client_health_engagement_part(9, 9, 0)", 100),
        ("client_health_engagement_part(3, 3, 30)", 100),
        ("client_health_engagement_part(1, 0, 120)", 0),
        ("client_health_engagement_part(1, 0, 2000000000)", 0),
        ("round(client_health_engagement_part(1, 1, 75), 2)", Decimal("41.67")),
        ("client_health_compliance_part(NULL)", 50),
        ("client_health_compliance_part(0)", 0),
        ("client_health_actions_part(0, 0, 0)", 50),
        ("client_health_actions_part(0, 0, 7)", 100),
        ("client_health_actions_part(4, 1, 7)", 75),
        ("client_health_actions_part(4, 4, 0)", 0),
        ("client_health_score(0, 0, 0, 0)", 0),
        ("client_health_score(100, 100, 100, 100)", 100),
        ("client_health_score(50, 50, 50, 50)", 50),
        ("client_health_score(33.335, 0, 0, 0)", Decimal("8.33")),
        ("client_health_score(33.34, 0, 0, 0)", Decimal("8.34")),
        ("client_health_score(NULL, 1, 1, 1)", None),
        ("client_health_status(70)", "healthy"),
        ("client_health_status(69.99)", "at-risk"),
        ("client_health_status(50)", "at-risk"),
        ("client_health_status(49.99)", "critical"),
        ("client_health_status(NULL)", None),
        ("compliance_percentage(0, 3)", 0),
        ("compliance_percentage(3, 3)", 100),
        ("compliance_percentage(5, 0)", None),
        ("trunc(compliance_percentage(29999, 30000), 2)", Decimal("99.99")),
        ("compliance_status(0)", "critical"),
        ("compliance_status(49.9999)", "critical"),
        ("compliance_status(50)", "at-risk"),
        ("compliance_status(compliance_percentage(29999, 30000))", "at-risk"),
        ("compliance_status(100)", "compliant"),
        ("compliance_status(100.0001)", "exceeded"),
        ("compliance_status(NULL)", "not-required"),
        ("overall_compliance_score(0, 0)", None),
        ("overall_compliance_score(0, 3)", 0),
        ("overall_compliance_score(2, 3)", Decimal("66.67")),
        ("overall_compliance_score(3, 3)", 100),
    ],
)
async def test_formula(db: asyncpg.Connection, call: str, answer: Any) -> None:
    assert await db.fetchval(f"SELECT {call}") == answer


@pytest.mark.parametrize("view", VIEWS)
async def test_no_function_is_called_in_a_view_s_plan(db: asyncpg.Connection, view: str) -> None:
    """PostgreSQL has put each body in the place of the call: a refresh costs what it would with everything written out."""
    await load_sample(db, 20)
    plan = "\n".join(row[0] for row in await db.fetch(f"EXPLAIN (VERBOSE) SELECT * FROM {view}_live"))
    assert not re.findall(rf"\b(?:{'|'.join(FUNCTIONS)})\(", plan)
    assert "Function Scan" not in plan


async def test_the_views_hold_what_the_functions_answer(db: asyncpg.Connection) -> None:
    await load_sample(db, 300)
    differences = await db.fetch("""
        WITH by_hand AS (
            SELECT
                c.client_name, round(n.score, 2) AS nps_score, n.promoters, n.passives, n.detractors, n.responses,
                n.responses_ever, n.last_response_date, m.held, m.held_lately, m.last_meeting_date, m.next_meeting_date,
                a.open_actions, a.overdue_actions, a.completed_actions, k.year, k.event_types,
                round(k.percentage, 2) AS percentage, s.score, client_health_status(s.score) AS status
            FROM nps_clients AS c, client_nps(c.client_name) AS n, client_meetings(c.client_name) AS m,
                client_actions(c.client_name) AS a, client_compliance(c.client_name) AS k,
                LATERAL (SELECT client_health_score(
                    client_health_nps_part(n.score),
                    client_health_engagement_part(
                        m.held, m.held_lately, (now() AT TIME ZONE 'UTC')::date - m.last_meeting_date
                    ),
                    client_health_compliance_part(k.percentage),
                    client_health_actions_part(a.open_actions, a.overdue_actions, a.completed_actions)
                )) AS s (score)
        ),
        in_view AS (
            SELECT client_name, nps_score, promoters, passives, detractors, response_count, response_count_ever,
                last_response_date, meeting_count, meeting_count_90_days, last_meeting_date, next_meeting_date,
                open_actions, overdue_actions, completed_actions, compliance_year, compliance_event_types,
                compliance_percentage,
                health_score, status
            FROM client_health_summary_live
        )
        (TABLE by_hand EXCEPT ALL TABLE in_view) UNION ALL (TABLE in_view EXCEPT ALL TABLE by_hand)
    """)
    assert differences == []
    differences = await db.fetch("""
        WITH by_hand AS (
            SELECT v.client_name, v.year, e.score, compliance_status(e.score) AS status, e.owed, e.held, e.events
            FROM event_compliance_summary_live AS v
            JOIN nps_clients AS c USING (client_name)
            CROSS JOIN LATERAL (
                SELECT overall_compliance_score(
                        count(*) FILTER (WHERE t.percentage >= 100), count(*) FILTER (WHERE t.expected_count IS NOT NULL)
                    ) AS score,
                    sum(t.expected_count) AS owed, sum(t.actual_count) AS held,
                    jsonb_agg(t.status ORDER BY t.event_name) FILTER (WHERE t.expected_count IS NOT NULL) AS events
                FROM client_event_types(c.client_name, c.segment, v.year) AS t
            ) AS e
        ),
        in_view AS (
            SELECT client_name, year, overall_compliance_score, overall_status, expected_event_count,
                actual_event_count + other_event_count, jsonb_path_query_array(event_compliance, '$[*].status')
            FROM event_compliance_summary_live
        )
        (TABLE by_hand EXCEPT ALL TABLE in_view) UNION ALL (TABLE in_view EXCEPT ALL TABLE by_hand)
    """)
    assert differences == []


async def add_responses(db: asyncpg.Connection, *answers: tuple[str, int]) -> None:
    await db.execute("INSERT INTO nps_clients (client_name) VALUES ('Acme'), ('Other')")
    await db.execute("INSERT INTO nps_responses (client_name, score, response_date) VALUES ('Other', 0, '2024-02-02')")
    await db.executemany(
        "INSERT INTO nps_responses (client_name, score, response_date) VALUES ('Acme', $2, $1)",
        [(date.fromisoformat(day), score) for day, score in answers],
    )


@pytest.mark.parametrize(
    ("first", "last", "responses", "score"),
    [
        ("2024-01-01", "2024-03-31", 3, "33.33"),
        ("2024-01-02", "2024-03-31", 2, "0.00"),
        ("2024-01-01", "2024-03-30", 2, "100.00"),
        ("2024-01-01", "2024-01-01", 1, "100.00"),
        (None, "2024-01-01", 2, "0.00"),
        ("2024-03-31", None, 2, "0.00"),
        (None, None, 5, "20.00"),
        ("2025-01-01", "2024-01-01", 0, None),
        ("1900-01-01", "1900-12-31", 0, None),
    ],
)
async def test_nps_from_one_day_to_another(
    db: asyncpg.Connection, first: str | None, last: str | None, responses: int, score: str | None
) -> None:
    await add_responses(
        db, ("2023-12-31", 0), ("2024-01-01", 10), ("2024-02-01", 9), ("2024-03-31", 6), ("2024-04-01", 10)
    )
    row = await db.fetchrow(
        "SELECT * FROM client_nps('Acme', $1, $2)",
        first and date.fromisoformat(first),
        last and date.fromisoformat(last),
    )
    assert row is not None
    assert (row["responses"], row["responses_ever"], row["last_response_date"]) == (responses, 5, date(2024, 4, 1))
    assert row["promoters"] + row["passives"] + row["detractors"] == responses
    assert (row["score"] and round(row["score"], 2)) == (score and Decimal(score))


async def test_nps_without_days_is_that_of_the_view(db: asyncpg.Connection) -> None:
    today = await db.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date")
    ages = {365: 0, 364: 10, 0: 10, -3: 0}
    await add_responses(db, *((f"{today - timedelta(days=age)}", score) for age, score in ages.items()))
    assert tuple(await db.fetchrow("SELECT responses, round(score, 2) FROM client_nps('Acme')") or ()) == (
        3,
        Decimal("33.33"),
    )


async def test_nps_of_a_segment_is_put_together_from_the_summary(db: asyncpg.Connection) -> None:
    await load_sample(db, 100)
    rows = await db.fetch("""
        SELECT segment, round(nps_score(sum(promoters), sum(detractors), sum(response_count)), 2) AS summed, (
            SELECT round(100.0 * sum(CASE WHEN r.score >= 9 THEN 1 WHEN r.score >= 7 THEN 0 ELSE -1 END) / count(*), 2)
            FROM nps_responses AS r JOIN nps_clients AS c USING (client_name)
            WHERE c.segment = v.segment AND r.response_date > (now() AT TIME ZONE 'UTC')::date - 365
        ) AS counted
        FROM client_health_summary_live AS v GROUP BY segment
    """)
    assert len(rows) == 4
    assert all(row["summed"] == row["counted"] for row in rows)


@pytest.mark.parametrize("name", ["nobody", "", None, "Robert'); DROP TABLE nps_clients; --"])
async def test_a_client_without_records_has_figures_of_none(db: asyncpg.Connection, name: str | None) -> None:
    await load_sample(db, 5)
    assert tuple(await db.fetchrow("SELECT * FROM client_nps($1)", name) or ()) == (0, 0, 0, 0, None, 0, None)
    assert tuple(await db.fetchrow("SELECT * FROM client_meetings($1)", name) or ()) == (0, 0, None, None)
    assert tuple(await db.fetchrow("SELECT * FROM client_actions($1)", name) or ()) == (0, 0, 0)
    assert tuple(await db.fetchrow("SELECT * FROM client_compliance($1)", name) or ()) == (None, 0, None)
    assert await db.fetch("SELECT * FROM client_event_types($1, NULL, 2024)", name) == []


async def test_event_types_that_are_not_owed_have_neither_name_nor_number(db: asyncpg.Connection) -> None:
    await db.execute("""
        INSERT INTO nps_clients (client_name, segment) VALUES ('Acme', 'Gold');
        INSERT INTO segmentation_tiers (tier_name) VALUES ('Gold');
        INSERT INTO segmentation_event_types (event_name) VALUES ('owed'), ('not owed'), ('owed none');
        INSERT INTO tier_event_requirements (tier_id, event_type_id, expected_count)
            SELECT t.id, e.id, CASE event_name WHEN 'owed' THEN 4 ELSE 0 END
            FROM segmentation_tiers AS t, segmentation_event_types AS e WHERE event_name <> 'not owed';
        INSERT INTO segmentation_events (client_name, event_type_id, event_date, completed)
            SELECT 'Acme', id, '2024-05-05', true FROM segmentation_event_types;
    """)
    rows = await db.fetch(
        "SELECT * FROM client_event_types('Acme', 'Gold', 2024) ORDER BY expected_count, event_type_id"
    )
    assert [tuple(row)[1:] for row in rows] == [
        ("owed", 4, 1, 25, "critical"),
        (None, None, 1, None, "not-required"),
        (None, None, 1, None, "not-required"),
    ]
    assert len(await db.fetch("SELECT * FROM client_event_types('Acme', 'Gold', 2023)")) == 1


async def test_nothing_on_the_search_path_or_in_front_of_it_is_read_instead(db: asyncpg.Connection) -> None:
    await add_responses(db, ("2024-01-01", 10))
    await db.execute("""
        CREATE TEMPORARY TABLE nps_responses (client_name text, score int, response_date date);
        CREATE FUNCTION pg_temp.nps_score(bigint, bigint, bigint) RETURNS numeric LANGUAGE sql RETURN -1::numeric;
        SET LOCAL search_path = ''
    """)
    assert await db.fetchval("SELECT score FROM public.client_nps('Acme', NULL, NULL)") == 100
    assert await db.fetchval("SELECT count(*) FROM public.client_health_summary_live") == 2


async def test_the_figures_are_of_whatever_types_a_database_had_before(
    server: ServerUnderTest, engine_template: str
) -> None:
    name = await server.create(engine_template)
    db = await asyncpg.connect(server.dsn(name))
    try:
        await db.execute("""
            CREATE TABLE nps_clients (
                id uuid, client_name char(20), segment varchar(20), cse name, created_at timestamptz, updated_at timestamptz
            );
            CREATE TABLE nps_responses (client_name char(20), score double precision, response_date timestamptz);
            CREATE TABLE segmentation_event_types (id uuid PRIMARY KEY, event_name varchar(40));
            CREATE TABLE segmentation_tiers (id text, tier_name varchar(20));
            CREATE TABLE tier_event_requirements (tier_id text, event_type_id uuid, expected_count numeric);
            INSERT INTO nps_clients (client_name, segment) VALUES ('Acme', 'Gold');
            INSERT INTO nps_responses VALUES ('Acme', 9.5, now());
            INSERT INTO segmentation_event_types VALUES ('00000000-0000-0000-0000-000000000001', 'Visit');
            INSERT INTO segmentation_tiers VALUES ('g', 'Gold');
            INSERT INTO tier_event_requirements VALUES ('g', '00000000-0000-0000-0000-000000000001', 2);
            CREATE TABLE segmentation_events (
                client_name char(20), event_type_id uuid, event_year bigint, completed boolean
            );
            INSERT INTO segmentation_events VALUES ('Acme', '00000000-0000-0000-0000-000000000001', 2024, true);
            CREATE TABLE segmentation_event_compliance (
                client_name char(20), event_type_id uuid, year smallint, compliance_percentage real
            );
        """)
        await pack_up(db)
        assert await db.fetchval("SELECT promoters FROM client_nps('Acme')") == 1
        assert await db.fetchval("SELECT nps_score FROM client_health_summary WHERE client_name = 'Acme'") == 100
        row = await db.fetchrow("SELECT * FROM client_event_types('Acme', 'Gold', 2024)")
        assert row is not None
        assert (row["event_name"], row["percentage"], row["status"]) == ("Visit", 50, "at-risk")
        array = await db.fetchval("SELECT event_compliance FROM event_compliance_summary WHERE year = 2024")
        assert '"event_type_id": "00000000-0000-0000-0000-000000000001"' in array
        for row in await db.fetch(query("catalogue")):
            assert row["opaque_functions"] == []
        await pack_down(db)
        assert await db.fetchval("SELECT count(*) FROM pg_proc WHERE proname = ANY ($1)", list(FUNCTIONS)) == 0
    finally:
        await db.close()
        await server.drop(name)


async def test_a_function_that_somebody_uses_is_not_taken_away(server: ServerUnderTest, pack_template: str) -> None:
    name = await server.create(pack_template)
    db = await asyncpg.connect(server.dsn(name))
    try:
        await db.execute("CREATE VIEW mine AS SELECT compliance_status(80) AS status")
        with pytest.raises(Exception, match="view mine depends on function compliance_status"):
            await pack_down(db)
        assert await db.fetchval("SELECT status FROM mine") == "at-risk"
    finally:
        await db.close()
        await server.drop(name)
