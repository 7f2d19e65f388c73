"""One refresh of one view: how it is done, and the doing of it.

`choose` is the one place that decides by which method a view is refreshed; `refresh` carries it out in a transaction of
its own, together with what follows from it: the marks that it makes good are cleared, the views that stand on it are
marked, and the invalidation is appended to the log. A method is a statement that brings the whole view up to a snapshot
taken after the statement began, and commits with it; a further one (only the changed keys) needs an entry in `Method`,
its line in `choose`, and its statement in `refresh_plan.sql`.

Promises: when `refresh` returns, a snapshot taken after its call is committed and can be read by all; when it raises, the
view is as it was, or the commit's answer was lost. Whatever the moment at which we, the connection or the server die:
before the commit nothing has happened, and the marks say that the view is to be refreshed; after it everything has, and
the log says what is to be told. It is right whoever calls it, also two at once: refreshes of one view take turns, and
each clears only the marks that it read before its snapshot was taken. It never waits long for a lock: a REFRESH takes its
snapshot before it waits, so one that waited would commit old content over newer; it gives up after `lock_timeout` and is
called again, with a new snapshot. Autovacuum gives way only to whoever waits for `deadlock_timeout`, which is longer: so
a call that is to outwait it waits for that. Nobody but another REFRESH changes what a view shows, and ours take turns: at
worst somebody's own REFRESH is undone for a moment, and what it showed is still marked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import asyncpg
from asyncpg.transaction import Transaction

from afresh_notifier import database, invalidation_log, marks, privileges
from afresh_notifier.database import Connection
from afresh_notifier.debounce import Dirt
from afresh_notifier.errors import RefreshBroken, RefreshBusy, RefreshError, RefreshFailed
from afresh_notifier.invalidation import Invalidation, PatternMap
from afresh_notifier.marks import Mark
from afresh_notifier.next_change import NEVER, NextChange, ask
from afresh_notifier.resources import query

#: How much longer than the server's own limit, in seconds, we wait for it to keep it; then the connection is cut.
GRACE = 5.0


class Method(StrEnum):
    """How a view is brought up to date."""

    #: Readers go on reading; needs a unique index.
    CONCURRENTLY = "concurrently"
    #: Readers wait.
    PLAIN = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequences:
    """What follows from a refresh: the views that stand on it lack it (``marks``), and it is to be told."""

    marks: Sequence[Mark]
    invalidation: Invalidation


#: What follows from a refresh that makes these marks good; called between the refresh and its commit.
Follow = Callable[[Sequence[Mark]], Consequences]


def following(patterns: PatternMap, view: str, dirt: Dirt, mark: Callable[[str, Dirt], Mark]) -> Follow:
    """What follows from a refresh of ``view`` that makes ``dirt`` good, and whatever is marked; takes over ``dirt``."""

    def follow(marked: Sequence[Mark]) -> Consequences:
        for one in marked:
            dirt.merge(one.dirt())
        return Consequences(
            marks=[mark(child, dirt) for child in patterns.catalogue.children(view)],
            invalidation=Invalidation(
                patterns=tuple(patterns.after_refresh(view, dirt.keys)),
                tables=frozenset(dirt.tables),
                views=frozenset((view,)),
                at=dirt.heard_at,
            ),
        )

    return follow


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one refresh may take, in seconds, whether it may lock readers out, and whether it outwaits autovacuum, if it is
    that which has the view."""

    timeout: float
    lock_timeout: float
    blocking: bool
    outwait: bool = False


