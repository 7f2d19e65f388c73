"""The formulas of ``client_health_summary`` and ``event_compliance_summary``, at their edges and against Python's own."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from datetime import date, timedelta
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

import asyncpg
import pytest

from conftest import ServerUnderTest
from packs.client_health_support import load_sample

CLIENT = "Müller & Söhne: \"quoted\" 'Ltd'"


@pytest.fixture(scope="module")
def database(pack_template: str) -> str:
    """Used by every test of this module, each inside a transaction of its own that is rolled back."""
    return pack_template


@pytest.fixture
async def db(server: ServerUnderTest, database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection in a transaction, in which today stays the same day; nothing of it remains."""
    connection = await asyncpg.connect(server.dsn(database))
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


async def today(db: asyncpg.Connection) -> date:
    day = await db.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date")
    assert isinstance(day, date)
    return day


async def add_client(db: asyncpg.Connection, name: str = CLIENT, segment: str | None = None) -> None:
    await db.execute("INSERT INTO nps_clients (client_name, segment) VALUES ($1, $2)", name, segment)


async def add_responses(db: asyncpg.Connection, *scores: int, age: int = 1) -> None:
    day = await today(db) - timedelta(days=age)
    await db.executemany(
        "INSERT INTO nps_responses (client_name, score, response_date) VALUES ($1, $2, $3)",
        [(CLIENT, score, day) for score in scores],
    )


async def add_meetings(db: asyncpg.Connection, *ages: int) -> None:
    day = await today(db)
    await db.executemany(
        "INSERT INTO unified_meetings (client_name, meeting_date) VALUES ($1, $2)",
        [(CLIENT, day - timedelta(days=age)) for age in ages],
    )


async def add_actions(db: asyncpg.Connection, *actions: tuple[str, int | None]) -> None:
    """Actions as their status and the days until they are due."""
    day = await today(db)
    await db.executemany(
        'INSERT INTO actions ("Client", "Status", "Due_Date") VALUES ($1, $2, $3)',
        [(CLIENT, status, None if due is None else day + timedelta(days=due)) for status, due in actions],
    )


async def add_compliance(db: asyncpg.Connection, *percentages: str, years_ago: int = 0) -> None:
    year = (await today(db)).year - years_ago
    for percentage in percentages:
        event_type = await add_event_type(db)
        await db.execute(
            "INSERT INTO segmentation_event_compliance (client_name, event_type_id, year, compliance_percentage, status)"
            " VALUES ($1, $2, $3, $4, 'at-risk')",
            CLIENT,
            event_type,
            year,
            Decimal(percentage),
        )


async def add_event_type(db: asyncpg.Connection, name: str | None = None) -> int:
    event_type = await db.fetchval(
        "INSERT INTO segmentation_event_types (event_name)"
        " VALUES (coalesce($1, 'type ' || (SELECT count(*) FROM segmentation_event_types))) RETURNING id",
        name,
    )
    assert isinstance(event_type, int)
    return event_type


async def add_requirement(db: asyncpg.Connection, expected: int, *, tier: str = "Gold", name: str | None = None) -> int:
    """A new event type that the tier is owed so many times a year; returns its id."""
    event_type = await add_event_type(db, name)
    await db.execute(
        "WITH made AS (INSERT INTO segmentation_tiers (tier_name) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id)"
        " INSERT INTO tier_event_requirements (tier_id, event_type_id, expected_count)"
        " SELECT id, $2, $3 FROM (SELECT id FROM made"
        "  UNION SELECT id FROM segmentation_tiers WHERE tier_name = $1) AS tier",
        tier,
        event_type,
        expected,
    )
    return event_type


async def add_events(
    db: asyncpg.Connection, event_type: int, count: int, *, years_ago: int = 0, completed: bool = True
) -> None:
    year = (await today(db)).year - years_ago
    await db.execute(
        "INSERT INTO segmentation_events (client_name, event_type_id, event_date, completed)"
        " SELECT $1, $2, make_date($3, 1, 1), $4 FROM generate_series(1, $5)",
        CLIENT,
        event_type,
        year,
        completed,
        count,
    )


async def health(db: asyncpg.Connection) -> asyncpg.Record:
    row = await db.fetchrow("SELECT * FROM client_health_summary_live WHERE client_name = $1", CLIENT)
    assert row is not None
    return row


