"""When which view is refreshed: a pure state machine that is told the time and never reads a clock.

In: changes (`dirty`), what became of refreshes (`start`, `succeed`, `fail`, `busy`), demands by hand. Out: the views that
are `due` now, and when to ask again (`wake_at`). Times are seconds of one monotonic clock.

What it promises, for each view:

- at most one refresh is in flight and one pending (`start` takes the dirt, what comes later is the next one's);
- after a refresh of *d* seconds the next starts no sooner than *d* · (1 / max_load - 1) after it ended;
- a view that was idle for longer than `debounce` is due at once; else after `debounce` of quiet, but no later than
  `max_wait` after its first change, stretched only by the line above;
- a view whose content changes by time alone is due when it does, and not before;
- no dirt is lost: what a failed refresh had taken is put back, and is due again after a capped backoff;
- a view is not started while one that it stands on is running, or is due and has not had its turn since the view itself
  became due: it would read the old parent, and is refreshed once, after it. A parent that has had its turn yields, so that
  one which is always due starves nobody; one that is held back, failing or broken holds nobody back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from random import Random

from afresh_cache.backoff import SPREAD, backoff
from afresh_notifier.changes import Key

#: Keys that one refresh remembers; past that "all" is as good an answer, and bounded.
MAX_KEYS = 1_000

#: First and longest wait, in seconds, before a view that somebody else has locked is tried again.
BUSY_FIRST, BUSY_MAX = 0.05, 1.0


@dataclass(slots=True, kw_only=True)
class Dirt:
    """What a refresh will make good: the tables that changed, the keys (None: all), when the first was heard.

    Owned by one holder at a time: the debouncer, then, from `start` on, the refresh.
    """

    tables: set[str] = field(default_factory=set)
    keys: set[Key] | None = field(default_factory=set)
    heard_at: datetime

    def merge(self, other: Dirt) -> None:
        """Take in what ``other`` holds."""
        self.tables |= other.tables
        self.heard_at = min(self.heard_at, other.heard_at)
        if self.keys is not None:
            self.keys = None if other.keys is None else self.keys | other.keys
            if self.keys is not None and len(self.keys) > MAX_KEYS:
                self.keys = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The paces of one view, in seconds (`max_load` is a share); ``parents`` are all views on which it stands."""

    debounce: float
    max_wait: float
    max_load: float
    every: float | None = None
    retry_first: float = 0.1
    retry_max: float = 30.0
    parents: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One refresh of ``view``, in flight since ``started``; the holder owns ``dirt``, some of it since ``dirty_since``.

    ``demanded``: somebody waits for it. ``waits``: how many times in a row the view was not to be had.
    """

    view: str
    dirt: Dirt
    started: float
    dirty_since: float
    demanded: bool = False
    waits: int = 0


@dataclass(slots=True)
class _State:
    timing: Timing
    #: When anything last happened: a change, or the end of a refresh.
    active_at: float = -math.inf
    dirt: Dirt | None = None
    dirty_since: float = 0.0
    changed_at: float = 0.0
    #: The first change came after idle time: no debounce.
    leading: bool = False
    #: Somebody asked by hand: no debounce, no load limit, and no backoff but the short one of a view that is locked.
    demanded: bool = False
    #: The refresh in flight.
    run: Run | None = None
    #: No start before this, by the load limit; and by a backoff.
    load_floor: float = -math.inf
    retry_at: float = -math.inf
    failures: int = 0
    waits: int = 0
    broken: bool = False
    #: `mend` came during the refresh in flight, whose finding is out of date if it is that the view is broken.
    mended: bool = False
    #: When `every` was last satisfied; and when the content will be another by time alone.
    refreshed_at: float = 0.0
    changes_at: float = math.inf
    #: The views below that were started since this one became due: they have had their turn.
    yielded: set[str] = field(default_factory=set)

    def fire_at(self) -> float:
        """When this view may start; infinity where there is nothing to do."""
        if self.run is not None or self.broken:
            return math.inf
        if self.demanded:
            return self.retry_at if self.waits else -math.inf
        if self.dirt is None:
            every = math.inf if self.timing.every is None else self.refreshed_at + self.timing.every
            wanted = min(every, self.changes_at)
        elif self.leading:
            wanted = self.dirty_since
        else:
            wanted = min(self.changed_at + self.timing.debounce, self.dirty_since + self.timing.max_wait)
        return max(wanted, self.load_floor, self.retry_at)


class Debouncer:
    """The schedule of all views. Not thread-safe: it belongs to one event loop, and no method waits."""

    def __init__(self, random: Random = SPREAD) -> None:
        self._states: dict[str, _State] = {}
        self._random = random

    def replace(self, timings: Mapping[str, Timing], now: float) -> None:
        """Take these views, parents before children; known ones keep their state, the others are forgotten.

        A refresh in flight of a view that is forgotten ends unheard: `succeed`, `fail` and `busy` then do nothing.
        """
        kept: dict[str, _State] = {}
        for view, timing in timings.items():
            state = self._states.get(view) or _State(timing, refreshed_at=now)
            state.timing = timing
            kept[view] = state
        self._states = kept

    def dirty(self, view: str, dirt: Dirt, now: float) -> None:
        """A change that ``view`` must show. Takes over ``dirt``; an unknown view has nothing to show."""
        state = self._states.get(view)
        if state is None:
            return
        if state.dirt is None:
            state.dirt, state.dirty_since = dirt, now
            state.leading = state.run is None and now - state.active_at >= state.timing.debounce
        else:
            state.dirt.merge(dirt)
        state.changed_at = state.active_at = now

    def demand(self, view: str, dirt: Dirt, now: float) -> None:
        """Somebody wants ``view`` refreshed now, whatever the pace; a broken one is tried again."""
        self.dirty(view, dirt, now)
        state = self._states[view]
        state.demanded, state.broken, state.retry_at = True, False, -math.inf

    def mend(self, view: str) -> None:
        """Whatever made ``view`` broken may be gone: try it again at its next turn, without backoff."""
        state = self._states.get(view)
        if state is not None:
            state.broken, state.failures, state.retry_at = False, 0, -math.inf
            state.mended = state.run is not None

    def hurry(self) -> None:
        """Make everything that is dirty due at once, but for what failed or was locked when it was last tried."""
        for state in self._states.values():
            if state.dirt is not None and not state.broken and not state.failures and not state.waits:
                state.demanded = True

    def due(self, now: float) -> list[str]:
        """The views that may start now, what has been due for longest first; they do not stand on one another."""
        running = {view for view, state in self._states.items() if state.run is not None}
        due = {view: state for view, state in self._states.items() if state.run is None and state.fire_at() <= now}
        able = {
            view: state.timing.parents
            for view, state in due.items()
            if not state.timing.parents & running and not state.timing.parents & (due.keys() - state.yielded)
        }
        # Where a view and one that it stands on are both able, the latter has had its turn.
        yielding = set[str]().union(*able.values())
        # Where there is not room for all, those that come last in the plan would else never have a turn.
        return sorted((view for view in able if view not in yielding), key=lambda view: due[view].fire_at())

    def wake_at(self, now: float) -> float:
        """When something becomes due that is not due yet; infinity where nothing will by time alone."""
        times = (state.fire_at() for state in self._states.values())
        return min((time for time in times if time > now), default=math.inf)

    def start(self, view: str, now: float, heard_at: datetime) -> Run:
        """``view`` is being refreshed from now on: what was dirty is handed over, what comes now is the next one's.

        ``heard_at`` stands for the dirt's where there is none, as when time alone is why.
        """
        state = self._states[view]
        run = Run(
            view=view,
            dirt=state.dirt or Dirt(heard_at=heard_at, keys=None),
            started=now,
            dirty_since=state.dirty_since if state.dirt is not None else now,
            demanded=state.demanded,
            waits=state.waits,
        )
        state.dirt, state.demanded, state.leading, state.mended = None, False, False, False
        state.run, state.changes_at = run, math.inf
        state.yielded.clear()
        for above in self._states.values():
            if view in above.timing.parents and above.run is None and above.fire_at() <= now:
                above.yielded.add(view)
        return run

    def succeed(self, run: Run, now: float, changes_at: float = math.inf) -> None:
        """The refresh has committed; at ``changes_at`` the view's content will be another by time alone."""
        state = self._current(run)
        if state is not None:
            state.refreshed_at, state.changes_at = run.started, changes_at
            state.failures = state.waits = 0
            state.retry_at = -math.inf
            self._end(state, run, now)

    def fail(self, run: Run, now: float, *, broken: bool = False) -> int:
        """It did not happen: the dirt is put back, to be tried after a backoff, or, if ``broken``, after `mend`.

        Who demanded a refresh while this one ran has his try all the same, so that he gets an answer. Returns how many
        times in a row it has failed.
        """
        state = self._current(run)
        if state is None:
            return 0
        state.failures += 1
        state.broken = broken and not state.demanded and not state.mended
        state.waits = 0
        self._put_back(state, run, now)
        self._end(state, run, now)
        timing = state.timing
        state.retry_at = now + backoff(state.failures, timing.retry_first, timing.retry_max, self._random)
        return state.failures

    def busy(self, run: Run, now: float) -> int:
        """Somebody else holds the view: the dirt is put back, to be tried soon; this is no failure, and cost nothing.

        A demand is put back with it: whoever waits for it does not wait for the load limit too. Returns how many times in a
        row the view was not to be had.
        """
        state = self._current(run)
        if state is None:
            return 0
        self._put_back(state, run, now)
        state.demanded = state.demanded or run.demanded
        state.run = None
        state.waits += 1
        state.retry_at = now + backoff(state.waits, BUSY_FIRST, BUSY_MAX, self._random)
        return state.waits

    def broken(self, view: str) -> bool:
        """Whether ``view`` is not tried again before `mend`."""
        state = self._states.get(view)
        return state is not None and state.broken

    def rested(self, now: float) -> bool:
        """Whether every view shows all there is and would act on a change at once."""
        return all(
            state.run is None
            and state.dirt is None
            and now >= state.load_floor
            and now - state.active_at >= state.timing.debounce
            for state in self._states.values()
        )

    def idle(self) -> bool:
        """Whether no refresh is in flight, and none was demanded that has not been tried."""
        return all(
            state.run is None and (not state.demanded or state.waits > 0 or state.broken)
            for state in self._states.values()
        )

    def pending(self, view: str) -> bool:
        """Whether ``view`` has dirt that no refresh has taken yet."""
        state = self._states.get(view)
        return state is not None and state.dirt is not None

    def outstanding(self) -> Dirt | None:
        """All that was heard and that some view does not show yet, in one; None where there is nothing."""
        found: Dirt | None = None
        for state in self._states.values():
            for dirt in (state.dirt, state.run.dirt if state.run is not None else None):
                if dirt is None:
                    continue
                if found is None:
                    found = Dirt(tables=set(), keys=set(), heard_at=dirt.heard_at)
                found.merge(dirt)
        return found

    def stale_for(self, view: str, now: float) -> float:
        """For how many seconds ``view`` has lacked a change that was heard; 0 where it shows all."""
        state = self._states.get(view)
        since = []
        if state is not None and state.dirt is not None:
            since.append(state.dirty_since)
        if state is not None and state.run is not None:
            since.append(state.run.dirty_since)
        return now - min(since) if since else 0.0

    def _current(self, run: Run) -> _State | None:
        """The state of ``run``'s view, if that is still the refresh it waits for."""
        state = self._states.get(run.view)
        return state if state is not None and state.run is run else None

    @staticmethod
    def _put_back(state: _State, run: Run, now: float) -> None:
        if state.dirt is None:
            state.dirt = run.dirt
            state.changed_at = now
        else:
            state.dirt.merge(run.dirt)
        state.dirty_since = run.dirty_since

    @staticmethod
    def _end(state: _State, run: Run, now: float) -> None:
        """The refresh is over, well or not: the load limit counts its time either way."""
        state.load_floor = now + (now - run.started) * (1 / state.timing.max_load - 1)
        state.run = None
        state.active_at = now