def choose(view: str, *, populated: bool, usable_index: bool, blocking: bool) -> Method:
    """The method for a view in this state. Raises `RefreshBroken` where none is allowed."""
    if not populated:
        return Method.PLAIN  # CONCURRENTLY refuses it, and nobody can read it yet
    if usable_index:
        return Method.CONCURRENTLY
    if blocking:
        return Method.PLAIN
    raise RefreshBroken(
        view,
        f"{view} has no unique index that CONCURRENTLY can use",
        hint=f"`afresh doctor` prints the CREATE UNIQUE INDEX for {view}; or set blocking = true for it",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """A refresh that has committed: how it was done, the marks and the offset of the invalidation that followed, and when
    from then on the view's content will be another."""

    method: Method
    marks: Sequence[Mark]
    offset: int
    next_change: NextChange


async def refresh(
    pool: asyncpg.Pool, view: str, oid: int, limits: Limits, follow: Follow, *, next_change: str | None = None
) -> Refreshed:
    """Refresh ``view``, and ask ``next_change``, a statement, when its content will be another.

    Raises `RefreshBusy`, `RefreshBroken` or `RefreshFailed`. Cancelled, it cuts the connection: the refresh is rolled back
    if its commit was not sent yet.
    """
    try:
        connection = await pool.acquire(timeout=GRACE)
        try:
            return await _transaction(connection, view, oid, limits, follow, next_change)
        finally:
            await database.give_back(pool, connection)
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
        raise RefreshBusy(view, f"somebody else has {view} locked: {database.said(error)[0]}") from error
    except TimeoutError as error:
        raise RefreshFailed(
            view, f"{view} was not refreshed: PostgreSQL did not answer; the connection was cut"
        ) from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise RefreshFailed(
            view, f"{view} was not refreshed: {database.said(error)[0]}", hint=await _what_lets_us(pool, oid)
        ) from error
    except database.TRANSIENT as error:
        what, hint = database.said(error)
        raise RefreshFailed(view, f"{view} was not refreshed: {what}", hint=hint) from error


async def _transaction(
    connection: Connection, view: str, oid: int, limits: Limits, follow: Follow, next_change: str | None
) -> Refreshed:
    """The refresh in its transaction. However it ends, the connection is either clean or cut: a rollback is not waited
    for on a connection that was just found not to answer. Only the REFRESH itself may take long."""
    clock = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(GRACE) as limit:
            transaction = connection.transaction(isolation="read_committed")
            await transaction.start()
            try:
                method, statement, marked = await _prepare(connection, view, oid, limits)
                limit.reschedule(clock() + limits.timeout + GRACE)
                # The simple protocol, no prepared statement: a utility statement has no plan to keep.
                await connection.execute(statement)
                limit.reschedule(clock() + 2 * GRACE)
                changes = NEVER if next_change is None else await ask(connection, next_change)
                asked_at = clock()
                limit.reschedule(clock() + GRACE)
                await connection.execute(query("finishing"))
                consequences = follow(marked)
                await marks.clear(connection, marked)
                await marks.put(connection, consequences.marks)
                offset = (await invalidation_log.append(connection, consequences.invalidation)).newest
            except (asyncpg.PostgresError, RefreshError):
                limit.reschedule(clock() + GRACE)
                await _roll_back(connection, transaction)
                raise
            limit.reschedule(clock() + GRACE)
            await transaction.commit()
            # The clock has gone on: others may have had the log's lock, and a commit may take long.
            changes = replace(changes, seconds=max(0.0, changes.seconds - (clock() - asked_at)))
            return Refreshed(method=method, marks=consequences.marks, offset=offset, next_change=changes)
    except (TimeoutError, asyncio.CancelledError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        database.cut(connection)
        raise


async def _roll_back(connection: Connection, transaction: Transaction) -> None:
    """Undo it; what is being reported may be the end of the connection, and then there is nothing to undo."""
    try:
        await transaction.rollback()
    except database.TRANSIENT:
        database.cut(connection)


async def _prepare(connection: Connection, view: str, oid: int, limits: Limits) -> tuple[Method, str, list[Mark]]:
    """Take the turn, and look how the view can be refreshed now: the method, its statement, and what it makes good."""
    await connection.execute(
        query("transaction_limits"),
        database.milliseconds(limits.timeout),
        database.milliseconds(limits.lock_timeout),
    )
    if not await connection.fetchval(query("refresh_turn"), oid):
        raise RefreshBusy(view, f"another Afresh process is refreshing {view}")
    plan = await connection.fetchrow(query("refresh_plan"), oid)
    if plan is None:
        raise RefreshFailed(view, f"{view} does not exist any more")
    if limits.outwait:
        await connection.execute(query("outwait_autovacuum"), oid, round(limits.lock_timeout * 1000))
    method = choose(view, populated=plan["populated"], usable_index=plan["usable_index"], blocking=limits.blocking)
    # Before the REFRESH, and so before its snapshot: what is marked later stays.
    return method, plan[method.value], await marks.read(connection, view)


async def _what_lets_us(pool: asyncpg.Pool, oid: int) -> str:
    """A hint for a refresh that was forbidden."""
    lacking = ""
    with contextlib.suppress(*database.TRANSIENT):
        async with database.lent(pool, GRACE) as connection:
            lacking = await privileges.to_use(connection, oid)
    return lacking or "a view is read with its owner's rights: let that role read what the view names"