async def compliance(db: asyncpg.Connection) -> list[asyncpg.Record]:
    """The client's rows, the latest year first."""
    return await db.fetch(
        "SELECT * FROM event_compliance_summary_live WHERE client_name = $1 ORDER BY year DESC", CLIENT
    )


@pytest.mark.parametrize(
    ("scores", "nps", "part"),
    [
        ((), None, "50"),
        ((0,), "-100", "0"),
        ((6, 6, 0), "-100", "0"),
        ((7,), "0", "50"),
        ((8,), "0", "50"),
        ((9,), "100", "100"),
        ((10, 9), "100", "100"),
        ((10, 0), "0", "50"),
        ((9, 9, 7), "66.67", "83.33"),
        ((9, 6, 6), "-33.33", "33.33"),
    ],
)
async def test_nps_part(db: asyncpg.Connection, scores: tuple[int, ...], nps: str | None, part: str) -> None:
    await add_client(db)
    await add_responses(db, *scores)
    row = await health(db)
    assert row["nps_score"] == (None if nps is None else Decimal(nps))
    assert row["nps_score_part"] == Decimal(part)
    assert row["promoters"] == sum(score >= 9 for score in scores)
    assert row["passives"] == sum(score in (7, 8) for score in scores)
    assert row["detractors"] == sum(score <= 6 for score in scores)
    assert row["response_count"] == len(scores)


async def test_only_responses_of_the_last_365_days_count(db: asyncpg.Connection) -> None:
    await add_client(db)
    await add_responses(db, 10, age=365)
    assert (await health(db))["nps_score_part"] == 50
    await add_responses(db, 0, age=364)
    row = await health(db)
    assert (row["nps_score_part"], row["response_count"], row["response_count_ever"]) == (0, 1, 2)
    assert row["last_response_date"] == await today(db) - timedelta(days=364)


async def test_a_response_dated_tomorrow_counts_at_once(db: asyncpg.Connection) -> None:
    await add_client(db)
    await add_responses(db, 10, age=-1)
    assert (await health(db))["nps_score_part"] == 100


@pytest.mark.parametrize(
    ("ages", "part"),
    [
        ((), "50"),
        ((-1, -40), "50"),
        ((0, 0, 0), "100"),
        ((0, 0, 0, 0), "100"),
        ((30, 31, 89), "100"),
        ((30, 31, 90), "83.33"),
        ((30,), "66.67"),
        ((31,), "66.11"),
        ((75,), "41.67"),
        ((89,), "33.89"),
        ((90,), "16.67"),
        ((119,), "0.56"),
        ((120,), "0"),
        ((3000,), "0"),
        ((0, -5), "66.67"),
    ],
)
async def test_engagement_part(db: asyncpg.Connection, ages: tuple[int, ...], part: str) -> None:
    await add_client(db)
    await add_meetings(db, *ages)
    row = await health(db)
    held = [age for age in ages if age >= 0]
    assert row["engagement_part"] == Decimal(part)
    assert row["meeting_count"] == len(held)
    assert row["meeting_count_90_days"] == sum(age < 90 for age in held)
    assert row["days_since_last_meeting"] == (min(held) if held else None)
    planned = [-age for age in ages if age < 0]
    assert row["next_meeting_date"] == (await today(db) + timedelta(days=min(planned)) if planned else None)


@pytest.mark.parametrize(
    ("percentages", "part"),
    [
        ((), "50"),
        (("0",), "0"),
        (("100",), "100"),
        (("250",), "100"),
        (("0", "250"), "50"),
        (("33.33", "33.33", "33.34"), "33.33"),
        (("99.99",), "99.99"),
    ],
)
async def test_compliance_part(db: asyncpg.Connection, percentages: tuple[str, ...], part: str) -> None:
    await add_client(db)
    await add_compliance(db, *percentages)
    row = await health(db)
    assert row["compliance_part"] == Decimal(part)
    assert row["compliance_percentage"] == (Decimal(part) if percentages else None)
    assert row["compliance_event_types"] == len(percentages)


