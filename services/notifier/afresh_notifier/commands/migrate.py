"""`afresh migrate`: brings the engine's and the packs' objects into a database, and takes them away."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

import asyncpg
import click
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.table import Table
from rich.text import Text

from afresh_notifier import database, packs
from afresh_notifier import migrate as migrations
from afresh_notifier.commands.shared import (
    Invocation,
    console,
    counted,
    dsn_option,
    note,
    pack_option,
    pass_invocation,
    progress,
    run,
)
from afresh_notifier.errors import AfreshError, MigrationError, PackError
from afresh_notifier.migrate import ENGINE, Scope, Step
from afresh_notifier.settings import DatabaseSettings

_UNKNOWN = "unknown: made by a newer Afresh"


@click.group()
def migrate() -> None:
    """Install the engine's and the packs' objects, or remove them."""


@migrate.command(short_help="Apply what is missing.")
@pack_option
@dsn_option
@pass_invocation
def up(invocation: Invocation, names: Sequence[str], dsn: str | None) -> None:
    """Apply what is missing: the engine, then the packs of the settings (or those named, with what they require)."""
    scopes = packs.installable(invocation.packs(names))
    run(_up(invocation.database(dsn), scopes))


@migrate.command(short_help="Remove the packs and the engine, or some packs.")
@pack_option
@dsn_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_invocation
def down(invocation: Invocation, names: Sequence[str], dsn: str | None, yes: bool) -> None:
    """Remove the packs of the settings and the engine; or only the packs named. What they hold is lost."""
    known = invocation.packs([*invocation.settings.packs, *names])
    named = {packs.find(name).name for name in names}
    scopes = [pack.scope for pack in known if pack.name in named]
    if not names:
        scopes = packs.installable(known)
    run(_down(invocation.database(dsn), scopes, _requirements(known), yes=yes))


@migrate.command()
@pack_option
@dsn_option
@pass_invocation
def status(invocation: Invocation, names: Sequence[str], dsn: str | None) -> None:
    """Show what is applied and what is not."""
    scopes = packs.installable(invocation.packs(names))
    run(_status(invocation.database(dsn), scopes))


async def _up(settings: DatabaseSettings, scopes: Sequence[Scope]) -> None:
    async with _connected(settings) as connection:
        steps = await migrations.status(connection, scopes)
        for step in steps:
            if not step.known:
                click.echo(f"Note: {step.scope} holds {step.migration}, which is {_UNKNOWN}", err=True)
        missing = [step for step in steps if not step.applied]
        async with aclosing(migrations.up(connection, scopes)) as applied:
            await _shown(applied, len(missing), "applying", "applied", style="green")


async def _down(
    settings: DatabaseSettings, scopes: Sequence[Scope], requires: dict[str, frozenset[str]], *, yes: bool
) -> None:
    async with _connected(settings) as connection:
        steps = [step for step in await migrations.status(connection, scopes) if step.applied]
        _refuse_unknown(steps)
        await _refuse_required(connection, {scope.name for scope in scopes}, requires)
        if steps and not yes:
            await _ask(steps, scopes)
        async with aclosing(migrations.down(connection, scopes)) as removed:
            await _shown(removed, len(steps), "removing", "removed", style="yellow")


async def _status(settings: DatabaseSettings, scopes: Sequence[Scope]) -> None:
    async with database.connection(settings, name="afresh migrate") as connection:
        steps = await migrations.status(connection, scopes)
    table = Table("part", "migration", "what it is", "state")
    for step in steps:
        state, style = ("applied", "green") if step.applied else ("not applied", "yellow")
        if not step.known:
            state, style = _UNKNOWN, "red"
        table.add_row(step.scope, step.migration, step.title, Text(state, style=style))
    console().print(table)


@asynccontextmanager
async def _connected(settings: DatabaseSettings) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a server on which something can be changed; a migration may take its time."""
    async with database.scripting(settings, name="afresh migrate") as connection:
        database.require_primary(await database.facts(connection))
        connection.add_log_listener(note)
        yield connection


async def _shown(steps: AsyncIterator[Step], total: int, doing: str, done: str, *, style: str) -> None:
    """A line for each step as it is done, and a bar while they run."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    count = 0
    with progress(*columns) as bar:
        task = bar.add_task(doing, total=total)
        async for step in steps:
            count += 1
            bar.console.print(Text(done, style=style), f"{step.migration}  {step.title}")
            bar.advance(task)
    if not count:
        click.echo("Nothing to do.")


def _requirements(known: Sequence[packs.InstalledPack]) -> dict[str, frozenset[str]]:
    """For each pack that comes with Afresh or is ``known``: every pack that it requires, at any distance."""
    found = {pack.name: pack for pack in packs.find_all(packs.available())} | {pack.name: pack for pack in known}
    return {
        name: frozenset(needed.name for needed in packs.find_all([pack.path])) - {name} for name, pack in found.items()
    }


async def _refuse_required(
    connection: asyncpg.Connection, removed: set[str], requires: dict[str, frozenset[str]]
) -> None:
    """Raises `PackError` where a pack that stays needs something that is to be removed."""
    for pack in await migrations.applied_packs(connection):
        needed = {ENGINE, *requires.get(pack, ())} & removed
        if pack not in removed and needed:
            raise PackError(
                f"pack {pack} is applied, and needs {', '.join(sorted(needed))}",
                hint=f"remove it first: afresh migrate down --pack {pack}",
            )


def _refuse_unknown(steps: Sequence[Step]) -> None:
    """Raises `MigrationError` where the database holds migrations whose way back we do not know."""
    unknown = [step.migration for step in steps if not step.known]
    if unknown:
        raise MigrationError(
            f"the database holds what only a newer Afresh can take back: {', '.join(unknown)}",
            hint="run this with the Afresh that made it",
        )


async def _ask(steps: Sequence[Step], scopes: Sequence[Scope]) -> None:
    """Raises `AfreshError` where nobody agrees."""
    if not sys.stdin.isatty():
        raise AfreshError(
            "this drops what migrations have made, and nobody can be asked",
            hint="add --yes to agree; `afresh sql --down` shows what is dropped",
        )
    for name, count in Counter(step.scope for step in steps).items():
        click.echo(f"{name}: {counted(count, 'migration')} will be taken back")
    drops = {migration: names for scope in scopes for migration, names in (await migrations.dropped(scope)).items()}
    for step in reversed(steps):
        click.echo(f"  {step.migration}  {step.title}")
        for name in drops[step.migration]:
            click.echo(f"    drops {name}")
    if not click.confirm("Drop what is named here? Nothing else is lost."):
        raise AfreshError("nothing was removed")
