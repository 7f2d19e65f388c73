"""`afresh watch` and `afresh unwatch`: which tables tell of their changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import click
from rich.table import Table
from rich.text import Text

from afresh_notifier import database, privileges, watching
from afresh_notifier.commands.shared import (
    Invocation,
    console,
    dsn_option,
    note,
    pass_invocation,
    raise_all,
    refused,
    run,
)
from afresh_notifier.errors import DatabaseError, SettingsError
from afresh_notifier.resources import query
from afresh_notifier.settings import DatabaseSettings, default_file


@click.command(short_help="Let tables tell of their changes.")
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@click.option(
    "--keys", metavar="COLUMN,…", help="Columns whose values are told with a change. [default: settings, or as it is]"
)
@click.option(
    "--capture",
    type=click.Choice(("log", "notify")),
    help="How: written into the change log, or only notified. [default: as it is; log for a new watch]",
)
@click.option("--list", "listing", is_flag=True, help="Show what is watched, and change nothing.")
@dsn_option
@pass_invocation
def watch(
    invocation: Invocation,
    tables: Sequence[str],
    keys: str | None,
    capture: str | None,
    listing: bool,
    dsn: str | None,
) -> None:
    """Let these tables tell of their changes; without TABLE, every table that the settings and their packs name."""
    settings = invocation.database(dsn)
    if listing:
        if tables or keys is not None or capture is not None:
            raise click.UsageError("--list takes neither tables nor --keys nor --capture.")
        run(_list(settings))
        return
    if keys is not None and not tables:
        raise click.UsageError("--keys needs the tables that it is for.")
    columns = None if keys is None else [column for part in keys.split(",") if (column := part.strip())]
    run(_watch(settings, invocation, tables, columns, capture))


@click.command(short_help="Let tables tell nothing any more.")
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@click.option("--all", "everything", is_flag=True, help="All tables that are watched, as before `migrate down`.")
@dsn_option
@pass_invocation
def unwatch(invocation: Invocation, tables: Sequence[str], everything: bool, dsn: str | None) -> None:
    """Let these tables tell nothing any more. Triggers that were made by hand stay."""
    if everything == bool(tables):
        raise click.UsageError("Name tables, or give --all.")
    run(_unwatch(invocation.database(dsn), tables))


@asynccontextmanager
async def _connected(settings: DatabaseSettings) -> AsyncIterator[asyncpg.Connection]:
    async with database.connection(settings, name="afresh watch") as connection:
        database.require_installed(await database.facts(connection))
        connection.add_log_listener(note)
        yield connection


async def _watch(
    settings: DatabaseSettings,
    invocation: Invocation,
    tables: Sequence[str],
    columns: Sequence[str] | None,
    capture: str | None,
) -> None:
    """Watch ``tables``, or those that are declared, with the keys ``columns``, or those that are declared for them, or
    those that they are watched with."""
    packs = invocation.packs()
    asked = tables or watching.declared_names(invocation.settings, packs)
    if not asked:
        raise SettingsError(
            ["there is nothing to watch: no table is named"],
            hint=f"name tables here, or under [[tables]] in {default_file()}",
        )
    async with _connected(settings) as connection:
        found = await watching.resolve(connection, asked)
        kept = {row["name"]: tuple(row["keys"]) for row in await connection.fetch(query("watched"))}
        declared = kept | await watching.declared_keys(connection, invocation.settings, packs)
        refusals: list[DatabaseError] = []
        for name, oid in {relation.name: relation.oid for relation in found.values()}.items():
            keys = declared.get(name, ()) if columns is None else columns
            try:
                await connection.execute(query("watch"), name, list(keys), capture)
            except asyncpg.PostgresError as error:
                refusals.append(await _refused(connection, oid, error))
            else:
                click.echo(f"watching {name}" + (f", keys {', '.join(keys)}" if keys else ""))
        raise_all(refusals)


async def _unwatch(settings: DatabaseSettings, tables: Sequence[str]) -> None:
    """End the watches on ``tables``; all there are, where none is named."""
    async with _connected(settings) as connection:
        tables = tables or list(dict.fromkeys(row["root"] for row in await connection.fetch(query("watched"))))
        if not tables:
            click.echo("Nothing is watched.")
        found = await watching.resolve(connection, tables)
        refusals: list[DatabaseError] = []
        for relation in found.values():
            try:
                freed = await connection.fetchval(query("unwatch"), relation.name)
            except asyncpg.PostgresError as error:
                refusals.append(await _refused(connection, relation.oid, error))
            else:
                click.echo(f"no longer watching {relation.name}" if freed else f"{relation.name} has no watch to end")
        raise_all(refusals)


async def _refused(connection: asyncpg.Connection, oid: int, error: asyncpg.PostgresError) -> DatabaseError:
    """What PostgreSQL said of one table; where it forbids it, with what would let us."""
    said = refused(error)
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        said.hint = await privileges.to_use(connection, oid) or said.hint
    return said


async def _list(settings: DatabaseSettings) -> None:
    async with _connected(settings) as connection:
        rows = await connection.fetch(query("watched"))
    table = Table("table", "keys", "capture", "level", "watched as part of", "state")
    for row in rows:
        state = (
            Text("complete", style="green") if row["complete"] else Text("incomplete: see afresh doctor", style="red")
        )
        table.add_row(row["name"], ", ".join(row["keys"]), row["capture"], row["level"], row["root"], state)
    console().print(table)