async def test_compliance_is_that_of_the_latest_year_that_has_records(db: asyncpg.Connection) -> None:
    await add_client(db)
    await add_compliance(db, "10", years_ago=2)
    await add_compliance(db, "80", years_ago=1)
    await add_compliance(db, "5", years_ago=-1)
    row = await health(db)
    assert (row["compliance_part"], row["compliance_year"]) == (80, (await today(db)).year - 1)
    await add_compliance(db, "20", years_ago=0)
    row = await health(db)
    assert (row["compliance_part"], row["compliance_year"]) == (20, (await today(db)).year)


@pytest.mark.parametrize(
    ("actions", "part", "counts"),
    [
        ((), "50", (0, 0, 0)),
        ((("Cancelled", -9), ("canceled", None)), "50", (0, 0, 0)),
        ((("Completed", -9),), "100", (0, 0, 1)),
        ((("completed", -9), ("DONE", -1), ("Closed", None)), "100", (0, 0, 3)),
        ((("In Progress", 0),), "100", (1, 0, 0)),
        ((("In Progress", -1),), "0", (1, 1, 0)),
        ((("Not Started", None),), "100", (1, 0, 0)),
        ((("In Progress", -1), ("In Progress", 5), ("Completed", -9)), "50", (2, 1, 1)),
        ((("a", -1), ("b", -2), ("c", 2)), "33.33", (3, 2, 0)),
    ],
)
async def test_actions_part(
    db: asyncpg.Connection, actions: tuple[tuple[str, int | None], ...], part: str, counts: tuple[int, int, int]
) -> None:
    await add_client(db)
    await add_actions(db, *actions)
    row = await health(db)
    assert row["actions_part"] == Decimal(part)
    assert (row["open_actions"], row["overdue_actions"], row["completed_actions"]) == counts


async def test_a_client_without_any_data_is_at_risk_at_50(db: asyncpg.Connection) -> None:
    await add_client(db)
    row = await health(db)
    assert (row["health_score"], row["status"]) == (50, "at-risk")
    assert row["last_contact_date"] is None


GOOD = {"nps": 10, "meetings": (0, 0, 0), "compliance": "100", "actions": 1}
BAD = {"nps": 0, "meetings": (200,), "compliance": "0", "actions": -1}


async def add_figures(db: asyncpg.Connection, figures: dict[str, Any]) -> None:
    await add_client(db)
    await add_responses(db, figures["nps"])
    await add_meetings(db, *figures["meetings"])
    await add_compliance(db, figures["compliance"])
    await add_actions(db, ("Open", figures["actions"]))


@pytest.mark.parametrize(
    ("good", "score", "status"),
    [
        ((), 0, "critical"),
        (("nps",), 25, "critical"),
        (("meetings",), 25, "critical"),
        (("compliance",), 30, "critical"),
        (("actions",), 20, "critical"),
        (("nps", "meetings"), 50, "at-risk"),
        (("nps", "meetings", "actions"), 70, "healthy"),
        (("nps", "meetings", "compliance", "actions"), 100, "healthy"),
    ],
)
async def test_each_part_has_its_weight(db: asyncpg.Connection, good: tuple[str, ...], score: int, status: str) -> None:
    await add_figures(db, BAD | {name: GOOD[name] for name in good})
    row = await health(db)
    assert (row["health_score"], row["status"]) == (score, status)


@pytest.mark.parametrize(
    ("actions", "percentage", "score", "status"),
    [
        # NPS and engagement without data are worth 25 together; an open action in time 20, no action 10.
        ((("Open", 1),), "83.30", "69.99", "at-risk"),
        ((("Open", 1),), "83.33", "70.00", "healthy"),
        ((), "49.96", "49.99", "critical"),
        ((), "50.00", "50.00", "at-risk"),
    ],
)
async def test_health_status_changes_at_its_thresholds(
    db: asyncpg.Connection, actions: tuple[tuple[str, int], ...], percentage: str, score: str, status: str
) -> None:
    await add_client(db)
    await add_actions(db, *actions)
    await add_compliance(db, percentage)
    row = await health(db)
    assert (row["health_score"], row["status"]) == (Decimal(score), status)


