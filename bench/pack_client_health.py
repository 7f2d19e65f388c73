"""The pack `client_health` as its application asked before there were summaries, beside one query of the summary.

Before, a page sent several queries at a time and computed each client's score from all their rows; or one query after the
other, for the compliance of a client. Both are played here as they were, in Python, with the same answers: every run is
held against the summary's rows, and one that differs ends the benchmark. The targets are what the pack was asked to reach;
they are for that application's data, server and network, which nobody has here.

(`bench.views` asks another question: what the same SQL costs live and from the materialized view.)
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from decimal import Decimal

import asyncpg

from bench.report import Report, milliseconds, quantile
from bench.setup import load, progress, server

#: An answer: what is shown of a client, or of a client and year, by its key.
Answer = dict[str, tuple[float | None, str]]

#: Scores are computed here in binary and there in decimal, and rounded to two digits: they may differ by one.
_TOLERANCE = 0.0101

_OPEN_NO_MORE = {"completed", "done", "closed", "cancelled", "canceled"}
_COMPLETED = {"completed", "done", "closed"}


async def measure(scale: float) -> Report:
    """Run it: ``scale`` 1 is 1,000 clients and 30 runs of each way, which are never more."""
    clients, rounds = max(50, round(1000 * scale)), max(5, min(30, round(30 * scale)))
    with server() as running:
        await load(running.dsn(), clients)
        async with asyncpg.create_pool(running.dsn(), min_size=6, max_size=6) as pool:
            for view in ("client_health_summary", "event_compliance_summary"):
                await pool.execute(f"REFRESH MATERIALIZED VIEW {view}")
                await pool.execute(f"ANALYZE {view}")
            client = await pool.fetchval("SELECT client_name FROM nps_clients ORDER BY id LIMIT 1")
            year = datetime.now(UTC).year
            health = await _compare(rounds, lambda: _health_before(pool), lambda: _health(pool), "health")
            everybody = await _compare(
                rounds,
                lambda: _compliance_before(pool, None, year),
                lambda: _compliance(pool, None, year),
                "compliance",
            )
            one = await _compare(
                rounds,
                lambda: _compliance_before(pool, client, year),
                lambda: _compliance(pool, client, year),
                "one client",
            )
    aimed = {"health": (1.5, 0.15, "-90 %"), "compliance": (0.8, 0.05, "-94 %")}
    return Report(
        title=f"Queries of the application, {clients:,} clients",
        columns=("what", "queries", "before", "from the summary", "change", "target before", "target", "target change"),
        rows=(
            _row("health of all clients", "6 at once → 1", health, aimed["health"]),
            _row("compliance of all clients", "5 in turn → 1", everybody, aimed["compliance"]),
            _row("compliance of one client", "5 in turn → 1", one, aimed["compliance"]),
        ),
        note=(
            f"Medians of {rounds} interleaved runs over a Unix socket, rows fetched and the application's own reckoning "
            "included; over a network each query in turn waits for one more round trip. Of the six queries for health, "
            "five are measured: the sixth asked another service for aging accounts, of which no score is made."
        ),
    )


def _row(what: str, queries: str, found: tuple[float, float], aimed: tuple[float, float, str]) -> tuple[str, ...]:
    before, after = found
    target_before, target, target_change = aimed
    return (
        what,
        queries,
        milliseconds(before),
        milliseconds(after),
        f"{(after / before - 1) * 100:.0f} %",
        milliseconds(target_before),
        milliseconds(target),
        target_change,
    )


async def _compare(
    rounds: int,
    before: Callable[[], Awaitable[Answer]],
    after: Callable[[], Awaitable[Answer]],
    name: str,
) -> tuple[float, float]:
    """The median seconds of both ways, once each has been tried; RuntimeError if they answer differently."""
    times: tuple[list[float], list[float]] = ([], [])
    with progress() as bar:
        task = bar.add_task(name, total=rounds + 1)
        for _ in range(rounds + 1):
            answers = []
            for way, taken in zip((before, after), times, strict=True):
                began = time.perf_counter()
                answers.append(await way())
                taken.append(time.perf_counter() - began)
            _hold(*answers)
            bar.advance(task)
    return quantile(times[0][1:], 0.5), quantile(times[1][1:], 0.5)


def _hold(computed: Answer, summary: Answer) -> None:
    """Whether the application has computed what the summary holds."""
    if computed.keys() != summary.keys():
        raise RuntimeError(f"not the same clients: {computed.keys() ^ summary.keys()}")
    for name, (score, status) in computed.items():
        other, other_status = summary[name]
        near = score == other if score is None or other is None else abs(score - other) <= _TOLERANCE
        # Within the tolerance of a threshold, the status may be that of either side.
        edge = score is not None and any(abs(score - threshold) <= _TOLERANCE for threshold in (50, 70, 100))
        if not near or (status != other_status and not edge):
            raise RuntimeError(f"{name}: computed {score} {status}, the summary has {other} {other_status}")


# -- one query --------------------------------------------------------------------------------------------------------


async def _health(pool: asyncpg.Pool) -> Answer:
    rows = await pool.fetch("SELECT * FROM client_health_summary ORDER BY client_name")
    return {row["client_name"]: (float(row["health_score"]), row["status"]) for row in rows}


async def _compliance(pool: asyncpg.Pool, client: str | None, year: int) -> Answer:
    rows = await pool.fetch(
        "SELECT * FROM event_compliance_summary WHERE ($1::text IS NULL OR client_name = $1) AND year = $2",
        client,
        year,
    )
    return {row["client_name"]: (_float(row["overall_compliance_score"]), row["overall_status"]) for row in rows}


def _float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


# -- as it was --------------------------------------------------------------------------------------------------------


async def _health_before(pool: asyncpg.Pool) -> Answer:
    """All rows of five tables at once, and the scores computed from them."""
    clients, responses, meetings, actions, records = await asyncio.gather(
        pool.fetch("SELECT id, client_name, segment, cse, created_at, updated_at FROM nps_clients"),
        pool.fetch("SELECT client_name, score, response_date, created_at FROM nps_responses"),
        pool.fetch("SELECT client_name, meeting_date FROM unified_meetings"),
        pool.fetch('SELECT id, "Client", "Status", "Due_Date" FROM actions'),
        pool.fetch("SELECT client_name, year, compliance_percentage, status FROM segmentation_event_compliance"),
    )
    today = datetime.now(UTC).date()
    nps: defaultdict[str, list[int]] = defaultdict(list)
    for row in responses:
        if (today - row["response_date"]).days < 365:
            nps[row["client_name"]].append(1 if row["score"] >= 9 else 0 if row["score"] >= 7 else -1)
    ages: defaultdict[str, list[int]] = defaultdict(list)
    for row in meetings:
        if row["meeting_date"] <= today:
            ages[row["client_name"]].append((today - row["meeting_date"]).days)
    open_actions, overdue, completed = _count_actions(actions, today)
    years: defaultdict[str, defaultdict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in records:
        if row["year"] <= today.year:
            years[row["client_name"]][row["year"]].append(min(float(row["compliance_percentage"]), 100.0))

    answer: Answer = {}
    for row in clients:
        name = row["client_name"]
        nps_part = 50 + 50 * sum(nps[name]) / len(nps[name]) if nps[name] else 50.0
        engagement = _engagement(ages[name])
        latest = years[name][max(years[name])] if years[name] else None
        compliance = sum(latest) / len(latest) if latest else 50.0
        if open_actions[name]:
            actions_part = 100 * (open_actions[name] - overdue[name]) / open_actions[name]
        else:
            actions_part = 100.0 if completed[name] else 50.0
        score = round(0.25 * nps_part + 0.25 * engagement + 0.30 * compliance + 0.20 * actions_part, 2)
        answer[name] = score, "healthy" if score >= 70 else "at-risk" if score >= 50 else "critical"
    return answer


def _count_actions(actions: list[asyncpg.Record], today: date) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Each client's open, overdue and completed actions."""
    open_actions: Counter[str] = Counter()
    overdue: Counter[str] = Counter()
    completed: Counter[str] = Counter()
    for row in actions:
        status = row["Status"].lower()
        if status not in _OPEN_NO_MORE:
            open_actions[row["Client"]] += 1
            overdue[row["Client"]] += row["Due_Date"] is not None and row["Due_Date"] < today
        elif status in _COMPLETED:
            completed[row["Client"]] += 1
    return open_actions, overdue, completed


