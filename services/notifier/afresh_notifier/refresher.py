"""The refresher: carries out what the debouncer decides, and tells when it is done.

In: dirt, by way of the `Debouncer`; a `Plan`, which says what views there are and what they are called to clients. Out:
refreshed views, `publish`ed invalidations, each after the commit it speaks of; and dirt for the views that stand on
the refreshed one.

Concurrency. One task (`run`) owns the loop; it starts a task for each refresh in its own TaskGroup, at most
`concurrency` at a time, at most one for a view (the debouncer sees to that), and sleeps until something is due or somebody
calls `wake`. Between `start` and the end of a refresh anything may arrive: changes become the dirt of the next one;
a new plan may redefine or drop the view: the refresh then ends as it may, and `Debouncer` ignores an end that it does not
wait for. Marking the view clean, telling, and dirtying the views that stand on it happen in one step without an await,
after the commit. A refresh that is cancelled (only a shutdown does) may have committed untold: the next process
starts with everything dirty and with another epoch, which resyncs every client.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import asyncpg

from afresh_notifier.clock import loop_time
from afresh_notifier.debounce import Debouncer, Dirt, Run, Timing
from afresh_notifier.errors import RefreshBroken, RefreshBusy, RefreshError, RefreshFailed
from afresh_notifier.invalidation import Invalidation, PatternMap, fill_all
from afresh_notifier.observations import (
    Observe,
    RefreshDone,
    RefreshNotDone,
    RefreshPostponed,
    RefreshStarted,
)
from afresh_notifier.refresh import Limits, refresh

#: A view that has failed so often in a row, or was locked when it was tried so often (which takes about half a minute), is
#: no longer waited for by the patterns of its tables.
UNHEALTHY_AFTER, UNHEALTHY_WAITS = 3, 35


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is refreshed and how: made from the catalogue and the settings, replaced as a whole."""

    patterns: PatternMap = field(default_factory=PatternMap)
    timings: Mapping[str, Timing] = field(default_factory=dict)
    limits: Mapping[str, Limits] = field(default_factory=dict)


