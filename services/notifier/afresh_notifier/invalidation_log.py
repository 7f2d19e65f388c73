"""The invalidation log: from which every instance tells its clients, and clients resume by offset.

In: a connection. `append` is the last thing that a transaction does: it takes a lock which it keeps until the commit, so
that offsets are in commit order, and whoever reads "all after offset n" misses nothing. The epoch tells one log from
another with the same offsets: it changes with the server, its timeline (a promotion, a restore) and the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from afresh_notifier.database import Connection
from afresh_notifier.invalidation import Invalidation
from afresh_notifier.resources import query


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read: the log's ``epoch``, its ``newest`` offset, and ``entries`` in order, each with its age in seconds."""

    epoch: str
    newest: int
    entries: Sequence[tuple[Invalidation, float]]


async def append(connection: Connection, invalidation: Invalidation) -> int:
    """Append, within the caller's transaction; returns the offset. Raises what asyncpg raises."""
    offset: int = await connection.fetchval(
        query("append_invalidation"),
        list(invalidation.patterns),
        sorted(invalidation.tables),
        sorted(invalidation.views),
        invalidation.reason,
        invalidation.at,
    )
    return offset


async def append_all(connection: Connection, invalidations: Iterable[Invalidation]) -> int:
    """Append each, in order; returns the last one's offset, 0 where there is none. Raises what asyncpg raises."""
    offset = 0
    for invalidation in invalidations:
        offset = await append(connection, invalidation)
    return offset


async def read(connection: Connection, after: int, most: int) -> Reading:
    """What comes after the offset ``after``, the newest ``most`` of it. Raises what asyncpg raises."""
    rows = await connection.fetch(query("read_invalidations"), after, most)
    return Reading(
        epoch=rows[0]["epoch"],
        newest=rows[0]["newest"],
        entries=[
            (
                Invalidation(
                    offset=row["id"],
                    patterns=tuple(row["patterns"]),
                    tables=frozenset(row["tables"]),
                    views=frozenset(row["views"]),
                    reason=row["reason"],
                    lsn=int(row["lsn"]),
                    at=row["at"],
                ),
                row["age"],
            )
            for row in rows
            if row["id"] is not None
        ],
    )


async def trim(connection: Connection, *, max_entries: int, max_age: float) -> None:
    """Forget what is too much, or older than ``max_age`` seconds. Raises what asyncpg raises."""
    await connection.execute(query("trim_invalidations"), max_entries, max_age)
