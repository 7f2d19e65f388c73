"""Marks: which views lack a change that was taken out of the change log; the table `afresh.dirty`.

In: a connection. A mark is put in the transaction that takes the change, and cleared in the one that refreshes the view:
so at every moment a change is in the log, or in a mark, or in the view. Each mark draws a new generation, and a refresh
clears only the generations that it read before its snapshot: a change that is marked meanwhile stays.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from afresh_notifier.changes import Key, read_keys, write_keys
from afresh_notifier.database import Connection
from afresh_notifier.debounce import MAX_KEYS, Dirt
from afresh_notifier.resources import query


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """``view`` lacks changes of ``tables``; ``keys`` None: unknown, all. ``generation`` is 0 before it is put."""

    view: str
    slot: int
    generation: int = 0
    tables: frozenset[str]
    keys: frozenset[Key] | None
    since: datetime

    def dirt(self) -> Dirt:
        """The same for the debouncer, which may change it."""
        return Dirt(tables=set(self.tables), keys=None if self.keys is None else set(self.keys), heard_at=self.since)


def of(view: str, dirt: Dirt, *, slot: int = 0) -> Mark:
    """The mark that ``view`` lacks what ``dirt`` says."""
    return Mark(
        view=view,
        slot=slot,
        tables=frozenset(dirt.tables),
        keys=None if dirt.keys is None else frozenset(dirt.keys),
        since=dirt.heard_at,
    )


async def put(connection: Connection, marks: Sequence[Mark]) -> None:
    """Put ``marks``, which stand parents before children, each once. Raises what asyncpg raises."""
    if marks:
        document = [
            {
                "view_name": mark.view,
                "slot": mark.slot,
                "tables": sorted(mark.tables),
                "keys": None if mark.keys is None else write_keys(mark.keys),
                "since": mark.since.isoformat(),
            }
            for mark in marks
        ]
        await connection.execute(query("mark_dirty"), json.dumps(document), MAX_KEYS)


async def read(connection: Connection, view: str | None = None) -> list[Mark]:
    """The marks of ``view``, or all. Raises what asyncpg raises."""
    return [
        Mark(
            view=row["view_name"],
            slot=row["slot"],
            generation=row["generation"],
            tables=frozenset(row["tables"]),
            keys=None if row["keys"] is None else read_keys(row["keys"]),
            since=row["since"],
        )
        for row in await connection.fetch(query("dirty"), view)
    ]


async def clear(connection: Connection, marks: Sequence[Mark]) -> None:
    """Remove ``marks``, each if nothing was added to it since it was read. Raises what asyncpg raises."""
    if marks:
        await connection.execute(
            query("clear_dirty"),
            [mark.view for mark in marks],
            [mark.slot for mark in marks],
            [mark.generation for mark in marks],
        )
