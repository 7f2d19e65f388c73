"""`afresh refresh`: refreshes views by hand, by way of the service or past it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import aiohttp
import asyncpg
import click
from rich.console import Console
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from afresh_notifier import database, dependencies, marks, planning, watching
from afresh_notifier.commands.shared import Invocation, dsn_option, pass_invocation, progress, raise_all, run
from afresh_notifier.debounce import Dirt
from afresh_notifier.dependencies import Catalogue, View
from afresh_notifier.errors import AfreshError, NotThere, RefreshBusy, RefreshError, Unreachable
from afresh_notifier.refresh import Limits, following
from afresh_notifier.refresh import refresh as refresh_view
from afresh_notifier.refresher import Plan
from afresh_notifier.settings import Settings

#: How long `--direct` tries a view that somebody else has locked, in seconds, and how often.
BUSY_PATIENCE, BUSY_PAUSE = 60.0, 0.2


@click.command(short_help="Refresh views by hand.")
@click.argument("views", nargs=-1, metavar="[VIEW]...")
@click.option("--url", help="Where the service answers. [default: host and port of the settings]")
@click.option("--direct", is_flag=True, help="Past the service, straight in the database.")
@dsn_option
@pass_invocation
def refresh(invocation: Invocation, views: Sequence[str], url: str | None, direct: bool, dsn: str | None) -> None:
    """Refresh these views now, or all of them; answers when it is done, and the clients were told.

    With --direct the views that stand on the named ones are refreshed after them.
    """
    if not direct:
        if dsn:
            raise click.UsageError("--dsn is for --direct; the service has its own.")
        run(_ask(url or invocation.service_address(), views))
        return
    if url:
        raise click.UsageError("--url is for the service; --direct goes past it.")
    settings = invocation.settings.model_copy(update={"database": invocation.database(dsn)})
    run(_refresh(settings, invocation, views))


@contextmanager
def _busy(doing: str) -> Iterator[Console]:
    """Something that moves while we wait; yields where to print beside it."""
    with progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as bar:
        bar.add_task(doing, total=None)
        yield bar.console


async def _ask(url: str, views: Sequence[str]) -> None:
    """Let the service do it. Raises `Unreachable`, `NotThere` or `RefreshError`."""
    pages = [(view, f"/views/{quote(view, safe='')}/refresh") for view in dict.fromkeys(views)]
    pages = pages or [("", "/api/refresh-views")]
    failures: list[AfreshError] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, connect=10)) as session:
        with _busy("refreshing") as screen:
            for view, page in pages:
                status, answer = await _post(session, url.rstrip("/"), page)
                if status == 200 and view:
                    screen.print(f"refreshed {answer['name']} ({answer['duration_ms'] / 1000:.3f} s)")
                elif status == 200:
                    for one in answer["views"]:
                        screen.print(f"refreshed {one['view']}")
                else:
                    failures.append(_failure(view, answer))
    raise_all(failures)


async def _post(session: aiohttp.ClientSession, url: str, page: str) -> tuple[int, dict[str, Any]]:
    """The status and the JSON object that the service answers. Raises `Unreachable` where nobody or another does."""
    try:
        async with session.post(url + page) as response:
            answer = await response.json(content_type=None)
    except (aiohttp.ClientError, aiohttp.InvalidURL, TimeoutError) as error:
        raise Unreachable(
            f"no service answers at {url}: {error}",
            hint="start it with `afresh serve`, give its address with --url, or go past it with --direct",
        ) from error
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Unreachable(f"what answers at {url} is not Afresh", hint="give the service's address with --url")
    return response.status, answer


def _failure(view: str, answer: dict[str, Any]) -> AfreshError:
    """What a problem that the service answered means."""
    if answer.get("code") == "no_such_view":
        return NotThere(view, f"the service refreshes no view {view}", hint=watching.meant(view, answer["views"]))
    failed = [one for one in answer.get("views", ()) if "problem" in one]
    problem = "\n".join([str(answer.get("detail", answer)), *(one["problem"] for one in failed)])
    hints = dict.fromkeys(one["hint"] for one in (answer, *failed) if one.get("hint"))
    return RefreshError(view, problem, hint="\n".join(hints))


async def _refresh(settings: Settings, invocation: Invocation, views: Sequence[str]) -> None:
    """Do it here, parents first; what stands on a view that failed is left out, everything else is done."""
    async with database.connection(settings.database) as connection:
        database.require_serving(await database.facts(connection))
        catalogue = await dependencies.load(connection)
        plan = (await planning.read(connection, settings, invocation.packs())).plan
        found = await watching.resolve(connection, views, watching.VIEWS)
    for asked, relation in found.items():
        if relation.kind not in watching.VIEWS:
            raise NotThere(asked, f"{relation.name} is not a materialized view", hint="name one, or none for all")
    chosen = _with_children(catalogue, [relation.name for relation in found.values()]) or set(plan.limits)
    usual = Limits(timeout=settings.refresh.timeout, lock_timeout=settings.refresh.lock_timeout, blocking=False)
    failures: dict[str, RefreshError] = {}
    async with database.pool(settings.database, size=1) as pool:
        with _busy("refreshing") as screen:
            for name in (name for name in catalogue.views if name in chosen):
                if catalogue.ancestors(name) & failures.keys():
                    continue
                began = time.monotonic()
                try:
                    await _patiently(pool, plan, catalogue.views[name], plan.limits.get(name, usual))
                except RefreshError as error:
                    failures[name] = error
                else:
                    screen.print(f"refreshed {name} ({time.monotonic() - began:.3f} s)")
    raise_all(list(failures.values()))


def _with_children(catalogue: Catalogue, names: Sequence[str]) -> set[str]:
    """These views and all that stand on them."""
    return {name for name in catalogue.views if name in names or catalogue.ancestors(name) & set(names)}


async def _patiently(pool: asyncpg.Pool, plan: Plan, view: View, limits: Limits) -> None:
    """Refresh one view, waiting for whoever has it; services that run hear of it. Raises `RefreshError`."""
    deadline = time.monotonic() + BUSY_PATIENCE
    for tries in itertools.count():
        try:
            dirt = Dirt(tables=set(view.tables), keys=None, heard_at=datetime.now(UTC))
            follow = following(plan.patterns, view.name, dirt, marks.of)
            await refresh_view(pool, view.name, view.oid, replace(limits, outwait=tries > 0), follow)
        except RefreshBusy:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(BUSY_PAUSE)
        else:
            return
