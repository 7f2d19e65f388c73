"""What a watch costs those who write, by each way to capture a change: pgbench's TPC-B-like script, 1, 8 and 32 clients.

One server, one set of tables; before each run the triggers of one capture are put on, and the runs of all of them
follow each other closely, round after round: what is told is the median over the rounds of the ratio to the run
without triggers in the same round. Two disks: the server's files in memory, where a flush costs nothing and all that
counts is processor time; and the same with flushes that take 2 ms (`slow_fsync.c`), as on many a real disk.

Somebody listens in each run. To notifications: one connection. To the log: a leader, which is `_Leader` here, made of the
parts of the service's leader that look and take; with BENCH_WITH_SERVE=1 it is `afresh serve` itself.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from afresh_notifier import change_log
from afresh_notifier.clock import loop_time
from afresh_notifier.embedded import EmbeddedServer
from afresh_notifier.pace import Pace
from afresh_notifier.resources import query
from afresh_notifier.settings import CaptureSettings
from bench.report import Report, quantile
from bench.setup import install, pgbench, progress, serving

_CLIENTS = (1, 8, 32)

#: So many seconds at the beginning of each run do not count.
_WARM_UP = 0.5

#: pgbench's own scale: as many branches as clients, or they would wait for each other's rows and not for us.
_BRANCHES = 32

_TABLES = ("pgbench_accounts", "pgbench_branches", "pgbench_history", "pgbench_tellers")

_NONE = "no trigger"

#: The statements that put a capture on a table.
_CAPTURES = {
    _NONE: None,
    "a trigger that does nothing (the floor)": (
        "CREATE TRIGGER by_hand AFTER UPDATE ON {table} REFERENCING OLD TABLE AS before NEW TABLE AS after "
        "FOR EACH STATEMENT EXECUTE FUNCTION bench_nothing()"
    ),
    "row-level trigger by hand (NOTIFY)": (
        "CREATE TRIGGER by_hand AFTER INSERT OR UPDATE OR DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION notify_event_refresh()"
    ),
    "watch, capture 'notify'": "SELECT afresh.watch('{table}', capture => 'notify')",
    "watch, capture 'log' (the default)": "SELECT afresh.watch('{table}')",
}

_NOTHING = """
CREATE FUNCTION bench_nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END; $$
"""

_DISKS = ("memory", "2 ms a flush")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One run of pgbench: what is watched and how, on which disk, by how many."""

    tables: tuple[str, ...]
    capture: str
    disk: str
    clients: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cost:
    """Transactions in a second, and the 95th percentile of their latency in milliseconds."""

    rate: float
    latency: float


async def measure(scale: float) -> Report:
    """Run it: ``scale`` 1 is three rounds with runs of two seconds each."""
    rounds, seconds = max(1, round(3 * scale)), 2 if scale >= 1 else 1
    one = [
        _Run(tables=_TABLES[:1], capture=capture, disk=disk, clients=clients)
        for disk in _DISKS
        for clients in _CLIENTS
        for capture in _CAPTURES
    ]
    four = [
        _Run(tables=_TABLES, capture=capture, disk=disk, clients=_CLIENTS[-1])
        for disk in _DISKS
        for capture in _CAPTURES
    ]
    costs: dict[_Run, list[_Cost]] = {run: [] for run in (*one, *four)}
    with _server() as (dsn, slow_disk), tempfile.TemporaryDirectory() as folder, progress() as bar:
        task = bar.add_task("filling pgbench's tables", total=rounds * len(costs) + 1)
        await asyncio.to_thread(_pgbench, "--initialize", "--init-steps=dtgvp", "--quiet", f"--scale={_BRANCHES}", dsn)
        connection = await asyncpg.connect(dsn)
        await install(connection)
        await connection.execute(_NOTHING)
        # Every page comes into memory, and the checkpoint that is due anyway is behind us.
        await connection.execute("SELECT count(*) FROM pgbench_accounts; CHECKPOINT")
        await connection.execute("CREATE TABLE bench_table (id int PRIMARY KEY)")
        await connection.execute("CREATE MATERIALIZED VIEW bench_view AS SELECT * FROM bench_table")
        await connection.execute("CREATE UNIQUE INDEX ON bench_view (id)")
        bar.advance(task)
        for number in range(rounds):
            # To and fro, so that nobody always comes after the same neighbour.
            for run, taken in costs.items() if number % 2 == 0 else reversed(costs.items()):
                bar.update(
                    task, description=f"round {number + 1}: {run.capture}, {run.clients} clients, disk: {run.disk}"
                )
                taken.append(await _carry_out(run, connection, dsn, slow_disk, seconds, Path(folder)))
                bar.advance(task)
        await connection.close()
    rows = [_row("one: accounts", costs, one, capture, disk) for disk in _DISKS for capture in _CAPTURES]
    rows += [
        _row("all four", costs, four, capture, disk) for disk in _DISKS for capture in _CAPTURES if capture != _NONE
    ]
    return Report(
        title="What a watch costs the writer",
        columns=("watched", "disk", "capture", *(f"{clients} client{'s'[: clients - 1]}" for clients in _CLIENTS)),
        rows=tuple(rows),
        note=(
            "pgbench's TPC-B-like transaction (three updates of a row, one insert), prepared statements. Each number is "
            "the rate of transactions as a share of that without triggers, and in brackets the 95th percentile of the "
            f"latency likewise; medians over {rounds} interleaved rounds of {seconds} s a run. No full-page writes. "
            "One client in memory is not to be trusted: its rate without triggers is another one from run to run."
        ),
    )


