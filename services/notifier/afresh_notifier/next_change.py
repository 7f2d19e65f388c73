"""The next change: when a view's content will be another although nobody writes.

In: a connection in the transaction that has just refreshed a view, and its `next_change`, one SELECT of a user's. Out:
how long it is until then; or why that is not known.

The refresh and the question have the same `now()`. Rows that others commit between the two are seen by the question alone;
but they have dirtied the view, whose next refresh asks again.

A question that fails undoes nothing of the refresh: it stands behind a savepoint. The view is then refreshed again after
`FALLBACK` seconds, so that it never stays old for long because of it.

The wait is counted from the server's clock as it is at the end of the question, by our own clock from then on, also while
the refresh commits. Where that runs a little faster, the view is refreshed that much early, and the same instant is told
again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import MAXYEAR, datetime

import asyncpg

from afresh_notifier import database
from afresh_notifier.database import Connection
from afresh_notifier.resources import query

#: After how many seconds a view is refreshed again whose next change is not known.
FALLBACK = 30.0

#: How long after the instant the view is refreshed, in seconds: clocks tell it to the microsecond, but not alike.
MARGIN = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class NextChange:
    """The content will be another in ``seconds``, infinity for never; with a ``problem``, that is not known."""

    seconds: float = math.inf
    problem: str = ""
    hint: str = ""


#: That of a view whose content only changes when somebody writes.
NEVER = NextChange()


async def ask(connection: Connection, statement: str) -> NextChange:
    """Ask ``statement``. Raises what asyncpg raises where it is the connection that fails."""
    savepoint = connection.transaction()
    await savepoint.start()
    try:
        await connection.execute(query("next_change_limit"))
        rows = await connection.fetch(statement)
        clock = await connection.fetchrow(query("transaction_clock"))
    except asyncpg.PostgresError as error:
        if database.is_last_word(error):
            raise
        await savepoint.rollback()
        what, hint = database.said(error)
        return _unknown(what, hint or "correct the SQL")
    except (ValueError, OverflowError) as error:  # no calendar of Python's has it
        await savepoint.rollback()
        return _unknown(f"it gives what cannot be read: {error}", "SELECT an instant of the years 1 to 9999, or NULL")
    await savepoint.commit()
    assert clock is not None  # noqa: S101 - a SELECT without FROM has one row
    if len(rows) > 1 or (rows and len(rows[0]) != 1):
        return _unknown(f"it gives {len(rows)} rows of {len(rows[0])} columns", "SELECT one instant, with min(…)")
    instant = rows[0][0] if rows else None
    if instant is None or (isinstance(instant, datetime) and instant.year == MAXYEAR):  # as asyncpg reads infinity
        return NEVER
    if not isinstance(instant, datetime) or instant.tzinfo is None:
        return _unknown(f"it gives {instant!r}, which is no instant", "SELECT a timestamptz")
    if instant <= clock["began"]:
        return _unknown(
            f"it gives {instant.isoformat()}, and it is {clock['began'].isoformat()} already",
            "SELECT an instant after now()",
        )
    return NextChange(seconds=max(0.0, (instant - clock["now"]).total_seconds()) + MARGIN)


def _unknown(problem: str, hint: str) -> NextChange:
    return NextChange(seconds=FALLBACK, problem=f"its next_change cannot be told: {problem}", hint=hint)
