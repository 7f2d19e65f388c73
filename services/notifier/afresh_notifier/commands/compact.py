"""`afresh compact`: folds the changes that have piled up while no service ran to one row a table.

Nothing is lost by it: the next leader refreshes whatever hangs on those tables, and tells it with keys unknown. It works in
batches, each a transaction of its own, and may be interrupted and run again, also beside a service and writers.
"""

from __future__ import annotations

from collections.abc import Callable

import asyncpg
import click
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from afresh_notifier import database
from afresh_notifier.commands.shared import Invocation, counted, dsn_option, pass_invocation, progress, run
from afresh_notifier.resources import query
from afresh_notifier.settings import DatabaseSettings

#: Changes that are folded in one transaction.
BATCH = 50_000


@click.command(short_help="Fold changes that have piled up.")
@dsn_option
@pass_invocation
def compact(invocation: Invocation, dsn: str | None) -> None:
    """Fold the changes that have piled up while no service ran to one row a table, and give the space back.

    It is for the owner of the schema afresh: giving space back takes that. The service needs no such help; a log of
    many millions is taken faster after it.
    """
    run(_compact(invocation.database(dsn)))


async def _compact(settings: DatabaseSettings) -> None:
    async with database.connection(settings, name="afresh compact", statement_timeout="0") as connection:
        database.require_serving(await database.facts(connection))
        before = await _begin(connection)
        with progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True)
        ) as bar:
            task = bar.add_task("folding", total=before["changes"])
            taken, left = await _fold(connection, before["horizon"], lambda done: bar.update(task, completed=done))
            if taken:
                # What each batch left of a table is folded in its turn, when there is room in front, so that the end of the
                # table is empty and can be cut off.
                bar.update(task, description="giving back")
                await connection.execute(query("compact_vacuum"))
                _, left = await _fold(connection, (await _begin(connection))["horizon"], lambda _: None)
                await connection.execute(query("compact_truncate"))
                await connection.execute(query("compact_reindex"))
        after = await _begin(connection)
    if not taken:
        click.echo("Nothing has piled up.")
        return
    megabytes = (before["bytes"] - after["bytes"]) / 1e6
    gave_back = f", {megabytes:.1f} MB given back" if megabytes >= 0.05 else ""
    click.echo(f"{counted(taken, 'change')} folded to {counted(left, 'row')}{gave_back}")


async def _begin(connection: asyncpg.Connection) -> asyncpg.Record:
    """How much there is, and what is to be left alone."""
    row = await connection.fetchrow(query("compact_begin"))
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return row


async def _fold(connection: asyncpg.Connection, horizon: str, told: Callable[[int], None]) -> tuple[int, int]:
    """Fold what older transactions than ``horizon`` wrote; returns how many rows there were, and what is left of them."""
    taken = left = 0
    while True:
        row = await connection.fetchrow(query("compact_changes"), horizon, BATCH)
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        taken, left = taken + row["taken"], left + row["folded"]
        told(taken)
        if row["taken"] < BATCH:
            return taken, left
