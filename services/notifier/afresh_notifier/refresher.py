"""The refresher: carries out what the debouncer decides.

In: dirt, by way of the `Debouncer`; a `Plan`, which says what views there are and what they are called to clients. Out:
refreshed views, each committed together with its invalidation and the marks of the views that stand on it.

What is dirty is in the database (`marks`), put there by whoever hears of it; here is when to do something about it. On an
instance that does not lead nothing is ever due, and a refresh that somebody demands is done by itself: it is right
whoever does it (`refresh`).

Concurrency. One task (`run`) owns the loop; it starts a task for each refresh in its own TaskGroup, at most
`concurrency` at a time, at most one for a view (the debouncer sees to that), and sleeps until something is due or somebody
makes something due. Between `start` and the end of a refresh anything may arrive: changes become the dirt of the next one;
a new plan may redefine or drop the view, or we cease to lead: the refresh then ends as it may, and `Debouncer` ignores an
end that it does not wait for. Marking the view clean here and dirtying the views that stand on it happen in one
step without an await, after the commit. A refresh that is cancelled may have committed: then it is told, since that is
in the log, and the next leader finds the marks of the views above it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import asyncpg

from afresh_cache.backoff import backoff
from afresh_notifier import database, invalidation_log, marks
from afresh_notifier.clock import loop_time, woken
from afresh_notifier.debounce import BUSY_FIRST, BUSY_MAX, Debouncer, Dirt, Run, Timing
from afresh_notifier.errors import RefreshBroken, RefreshBusy, RefreshError, RefreshFailed
from afresh_notifier.invalidation import Invalidation, PatternMap
from afresh_notifier.marks import Mark
from afresh_notifier.observations import (
    NextChangeUnknown,
    Observe,
    RefreshDone,
    RefreshNotDone,
    RefreshPostponed,
    RefreshStarted,
)
from afresh_notifier.refresh import GRACE, Limits, Refreshed, following, refresh

#: A view that has failed so often in a row, or was locked when it was tried so often (which takes about half a minute), is
#: no longer waited for by the patterns of its tables.
UNHEALTHY_AFTER, UNHEALTHY_WAITS = 3, 35

#: A view that was locked so often in a row, for about ten seconds, is taken from autovacuum, if that is who has it. Not
#: sooner: autovacuum would never come to its end with a large view that changes all the time.
OUTWAIT_AFTER = 16

#: First and longest wait, in seconds, before it is said again that a broken view is given up.
SAY_FIRST, SAY_MAX = 0.1, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is refreshed and how: made from the catalogue and the settings, replaced as a whole."""

    patterns: PatternMap = field(default_factory=PatternMap)
    timings: Mapping[str, Timing] = field(default_factory=dict)
    limits: Mapping[str, Limits] = field(default_factory=dict)
    #: The statements that say when a view's content will be another, for those that have one.
    next_changes: Mapping[str, str] = field(default_factory=dict)