def _row(watched: str, costs: dict[_Run, list[_Cost]], runs: list[_Run], capture: str, disk: str) -> tuple[str, ...]:
    cells = []
    for clients in _CLIENTS:
        found = [run for run in runs if (run.capture, run.disk, run.clients) == (capture, disk, clients)]
        if not found:
            cells.append("")
            continue
        run = found[0]
        bare = costs[_Run(tables=run.tables, capture=_NONE, disk=disk, clients=clients)]
        if capture == _NONE:
            rate = statistics.median(cost.rate for cost in bare)
            cells.append(f"1.00 ({rate:,.0f} a second)")
        else:
            pairs = list(zip(costs[run], bare, strict=True))
            rate = statistics.median(cost.rate / base.rate for cost, base in pairs)
            latency = statistics.median(cost.latency / base.latency for cost, base in pairs)
            cells.append(f"{rate:.2f} ({latency:.2f})")
    return (watched, disk, capture, *cells)


async def _carry_out(
    run: _Run, connection: asyncpg.Connection, dsn: str, slow_disk: Path, seconds: int, folder: Path
) -> _Cost:
    """One run, from putting its triggers on to taking them off."""
    await connection.execute("TRUNCATE pgbench_history")
    await connection.execute("VACUUM pgbench_branches")
    await connection.execute("VACUUM pgbench_tellers")
    put_on = _CAPTURES[run.capture]
    if put_on is not None:
        for table in run.tables:
            await connection.execute(put_on.format(table=table))
    try:
        async with _consumer(run.capture, dsn):
            await asyncio.to_thread(
                _pgbench,
                "--no-vacuum",
                "--protocol=prepared",
                f"--client={run.clients}",
                f"--jobs={min(2, run.clients)}",
                f"--time={seconds}",
                "--log",
                f"--log-prefix={folder / 'transactions'}",
                dsn,
                slow_disk=slow_disk if run.disk != _DISKS[0] else None,
            )
    finally:
        for table in run.tables if put_on is not None else ():
            await connection.execute(f"DROP TRIGGER IF EXISTS by_hand ON {table}")
            await connection.execute("SELECT afresh.unwatch($1::text::regclass)", table)
    return await asyncio.to_thread(_cost, folder)


def _cost(folder: Path) -> _Cost:
    """What pgbench's logs say, which are deleted; without the beginning, when each session plans its statements."""
    finished: list[tuple[float, float]] = []
    for log in folder.glob("transactions*"):
        for line in log.read_text(encoding="utf-8").splitlines():
            # client, number, latency in microseconds, script, and when it ended: seconds and microseconds
            _, _, latency, _, second, microsecond = line.split()
            finished.append((int(second) + int(microsecond) / 1e6, int(latency) / 1000))
        log.unlink()
    began, ended = min(finished)[0] + _WARM_UP, max(finished)[0]
    latencies = [latency for moment, latency in finished if moment >= began]
    return _Cost(rate=len(latencies) / (ended - began), latency=quantile(latencies, 0.95))