@pytest.mark.parametrize(
    ("expected", "actual", "percentage", "status"),
    [
        (1, 0, "0", "critical"),
        (100, 49, "49", "critical"),
        (1000, 499, "49.9", "critical"),
        (2, 1, "50", "at-risk"),
        (3, 2, "66.66", "at-risk"),
        (10000, 9999, "99.99", "at-risk"),
        (30000, 29999, "99.99", "at-risk"),
        (1, 1, "100", "compliant"),
        (3, 3, "100", "compliant"),
        (30000, 30001, "100", "exceeded"),
        (1, 2, "200", "exceeded"),
    ],
)
async def test_event_status_changes_at_its_thresholds(
    db: asyncpg.Connection, expected: int, actual: int, percentage: str, status: str
) -> None:
    event_type = await add_requirement(db, expected, name="Health Check")
    await add_client(db, segment="Gold")
    await add_events(db, event_type, actual)
    (row,) = await compliance(db)
    (event,) = json.loads(row["event_compliance"], parse_float=Decimal, parse_int=Decimal)
    assert event == {
        "event_type_id": event_type,
        "event_type": "Health Check",
        "expected_count": expected,
        "actual_count": actual,
        "compliance_percentage": Decimal(percentage),
        "status": status,
    }
    assert (row["expected_event_count"], row["actual_event_count"]) == (expected, actual)


@pytest.mark.parametrize(
    ("reached", "types", "score", "status"),
    [
        (0, 3, "0", "critical"),
        (1, 3, "33.33", "critical"),
        (1, 2, "50", "at-risk"),
        (2, 3, "66.67", "at-risk"),
        (3, 3, "100", "compliant"),
    ],
)
async def test_overall_score_is_the_share_of_event_types_that_comply(
    db: asyncpg.Connection, reached: int, types: int, score: str, status: str
) -> None:
    await add_client(db, segment="Gold")
    for number in range(types):
        event_type = await add_requirement(db, 2)
        await add_events(db, event_type, 3 if number < reached else 1)
    (row,) = await compliance(db)
    assert (row["overall_compliance_score"], row["overall_status"]) == (Decimal(score), status)
    assert (row["event_type_count"], row["compliant_event_type_count"]) == (types, reached)


async def test_an_expected_count_of_zero_is_no_requirement(db: asyncpg.Connection) -> None:
    await add_client(db, segment="Gold")
    none_owed = await add_requirement(db, 0)
    owed = await add_requirement(db, 1)
    await add_events(db, none_owed, 4)
    (row,) = await compliance(db)
    assert (row["event_type_count"], row["overall_compliance_score"], row["other_event_count"]) == (1, 0, 4)
    assert [event["event_type_id"] for event in json.loads(row["event_compliance"])] == [owed]


@pytest.mark.parametrize("segment", [None, "no such tier", "Bare"])
async def test_a_client_who_is_owed_nothing_has_no_score(db: asyncpg.Connection, segment: str | None) -> None:
    await db.execute("INSERT INTO segmentation_tiers (tier_name) VALUES ('Bare')")
    await add_client(db, segment=segment)
    await add_events(db, await add_event_type(db), 2)
    (row,) = await compliance(db)
    assert (row["overall_compliance_score"], row["overall_status"]) == (None, "not-required")
    assert (row["event_type_count"], row["other_event_count"]) == (0, 2)
    assert json.loads(row["event_compliance"]) == []


async def test_years_run_from_the_first_event_to_this_year(db: asyncpg.Connection) -> None:
    await add_client(db, segment="Gold")
    event_type = await add_requirement(db, 1)
    this_year = (await today(db)).year
    assert [row["year"] for row in await compliance(db)] == [this_year]
    await add_events(db, event_type, 1, years_ago=3)
    rows = await compliance(db)
    assert [row["year"] for row in rows] == [this_year - back for back in range(4)]
    assert [row["overall_status"] for row in rows] == ["critical", "critical", "critical", "compliant"]


async def test_later_years_appear_with_their_first_completed_event(db: asyncpg.Connection) -> None:
    await add_client(db, segment="Gold")
    event_type = await add_requirement(db, 1)
    this_year = (await today(db)).year
    await add_events(db, event_type, 1, years_ago=-2, completed=False)
    assert [row["year"] for row in await compliance(db)] == [this_year]
    await add_events(db, event_type, 1, years_ago=-2)
    assert [row["year"] for row in await compliance(db)] == [this_year + 2, this_year]


