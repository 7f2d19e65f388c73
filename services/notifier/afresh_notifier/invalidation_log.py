"""The invalidation log: from which every instance tells its clients, and clients resume by offset.

In: a connection. `append` is the last thing that a transaction does: it takes a lock which it keeps until the commit, so
that offsets are in commit order, and whoever reads "all after offset n" misses nothing. The epoch tells one log from
another with the same offsets: it changes with the server, its timeline (a promotion, a restore) and the database.

A position in the write-ahead log covers an entry where a replica that has replayed so far shows the fresh data. What was
committed before the entry was appended is covered by a position of that moment; what is committed with it, as a refresh is,
by one of a reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from afresh_cache.messages import Position
from afresh_notifier.database import Connection
from afresh_notifier.invalidation import Invalidation
from afresh_notifier.resources import query


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read, or has just been appended: the log's ``epoch``, its ``newest`` offset, and ``entries`` in order, each
    with its age in seconds."""

    epoch: str
    newest: int
    entries: Sequence[tuple[Invalidation, float]]

    def follows(self, position: Position) -> bool:
        """Whether it comes next after ``position``, in the same log."""
        first = self.entries[0][0].offset if self.entries else None
        return self.epoch == position.epoch and first == position.offset + 1


async def append(connection: Connection, invalidation: Invalidation) -> Reading:
    """Append, within the caller's transaction; returns what can be read of it once that has committed, with a position that
    covers what was committed before. Raises what asyncpg raises."""
    row = await connection.fetchrow(
        query("append_invalidation"),
        list(invalidation.patterns),
        sorted(invalidation.tables),
        sorted(invalidation.views),
        invalidation.reason,
        invalidation.at,
    )
    assert row is not None  # noqa: S101 - the function returns one row
    entry = replace(invalidation, offset=row["id"], lsn=int(row["lsn"]))
    return Reading(epoch=row["epoch"], newest=row["id"], entries=[(entry, 0.0)])


async def append_all(connection: Connection, invalidations: Iterable[Invalidation]) -> Reading | None:
    """Append each, in order, as `append` does; returns all of them, None where there is none."""
    readings = [await append(connection, invalidation) for invalidation in invalidations]
    if not readings:
        return None
    return replace(readings[-1], entries=[entry for reading in readings for entry in reading.entries])


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