# -- who listens ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _consumer(capture: str, dsn: str) -> AsyncIterator[None]:
    """Whoever takes what this capture tells, for the length of the block."""
    if os.environ.get("BENCH_WITH_SERVE") == "1":
        with tempfile.TemporaryDirectory() as folder:
            settings = Path(folder) / "afresh.toml"
            # A service is ready when its views are: it has one, which nothing here changes.
            settings.write_text(
                f'[database]\ndsn = "{dsn}"\n[server]\nport = 0\n[[views]]\nname = "bench_view"\n', encoding="utf-8"
            )
            async with serving(settings):
                yield
    elif "'log'" in capture:
        connection = await asyncpg.connect(dsn)
        leader = asyncio.create_task(_Leader(connection).run(), name="leader")
        try:
            yield
        finally:
            leader.cancel()
            with suppress(asyncio.CancelledError):
                await leader
            await connection.close()
    else:
        connection = await asyncpg.connect(dsn)
        await connection.add_listener("afresh", lambda *_: None)
        try:
            yield
        finally:
            await connection.close()


class _Leader:
    """Empties the log as the service's leader does, by its own parts: pace, look, take. It passes nothing on."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._bell = asyncio.Event()
        self._pace = Pace(CaptureSettings(), loop_time())
        self._horizon = change_log.EVERYTHING

    async def run(self) -> None:
        """Until it is cancelled."""
        await self._connection.add_listener("afresh", lambda *_: self._bell.set())
        while True:
            seconds = self._pace.bell(loop_time())
            if seconds is not None:
                await self._connection.execute(query("set_bell"), seconds)
                self._pace.set(seconds, loop_time())
            await self._look()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._pace.look_at(loop_time())):
                    await self._bell.wait()

    async def _look(self) -> None:
        if not self._bell.is_set() and not self._pace.busy:
            something, self._horizon = await change_log.peek(self._connection, self._horizon)
            if not something:
                self._pace.looked(0, loop_time())
                return
        self._bell.clear()
        async with self._connection.transaction():
            taken = await change_log.take(self._connection, self._horizon)
            await self._connection.execute(query("commit_without_flush"))
        self._horizon = taken.horizon
        self._pace.looked(taken.rows, loop_time(), more=taken.more)


# -- the server -------------------------------------------------------------------------------------------------------


@contextmanager
def _server() -> Iterator[tuple[str, Path]]:
    """A server whose files are in memory if they can be; its address, and the file whose existence slows its disk."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 8 * 2**30
    with tempfile.TemporaryDirectory(prefix="afresh-bench-", dir=memory if roomy else None) as folder:
        Path(folder).chmod(0o755)  # the server may run as somebody else
        slow_disk, library = Path(folder) / "slow", Path(folder) / "slow_fsync.so"
        source = Path(__file__).with_name("slow_fsync.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
        before = tempfile.tempdir
        if roomy:
            tempfile.tempdir = str(memory)
        try:
            server = EmbeddedServer(
                options={
                    "shared_buffers": "1GB",
                    "max_wal_size": "16GB",
                    "checkpoint_timeout": "1h",
                    "full_page_writes": "off",
                }
            )
        finally:
            tempfile.tempdir = before
        os.environ.update(LD_PRELOAD=str(library), BENCH_SLOW_DISK=str(slow_disk))
        with ExitStack() as stack:
            try:
                stack.enter_context(server)
            finally:
                del os.environ["LD_PRELOAD"], os.environ["BENCH_SLOW_DISK"]
            yield server.dsn(), slow_disk


def _pgbench(*arguments: str, slow_disk: Path | None = None) -> None:
    """Run pgbench; with ``slow_disk``, that file exists meanwhile."""
    if slow_disk is not None:
        slow_disk.touch()
    try:
        subprocess.run([pgbench(), *arguments], check=True, capture_output=True, text=True)
    finally:
        if slow_disk is not None:
            slow_disk.unlink()
