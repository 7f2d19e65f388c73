"""`make faults`: rounds of faults on the real command, each held against what it promises; see `checker`.

A round is a seed: from it come the number of instances, what is written, which faults come and when. Several rounds, one
after another, share one server; `--jobs` of them run side by side, each with a server of its own. A round that fails is
written to a file, as a whole; `--replay` runs it again (the moments of the machine's own are not in the seed, so that it
may take a few runs to fail again).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from afresh_cache import client
from afresh_notifier import marked
from faults.actors import Client, EndpointsClient, EventsClient, WebSocketClient, Writer, content
from faults.application import Application
from faults.breaking import FAULTS, Fault, NotReached
from faults.checker import Verdict, check, converged
from faults.history import History, Shown
from faults.million import run as write_a_million
from faults.world import BROKEN, LIVE, PATIENCE, PLACES, READ, SETTINGS, Instance, Lane, World, until

ROOT = Path(__file__).resolve().parent.parent.parent

#: Where the histories of rounds that failed are written.
HISTORIES = ROOT / "build" / "faults"

#: How long after the last fault everything must have come to its end, in seconds.
QUIET = PATIENCE

#: How soon clients notice that a connection is frozen, in seconds: within a round.
IMPATIENCE = 2.0

#: In how many of the rounds everything is captured in the log. Where a table is notified, whoever takes over refreshes what
#: hangs on it and has clients drop everything, which makes good whatever else was lost.
ALL_LOGGED = 0.7

#: The lease of most rounds, so that they are short; the others have the one that is set when nobody sets it.
SHORT_LEASE = "[lease]\nlength = 1.5\nrenew = 0.4\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One fault in one round."""

    fault: type[Fault]
    reached: bool
    handed_over: float | None = None


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a round."""

    seed: int
    history: History
    tried: list[Tried] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    #: Seconds from the end of the last fault until everything was as it must be.
    settled: float = 0.0
    #: Instances that ended by themselves.
    fell: int = 0
    #: What an exception said that ended the round.
    error: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return self.verdict.good and not self.error

    @property
    def changes(self) -> int:
        """How many transactions were committed for certain."""
        return sum(commit.acknowledged is not None for commit in self.history.commits)


class Round:
    """One round, on a lane."""

    def __init__(self, lane: Lane, seed: int, faults: Sequence[type[Fault]], *, default_lease: bool) -> None:
        self._lane = lane
        self._faults = faults
        self._random = random.Random(seed)
        self._lease = "" if default_lease else SHORT_LEASE
        self.outcome = Outcome(seed=seed, history=History(seed=seed))

    async def run(self) -> Outcome:
        """Run it; what goes wrong is in the outcome."""
        folder = Path(tempfile.mkdtemp(prefix="afresh-round-"))
        try:
            async with self._lane.database() as database, asyncio.timeout(300):
                count = self._random.choice((2, 2, 3))
                instances = [
                    Instance(f"instance-{number}", folder, self._lane, database, self._lease + SETTINGS)
                    for number in range(1, count + 1)
                ]
                try:
                    await self._play(World(self._lane, database, instances))
                finally:
                    for instance in instances:
                        await instance.close()
                    self.outcome.fell = sum(instance.fell for instance in instances)
        except Exception as error:
            self.outcome.error = "; ".join(_causes(error))
        if not self.outcome.good:
            self._keep(folder)
        shutil.rmtree(folder, ignore_errors=True)
        return self.outcome

    async def _play(self, world: World) -> None:
        history, loop = self.outcome.history, asyncio.get_running_loop()
        history.began = loop.time()
        if self._random.random() < ALL_LOGGED:
            await world.fetchval("SELECT afresh.unwatch('notes')")
            await world.fetchval("SELECT afresh.watch('notes', '{id}', 'log')")
            history.notes.append("both tables are captured in the log")
        for instance in world.instances:
            await instance.open()
            instance.start()
        await asyncio.gather(*(instance.ready() for instance in world.instances))
        clients: list[Client] = [
            WebSocketClient("first", world, self._random),
            EndpointsClient("endpoints", world, self._random),
            EventsClient("events", world, self._random),
        ]
        history.clients = [one.history for one in clients]
        application = Application(world, history.commits, self._random)
        history.application = application.history
        writers = [Writer(number, world, history.commits, self._random) for number in range(1, 4)]
        async with asyncio.TaskGroup() as group:
            hearing = [group.create_task(one.run(), name=one.history.name) for one in clients]
            hearing.append(group.create_task(application.run(), name="application"))
            await until(lambda: _all_connected(history), "everybody is connected")
            writing = [group.create_task(one.run(), name="writer") for one in writers]
            await asyncio.sleep(self._random.uniform(0.2, 0.8))
            for group_of in self._grouped([kind for kind in self._faults if kind.possible(world)]):
                await self._break([kind(world, self._random) for kind in group_of])
                await asyncio.sleep(self._random.uniform(0, 0.6))
            world.quiet.set()
            await asyncio.wait(writing)
            began = loop.time()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIET):
                    await self._settle(world, application)
            self.outcome.settled = loop.time() - began
            self.outcome.verdict = check(history)
            for task in hearing:
                task.cancel()

    def _grouped(self, kinds: Sequence[type[Fault]]) -> list[list[type[Fault]]]:
        """Faults that come one after another, and some while the one before lasts."""
        groups: list[list[type[Fault]]] = []
        for kind in kinds:
            fits = groups and groups[-1][-1].lingers and not kind.needs_another and kind not in groups[-1]
            if fits and self._random.random() < 0.5:
                groups[-1].append(kind)
            else:
                groups.append([kind])
        return groups

    async def _break(self, faults: Sequence[Fault]) -> None:
        async with AsyncExitStack() as stack:
            for fault in faults:
                stack.push_async_callback(self._heal, fault)
                reached = True
                try:
                    self._log(fault, "is injected")
                    await fault.inject()
                    self._log(fault, "is there")
                    await asyncio.sleep(self._random.uniform(*fault.lasts))
                except NotReached:
                    self._log(fault, "did not come about")
                    reached = False
                self.outcome.tried.append(Tried(fault=type(fault), reached=reached, handed_over=fault.handed_over))

    async def _heal(self, fault: Fault) -> None:
        await fault.heal()
        self._log(fault, "is healed")

    def _log(self, fault: Fault, what: str) -> None:
        at = asyncio.get_running_loop().time()
        self.outcome.history.faults.append((at, f"{type(fault).__name__} {what}"))

    async def _settle(self, world: World, application: Application) -> None:
        """Look until everything is as it must be; then, a moment later, once more, for what comes too much."""
        again = False
        while True:
            try:
                await self._look(world)
            except BROKEN:
                continue
            application.look()
            if converged(self.outcome.history):
                if again:
                    return
                again = True
                await asyncio.sleep(0.2)
            else:
                again = False
                await asyncio.sleep(0.1)

    async def _look(self, world: World) -> None:
        history = self.outcome.history
        async with world.session() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            final = {place: content(await connection.fetchval(READ[place], None)) for place in PLACES}
            live = {place: content(await connection.fetchval(LIVE[place])) for place in PLACES}
            shown = await connection.fetch('SELECT epoch, "offset", place, content FROM shown ORDER BY n')
            log = await connection.fetch(
                "SELECT left(i.incarnation::text, 8) AS epoch, l.id, l.patterns FROM afresh.invalidation_log AS l "
                "CROSS JOIN afresh.log_identity AS i WHERE l.patterns <> '{}' ORDER BY l.id"
            )
        history.final, history.live = final, live
        history.shown = [
            Shown(epoch=row["epoch"], offset=row["offset"], place=row["place"], content=content(row["content"]))
            for row in shown
        ]
        history.log = [(row["epoch"], row["id"], tuple(row["patterns"])) for row in log]

    def _keep(self, folder: Path) -> None:
        history = self.outcome.history
        history.notes += [*self.outcome.verdict.lines(), self.outcome.error]
        file = history.write(HISTORIES)
        for log in folder.glob("*/log"):
            shutil.copy(log, file.with_name(f"{file.stem}-{log.parent.name}.log"))


async def _all_connected(history: History) -> bool:
    return all(one.connected for one in history.clients)


def _causes(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [cause for one in error.exceptions for cause in _causes(one)]
    return [f"{type(error).__name__}: {error}"]


def plan(seed: int, rounds: int, *, together: int = 1) -> list[tuple[int, list[type[Fault]]]]:
    """The rounds: the seed of each, and its faults; every fault comes as often as any other, and some in company."""
    chosen = random.Random(seed)
    planned: list[tuple[int, list[type[Fault]]]] = []
    waiting: list[type[Fault]] = []
    for number in range(rounds):
        faults: list[type[Fault]] = []
        for _ in range(together if together > 1 else chosen.choice((1, 1, 2))):
            if not waiting:
                waiting = list(FAULTS)
                chosen.shuffle(waiting)
            faults.append(waiting.pop())
        planned.append((seed * 10_000 + number, faults))
    return planned


def run_all(
    planned: Sequence[tuple[int, list[type[Fault]]]], *, jobs: int, default_lease: bool, show: Progress | None = None
) -> list[Outcome]:
    """Run these rounds, ``jobs`` at a time, each of those on a server of its own, in a thread with a loop of its own."""
    waiting = list(reversed(planned))
    outcomes: list[Outcome] = []
    task = show.add_task("rounds", total=len(planned), last="") if show is not None else None

    def work() -> None:
        with Lane() as lane:
            while waiting:
                seed, faults = waiting.pop()
                outcome = asyncio.run(Round(lane, seed, faults, default_lease=default_lease).run())
                outcomes.append(outcome)
                if show is not None and task is not None:
                    names = " + ".join(fault.__name__ for fault in faults)
                    show.update(task, advance=1, last=f"{seed} {names}")
                    if not outcome.good or outcome.fell:
                        show.console.print(_story(outcome, names), highlight=False, markup=False)

    with ThreadPoolExecutor(jobs) as pool:
        for future in as_completed([pool.submit(work) for _ in range(jobs)]):
            future.result()
    return outcomes


def _story(outcome: Outcome, names: str) -> str:
    lines = [f"round {outcome.seed}: {names}"]
    if outcome.fell:
        lines.append(f"  instances ended by themselves: {outcome.fell}")
    lines += [f"  {line}" for line in outcome.verdict.lines()]
    if outcome.error:
        lines.append(f"  {outcome.error}")
    if not outcome.good:
        lines.append(f"  again: make faults ARGS='--replay {outcome.seed} --with {names.replace(' + ', ',')}'")
        lines.append(f"  what happened: {HISTORIES / f'round-{outcome.seed}.json'}")
    return "\n".join(lines)


def table(outcomes: Sequence[Outcome], seconds: float, lease: str) -> str:
    """The result as a Markdown table."""
    lines = [
        "| what breaks | what is promised | times | lost | stale | silent |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for fault in FAULTS:
        tried = [one for outcome in outcomes for one in outcome.tried if one.fault is fault and one.reached]
        met = [outcome for outcome in outcomes if any(one.fault is fault for one in outcome.tried)]
        if not met:
            continue
        lost, stale, silent = (
            sum(len(getattr(outcome.verdict, kind)) for outcome in met) for kind in ("lost", "stale", "silent")
        )
        took = [one.handed_over for one in tried if one.handed_over is not None]
        what = f"{fault.what} (another led after {max(took):.1f} s at most)" if took else fault.what
        lines.append(f"| {what} | {fault.promise} | {len(tried)} | {lost} | {stale} | {silent} |")
    changes = sum(outcome.changes for outcome in outcomes)
    messages = sum(len(one.heard) for outcome in outcomes for one in outcome.history.clients)
    slowest = max(outcomes, key=lambda outcome: outcome.settled)
    lines += [
        "",
        (
            f"{len(outcomes):,} rounds, {changes:,} transactions, {messages:,} messages to three clients a round; after "
            f"the last fault all was fresh and told within {slowest.settled:.1f} s (round {slowest.seed}); "
            f"{seconds:,.0f} s in all. {lease}"
        ),
    ]
    return "\n".join(lines)


def write(text: str, name: str, command: str) -> None:
    """Put ``text`` between its markers into README.md, if it has them."""
    file = ROOT / "README.md"
    block = f"{text}\n\nMeasured {datetime.now(UTC):%Y-%m-%d} by `{command}`."
    with contextlib.suppress(ValueError):
        file.write_text(marked.replaced(file.read_text(encoding="utf-8"), name, block), encoding="utf-8")


def _named(_context: click.Context, _parameter: click.Parameter, given: str | None) -> list[type[Fault]]:
    by_name = {fault.__name__: fault for fault in FAULTS}
    names = [name for name in (given or "").split(",") if name]
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise click.BadParameter(f"there is no {', '.join(unknown)}; there are {', '.join(by_name)}")
    return [by_name[name] for name in names]


def _million(seed: int, *, writes: bool) -> None:
    with Progress(console=Console(stderr=True)) as show, Lane() as lane:
        task = show.add_task("changes", total=1_000_000)
        result = asyncio.run(
            write_a_million(lane, changes=1_000_000, kills=20, seed=seed, wrote=lambda more: show.advance(task, more))
        )
    click.echo(result.table())
    if writes:
        write(result.table(), "million", "make faults ARGS=--million")
    if result.problems:
        click.echo("\n".join(result.problems), err=True)
        sys.exit(1)


@click.command()
@click.option("--rounds", default=27, show_default=True, help="How many.")
@click.option("--seed", default=1, show_default=True, help="Of the rounds' seeds.")
@click.option("--with", "chosen", callback=_named, metavar="FAULT,…", help="These faults in each round.")
@click.option("--replay", type=int, metavar="SEED", help="The one round that has this seed.")
@click.option("--jobs", default=2, show_default=True, help="Rounds side by side.")
@click.option(
    "--default-lease", is_flag=True, help="With the lease that is set when nobody sets it; rounds are longer."
)
@click.option("--million", is_flag=True, help="A million changes instead, with the leader killed twenty times.")
@click.option("--write", "writes", is_flag=True, help="Put the table into README.md.")
def main(
    rounds: int,
    seed: int,
    chosen: list[type[Fault]],
    replay: int | None,
    jobs: int,
    default_lease: bool,
    million: bool,
    writes: bool,
) -> None:
    """Break it, and look."""
    client.HEARTBEAT, client.CONNECT_TIMEOUT = IMPATIENCE, IMPATIENCE
    if million:
        _million(seed, writes=writes)
        return
    if replay is not None:
        planned = [(number, faults) for number, faults in plan(replay // 10_000, replay % 10_000 + 1)][-1:]
    else:
        planned = plan(seed, rounds)
    if chosen:
        planned = [(number, chosen) for number, _ in planned]
    console = Console(stderr=True)
    began = time.monotonic()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[last]}"),
        console=console,
    ) as show:
        outcomes = run_all(planned, jobs=min(jobs, len(planned)), default_lease=default_lease, show=show)
    lease = (
        "Leases held for 3 s, as by default." if default_lease else "Leases held for 1.5 s, so that rounds are short."
    )
    found = table(outcomes, time.monotonic() - began, lease)
    click.echo(found)
    if writes:
        write(found, "faults", f"make faults ARGS='--rounds {rounds} --seed {seed}'")
    bad = [outcome.seed for outcome in outcomes if not outcome.good]
    if bad:
        click.echo(f"failed: {', '.join(map(str, bad))}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
