"""How small the change log stays while changes come and go, and what it holds when nobody takes them.

`measure`: single-row changes, each a transaction of its own, through a watched table while `afresh serve` takes them:
plainly; while somebody holds an old snapshot all the time, so that vacuum can remove nothing; and while somebody holds a
transaction that has written, which besides keeps the leader's horizon where it is. The floor of an empty look is a look
at a log into which nothing was ever put.

`measure_compact`: the changes that pile up while no Afresh runs, and what it takes to be rid of them: `afresh compact`,
beside a service that starts and takes them.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from rich.progress import Progress, TaskID

from afresh_notifier import change_log
from bench.report import Report, megabytes, milliseconds, quantile
from bench.setup import install, progress, server, serving, start, writing

_WRITERS = 8

#: How often the log's size is asked for during the load, in seconds, and how often a look is timed after it.
_SAMPLE_PACE, _LOOKS = 0.25, 30

#: The pace of autovacuum, in seconds. PostgreSQL's own is a minute, in which this load would be over. A run of a tenth of
#: the changes gets a tenth of it.
_NAPTIME = 10

#: What is held open during the load, and the statements that do so.
_HELD = {
    "nothing": (),
    "an old snapshot": ("BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT FROM bench_held"),
    "a transaction that has written": ("BEGIN", "INSERT INTO bench_held VALUES (1)"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    """Bytes of the change log's parts, and of the tables beside it; and its dead rows, as vacuum counts them."""

    table: int
    index: int
    toast: int
    dead: int
    marks: int
    lease: int

    @property
    def total(self) -> int:
        return self.table + self.index + self.toast


@dataclass(slots=True)
class _Looks:
    """Median seconds of what the leader does in vain: a peek and a take from its horizon on, and both of the whole log."""

    peek: float
    take: float
    peek_all: float
    take_all: float


async def measure(scale: float) -> Report:
    """Run it: ``scale`` 1 is a million changes three times."""
    changes, naptime = max(10_000, round(1_000_000 * scale)), max(1, round(_NAPTIME * min(1.0, scale)))
    rows: list[tuple[str, ...]] = []
    with progress() as bar:
        task = bar.add_task("", total=len(_HELD) * changes)
        for held, statements in _HELD.items():
            bar.update(task, description=f"{changes:,} changes, held open: {held}")
            rows += await _load(held, statements, changes, naptime, bar, task)
    return Report(
        title=f"The change log under a steady load of {changes:,} changes",
        columns=(
            *("held open", "when", "changes a second", "afresh.change_log", "of it index", "dead rows"),
            *("empty look", "empty take", "look through all", "take through all", "afresh.dirty", "afresh.lease"),
        ),
        rows=tuple(rows),
        note=(
            f"Changes of one row and one transaction each, by {_WRITERS} writers, taken by `afresh serve`; a view stands "
            "on their table. Looks and takes are medians of "
            f"{_LOOKS}, from the leader's horizon on or through the whole log, after the load, with nothing in it to be "
            "taken; at the start, nothing was ever in it. The last line of each three is when what was held was let go, "
            f"and autovacuum came (autovacuum_naptime: {naptime} s)."
        ),
    )