async def test_a_mistyped_year_does_not_make_thousands_of_rows(db: asyncpg.Connection) -> None:
    await db.execute("ALTER TABLE segmentation_events DROP CONSTRAINT segmentation_events_event_date_check")
    await add_client(db, segment="Gold")
    event_type = await add_requirement(db, 1)
    this_year = (await today(db)).year
    await add_events(db, event_type, 1, years_ago=this_year - 26)
    await add_events(db, event_type, 1, years_ago=this_year - 20026)
    years = [row["year"] for row in await compliance(db)]
    assert years == [20026, *range(this_year, this_year - 50, -1)]


async def test_only_completed_events_count(db: asyncpg.Connection) -> None:
    await add_client(db, segment="Gold")
    event_type = await add_requirement(db, 2)
    await add_events(db, event_type, 5, completed=False)
    await add_events(db, event_type, 1)
    (row,) = await compliance(db)
    assert (row["actual_event_count"], row["overall_status"]) == (1, "critical")


async def test_event_types_are_listed_by_name(db: asyncpg.Connection) -> None:
    await add_client(db, segment="Gold")
    for name in ("Training", "Briefing", "Visit"):
        await add_requirement(db, 1, name=name)
    (row,) = await compliance(db)
    assert [event["event_type"] for event in json.loads(row["event_compliance"])] == ["Briefing", "Training", "Visit"]


async def test_the_session_s_time_zone_changes_nothing(db: asyncpg.Connection) -> None:
    await load_sample(db, 30)
    answers = set()
    for zone in ("Pacific/Kiritimati", "Etc/GMT+12", "UTC"):
        await db.execute(f"SET LOCAL TimeZone = '{zone}'")
        answers.add(
            await db.fetchval(
                "SELECT md5(string_agg(r, '|' ORDER BY r)) FROM ("
                " SELECT (client_name, health_score, days_since_last_meeting, overdue_actions)::text AS r"
                " FROM client_health_summary_live"
                " UNION ALL SELECT (client_name, year, event_compliance)::text FROM event_compliance_summary_live) AS t"
            )
        )
    assert len(answers) == 1


def rounded(value: Fraction) -> Decimal:
    """Half away from zero, to two decimals, as numeric's round() does."""
    return (Decimal(value.numerator) / Decimal(value.denominator)).quantize(Decimal("0.01"), ROUND_HALF_UP)


def cut(value: Fraction) -> Decimal:
    return (Decimal(value.numerator) / Decimal(value.denominator)).quantize(Decimal("0.01"), ROUND_DOWN)


def mean(values: list[Fraction]) -> Fraction | None:
    return sum(values, Fraction()) / len(values) if values else None


