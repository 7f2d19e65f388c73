"""`afresh embed`: gives every text its embedding, with a progress bar.

It puts rows that lack an embedding into the queue, from which a running service takes rows as well, and works it off. So it
may be interrupted and run again: what is done stays done, and what is not waits.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from afresh_notifier import database, embeddings
from afresh_notifier.commands.shared import Invocation, counted, dsn_option, pass_invocation, progress, raise_all, run
from afresh_notifier.embeddings import Source, Wanted
from afresh_notifier.errors import AfreshError, ModelError, SettingsError
from afresh_notifier.models import Models
from afresh_notifier.resources import query
from afresh_notifier.settings import DatabaseSettings, Settings, default_file
from afresh_notifier.settings_errors import did_you_mean
from afresh_notifier.settings_values import folded_name


@click.command(short_help="Give every text its embedding.")
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@click.option(
    "--all", "everything", is_flag=True, help="Texts that have an embedding too: after another model was set."
)
@dsn_option
@pass_invocation
def embed(invocation: Invocation, tables: tuple[str, ...], everything: bool, dsn: str | None) -> None:
    """Give each text that lacks an embedding one, in the tables that [[embeddings]] names, or in those named here.

    Texts that change later are embedded by the service. It may be interrupted, and run again.
    """
    wanted = _chosen(embeddings.collect(invocation.settings, invocation.packs()), tables)
    run(_embed(invocation.settings, invocation.database(dsn), wanted, everything=everything))


def _chosen(wanted: Sequence[Wanted], tables: Sequence[str]) -> list[Wanted]:
    """Those of ``tables``, or all. Raises `SettingsError`."""
    if not wanted:
        raise SettingsError(
            ["there is nothing to embed: no table is named"],
            hint=f"name one under [[embeddings]] in {default_file()}, or a pack that has some",
        )
    known = {folded_name(one.table): one.table for one in wanted}
    for table in tables:
        if folded_name(table) not in known:
            raise SettingsError(
                [f"[[embeddings]] does not name the table {table}"],
                hint=did_you_mean(table, list(known.values())) or f"it names {', '.join(known.values())}",
            )
    asked = {folded_name(table) for table in tables} or known.keys()
    return [one for one in wanted if folded_name(one.table) in asked]


async def _embed(settings: Settings, reached: DatabaseSettings, wanted: Sequence[Wanted], *, everything: bool) -> None:
    failures: list[AfreshError] = []
    async with (
        database.connection(reached, name="afresh embed", statement_timeout="0") as connection,
        Models.opened(settings.embedding, settings.chat, lambda _: None) as models,
    ):
        database.require_installed(await database.facts(connection))
        with progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True)
        ) as bar:
            for one in wanted:
                try:
                    source = await embeddings.look_up(connection, one, most=settings.embedding.dimensions)
                    await embeddings.codec(connection, source)
                    await _work_off(connection, source, models, settings, bar, everything=everything)
                except AfreshError as error:
                    failures.append(error)
    raise_all(failures)


async def _work_off(
    connection: asyncpg.Connection,
    source: Source,
    models: Models,
    settings: Settings,
    bar: Progress,
    *,
    everything: bool,
) -> None:
    """All texts of one source. Raises `ModelError` where some have no embedding in the end."""
    await connection.execute(source.enqueue, everything, source.members)
    await connection.execute(query("embedding_now"), source.members, source.wanted.text)
    waiting = await connection.fetchrow(query("embedding_waiting"), source.members, source.wanted.text, None)
    assert waiting is not None  # noqa: S101 - an aggregate without GROUP BY has one row
    task: TaskID = bar.add_task(source.wanted.name, total=waiting["rows"])
    stored = failed = 0
    problem = hint = ""
    while True:
        batch = await embeddings.embed_some(connection, source, models, settings.embedding)
        stored, failed = stored + batch.stored, failed + batch.failed
        if batch.problem:
            problem, hint = batch.problem, batch.hint
        bar.update(task, advance=batch.taken)
        if batch.model_down or not batch.taken:
            break
    bar.console.print(f"{source.wanted.name}: {counted(stored, 'row')} embedded, {failed} failed")
    if failed:
        raise ModelError(
            f"{source.wanted.name}: {counted(failed, 'row')} could not be embedded: {problem}",
            hint=hint or "they wait: the service tries them again, and so does `afresh embed`",
        )
