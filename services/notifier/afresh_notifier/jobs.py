"""Jobs: statements that the leader runs at the times of a cron expression.

In: the jobs of the settings and the packs, the lease, and the table `afresh.jobs`, which knows for which time each was run
last. Out: each job run once for each of its times, in a transaction that also writes that down; so a job that a crash
interrupts has done nothing, and is due still.

Promised: times that passed while no instance ran are made up for once, for the newest of them. A job never runs beside
itself, on however many instances: its row is locked while it runs, and skipped by others. One that fails is undone, and
tried again after a growing pause, until it succeeds or its next time comes, which takes the place of this one. A job of
which nobody has heard before has not been missed: its first time is the next one.

The clock that decides is this machine's; what was run is compared by the schedule's times, so that two leaders with
different clocks run a job once for each time all the same.

Concurrency: `run` is one task, which starts one task for each job that is due, and awaits them all. Between a look and a
job's own transaction the lease may be lost: then two leaders look at the row, and one has it. Cancelled, jobs in flight are
cut off, and undone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg

from afresh_cache.backoff import backoff
from afresh_notifier import database
from afresh_notifier.clock import loop_time
from afresh_notifier.errors import PackError
from afresh_notifier.lease import Lease
from afresh_notifier.observations import JobDone, JobFailed, Observe, Warned
from afresh_notifier.packs import InstalledPack
from afresh_notifier.resources import query
from afresh_notifier.schedule import following, newest
from afresh_notifier.settings import DatabaseSettings, Settings
from afresh_notifier.statements import statements_in

#: How often it is looked whether a job is due, in seconds.
PACE = 1.0

#: First and longest wait before a job that failed is tried again, in seconds.
RETRY_FIRST, RETRY_MAX = 1.0, 300.0

#: No clock is ahead of another one by more than this; one that seems to be was set back meanwhile.
CLOCKS_DIFFER = timedelta(days=1)

#: How much longer than its time a job is waited for before its connection is cut, in seconds.
GRACE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """One job; ``source`` is the pack that brings it, or "" for the settings' own file."""

    name: str
    source: str
    schedule: str
    timezone: str
    statement: str
    timeout: float
    description: str

    def newest(self, now: datetime) -> datetime | None:
        """The newest of its times that is not after ``now``."""
        return newest(self.schedule, self.timezone, now)

    def following(self, now: datetime) -> datetime | None:
        """The first of its times after ``now``."""
        return following(self.schedule, self.timezone, now)


@dataclass(slots=True)
class _State:
    """For which time a job was run last, as far as is known; how often it has failed since; no try before ``retry_at``."""

    due: datetime
    failures: int = 0
    retry_at: float = float("-inf")
    task: asyncio.Task[None] | None = None


