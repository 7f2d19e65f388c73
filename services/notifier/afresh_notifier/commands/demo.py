"""`afresh demo`: everything at once on a database of its own, to look at; or one change from end to end (`--once`)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import textwrap
from collections.abc import Sequence

import click
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from afresh_cache.messages import encode
from afresh_notifier import app, logs, packs
from afresh_notifier.commands.shared import console, pack_option, run
from afresh_notifier.demo import Stopwatch, Story, follow_one_change, prepare, quiet, traffic
from afresh_notifier.embedded import EmbeddedServer
from afresh_notifier.errors import ServeError
from afresh_notifier.packs import InstalledPack
from afresh_notifier.settings import DatabaseSettings, ServerSettings, Settings


@click.command(short_help="See it work, on a database of its own.")
@click.option("--once", is_flag=True, help="Make one change, show what came of it stage by stage, and end.")
@click.option(
    "--clients",
    type=click.IntRange(1, 1_000_000),
    default=50,
    show_default=True,
    help="How many companies the sample data has.",
)
@click.option("--rate", type=click.FloatRange(0.01, 1000), default=2.0, show_default=True, help="Changes a second.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the dashboard. [default: 8080, or a free one]")
@pack_option
@click.option("--dsn", metavar="ADDRESS", help="A database of yours, an empty one. [default: an embedded server]")
def demo(once: bool, clients: int, rate: float, port: int | None, names: Sequence[str], dsn: str | None) -> None:
    """See it work: an embedded PostgreSQL, sample data, live traffic, the service and its dashboard.

    With --dsn it uses that database instead, which should be an empty one: the packs' tables are made in it.
    """
    logs.configure(level="warning", json=False)
    chosen = packs.find_all(names or packs.available())
    with contextlib.ExitStack() as stack:
        if dsn is None:
            with _progress() as progress:
                progress.add_task("starting PostgreSQL")
                server = stack.enter_context(EmbeddedServer())
            dsn = server.dsn()
        settings = Settings(
            packs=tuple(pack.path for pack in chosen),
            database=DatabaseSettings(dsn=dsn),
            server=ServerSettings(port=port if port is not None else 0 if once else 8080),
        )
        run(_demo(settings, chosen, clients, once=once, rate=rate, any_port=port is None))


async def _demo(
    settings: Settings, chosen: Sequence[InstalledPack], clients: int, *, once: bool, rate: float, any_port: bool
) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    with _progress() as progress:
        task = progress.add_task("preparing")
        async for doing in prepare(settings.database, chosen, clients):
            progress.update(task, description=doing)
            if stop.is_set():
                return
    stopwatch = Stopwatch()
    async with contextlib.AsyncExitStack() as stack:
        try:
            service = await stack.enter_async_context(app.running(settings, logs.Log(), stopwatch))
        except ServeError:
            if not any_port:
                raise
            free = settings.model_copy(update={"server": settings.server.model_copy(update={"port": 0})})
            service = await stack.enter_async_context(app.running(free, logs.Log(), stopwatch))
        if once:
            for pack in chosen:
                _tell(await follow_one_change(settings.database, pack, service, stopwatch))
            return
        await quiet(service)
        _invite(service.url, settings, chosen)
        async with asyncio.TaskGroup() as group:
            changes = group.create_task(traffic(settings.database, chosen, rate), name="traffic")
            await stop.wait()
            changes.cancel()


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console(), transient=True
    )


def _invite(url: str, settings: Settings, chosen: Sequence[InstalledPack]) -> None:
    out = console()
    asked = [query.url_path for pack in chosen for query in pack.settings.queries if query.method == "GET"]
    lines = {
        "The dashboard:": url,
        **({"Ask for it as JSON, or as .csv:": f"curl {url}{asked[0]}"} if asked else {}),
        "Hear it in another terminal:": f"{sys.argv[0]} tail --url {url}",
        "Change something yourself:": f"psql '{settings.database.dsn}'",
    }
    for what, how in lines.items():
        out.print(what, Text(how, style="bold"), soft_wrap=True)
    out.print("Ctrl-C ends it.")


def _tell(story: Story) -> None:
    out = console()
    out.print(Text(f"One change of {story.subject}", style="bold"))
    out.print(textwrap.indent(story.statement.strip(), "    "))
    timeline = Table("ms", "stage", "what happened", title="Timeline", title_justify="left")
    stages = [
        (story.committed, "committed", "PostgreSQL confirmed the commit to the writer"),
        (story.heard, "heard", "the change was taken out of the log"),
        (story.refreshed, "refreshed", f"{story.view} in {story.refresh_ms:.1f} ms, and committed"),
        (story.told, "told", "the message reached the client"),
    ]
    for moment, stage, what in sorted(stages):
        timeline.add_row(f"{moment:.1f}", stage, what)
    out.print(timeline)
    out.print(Text("The pushed message", style="bold"))
    out.print(encode(story.message).decode(), soft_wrap=True)
    row = Table("column", "before", "after", title=f"The row of {story.view}", title_justify="left")
    for column, before in story.before.items():
        after = story.after[column]
        row.add_row(column, str(before), Text(str(after), style="bold green" if before != after else ""))
    out.print(row)
