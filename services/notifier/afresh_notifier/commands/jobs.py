"""`afresh jobs`: what is run at which times, what became of it, and one job by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import asyncpg
import click
from rich.table import Table
from rich.text import Text

from afresh_notifier import database, jobs
from afresh_notifier.commands.shared import Invocation, console, dsn_option, pass_invocation, run
from afresh_notifier.errors import AfreshError, DatabaseError
from afresh_notifier.jobs import Job
from afresh_notifier.resources import query
from afresh_notifier.settings import DatabaseSettings, default_file
from afresh_notifier.settings_errors import did_you_mean


@click.command("jobs", short_help="Show the jobs, or run one by hand.")
@click.option("--run", "name", metavar="JOB", help="Run this job now, whatever its schedule.")
@dsn_option
@pass_invocation
def jobs_command(invocation: Invocation, name: str | None, dsn: str | None) -> None:
    """Show the jobs of the settings and the packs: when each was run last, and when it will be; or run one."""
    known = jobs.collect(invocation.settings, invocation.packs())
    if name is not None:
        job = _find(known, name)
        run(_run(invocation.database(dsn), job))
        click.echo(f"{job.name} was run")
    elif not known:
        click.echo(f"There are no jobs: name some under [[jobs]] in {default_file()}, or a pack that has some.")
    else:
        _print(known, run(_rows(invocation.database(dsn))))


def _find(known: Sequence[Job], name: str) -> Job:
    for job in known:
        if job.name == name:
            return job
    names = [job.name for job in known]
    raise AfreshError(
        f"there is no job {name!r}", hint=did_you_mean(name, names) or f"there are: {', '.join(names) or 'none'}"
    )


async def _rows(settings: DatabaseSettings) -> dict[str, asyncpg.Record]:
    async with database.connection(settings, name="afresh jobs") as connection:
        database.require_installed(await database.facts(connection))
        return {row["name"]: row for row in await connection.fetch(query("job_rows"))}


async def _run(settings: DatabaseSettings, job: Job) -> None:
    """Raises `DatabaseError` where it fails, or somebody else is running it."""
    async with database.connection(settings, name=f"afresh job {job.name}") as connection:
        database.require_installed(await database.facts(connection))
        await connection.execute(query("job_first"), [job.name], [None])
        outcome = await jobs.carry_out(connection, job, datetime.now(UTC).replace(second=0, microsecond=0), anyway=True)
    if outcome.problem:
        raise DatabaseError(f"{job.name} failed, and is undone: {outcome.problem}", hint=outcome.hint)
    if not outcome.ran:
        raise DatabaseError(f"{job.name} is being run by somebody else", hint="wait for that")


def _print(known: Sequence[Job], rows: Mapping[str, asyncpg.Record]) -> None:
    table = Table("job", "schedule", "last run", "took", "next", "what became of it")
    now = datetime.now(UTC)
    for job in known:
        row = rows.get(job.name)
        ran = row is not None and row["ran_at"] is not None
        following = job.following(now)
        state = Text("", style="green")
        if row is not None and row["problem"] is not None:
            state = Text(f"failed {row['failures']} times: {row['problem']}", style="bold red")
        elif ran:
            state = Text("ok", style="green")
        table.add_row(
            job.name,
            f"{job.schedule} ({job.timezone})",
            f"{row['ran_at']:%Y-%m-%d %H:%M:%S}" if row is not None and ran else "never",
            f"{row['seconds']:.1f} s" if row is not None and ran else "",
            f"{following:%Y-%m-%d %H:%M}" if following is not None else "never",
            state,
        )
    console().print(table)
    click.echo("Times are UTC.")