class Refresher:
    """Refreshes views as they become due."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        appended: Callable[[int], None],
        observe: Observe,
        *,
        concurrency: int,
    ) -> None:
        self._pool = pool
        self._appended = appended
        self._observe = observe
        self._slots = concurrency
        self._debouncer = Debouncer()
        self._plan = Plan()
        #: Held by whoever decides which patterns wait for which views, until that is committed and known here: what the
        #: consumer leaves to a view is not overlooked when that is given up.
        self.deciding = asyncio.Lock()
        #: Refreshes by hand that may run at the same time, so that there are connections for everything else.
        self._hands = asyncio.Semaphore(concurrency)
        #: The term under which we lead; None: we do not.
        self._term: int | None = None
        #: How many refreshes of each view were begun in this term: which slot its marks go to.
        self._begun: Counter[str] = Counter()
        self._running: set[asyncio.Task[None]] = set()
        self._unhealthy: set[str] = set()
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._woken = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def plan(self) -> Plan:
        """What is refreshed and how, now."""
        return self._plan

    def lead(self, term: int) -> None:
        """From now on refresh what becomes due: nothing is dirty but what is said to be from here on."""
        self.follow()
        self._term = term
        self._debouncer.replace(self._plan.timings, loop_time())

    def follow(self) -> None:
        """Another instance leads: nothing is due any more, and what is in flight is given up, to be done there."""
        self._term = None
        self._begun.clear()
        self._unhealthy.clear()
        self._debouncer = Debouncer()
        for task in self._running:
            task.cancel()
        for view, waiting in self._waiting.items():
            self._answer(waiting, RefreshFailed(view, "another instance leads now", hint="try again"))
        self._waiting.clear()

    def replace(self, plan: Plan, suspects: Collection[str]) -> None:
        """Take ``plan``; whatever was wrong with the ``suspects``, views that are new or defined otherwise, may be gone."""
        self._plan = plan
        if self._term is None:
            return
        self._debouncer.replace(plan.timings, loop_time())
        self._unhealthy &= plan.timings.keys()
        for view in suspects & plan.timings.keys():
            self._unhealthy.discard(view)
            self._debouncer.mend(view)
        for view in self._waiting.keys() - plan.timings.keys():
            self._answer(self._waiting.pop(view), RefreshFailed(view, f"{view} was dropped"))
        self._woken.set()

    def dirty(self, view: str, dirt: Dirt) -> None:
        """``view``, which has been marked, must show a change. Takes over ``dirt``."""
        self._debouncer.dirty(view, dirt, loop_time())
        self._woken.set()

    def mark(self, view: str, dirt: Dirt) -> Mark:
        """The mark by which ``view`` is made dirty in the database."""
        return marks.of(view, dirt, slot=2 * (self._term or 0) + self._begun[view] % 2)

    def own(self, mark: Mark) -> bool:
        """Whether it is we who put ``mark``, in this term."""
        return mark.slot // 2 == (self._term or 0)

    def wind_up(self) -> None:
        """Views that read the clock were refreshed nobody knows when: they are due."""
        now = datetime.now(UTC)
        for view, timing in self._plan.timings.items():
            if timing.every is not None or view in self._plan.next_changes:
                self.dirty(view, self._anything(view, now))

    async def demand(self, view: str) -> None:
        """Refresh ``view`` now, whatever its pace; returns when a refresh that began after this call has committed.

        Raises `RefreshError` where it fails, KeyError for an unknown view. Cancelled, it stops waiting, no more; on an
        instance that does not lead the refresh itself is then given up.
        """
        if view not in self._plan.timings:
            raise KeyError(view)
        if self._term is None:
            await self._by_hand(view)
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(view, []).append(future)
        self._debouncer.demand(view, self._anything(view, datetime.now(UTC)), loop_time())
        self._woken.set()
        try:
            await future
        finally:
            with contextlib.suppress(KeyError, ValueError):  # a refresh has taken it up
                self._waiting[view].remove(future)

    def healthy(self) -> frozenset[str]:
        """The views whose refreshes can be counted on: neither they nor what they stand on is broken or failing."""
        timings = self._plan.timings
        return frozenset(
            view
            for view, timing in timings.items()
            if view not in self._unhealthy and not (timing.parents & self._unhealthy)
        )

    def pending(self, view: str) -> bool:
        """Whether changes wait for the next refresh of ``view``."""
        return self._debouncer.pending(view)

    def rested(self) -> bool:
        """Whether every view shows all there is and would act on a change at once."""
        return self._debouncer.rested(loop_time())

    def stale_for(self, view: str) -> float:
        """For how many seconds ``view`` has lacked a change that was heard."""
        return self._debouncer.stale_for(view, loop_time())

    async def run(self) -> None:
        """Refresh what becomes due, until cancelled; refreshes in flight are then rolled back."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._woken.clear()
                # One reading of the clock: what became due between two would neither be started nor be woken for.
                now = loop_time()
                for view in self._debouncer.due(now)[: self._slots]:
                    run = self._debouncer.start(view, now, datetime.now(UTC))
                    self._slots -= 1
                    self._begun[view] += 1
                    task = group.create_task(self._carry_out(run), name=f"refresh {view}")
                    self._running.add(task)
                    task.add_done_callback(self._over)
                await woken(self._woken, self._debouncer.wake_at(now))

    async def drain(self) -> None:
        """Refresh once more whatever is dirty, and return when that is done; `run` must be running meanwhile.

        A refresh that fails now is not tried again: its marks stay, and the next leader finds them.
        """
        self._debouncer.hurry()
        while not self._debouncer.idle():
            self._woken.set()
            self._ended.clear()
            await self._ended.wait()
            self._debouncer.hurry()  # the views that stand on what was just refreshed

    async def _by_hand(self, view: str) -> None:
        """A refresh on an instance that does not lead, whose leader finds the marks of the views that stand on it."""
        for waits in itertools.count(1):
            try:
                async with self._hands:
                    await self._refresh(view, None, outwait=waits > OUTWAIT_AFTER)
            except RefreshBusy:
                if waits == UNHEALTHY_WAITS:
                    raise
                await asyncio.sleep(backoff(waits, BUSY_FIRST, BUSY_MAX))
            else:
                return

    async def _refresh(self, view: str, run: Run | None, *, outwait: bool) -> Refreshed:
        """The refresh, with what follows from it by the plan that stands now: another one brings its own suspects."""
        found = self._plan.patterns.catalogue.views.get(view)
        if found is None:
            raise RefreshFailed(view, f"{view} was dropped")
        dirt = run.dirt if run is not None else self._anything(view, datetime.now(UTC))
        follow = following(self._plan.patterns, view, dirt, self.mark)
        next_change = self._plan.next_changes.get(view)
        limits = replace(self._plan.limits[view], outwait=outwait)
        done = await refresh(self._pool, view, found.oid, limits, follow, next_change=next_change)
        self._appended(done.offset)
        return done

    async def _carry_out(self, run: Run) -> None:
        view = run.view
        waiting = self._waiting.pop(view, [])
        self._observe(RefreshStarted(view=view))
        try:
            done = await self._refresh(view, run, outwait=run.waits >= OUTWAIT_AFTER)
        except RefreshBusy as error:
            if view in self._plan.timings:
                self._waiting.setdefault(view, [])[:0] = waiting
            else:  # whoever dropped it was why it was locked
                self._answer(waiting, RefreshFailed(view, f"{view} was dropped"))
            waits = self._debouncer.busy(run, loop_time())
            self._observe(RefreshPostponed(view=view, problem=error.problem, waits=waits))
            if waits >= UNHEALTHY_WAITS:
                await self._give_up_on(run)
        except RefreshError as error:
            self._answer(waiting, error)
            await self._failed(run, error)
        except asyncio.CancelledError:
            self._answer(waiting, RefreshFailed(view, "it was given up", hint="try again"))
            raise
        else:
            self._succeeded(run, done)
            self._answer(waiting, None)

    def _over(self, task: asyncio.Task[None]) -> None:
        """However a refresh ended, even before it began, there is room for another one."""
        self._running.discard(task)
        self._slots += 1
        self._ended.set()
        self._woken.set()

    @staticmethod
    def _answer(waiting: list[asyncio.Future[None]], error: RefreshError | None) -> None:
        for future in waiting:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _succeeded(self, run: Run, done: Refreshed) -> None:
        view, now, changes = run.view, loop_time(), done.next_change
        self._debouncer.succeed(run, now, now + changes.seconds)
        self._unhealthy.discard(view)
        self._observe(
            RefreshDone(
                view=view,
                method=done.method,
                seconds=now - run.started,
                dirty_for=run.started - run.dirty_since,
                next_change=changes.seconds if math.isfinite(changes.seconds) and not changes.problem else None,
            )
        )
        if changes.problem:
            self._observe(
                NextChangeUnknown(view=view, problem=changes.problem, hint=changes.hint, retry_in=changes.seconds)
            )
        for mark in done.marks:
            self.dirty(mark.view, mark.dirt())

    async def _failed(self, run: Run, error: RefreshError) -> None:
        failures = self._debouncer.fail(run, loop_time(), broken=isinstance(error, RefreshBroken))
        broken = self._debouncer.broken(run.view)
        self._observe(
            RefreshNotDone(view=run.view, problem=error.problem, hint=error.hint, failures=failures, broken=broken)
        )
        if broken or failures >= UNHEALTHY_AFTER:
            await self._give_up_on(run)

    async def _give_up_on(self, run: Run) -> None:
        """From now on nothing waits for this view; what waited goes out, unless another one will send it.

        Where that cannot be said it is said at the next failure, and of a view that will not be tried again, later.
        """
        failures = 0
        while not await self._given_up(run) and self._debouncer.broken(run.view):
            failures += 1
            await asyncio.sleep(backoff(failures, SAY_FIRST, SAY_MAX))

    async def _given_up(self, run: Run) -> bool:
        view = run.view
        async with self.deciding:
            if view in self._unhealthy or view not in self._plan.timings:
                return True
            before = self.healthy()
            self._unhealthy.add(view)
            # Not this run's dirt alone: what came during it, and what the views above still hold, waited for this one too.
            waited = self._debouncer.outstanding() or run.dirt
            patterns, lost = self._plan.patterns, before - self.healthy()
            named = {template.text for one in lost for template in patterns.views.get(one, ())}
            owed = patterns.owed(named, waited.tables, waited.keys, self.healthy())
            if not owed:
                return True
            told = Invalidation(patterns=tuple(owed), tables=frozenset(waited.tables), at=waited.heard_at)
            try:
                async with database.lent(self._pool, GRACE) as connection, database.transaction(connection):
                    appended = await invalidation_log.append(connection, told)
            except database.TRANSIENT:
                self._unhealthy.discard(view)
                return False
        self._appended(appended.newest)
        return True

    def _anything(self, view: str, now: datetime) -> Dirt:
        tables = self._plan.patterns.catalogue.views[view].tables
        return Dirt(tables=set(tables), keys=None, heard_at=now)