async def _load(
    held: str, statements: tuple[str, ...], changes: int, naptime: int, bar: Progress, task: TaskID
) -> list[tuple[str, ...]]:
    """The rows for one thing that is held open."""
    done = bar.tasks[0].completed
    with server(autovacuum_naptime=str(naptime)) as running, tempfile.TemporaryDirectory() as folder:
        dsn = running.dsn()
        async with _database(dsn, Path(folder)) as (connection, settings, script), serving(settings):
            looks = await _looks(connection)
            rows = [_row(held, "at the start", "", await _size(connection), looks)]
            holder = await asyncpg.connect(dsn)
            for statement in statements:
                await holder.execute(statement)
            sizes: list[_Size] = []
            began = time.perf_counter()
            async with writing(dsn, script, _WRITERS, transactions=changes // _WRITERS) as process:
                while process.returncode is None:
                    sizes.append(await _size(connection))
                    written = await connection.fetchval("SELECT last_value FROM bench_rows_id_seq")
                    bar.update(task, completed=done + written)
                    await asyncio.sleep(_SAMPLE_PACE)
            rate = changes / (time.perf_counter() - began)
            await _until(connection, "SELECT NOT EXISTS (SELECT FROM afresh.change_log)", 120)
            sizes.append(await _size(connection))
            peak = _Size(**{name: max(getattr(size, name) for size in sizes) for name in _Size.__slots__})
            rows.append(_row(held, "peak of the load", f"{rate:,.0f}", peak, await _looks(connection)))
            released = await connection.fetchval("SELECT clock_timestamp()")
            await holder.close()
            await _until(connection, _VACUUMED, 2 * naptime + 60, released)
            rows.append(_row(held, "vacuumed", "", await _size(connection), await _looks(connection)))
    bar.update(task, completed=done + changes)
    return rows


def _row(held: str, when: str, rate: str, size: _Size, looks: _Looks) -> tuple[str, ...]:
    return (
        *(held, when, rate, megabytes(size.total), megabytes(size.index), f"{size.dead:,}"),
        *(milliseconds(seconds) for seconds in (looks.peek, looks.take, looks.peek_all, looks.take_all)),
        *(megabytes(size.marks), megabytes(size.lease)),
    )


async def _size(connection: asyncpg.Connection) -> _Size:
    row = await connection.fetchrow(_SIZE)
    assert row is not None
    return _Size(**dict(row))


async def _looks(connection: asyncpg.Connection) -> _Looks:
    """Time each kind of look, with nothing to be found, each right after one of another kind."""

    async def take(horizon: change_log.Horizon) -> None:
        transaction = connection.transaction()
        await transaction.start()
        await change_log.take(connection, horizon)
        await transaction.rollback()

    taken: dict[str, list[float]] = {name: [] for name in _Looks.__slots__}
    for _ in range(_LOOKS):
        _, horizon = await change_log.peek(connection, change_log.EVERYTHING)
        looks: tuple[tuple[str, Awaitable[object]], ...] = (
            ("peek", change_log.peek(connection, horizon)),
            ("take", take(horizon)),
            ("peek_all", change_log.peek(connection, change_log.EVERYTHING)),
            ("take_all", take(change_log.EVERYTHING)),
        )
        for name, look in looks:
            began = time.perf_counter()
            await look
            taken[name].append(time.perf_counter() - began)
    return _Looks(**{name: quantile(values, 0.5) for name, values in taken.items()})


async def _until(connection: asyncpg.Connection, condition: str, patience: float, *arguments: object) -> None:
    async with asyncio.timeout(patience):
        held = False
        while not held:
            await asyncio.sleep(_SAMPLE_PACE)
            held = await connection.fetchval(condition, *arguments)


# -- what piles up ----------------------------------------------------------------------------------------------------


async def measure_compact(scale: float) -> Report:
    """Run it: ``scale`` 1 is a million changes without keys, and a million with one."""
    changes = max(10_000, round(1_000_000 * scale))
    rows = []
    for what, keys in (("no keys", []), ("one key, about 15 bytes as JSON", ["id"])):
        with server() as running, tempfile.TemporaryDirectory() as folder, progress() as bar:
            bar.add_task(f"{changes:,} changes, {what}", total=None)
            async with _database(running.dsn(), Path(folder)) as (connection, settings, _):
                await connection.execute("SELECT afresh.watch('bench_rows', $1::text[])", keys)
                await connection.execute(_PILE.replace("100000", str(changes)))
                size = await _size(connection)
                await connection.execute("CREATE TABLE bench_pile AS TABLE afresh.change_log")
                compacted = await _compact(settings)
                compact = await _size(connection)
                await connection.execute("INSERT INTO afresh.change_log OVERRIDING SYSTEM VALUE TABLE bench_pile")
                began = time.perf_counter()
                instance = await start(settings)
                await _until(connection, "SELECT NOT EXISTS (SELECT FROM afresh.change_log)", 300)
                taken = time.perf_counter() - began
                await instance.stop()
        rows.append(
            (
                *(what, megabytes(size.total), f"{size.total / changes:.0f}", f"{compacted:.1f} s"),
                *(megabytes(size.total - compact.total), f"{taken:.1f} s"),
            )
        )
    return Report(
        title=f"{changes:,} changes that nobody has taken",
        columns=("changes", "the log", "bytes a change", "`afresh compact`", "gives back", "`afresh serve` takes them"),
        rows=tuple(rows),
        note="Table, index and TOAST; both times from the start of the command.",
    )


async def _compact(settings: Path) -> float:
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "afresh_notifier", "--config", str(settings), "compact"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    if await process.wait() != 0:
        raise RuntimeError("afresh compact failed")
    return time.perf_counter() - began


# -- the database -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _database(dsn: str, folder: Path) -> AsyncIterator[tuple[asyncpg.Connection, Path, Path]]:
    """A connection, the service's settings, and the writers' script."""
    connection = await asyncpg.connect(dsn)
    await install(connection)
    await connection.execute(_TABLES)
    settings, script = folder / "afresh.toml", folder / "write.sql"
    settings.write_text(
        f'[database]\ndsn = "{dsn}"\n[server]\nport = 0\n[[views]]\nname = "bench_view"\n', encoding="utf-8"
    )
    script.write_text("INSERT INTO bench_rows (n) VALUES (1);\n", encoding="utf-8")
    yield connection, settings, script
    await connection.close()


#: The writers flush nothing, so that the changes come as fast as the processors allow. The view costs next to nothing.
_TABLES = """
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$;
CREATE TABLE bench_rows (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, n int);
CREATE MATERIALIZED VIEW bench_view AS SELECT 1 AS one, max(id) AS newest FROM bench_rows;
CREATE UNIQUE INDEX ON bench_view (one);
CREATE TABLE bench_held (n int);
SELECT afresh.watch('bench_rows')
"""

_PILE = """
DO $$
BEGIN
    FOR i IN 1..100000 LOOP
        INSERT INTO bench_rows (n) VALUES (1);
        IF i % 100 = 0 THEN
            COMMIT;
        END IF;
    END LOOP;
END $$
"""

_SIZE = """
SELECT
    pg_table_size(c.oid) - coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0) AS "table",
    pg_indexes_size(c.oid) AS "index",
    coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0) AS toast,
    pg_stat_get_dead_tuples(c.oid) AS dead,
    pg_total_relation_size('afresh.dirty') AS marks,
    pg_total_relation_size('afresh.lease') AS lease
FROM pg_class AS c
WHERE c.oid = 'afresh.change_log'::regclass
"""

_VACUUMED = """
SELECT pg_stat_get_last_autovacuum_time(c) > $1 AND pg_stat_get_dead_tuples(c) < 2000
FROM (SELECT 'afresh.change_log'::regclass::oid AS c) AS log
"""
