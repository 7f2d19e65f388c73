"""What our login lacks, as the statements that give it, for what PostgreSQL forbids (SQLSTATE 42501).

In: a connection, and what was forbidden. Out: a hint with each statement on a line of its own, for the database's owner or
a superuser to run; empty where it is not a matter of what we looked at. It only reads.
"""

from __future__ import annotations

from collections.abc import Iterable

from afresh_notifier.database import Connection
from afresh_notifier.resources import query


async def to_use(connection: Connection, oid: int) -> str:
    """What lets us watch this table, or refresh this view."""
    row = await connection.fetchrow(query("privileges_relation"), [oid])
    return "" if row is None else let_run(row["statements"])


async def to_migrate(connection: Connection) -> str:
    """What lets us install the engine and packs, or take them away."""
    row = await connection.fetchrow(query("privileges_migrate"))
    if row is None:
        return ""
    if row["owner"] is not None:
        return f"run it as the role {row['owner']}, which installed Afresh here: --dsn names another login"
    return let_run(row["statements"])


def let_run(statements: Iterable[str]) -> str:
    """These statements, as something for who may run them."""
    lines = list(statements)
    return "\n".join(["let the owner or a superuser run:", *lines]) if lines else ""