def _engagement(ages: list[int]) -> float:
    if not ages:
        return 50.0
    recency = min(max(120 - min(ages), 0), 90) / 90
    frequency = min(sum(age < 90 for age in ages), 3) / 3
    return 50 * (recency + frequency)


async def _compliance_before(pool: asyncpg.Pool, client: str | None, year: int) -> Answer:
    """Each query is sent when the one before has been answered; the last step computes."""
    async with pool.acquire() as connection:
        clients = await connection.fetch(
            "SELECT client_name, segment, cse FROM nps_clients WHERE $1::text IS NULL OR client_name = $1", client
        )
        tiers = await connection.fetch(
            "SELECT id, tier_name FROM segmentation_tiers WHERE tier_name = ANY ($1)",
            list({row["segment"] for row in clients}),
        )
        requirements = await connection.fetch(
            "SELECT tier_id, event_type_id, expected_count FROM tier_event_requirements"
            " WHERE tier_id = ANY ($1) AND expected_count > 0",
            [row["id"] for row in tiers],
        )
        types = await connection.fetch(
            "SELECT id, event_name FROM segmentation_event_types WHERE id = ANY ($1)",
            list({row["event_type_id"] for row in requirements}),
        )
        events = await connection.fetch(
            "SELECT client_name, event_type_id, event_date FROM segmentation_events"
            " WHERE ($1::text IS NULL OR client_name = $1) AND event_year = $2 AND completed",
            client,
            year,
        )
    names = {row["id"]: row["event_name"] for row in types}
    tier_of = {row["tier_name"]: row["id"] for row in tiers}
    owed: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for row in requirements:
        owed[row["tier_id"]].append((row["event_type_id"], row["expected_count"]))
    held = Counter((row["client_name"], row["event_type_id"]) for row in events)
    answer: Answer = {}
    for row in clients:
        shown = []
        for event_type, expected in owed[tier_of.get(row["segment"], -1)]:
            percentage = 100 * held[row["client_name"], event_type] / expected
            shown.append((names[event_type], expected, percentage, _status(percentage)))
        shown.sort()
        score = round(100 * sum(one[2] >= 100 for one in shown) / len(shown), 2) if shown else None
        answer[row["client_name"]] = score, _status(score)
    return answer


def _status(percentage: float | None) -> str:
    if percentage is None:
        return "not-required"
    if percentage < 50:
        return "critical"
    if percentage < 100:
        return "at-risk"
    return "compliant" if percentage == 100 else "exceeded"
