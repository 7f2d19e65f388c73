"""Finds the unique index that a materialized view lacks, from the rows that are in it.

In: a materialized view. Out: a `Proposal`: the `CREATE UNIQUE INDEX` that would succeed now, or why there is none. What
identifies a row today may not do so tomorrow; so columns of a kind that identifies things are tried first, and a person
decides. It reads the view, for no longer than a stated time, and changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import asyncpg

from afresh_notifier.database import milliseconds, transaction
from afresh_notifier.resources import query

#: How many columns a key may have, and among how many of the first columns it is looked for, by its size.
AMONG = {1: 64, 2: 10, 3: 7}

#: How long the search may take altogether, in seconds.
PATIENCE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """``statement`` makes the index; None: ``reason`` says why there is none to propose."""

    statement: str | None
    reason: str


async def propose(connection: asyncpg.Connection, view: int, *, patience: float = PATIENCE) -> Proposal:
    """A unique index for the materialized view with this oid. It must be populated. Cancelling it is safe."""
    search = _Search(connection, view, asyncio.get_running_loop().time() + patience)
    try:
        return await search.run()
    except (asyncpg.QueryCanceledError, TimeoutError):
        return Proposal(
            statement=None, reason=f"no columns that identify its rows were found within {patience:g} s of looking"
        )


class _Search:
    def __init__(self, connection: asyncpg.Connection, view: int, deadline: float) -> None:
        self._connection = connection
        self._view = view
        self._deadline = deadline

    async def run(self) -> Proposal:
        columns = [row["name"] for row in await self._connection.fetch(query("unique_columns"), self._view)]
        counted = await self._ask((await self._statements(columns))["count_filled"])
        if counted["rows"] == 0:
            return Proposal(statement=None, reason="it has no rows from which to tell what identifies one")
        filled = [name for name, count in zip(columns, counted["filled"], strict=True) if count == counted["rows"]]
        for key in _keys(filled):
            statements = await self._statements(key)
            if (await self._ask(statements["is_unique"]))[0]:
                return Proposal(statement=statements["create_index"], reason="these columns identify its rows today")
        if (await self._ask((await self._statements(columns))["repeats_rows"]))[0]:
            return Proposal(
                statement=None,
                reason="it holds the same row more than once, so that no unique index is possible: "
                "add DISTINCT, or a column that tells its rows apart",
            )
        return Proposal(
            statement=None,
            reason=f"no {max(AMONG)} of its first {AMONG[max(AMONG)]} columns without NULLs identify its rows",
        )

    async def _statements(self, columns: Sequence[str]) -> asyncpg.Record:
        row = await self._connection.fetchrow(query("unique_statements"), self._view, list(columns))
        if row is None:
            raise asyncpg.UndefinedTableError(f"there is no relation with the oid {self._view}")
        return row

    async def _ask(self, statement: str) -> Any:
        """The one row of ``statement``, in what is left of the time. Raises `QueryCanceledError`."""
        left = self._deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise TimeoutError
        async with transaction(self._connection, readonly=True):
            await self._connection.execute(query("limit_statement"), milliseconds(left))
            return await self._connection.fetchrow(statement)


def _keys(columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The keys to try: the short ones first, and among these the ones of the first columns."""
    for size, among in AMONG.items():
        yield from combinations(columns[:among], size)