def collect(settings: Settings, packs: Sequence[InstalledPack]) -> list[Job]:
    """The jobs of these packs, and those of the settings' own file.

    Raises `SettingsError` for files that cannot be read, `PackError` for a name that is there twice.
    """
    sources = [(pack.name, pack.settings.jobs) for pack in packs] + [("", settings.jobs)]
    listed = [(source, section) for source, sections in sources for section in sections]
    first: dict[str, str] = {}
    for source, section in listed:
        if section.name in first:
            where = [f"pack {one}" if one else "the settings" for one in (first[section.name], source)]
            raise PackError(f"two jobs are called {section.name!r}: in {where[0]} and in {where[1]}", hint="rename one")
        first[section.name] = source
    texts = statements_in((f"job {section.name}", section.file) for _, section in listed)
    return [
        Job(
            name=section.name,
            source=source,
            schedule=section.schedule,
            timezone=section.timezone,
            statement=texts[section.file],
            timeout=section.timeout,
            description=section.description,
        )
        for source, section in listed
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an attempt: the job ran (for ``due``), or failed, or did neither, since it is somebody else's turn, or
    it was run by then; ``due`` is the newest time for which it has been run, None where that cannot be seen."""

    due: datetime | None
    ran: bool = False
    problem: str = ""
    hint: str = ""


async def carry_out(connection: asyncpg.Connection, job: Job, due: datetime, *, anyway: bool = False) -> Outcome:
    """Run ``job`` for its time ``due``, unless it is being run, or, but for ``anyway``, was run for that or a later one.

    Raises what asyncpg raises where it is the connection that fails; whether it was run is then for the row to say.
    """
    began = time.perf_counter()
    async with database.transaction(connection):
        ran_for: datetime | None = await connection.fetchval(query("job_turn"), job.name)
        if ran_for is None or (ran_for >= due and not anyway):
            return Outcome(due=ran_for)
        try:
            async with database.transaction(connection):  # a savepoint
                await connection.execute(query("job_limits"), database.milliseconds(job.timeout))
                # What it gives is nobody's, and not read: it may be long, or hold what has no like in Python, as a date BC.
                await connection.executemany(job.statement, [()])
        except asyncpg.PostgresError as error:
            if database.is_last_word(error):
                raise
            problem, hint = database.said(error)
            if isinstance(error, asyncpg.QueryCanceledError):
                problem, hint = f"it took longer than {job.timeout:g} s", "raise its timeout under [[jobs]]"
            await connection.execute(query("job_failed"), job.name, problem)
            return Outcome(due=ran_for, problem=problem, hint=hint)
        await connection.execute(query("job_done"), job.name, due, time.perf_counter() - began)
    return Outcome(due=due, ran=True)


class Jobs:
    """Runs what is due, while this instance leads."""

    def __init__(
        self, jobs: Sequence[Job], database_settings: DatabaseSettings, lease: Lease, observe: Observe
    ) -> None:
        self._jobs = jobs
        self._database = database_settings
        self._lease = lease
        self._observe = observe
        self._states: dict[str, _State] = {}
        self._term: int | None = None
        #: Why it cannot be seen what was run when, as it was said last.
        self._problem = ""

    async def run(self) -> None:
        """Look every `PACE` seconds, until cancelled."""
        if not self._jobs:
            return
        async with asyncio.TaskGroup() as group:
            while True:
                if self._lease.term is not None:
                    await self._look(group)
                await asyncio.sleep(PACE)

    async def _look(self, group: asyncio.TaskGroup) -> None:
        now = datetime.now(UTC)
        set_back = any(state.due > now + CLOCKS_DIFFER for state in self._states.values())
        if self._term != self._lease.term or set_back:  # somebody else may have run them meanwhile
            term = self._lease.term
            try:
                await self._read(now)
            except database.TRANSIENT as error:
                self._unread(error)
                return
            self._term, self._problem = term, ""
        for job in self._jobs:
            state = self._states[job.name]
            due = job.newest(now)
            idle = state.task is None or state.task.done()
            if due is not None and due > state.due and idle and loop_time() >= state.retry_at:
                state.task = group.create_task(self._carry_out(job, state, due), name=f"job {job.name}")

    def _unread(self, error: BaseException) -> None:
        """No job can be run: say so, once for each reason."""
        problem, hint = database.said(error)
        if problem != self._problem:
            self._problem = problem
            to_do = hint or "run `afresh migrate up`, or let our role use afresh.jobs (`afresh sql --role`)"
            self._observe(Warned(about="jobs", what=f"none can be run: {problem}", to_do=to_do))

    async def _read(self, now: datetime) -> None:
        async with database.connection(self._database, within=GRACE, name="afresh jobs") as connection:
            seen = [state.due if (state := self._states.get(job.name)) is not None else None for job in self._jobs]
            await connection.execute(query("job_first"), [job.name for job in self._jobs], seen)
            await connection.execute(query("job_clock"), now, now + CLOCKS_DIFFER)
            rows = {row["name"]: row["due"] for row in await connection.fetch(query("job_rows"))}
        for job in self._jobs:
            state = self._states.setdefault(job.name, _State(rows[job.name]))
            state.due = max(min(state.due, now), rows[job.name])

    async def _carry_out(self, job: Job, state: _State, due: datetime) -> None:
        began = loop_time()
        try:
            async with database.connection(
                self._database, within=job.timeout + GRACE, name=f"afresh job {job.name}"
            ) as connection:
                outcome = await carry_out(connection, job, due)
        except database.TRANSIENT as error:
            problem, hint = database.said(error)
            outcome = Outcome(due=None, problem=problem, hint=hint)
        if outcome.problem:
            state.failures += 1
            wait = backoff(state.failures, RETRY_FIRST, RETRY_MAX)
            state.retry_at = loop_time() + wait
            self._observe(
                JobFailed(
                    job=job.name,
                    problem=outcome.problem,
                    hint=outcome.hint,
                    failures=state.failures,
                    retry_in=wait,
                )
            )
            return
        if outcome.ran:
            self._observe(JobDone(job=job.name, due=due.isoformat(), seconds=loop_time() - began))
        if outcome.due is not None:
            state.due, state.failures, state.retry_at = outcome.due, 0, float("-inf")
        else:
            self._term = None  # somebody else has it in hand, or has taken its row away, which is then put back