async def test_every_client_s_health_is_what_python_computes_from_the_tables(db: asyncpg.Connection) -> None:
    await load_sample(db, 400)
    day = await today(db)
    scores: defaultdict[str, list[int]] = defaultdict(list)
    meetings: defaultdict[str, list[int]] = defaultdict(list)
    percentages: defaultdict[str, defaultdict[int, list[Fraction]]] = defaultdict(lambda: defaultdict(list))
    open_actions: Counter[str] = Counter()
    overdue: Counter[str] = Counter()
    completed: Counter[str] = Counter()
    for r in await db.fetch("SELECT * FROM nps_responses"):
        if (day - r["response_date"]).days < 365:
            scores[r["client_name"]].append(r["score"])
    for r in await db.fetch("SELECT * FROM unified_meetings"):
        if r["meeting_date"] <= day:
            meetings[r["client_name"]].append((day - r["meeting_date"]).days)
    for r in await db.fetch("SELECT * FROM segmentation_event_compliance"):
        percentages[r["client_name"]][r["year"]].append(min(Fraction(r["compliance_percentage"]), Fraction(100)))
    for r in await db.fetch("SELECT * FROM actions"):
        if r["Status"] == "Completed":
            completed[r["Client"]] += 1
        elif r["Status"] != "Cancelled":
            open_actions[r["Client"]] += 1
            overdue[r["Client"]] += r["Due_Date"] < day

    rows = await db.fetch("SELECT * FROM client_health_summary_live")
    assert len(rows) == 400
    for row in rows:
        name = row["client_name"]
        nps = mean([Fraction(100 if s >= 9 else 0 if s >= 7 else -100) for s in scores[name]])
        nps_part = Fraction(50) if nps is None else (nps + 100) / 2
        ages = meetings[name]
        if ages:
            recency = max(Fraction(0), min(Fraction(1), Fraction(120 - min(ages), 90)))
            frequency = min(Fraction(1), Fraction(sum(age < 90 for age in ages), 3))
            engagement = 50 * (recency + frequency)
        else:
            engagement = Fraction(50)
        years = percentages[name]
        complied = mean(years[max(years)]) if years else None
        compliance_part = Fraction(50) if complied is None else complied
        if open_actions[name]:
            actions = Fraction(100 * (open_actions[name] - overdue[name]), open_actions[name])
        else:
            actions = Fraction(100 if completed[name] else 50)
        for column, exact in (
            ("nps_score_part", nps_part),
            ("engagement_part", engagement),
            ("compliance_part", compliance_part),
            ("actions_part", actions),
            ("health_score", nps_part / 4 + engagement / 4 + compliance_part * 3 / 10 + actions / 5),
        ):
            # PostgreSQL's numeric holds a third as 0.3333333333333333, so what lies exactly between two hundredths may fall
            # on either side.
            assert abs(Fraction(row[column]) - exact) <= Fraction(5_000_001, 1_000_000_000), (name, column)
        score = row["health_score"]
        assert row["status"] == ("healthy" if score >= 70 else "at-risk" if score >= 50 else "critical"), name
    assert {row["status"] for row in rows} == {"healthy", "at-risk", "critical"}


async def test_every_client_s_compliance_is_what_python_computes_from_the_tables(db: asyncpg.Connection) -> None:
    await load_sample(db, 400)
    this_year = (await today(db)).year
    requirements: defaultdict[str, dict[int, tuple[str, int]]] = defaultdict(dict)
    for r in await db.fetch(
        "SELECT * FROM tier_event_requirements AS r JOIN segmentation_tiers AS t ON t.id = r.tier_id"
        " JOIN segmentation_event_types AS e ON e.id = r.event_type_id"
    ):
        requirements[r["tier_name"]][r["event_type_id"]] = (r["event_name"], r["expected_count"])
    held: defaultdict[tuple[str, int, int], int] = defaultdict(int)
    years: defaultdict[str, set[int]] = defaultdict(lambda: {this_year})
    for r in await db.fetch("SELECT * FROM segmentation_events WHERE completed"):
        held[r["client_name"], r["event_date"].year, r["event_type_id"]] += 1
        years[r["client_name"]].add(r["event_date"].year)
    clients = {r["client_name"]: r["segment"] for r in await db.fetch("SELECT * FROM nps_clients")}

    wanted = {}
    for name, segment in clients.items():
        for year in range(min(years[name]), this_year + 1):
            events: list[dict[str, Any]] = []
            for event_type, (label, expected) in sorted(requirements[segment].items(), key=lambda item: item[1]):
                actual = held[name, year, event_type]
                share = Fraction(100 * actual, expected)
                status = (
                    "critical"
                    if share < 50
                    else "at-risk"
                    if share < 100
                    else "compliant"
                    if share == 100
                    else "exceeded"
                )
                events.append(
                    {
                        "event_type_id": event_type,
                        "event_type": label,
                        "expected_count": expected,
                        "actual_count": actual,
                        "compliance_percentage": cut(share),
                        "status": status,
                    }
                )
            score = rounded(Fraction(100 * sum(e["compliance_percentage"] >= 100 for e in events), len(events)))
            wanted[name, year] = (
                score,
                "critical" if score < 50 else "at-risk" if score < 100 else "compliant",
                events,
            )

    found = {
        (row["client_name"], row["year"]): (
            row["overall_compliance_score"],
            row["overall_status"],
            json.loads(row["event_compliance"], parse_float=Decimal),
        )
        for row in await db.fetch("SELECT * FROM event_compliance_summary_live")
    }
    assert found == wanted
    assert {status for _, status, _ in found.values()} == {"critical", "at-risk", "compliant"}
    assert {e["status"] for _, _, events in found.values() for e in events} == {
        "critical",
        "at-risk",
        "compliant",
        "exceeded",
    }
