"""`afresh verify`: each pack's own checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import asyncpg
import click
import orjson
from rich.table import Table
from rich.text import Text

from afresh_notifier import database, packs
from afresh_notifier.commands.shared import Invocation, console, counted, dsn_option, pack_option, pass_invocation, run
from afresh_notifier.errors import PackError
from afresh_notifier.packs import InstalledPack
from afresh_notifier.settings import DatabaseSettings, default_file

_COLUMNS = ("check", "expected", "found", "ok")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that a pack promises of its database."""

    pack: str
    check: str
    expected: str
    found: str
    ok: bool


@click.command(short_help="Run the packs' own checks.")
@pack_option
@dsn_option
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
@pass_invocation
@click.pass_context
def verify(ctx: click.Context, invocation: Invocation, names: Sequence[str], dsn: str | None, as_json: bool) -> None:
    """Run the checks of the packs of the settings, or of those named; exit 1 if one fails."""
    chosen = invocation.packs(names)
    if not chosen:
        raise PackError(
            "there is nothing to verify: no pack is named",
            hint=f"name one with --pack, or as packs in {default_file()}; known packs: {', '.join(packs.available())}",
        )
    checks = run(_verify(invocation.database(dsn), chosen))
    if as_json:
        click.echo(orjson.dumps([asdict(check) for check in checks], option=orjson.OPT_INDENT_2).decode())
    else:
        _print(checks)
    if not all(check.ok for check in checks):
        ctx.exit(1)


async def _verify(settings: DatabaseSettings, chosen: Sequence[InstalledPack]) -> list[Check]:
    async with database.scripting(settings, name="afresh verify") as connection:
        return [check for pack in chosen for check in await _checks(connection, pack)]


async def _checks(connection: asyncpg.Connection, pack: InstalledPack) -> list[Check]:
    """The pack's checks; one that says why, and fails, where they cannot be made."""
    statement = pack.read("verify.sql")
    try:
        async with database.transaction(connection, readonly=True):
            prepared = await connection.prepare(statement)
            columns = tuple(attribute.name for attribute in prepared.get_attributes())
            if columns != _COLUMNS:
                return [_broken(pack, f"a table of {', '.join(_COLUMNS)}", f"a table of {', '.join(columns)}")]
            rows = await prepared.fetch()
    except asyncpg.PostgresError as error:
        return [_broken(pack, "answers", str(error))]
    if not rows:
        return [_broken(pack, "one check or more", "none")]
    return [
        Check(
            pack=pack.name,
            check=str(row["check"]),
            expected=str(row["expected"]),
            found=str(row["found"]),
            ok=row["ok"] is True,
        )
        for row in rows
    ]


def _broken(pack: InstalledPack, expected: str, found: str) -> Check:
    return Check(pack=pack.name, check="verify.sql can be run", expected=expected, found=found, ok=False)


def _print(checks: Sequence[Check]) -> None:
    screen = console()
    for pack in dict.fromkeys(check.pack for check in checks):
        table = Table("check", "expected", "found", "", title=pack, title_justify="left")
        for check in (check for check in checks if check.pack == pack):
            mark = Text("ok", style="green") if check.ok else Text("FAILED", style="bold red")
            table.add_row(check.check, check.expected, check.found, mark)
        screen.print(table)
    failed = [check for check in checks if not check.ok]
    named = ": " + "; ".join(f"{check.pack}, {check.check}" for check in failed) if failed else ""
    screen.print(Text(f"{counted(len(checks), 'check')}, {len(failed)} failed{named}"), soft_wrap=True)