class Refresher:
    """Refreshes views as they become due."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        publish: Callable[[Invalidation], None],
        observe: Observe,
        *,
        concurrency: int,
    ) -> None:
        self._pool = pool
        self._publish = publish
        self._observe = observe
        self._slots = concurrency
        self._debouncer = Debouncer()
        self._plan = Plan()
        self._unhealthy: set[str] = set()
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._woken = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def plan(self) -> Plan:
        """What is refreshed and how, now."""
        return self._plan

    def replace(self, plan: Plan, suspects: frozenset[str], now: datetime) -> None:
        """Take ``plan``, and dirty the ``suspects``: views that changed their definition, or are new.

        The patterns that waited for a view which is gone go out, unless another one will send them.
        """
        before, waited = self._plan, self._debouncer.outstanding()
        self._plan = plan
        self._debouncer.replace(plan.timings, loop_time())
        self._unhealthy &= plan.timings.keys()
        for view in suspects & plan.timings.keys():
            self._unhealthy.discard(view)
            self._debouncer.mend(view)
        self.dirty(suspects, None, now)
        if waited is not None:
            self._release(before.patterns, before.timings.keys() - plan.timings.keys(), waited)
        self._tell_of_tables(before.patterns, now)
        for view in self._waiting.keys() - plan.timings.keys():
            self._answer(self._waiting.pop(view), RefreshFailed(view, f"{view} was dropped"))

    def dirty(self, views: frozenset[str], dirt: Dirt | None, now: datetime) -> None:
        """``views`` must show a change; ``dirt`` None: anything may have changed in what they read."""
        for view in views & self._plan.timings.keys():
            self._debouncer.dirty(view, _copy(dirt) if dirt is not None else self._anything(view, now), loop_time())
        self._woken.set()

    async def demand(self, view: str) -> None:
        """Refresh ``view`` now, whatever its pace; returns when a refresh that began after this call has committed.

        Raises `RefreshError` where it fails, KeyError for an unknown view. Cancelled, it stops waiting, no more.
        """
        if view not in self._plan.timings:
            raise KeyError(view)
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
                for view in self._debouncer.due(loop_time())[: self._slots]:
                    run = self._debouncer.start(view, loop_time(), datetime.now(UTC))
                    self._slots -= 1
                    oid = self._plan.patterns.catalogue.views[view].oid
                    group.create_task(self._carry_out(run, oid, self._plan.limits[view]), name=f"refresh {view}")
                wake_at = self._debouncer.wake_at(loop_time())
                try:
                    async with asyncio.timeout_at(wake_at if math.isfinite(wake_at) else None):
                        await self._woken.wait()
                except TimeoutError:
                    pass

    async def drain(self) -> None:
        """Refresh once more whatever is dirty, and return when that is done; `run` must be running meanwhile.

        A refresh that fails now is not tried again: at the next start everything is dirty.
        """
        self._debouncer.hurry()
        while not self._debouncer.idle():
            self._woken.set()
            self._ended.clear()
            await self._ended.wait()
            self._debouncer.hurry()  # the views that stand on what was just refreshed

    async def _carry_out(self, run: Run, oid: int, limits: Limits) -> None:
        view = run.view
        waiting = self._waiting.pop(view, [])
        self._observe(RefreshStarted(view=view))
        try:
            method, lsn = await refresh(self._pool, view, oid, limits)
        except RefreshBusy as error:
            if view in self._plan.timings:
                self._waiting.setdefault(view, [])[:0] = waiting
            else:  # whoever dropped it was why it was locked
                self._answer(waiting, RefreshFailed(view, f"{view} was dropped"))
            waits = self._debouncer.busy(run, loop_time())
            self._observe(RefreshPostponed(view=view, problem=error.problem, waits=waits))
            if waits >= UNHEALTHY_WAITS:
                self._give_up_on(run)
        except RefreshError as error:
            self._failed(run, error)
            self._answer(waiting, error)
        else:
            self._succeeded(run, method, lsn)
            self._answer(waiting, None)
        finally:
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

    def _succeeded(self, run: Run, method: str, lsn: int | None) -> None:
        view, dirt, now = run.view, run.dirt, loop_time()
        self._debouncer.succeed(run, now)
        self._unhealthy.discard(view)
        self._observe(
            RefreshDone(view=view, method=method, seconds=now - run.started, dirty_for=run.started - run.dirty_since)
        )
        patterns = self._plan.patterns
        if view in patterns.catalogue.views:
            self._publish(
                Invalidation(
                    patterns=tuple(patterns.after_refresh(view, dirt.keys)),
                    tables=frozenset(dirt.tables),
                    views=frozenset((view,)),
                    lsn=lsn,
                    at=dirt.heard_at,
                )
            )
            self.dirty(frozenset(patterns.catalogue.children(view)), dirt, dirt.heard_at)

    def _failed(self, run: Run, error: RefreshError) -> None:
        failures = self._debouncer.fail(run, loop_time(), broken=isinstance(error, RefreshBroken))
        broken = self._debouncer.broken(run.view)
        self._observe(
            RefreshNotDone(view=run.view, problem=error.problem, hint=error.hint, failures=failures, broken=broken)
        )
        if broken or failures >= UNHEALTHY_AFTER:
            self._give_up_on(run)

    def _give_up_on(self, run: Run) -> None:
        """From now on nothing waits for this view; what waited goes out, unless another one will send it."""
        if run.view in self._unhealthy or run.view not in self._plan.timings:
            return
        before = self.healthy()
        self._unhealthy.add(run.view)
        # Not this run's dirt alone: what came during it, and what the views above still hold, waited for this one too.
        self._release(self._plan.patterns, before - self.healthy(), self._debouncer.outstanding() or run.dirt)

    def _release(self, patterns: PatternMap, lost: Collection[str], waited: Dirt) -> None:
        """Tell what waited for the views ``lost``, as ``patterns`` had it, and that no healthy view will send either."""
        named = {template.text for view in lost for template in patterns.views.get(view, ())}
        owed = self._plan.patterns.owed(named, waited.tables, waited.keys, self.healthy())
        if owed:
            self._publish(Invalidation(patterns=tuple(owed), tables=frozenset(waited.tables), at=waited.heard_at))

    def _tell_of_tables(self, before: PatternMap, now: datetime) -> None:
        """Tell the patterns of tables that came into the plan, left it, or are called otherwise now: what was heard of them
        under a name that the plan did not know could not be told."""
        after = self._plan.patterns
        changed = before.tables.keys() ^ after.tables.keys()
        if not before.tables or not changed:
            return
        templates = [t for table in sorted(changed) for t in (before.tables.get(table) or after.tables[table])]
        self._publish(Invalidation(patterns=tuple(fill_all(templates, None)), tables=frozenset(changed), at=now))

    def _anything(self, view: str, now: datetime) -> Dirt:
        tables = self._plan.patterns.catalogue.views[view].tables
        return Dirt(tables=set(tables), keys=None, heard_at=now)


def _copy(dirt: Dirt) -> Dirt:
    return Dirt(tables=set(dirt.tables), keys=None if dirt.keys is None else set(dirt.keys), heard_at=dirt.heard_at)
