"""Checks of the server itself: what is in between, what is installed, what is filling up."""

from __future__ import annotations

import re
from collections.abc import Sequence

import asyncpg

from afresh_notifier import database, migrate
from afresh_notifier.database import ServerFacts
from afresh_notifier.doctor.finding import Finding, ok, problem, warning
from afresh_notifier.errors import WrongDatabase
from afresh_notifier.packs import InstalledPack, installable
from afresh_notifier.resources import query

#: Shares of the notification queue that are worth a word; at 1 every NOTIFY, and so every watched write, fails.
QUEUE_WARNING, QUEUE_PROBLEM = 0.1, 0.5

#: The write-ahead log kept for a slot that nobody reads, in bytes, from which on it is worth a word.
RETAINED = 1024**3

#: How long a change may wait in the change log before it is worth a word, in seconds; it is milliseconds, mostly.
TAKEN_WITHIN = 60.0

#: A channel of the doctor's own, on which nobody speaks.
_CHANNEL = "afresh_doctor"


async def check_session(connection: asyncpg.Connection) -> list[Finding]:
    """Whether the session is ours for as long as the connection lasts.

    A pooler by transactions takes that away. One by sessions keeps LISTEN, but neither the settings that a session starts
    with nor the process by which it can be known again, so it is no way to the service either.
    """
    pid = connection.get_server_pid()
    try:
        await connection.add_listener(_CHANNEL, _hear)
        kept = await connection.fetchval(query("still_listening"), pid, _CHANNEL)
        kept = kept and await connection.fetchval(query("still_listening"), pid, _CHANNEL)
        await connection.remove_listener(_CHANNEL, _hear)
    except (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError):
        kept = False  # what was prepared on one backend was asked of another
    if kept:
        return []
    return [
        problem(
            "connection",
            "a pooler is in between: the session is not ours, and LISTEN and its settings do not last",
            "let database.dsn name PostgreSQL itself; the application may go on using the pooler",
        )
    ]


def _hear(*_heard: object) -> None:
    """Nobody speaks on this channel."""


def check_facts(facts: ServerFacts) -> list[Finding]:
    """Version, and primary or standby."""
    try:
        database.require_primary(facts)
    except WrongDatabase as error:
        return [problem("server", error.problem, error.hint)]
    return [ok("server", f"PostgreSQL {facts.version // 10_000}.{facts.version % 10_000}, a primary")]


async def check_engine(
    connection: asyncpg.Connection, facts: ServerFacts, packs: Sequence[InstalledPack]
) -> list[Finding]:
    """The engine's objects and the migrations, the packs' too."""
    findings = []
    recorded = await migrate.recorded(connection)
    if not facts.installed and not recorded:
        findings.append(problem("engine", "Afresh is not installed in this database", "afresh migrate up"))
    scopes = installable(packs)
    for scope in scopes:
        if scope.name == migrate.ENGINE and scope.ledger not in recorded:
            if facts.installed:
                findings.append(ok("engine", "installed, though not by `afresh migrate`"))
            continue
        steps = await migrate.status(connection, [scope])
        missing = [step.migration for step in steps if not step.applied]
        unknown = [step.migration for step in steps if not step.known]
        if missing:
            findings.append(problem(scope.name, f"not applied: {', '.join(missing)}", "afresh migrate up"))
        if unknown:
            findings.append(
                warning(
                    scope.name,
                    f"made by a newer Afresh: {', '.join(unknown)}",
                    "run the Afresh that made them; this one knows nothing of them",
                )
            )
        if not missing and not unknown:
            findings.append(ok(scope.name, f"all {len(steps)} migrations are applied"))
    return findings


async def check_event_triggers(connection: asyncpg.Connection) -> list[Finding]:
    """Whether the catalogue's changes are told; only a superuser can make such triggers."""
    there = {row["name"]: row["enabled"] for row in await connection.fetch(query("doctor_event_triggers"))}
    lacking, wanted = [], []
    for name, statements in _event_triggers(await migrate.script(migrate.engine_scope())).items():
        if not there.get(name):
            lacking.append(f"{name} is {'disabled' if name in there else 'not there'}")
            wanted += [statement for statement in statements if name not in there or statement.startswith("ALTER")]
    if not lacking:
        return []
    return [
        warning(
            "event triggers",
            f"{', '.join(lacking)}: the catalogue is read every database.catalogue_poll seconds instead",
            "\n".join(["to have changes of it told at once, let a superuser run:", *wanted]),
        )
    ]


async def check_search_path(connection: asyncpg.Connection) -> list[Finding]:
    """Whether what our role makes without naming a schema lands among Afresh's own objects."""
    row = await connection.fetchrow(query("doctor_search_path"))
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    async with database.transaction(connection, readonly=True):
        await connection.execute(query("set_search_path"), row["search_path"])
        if await connection.fetchval(query("current_schema")) != "afresh":
            return []
    return [
        warning(
            f"role {row['role']}",
            f"its sessions make objects in the schema afresh unless told otherwise (search_path: {row['search_path']}): "
            "tables there are not watched, and are in the way of `afresh migrate down`",
            f"use a role of another name, or run:\n{row['mend']}",
        )
    ]


