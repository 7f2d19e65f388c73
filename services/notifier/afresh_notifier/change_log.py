"""The change log, as the leader reads it: `peek` whether there is anything, `take` it out.

In: a connection, and the `Horizon` of the look before. Out: `Change`s, folded to one a table, and the next horizon.

A take is part of the caller's transaction: the rows are gone when that commits, and are there again when it does not. No
row is missed: ids are drawn before commits, so nobody asks for ids above the last one. A look sees whatever was committed
before its snapshot; the next one asks for the transactions that were running then and have ended since, and for those that
have begun since. So neither what was taken and cannot be vacuumed yet is walked through again, nor what somebody who
takes his time has written. A row that another session was just taking is passed over, and is beyond the horizon if that
session fails: so now and then the whole log is looked at (`EVERYTHING`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from afresh_notifier.changes import Change, Key, read_keys
from afresh_notifier.database import Connection
from afresh_notifier.resources import query

#: Rows that one take takes at most.
BATCH = 20_000

#: Different lists of keys that are told apart for one table in one take; past that, all keys.
MAX_KEY_LISTS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """What was looked at already: all that was committed before ``snapshot`` (as PostgreSQL writes a pg_snapshot).

    While a look takes several takes: it has come to the transaction ``after``, and its first take saw ``begun``.
    """

    snapshot: str
    after: str = "3"
    begun: str | None = None

    def passed(self, snapshot: str) -> Horizon:
        """Everything beyond it was seen, at last by ``snapshot``."""
        return Horizon(snapshot=self.begun or snapshot)

    def come_to(self, last: str | None, snapshot: str) -> Horizon:
        """Some of what is beyond it was seen, by ``snapshot``, up to the transaction ``last``; there is more."""
        return Horizon(snapshot=self.snapshot, after=last or self.after, begun=self.begun or snapshot)


#: Look at the whole log: 3 is the first transaction that a server can have.
EVERYTHING = Horizon(snapshot="3:3:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one take brought; ``more``: there may be more at once. ``rows`` were taken."""

    changes: list[Change]
    rows: int
    horizon: Horizon
    more: bool


async def peek(connection: Connection, horizon: Horizon) -> tuple[bool, Horizon]:
    """Whether there is anything to take, and the next horizon. Raises what asyncpg raises."""
    row = await connection.fetchrow(query("peek_changes"), horizon.snapshot, horizon.after)
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return row["something"], horizon if row["something"] else horizon.passed(row["snapshot"])


async def take(connection: Connection, horizon: Horizon) -> Taken:
    """Take what there is, within the caller's transaction. Raises what asyncpg raises."""
    rows = await connection.fetch(query("take_changes"), horizon.snapshot, horizon.after, BATCH, MAX_KEY_LISTS)
    now = datetime.now(UTC)
    more, snapshot = rows[0]["full"], rows[0]["snapshot"]
    return Taken(
        changes=[
            Change(
                table=row["table_name"],
                keys=_union(row["keys"]),
                heard_at=row["committed_at"] or now,
                count=row["changes"],
            )
            for row in rows
            if row["table_name"] is not None
        ],
        rows=sum(row["changes"] for row in rows),
        horizon=horizon.come_to(rows[0]["last"], snapshot) if more else horizon.passed(snapshot),
        more=more,
    )


def _union(lists: list[str] | None) -> frozenset[Key] | None:
    if lists is None:
        return None
    found: set[Key] = set()
    for text in lists:
        keys = read_keys(text)
        if keys is None:
            return None
        found |= keys
    return frozenset(found)
