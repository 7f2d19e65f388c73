"""Checks of what is refreshed: whether each view can be, whether it hears of all it reads, and what a refresh costs.

`serve` says what `examine` finds when it starts.
"""

from __future__ import annotations

import re

import asyncpg

from afresh_notifier import database, next_change, privileges, unique_index
from afresh_notifier.dependencies import View
from afresh_notifier.doctor import clock
from afresh_notifier.doctor.finding import Finding, ok, problem, warning
from afresh_notifier.refresher import Plan
from afresh_notifier.resources import query

#: How long one look at a view's rows may take.
_LOOK = "5s"


async def examine(connection: asyncpg.Connection, plan: Plan) -> list[Finding]:
    """Every view of the plan, in the order in which they are refreshed. Raises what asyncpg raises."""
    views = plan.patterns.catalogue.views
    oids = [view.oid for view in views.values()]
    rows = {row["name"]: row for row in await connection.fetch(query("doctor_views"), oids)}
    privileged = {row["oid"]: row for row in await connection.fetch(query("privileges_relation"), oids)}
    findings: list[Finding] = []
    for name, view in views.items():
        if name not in rows or view.oid not in privileged:
            continue  # dropped since the plan was made
        row, privilege = rows[name], privileged[view.oid]
        found = [
            *_check_privilege(view, privilege),
            *await _check_unique_index(
                connection, view, row, role=privilege["role"], blocking=plan.limits[name].blocking
            ),
            *await _check_null_keys(connection, view, row),
            *check_populated(view, row["populate"]),
            *check_blind_spots(view, every=plan.timings[name].every),
            *check_clock(
                name, row["definitions"], every=plan.timings[name].every, next_change=plan.next_changes.get(name)
            ),
            *await _check_next_change(connection, name, plan.next_changes.get(name)),
        ]
        findings += found or [ok(name, "can be refreshed beside its readers, and hears of all that it reads")]
    return findings


def _check_privilege(view: View, privilege: asyncpg.Record) -> list[Finding]:
    """Whether the role that we are may refresh the view."""
    if privilege["may"]:
        return []
    what = f"the role {privilege['role']} may not refresh it"
    return [problem(view.name, what, privileges.let_run(privilege["statements"]))]


async def _check_unique_index(
    connection: asyncpg.Connection, view: View, row: asyncpg.Record, *, role: str, blocking: bool
) -> list[Finding]:
    """Whether CONCURRENTLY has the index that it needs; if not, which."""
    if view.usable_index or blocking:
        return []
    what = (
        "it has no unique index that CONCURRENTLY can use (valid, of plain columns, without WHERE): it is not refreshed"
    )
    if not view.populated:
        return [problem(view.name, what, f"populate it, and look again:\n{row['populate']}")]
    if not row["may_read"]:
        return [problem(view.name, what, f"make one; the role {role} may not read it to say of what columns")]
    proposal = await unique_index.propose(connection, view.oid)
    if proposal.statement is not None:
        return [problem(view.name, what, f"{proposal.reason}:\n{proposal.statement}")]
    return [problem(view.name, what, f"{proposal.reason}; or set blocking = true for it, which locks its readers out")]


async def _check_null_keys(connection: asyncpg.Connection, view: View, row: asyncpg.Record) -> list[Finding]:
    """Whether rows have a NULL in the unique key: CONCURRENTLY cannot match these, and writes them anew each time."""
    if not row["key_columns"] or not view.populated or not row["may_read"]:
        return []
    try:
        async with database.transaction(connection, readonly=True):
            await connection.execute(query("limit_statement"), _LOOK)
            statement = await connection.fetchval(query("null_keys_statement"), view.oid, row["key_columns"])
            # No statement: the view was dropped since the plan was made.
            columns = await connection.fetchval(statement) if statement is not None else None
    except asyncpg.QueryCanceledError:
        return [warning(view.name, f"looking for NULLs in its unique key took longer than {_LOOK}", "look by hand")]
    if not columns:
        return []
    return [
        warning(
            view.name,
            f"{', '.join(columns)} of its unique key holds NULLs: each refresh rewrites these rows, changed or not",
            "let the view say COALESCE(…) there, or leave such rows out",
        )
    ]


async def _check_next_change(connection: asyncpg.Connection, name: str, statement: str | None) -> list[Finding]:
    """Whether it can be told when the view changes by time alone."""
    if statement is None:
        return []
    async with database.transaction(connection, readonly=True):
        await connection.execute(query("set_search_path"), "public")
        answer = await next_change.ask(connection, statement)
    return [warning(name, answer.problem, answer.hint)] if answer.problem else []


def check_populated(view: View, populate: str) -> list[Finding]:
    """Whether there is anything to read yet."""
    if view.populated:
        return []
    return [
        warning(
            view.name,
            "it is not populated: nobody can read it before its first refresh, which is a plain one",
            f"the service does that when it starts; by hand:\n{populate}",
        )
    ]


def check_blind_spots(view: View, *, every: float | None) -> list[Finding]:
    """Whether something can change the view without a word to us; such a view must be refreshed by the clock."""
    if every is not None or not view.blind_spots:
        return []
    by_clock = f'set every = "5m" for {view.name} under [[views]]'
    commands = [f"afresh watch '{table}'" for table in sorted(view.unwatched)]
    return [
        warning(
            view.name,
            f"it can change without a word to us: {'; '.join(view.blind_spots)}",
            "\n".join([f"{by_clock}, or run:", *commands]) if commands else by_clock,
        )
    ]


def check_clock(name: str, definitions: list[str], *, every: float | None, next_change: str | None) -> list[Finding]:
    """Whether the view reads the clock, which changes it without a change of any table.

    Where `next_change` says when, it is refreshed no more often than it changes, so that nothing is rewritten in vain.
    """
    if next_change is not None:
        return []
    moment, cut = clock.read_by(definitions)
    findings = []
    if every is None and (moment or cut):
        findings.append(
            warning(
                name,
                "it reads the clock, so that it grows old without a change of any table",
                f'set every = "5m" for {name} under [[views]], or next_change, a query for the instant of its next change',
            )
        )
    if moment:
        findings.append(
            warning(
                name,
                "it calls now() or the like: rows with a column that is computed from it are another at each refresh, and "
                "CONCURRENTLY rewrites them all",
                "compute such columns when the view is read, or cut the moment down, as in now()::date; "
                "in a condition only (WHERE) it does no harm",
            )
        )
    return findings


async def check_cron(connection: asyncpg.Connection, plan: Plan) -> list[Finding]:
    """Whether jobs of pg_cron refresh the same views."""
    if not await connection.fetchval(query("doctor_cron_readable")):
        return []
    findings = []
    for row in await connection.fetch(query("doctor_cron")):
        named = [name for name in plan.patterns.catalogue.views if _names(row["command"], name)]
        if named:
            findings.append(
                warning(
                    f"pg_cron job {row['jobid']}",
                    f"it refreshes {', '.join(named)} too ({row['schedule']}): clients are not told, and the two "
                    "get in each other's way",
                    row["unschedule"],
                )
            )
    return findings


def _names(command: str, view: str) -> bool:
    """Whether this SQL names the view, with or without its schema and quotes."""
    last = view.replace('"', "").rpartition(".")[2]
    return re.search(rf"(?<![\w$]){re.escape(last)}(?![\w$])", command.replace('"', ""), re.IGNORECASE) is not None