def _event_triggers(script: str) -> dict[str, list[str]]:
    """The statements of the engine's DDL that make its event triggers, by the triggers' names."""
    found: dict[str, list[str]] = {}
    for statement in re.finditer(r"^ *((?:CREATE|ALTER) EVENT TRIGGER (\w+)[^;]*;)", script, re.MULTILINE):
        found.setdefault(statement[2], []).append(re.sub(r"\n +", "\n", statement[1]))
    return found


async def check_queue(connection: asyncpg.Connection) -> list[Finding]:
    """How full the notification queue is."""
    return judge_queue(float(await connection.fetchval(query("doctor_queue"))))


def judge_queue(usage: float) -> list[Finding]:
    """What a queue that is full to this share means."""
    if usage <= QUEUE_WARNING:
        return []
    made = problem if usage > QUEUE_PROBLEM else warning
    return [
        made(
            "notification queue",
            f"it is {usage:.0%} full: a listening session does not read, or has a transaction open; when it is full, "
            "every write to a watched table fails",
            "find it and end it:\nSELECT pid, application_name, state, xact_start FROM pg_stat_activity "
            "WHERE state LIKE 'idle in transaction%' ORDER BY xact_start;",
        )
    ]


async def check_slots(connection: asyncpg.Connection, *, retained: int = RETAINED) -> list[Finding]:
    """Replication slots that nobody reads and that keep much of the write-ahead log."""
    return [
        warning(
            f"replication slot {row['name']}",
            f"nobody reads it, and the server keeps {row['size']} of its write-ahead log for it",
            f"start its reader, or remove it:\n{row['drop_slot']}",
        )
        for row in await connection.fetch(query("doctor_slots"), retained)
    ]


async def check_prepared_transactions(connection: asyncpg.Connection, bell: str) -> list[Finding]:
    """Two-phase commit, which NOTIFY forbids."""
    return judge_prepared(int(await connection.fetchval(query("doctor_prepared"))), bell)


def judge_prepared(most: int, bell: str) -> list[Finding]:
    """What it means that the server allows this many prepared transactions; ``bell`` as in the settings."""
    if most == 0:
        return []
    if bell == "never":
        return [ok("two-phase commit", "the bell never rings, so what is captured by the log may be written in one")]
    return [
        warning(
            "two-phase commit",
            f"max_prepared_transactions is {most}: a transaction that has rung the bell by writing to a watched table "
            "cannot be prepared, PREPARE TRANSACTION fails after a NOTIFY",
            'if somebody uses them, set in afresh.toml:\n[capture]\nbell = "never"\n'
            "else run this and restart the server:\nALTER SYSTEM SET max_prepared_transactions = 0;",
        )
    ]


async def check_change_log(connection: asyncpg.Connection, facts: ServerFacts) -> list[Finding]:
    """Whether changes are taken out of the change log, and by whom."""
    try:
        database.require_serving(facts)
    except WrongDatabase as error:
        return [problem("change log", error.problem, error.hint)]
    depth = await connection.fetchrow(query("change_log_depth"))
    assert depth is not None  # noqa: S101 - an aggregate without GROUP BY has one row
    lease = await connection.fetchrow(query("lease_newest"))
    leader = None if lease is None or lease["expired"] else lease["holder"]
    return judge_change_log(depth["changes"], depth["oldest"], leader)


def judge_change_log(changes: int, oldest: float, leader: str | None) -> list[Finding]:
    """What it means that so many changes wait, the oldest for so many seconds, while ``leader`` leads, or nobody."""
    number = "10,000 changes or more" if changes >= 10_000 else f"{changes} change{'' if changes == 1 else 's'}"
    waiting = f"{number} not taken, the oldest for {oldest:.0f} s"
    if oldest <= TAKEN_WITHIN:
        return [ok("change log", f"{leader} takes changes" if leader else f"no service runs; {number} not taken yet")]
    if leader is None:
        return [warning("change log", f"no service runs: {waiting}", "start one:\nafresh serve")]
    return [
        problem(
            "change log",
            f"{leader} leads, and does not take them: {waiting}",
            "look at its log, and for a transaction that stands still:\n"
            "SELECT pid, state, xact_start, query FROM pg_stat_activity ORDER BY xact_start;",
        )
    ]


async def check_publications(connection: asyncpg.Connection) -> list[Finding]:
    """Publications that send Afresh's own tables along."""
    return [
        warning(
            "publication",
            f"{name} publishes all tables, and so those of the schema afresh, which mean something in this database alone",
            "name its tables, or the schemas that it is for, instead",
        )
        for name in await connection.fetchval(query("doctor_publications"))
    ]
