"""The schedule of refreshes: a simulated service drives the debouncer, and each of its promises is an invariant.

The simulation has a clock of its own and a driver that does what the refresher does: it starts whatever is due, and sleeps
until `wake_at` says, or until something happens. Everything else (changes, outcomes, demands, new plans) is drawn at
random. Beside it stands a model, which keeps only what a reader of the promises would write down.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from afresh_notifier.debounce import BUSY_FIRST, BUSY_MAX, MAX_KEYS, Debouncer, Dirt, Run, Timing

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TIMING = Timing(debounce=0.1, max_wait=2.0, max_load=0.2)

#: Sums of floating-point seconds differ by less than this.
EPSILON = 1e-6

#: All views on which each view stands: two roots, a chain, and one on both.
ANCESTORS: Mapping[str, frozenset[str]] = {
    "root": frozenset(),
    "other": frozenset(),
    "child": frozenset({"root"}),
    "both": frozenset({"root", "other"}),
    "leaf": frozenset({"root", "child"}),
}


def dirt(*tables: str, keys: set[int] | None = None) -> Dirt:
    return Dirt(tables=set(tables), keys=None if keys is None else {(("id", key),) for key in keys}, heard_at=NOW)


def one_view(timing: Timing = TIMING, **more: Timing) -> Debouncer:
    """A debouncer of the view `v`, and of ``more``, since the moment 0."""
    debouncer = Debouncer(Random(0))
    debouncer.replace({"v": timing, **more}, 0.0)
    return debouncer


def refreshed(debouncer: Debouncer, view: str, started: float, ended: float) -> None:
    """A refresh of ``view`` that went well."""
    debouncer.succeed(debouncer.start(view, started, NOW), ended)


def first_due(debouncer: Debouncer, view: str, after: float, by: float) -> float:
    """When ``view`` becomes due, asked just when the debouncer says; fails where that is not before ``by``."""
    now = after
    while view not in debouncer.due(now):
        now = debouncer.wake_at(now)
        assert now <= by + EPSILON
    return now


# One promise each, by example.


def test_first_change_after_idle_time_is_due_at_once() -> None:
    debouncer = one_view()
    debouncer.dirty("v", dirt("t"), 10.0)
    assert debouncer.due(10.0) == ["v"]


def test_a_busy_view_waits_for_debounce_of_quiet() -> None:
    debouncer = one_view(Timing(debounce=0.1, max_wait=2.0, max_load=1.0))
    debouncer.dirty("v", dirt("t"), 10.0)
    refreshed(debouncer, "v", 10.0, 10.01)
    debouncer.dirty("v", dirt("t"), 10.02)
    assert debouncer.due(10.02) == []
    debouncer.dirty("v", dirt("t"), 10.08)
    assert first_due(debouncer, "v", 10.08, 11.0) == pytest.approx(10.18)


def test_a_view_that_was_being_refreshed_was_not_idle() -> None:
    debouncer = one_view(Timing(debounce=0.1, max_wait=2.0, max_load=1.0))
    debouncer.dirty("v", dirt("t"), 10.0)
    refreshed(debouncer, "v", 10.0, 20.0)
    debouncer.dirty("v", dirt("t"), 20.01)
    assert first_due(debouncer, "v", 20.01, 21.0) == pytest.approx(20.11)


def test_a_storm_does_not_put_a_refresh_off_beyond_max_wait() -> None:
    debouncer = one_view(Timing(debounce=0.1, max_wait=2.0, max_load=1.0))
    debouncer.dirty("v", dirt("t"), 10.0)
    refreshed(debouncer, "v", 10.0, 10.0)
    now = 10.01
    first = now
    while not debouncer.due(now):
        debouncer.dirty("v", dirt("t"), now)
        now += 0.05
        assert now < first + 2.1
    assert now >= first + 2.0


@pytest.mark.parametrize(("max_load", "rest"), [(0.2, 4.0), (0.5, 1.0), (1.0, 0.0), (0.05, 19.0)])
def test_after_a_refresh_the_view_rests_as_max_load_says(max_load: float, rest: float) -> None:
    debouncer = one_view(Timing(debounce=0.0, max_wait=2.0, max_load=max_load))
    debouncer.dirty("v", dirt("t"), 10.0)
    refreshed(debouncer, "v", 10.0, 11.0)
    debouncer.dirty("v", dirt("t"), 11.0)
    assert first_due(debouncer, "v", 11.0, 40.0) == pytest.approx(11.0 + rest)


def test_the_load_limit_beats_the_leading_edge() -> None:
    debouncer = one_view()
    debouncer.dirty("v", dirt("t"), 10.0)
    refreshed(debouncer, "v", 10.0, 20.0)
    debouncer.dirty("v", dirt("t"), 30.0)
    assert first_due(debouncer, "v", 30.0, 70.0) == pytest.approx(60.0)


def test_a_failed_refresh_counts_for_the_load_limit_too() -> None:
    debouncer = one_view()
    debouncer.dirty("v", dirt("t"), 10.0)
    debouncer.fail(debouncer.start("v", 10.0, NOW), 20.0)
    assert first_due(debouncer, "v", 20.0, 70.0) == pytest.approx(60.0)


def test_what_a_refresh_takes_is_merged_dirt() -> None:
    debouncer = one_view()
    debouncer.dirty("v", dirt("a", keys={1}), 10.0)
    debouncer.dirty("v", dirt("b", keys={2}), 10.0)
    run = debouncer.start("v", 10.0, NOW)
    assert run.dirt == dirt("a", "b", keys={1, 2})
    assert run.dirty_since == 10.0
    assert not debouncer.pending("v")


def test_what_comes_during_a_refresh_waits_for_its_end_and_wakes_nobody() -> None:
    debouncer = one_view()
    debouncer.dirty("v", dirt("a"), 10.0)
    run = debouncer.start("v", 10.0, NOW)
    debouncer.dirty("v", dirt("b"), 11.0)
    assert debouncer.due(100.0) == []
    assert debouncer.wake_at(11.0) == math.inf
    debouncer.succeed(run, 12.0)
    assert debouncer.pending("v")
    assert debouncer.start("v", 20.0, NOW).dirt == dirt("b")


def test_unknown_keys_swallow_known_ones() -> None:
    merged = dirt("a", keys={1})
    merged.merge(dirt("b"))
    merged.merge(dirt("c", keys={2}))
    assert merged == dirt("a", "b", "c")


def test_more_keys_than_are_remembered_are_all_keys() -> None:
    merged = dirt("a", keys=set(range(MAX_KEYS)))
    assert merged.keys is not None
    merged.merge(dirt("a", keys={MAX_KEYS}))
    assert merged.keys is None


def test_merged_dirt_was_heard_when_its_first_part_was() -> None:
    earlier = NOW.replace(second=1)
    merged = dirt("a")
    merged.merge(Dirt(tables={"b"}, heard_at=earlier))
    assert merged.heard_at == earlier


def test_failures_are_retried_after_a_growing_and_capped_backoff() -> None:
    debouncer = one_view(Timing(debounce=0.0, max_wait=1.0, max_load=1.0, retry_first=0.1, retry_max=1.0))
    debouncer.dirty("v", dirt("t"), 0.0)
    now, waits = 0.0, []
    for failure in range(1, 8):
        assert debouncer.fail(debouncer.start("v", now, NOW), now) == failure
        due = first_due(debouncer, "v", now, now + 2)
        waits.append(due - now)
        now = due
    for wait, longest in zip(waits, [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0], strict=True):
        assert 0.5 * longest - EPSILON <= wait <= longest + EPSILON


def test_thousands_of_failures_and_locks_do_not_overflow() -> None:
    debouncer = one_view()
    debouncer.dirty("v", dirt("t"), 0.0)
    for n in range(5_000):
        debouncer.fail(debouncer.start("v", float(n), NOW), float(n))
    assert 5_000.0 < debouncer.wake_at(5_000.0) <= 5_000.0 + TIMING.retry_max
    for n in range(5_000):
        debouncer.busy(debouncer.start("v", float(n), NOW), float(n))
    assert debouncer.wake_at(4_999.0) <= 4_999.0 + BUSY_MAX


def test_a_locked_view_is_tried_again_soon_and_has_not_failed() -> None:
    debouncer = one_view(Timing(debounce=0.0, max_wait=1.0, max_load=1.0, retry_first=50.0, retry_max=60.0))
    debouncer.dirty("v", dirt("t"), 0.0)
    debouncer.busy(debouncer.start("v", 0.0, NOW), 0.0)
    assert debouncer.pending("v")
    now = first_due(debouncer, "v", 0.0, BUSY_FIRST)
    assert now >= BUSY_FIRST / 2
    assert debouncer.fail(debouncer.start("v", now, NOW), now) == 1


def test_a_broken_view_is_left_alone_until_it_is_mended() -> None:
    debouncer = one_view()
    debouncer.dirty("v", dirt("t"), 0.0)
    debouncer.fail(debouncer.start("v", 0.0, NOW), 0.0, broken=True)
    debouncer.dirty("v", dirt("u"), 1.0)
    assert debouncer.due(1e9) == []
    assert debouncer.wake_at(1.0) == math.inf
    debouncer.mend("v")
    assert debouncer.due(10.0) == ["v"]
    assert debouncer.start("v", 10.0, NOW).dirt.tables == {"t", "u"}


def test_a_demand_is_due_at_once_whatever_the_pace() -> None:
    debouncer = one_view(Timing(debounce=100.0, max_wait=1_000.0, max_load=0.001))
    debouncer.dirty("v", dirt("t"), 0.0)
    debouncer.fail(debouncer.start("v", 0.0, NOW), 10.0)
    assert debouncer.due(10.0) == []
    debouncer.demand("v", dirt("t"), 10.0)
    assert debouncer.due(10.0) == ["v"]
    assert debouncer.start("v", 10.0, NOW).demanded


def test_a_demand_tries_a_broken_view_again() -> None:
    debouncer = one_view()
    debouncer.dirty("v", dirt("t"), 0.0)
    debouncer.fail(debouncer.start("v", 0.0, NOW), 0.0, broken=True)
    debouncer.demand("v", dirt("t"), 1.0)
    assert debouncer.due(1.0) == ["v"]


def test_a_demand_made_during_a_refresh_has_one_of_its_own_even_if_that_one_breaks() -> None:
    debouncer = one_view()
    debouncer.dirty("v", dirt("t"), 0.0)
    run = debouncer.start("v", 0.0, NOW)
    debouncer.demand("v", dirt("t"), 1.0)
    debouncer.fail(run, 2.0, broken=True)
    assert debouncer.due(2.0) == ["v"]
    debouncer.fail(debouncer.start("v", 2.0, NOW), 3.0, broken=True)
    assert debouncer.due(1e9) == []
    assert debouncer.idle()


def test_a_demand_that_met_a_lock_does_not_wait_for_the_load_limit() -> None:
    debouncer = one_view()
    debouncer.dirty("v", dirt("t"), 0.0)
    refreshed(debouncer, "v", 0.0, 100.0)
    debouncer.demand("v", dirt("t"), 101.0)
    debouncer.busy(debouncer.start("v", 101.0, NOW), 101.0)
    assert debouncer.due(101.0) == []
    assert first_due(debouncer, "v", 101.0, 101.0 + BUSY_FIRST) >= 101.0 + BUSY_FIRST / 2


def test_every_refreshes_a_view_that_nobody_changes() -> None:
    debouncer = one_view(Timing(debounce=0.1, max_wait=2.0, max_load=1.0, every=60.0))
    for turn in range(1, 4):
        due = first_due(debouncer, "v", (turn - 1) * 60.0, turn * 60.0)
        assert due == pytest.approx(turn * 60.0)
        run = debouncer.start("v", due, NOW)
        assert run.dirt == Dirt(tables=set(), keys=None, heard_at=NOW)
        debouncer.succeed(run, due + 1)


def test_a_view_that_changes_by_time_alone_is_due_then_and_not_before() -> None:
    debouncer = one_view()
    run = debouncer.start("v", 0.0, NOW)
    debouncer.succeed(run, 0.0, changes_at=60.0)
    assert debouncer.wake_at(0.0) == 60.0
    assert debouncer.due(59.9) == []
    assert debouncer.due(60.0) == ["v"]
    refreshed(debouncer, "v", 60.0, 60.0)
    assert debouncer.wake_at(60.0) == math.inf


def test_a_refresh_at_the_time_of_a_change_that_fails_is_tried_again() -> None:
    debouncer = one_view()
    debouncer.succeed(debouncer.start("v", 0.0, NOW), 0.0, changes_at=60.0)
    debouncer.fail(debouncer.start("v", 60.0, NOW), 60.0)
    assert first_due(debouncer, "v", 60.0, 61.0) > 60.0


def test_parents_go_first_and_children_once_after_them() -> None:
    debouncer = one_view(p=TIMING, c=Timing(debounce=0.1, max_wait=2.0, max_load=0.2, parents=frozenset({"v", "p"})))
    for view in ("c", "v", "p"):
        debouncer.dirty(view, dirt("t"), 0.0)
    assert debouncer.due(0.0) == ["v", "p"]
    runs = [debouncer.start(view, 0.0, NOW) for view in ("v", "p")]
    debouncer.succeed(runs[0], 1.0)
    assert debouncer.due(1.0) == []
    debouncer.succeed(runs[1], 2.0)
    assert debouncer.due(2.0) == ["c"]


def test_a_parent_that_is_always_due_starves_nobody() -> None:
    storm = Timing(debounce=0.0, max_wait=2.0, max_load=1.0)
    debouncer = Debouncer()
    debouncer.replace(
        {
            "grandparent": storm,
            "parent": replace(storm, parents=frozenset({"grandparent"})),
            "child": replace(storm, parents=frozenset({"grandparent", "parent"})),
        },
        0.0,
    )
    started: list[str] = []
    for moment in range(60):
        for view in ("grandparent", "parent", "child"):
            debouncer.dirty(view, dirt("t"), float(moment))
        for view in debouncer.due(float(moment)):
            started.append(view)
            debouncer.succeed(debouncer.start(view, float(moment), NOW), moment + 0.5)
    for view in ("grandparent", "parent", "child"):
        turns = [place for place, other in enumerate(started) if other == view]
        assert max(later - earlier for earlier, later in pairwise(turns)) <= 4, started


@pytest.mark.parametrize("broken", [False, True])
def test_a_parent_that_fails_or_is_broken_holds_nobody_back(broken: bool) -> None:
    debouncer = one_view(c=Timing(debounce=0.1, max_wait=2.0, max_load=0.2, parents=frozenset({"v"})))
    debouncer.dirty("v", dirt("t"), 0.0)
    debouncer.dirty("c", dirt("t"), 0.0)
    debouncer.fail(debouncer.start("v", 0.0, NOW), 0.0, broken=broken)
    assert debouncer.due(0.0) == ["c"]


def test_a_parent_that_rests_holds_nobody_back() -> None:
    debouncer = one_view(c=Timing(debounce=0.1, max_wait=2.0, max_load=0.2, parents=frozenset({"v"})))
    debouncer.dirty("v", dirt("t"), 0.0)
    refreshed(debouncer, "v", 0.0, 100.0)
    debouncer.dirty("v", dirt("t"), 100.0)
    debouncer.dirty("c", dirt("t"), 100.0)
    assert debouncer.due(100.0) == ["c"]


def test_the_end_of_a_refresh_that_is_not_waited_for_changes_nothing() -> None:
    debouncer = one_view()
    debouncer.dirty("v", dirt("t"), 0.0)
    old = debouncer.start("v", 0.0, NOW)
    debouncer.replace({}, 1.0)
    debouncer.replace({"v": TIMING}, 2.0)
    debouncer.dirty("v", dirt("u"), 2.0)
    new = debouncer.start("v", 2.0, NOW)
    debouncer.succeed(old, 3.0)
    debouncer.busy(old, 3.0)
    assert debouncer.fail(old, 3.0) == 0
    assert debouncer.stale_for("v", 3.0) == pytest.approx(1.0)
    assert not debouncer.idle()
    debouncer.succeed(new, 4.0)
    assert debouncer.idle()
    assert debouncer.stale_for("v", 4.0) == 0.0


def test_dirt_of_a_view_that_is_not_there_is_no_matter() -> None:
    debouncer = one_view()
    debouncer.dirty("w", dirt("t"), 0.0)
    debouncer.mend("w")
    assert debouncer.due(1.0) == []
    assert not debouncer.pending("w")
    assert debouncer.stale_for("w", 1.0) == 0.0


def test_a_known_view_keeps_its_state_and_takes_its_new_timing() -> None:
    debouncer = one_view(Timing(debounce=50.0, max_wait=100.0, max_load=1.0))
    debouncer.dirty("v", dirt("t"), 0.0)
    refreshed(debouncer, "v", 0.0, 0.0)
    debouncer.dirty("v", dirt("t"), 1.0)
    debouncer.replace({"v": Timing(debounce=3.0, max_wait=100.0, max_load=1.0)}, 2.0)
    assert first_due(debouncer, "v", 2.0, 4.0) == pytest.approx(4.0)


def test_hurry_is_for_what_is_dirty_and_well() -> None:
    debouncer = one_view(clean=TIMING, failing=TIMING, broken=TIMING, locked=TIMING)
    for view in ("v", "failing", "broken", "locked"):
        debouncer.dirty(view, dirt("t"), 0.0)
    refreshed(debouncer, "v", 0.0, 10.0)
    debouncer.dirty("v", dirt("t"), 10.0)
    debouncer.fail(debouncer.start("failing", 0.0, NOW), 10.0)
    debouncer.fail(debouncer.start("broken", 0.0, NOW), 10.0, broken=True)
    debouncer.busy(debouncer.start("locked", 10.0, NOW), 10.0)
    assert debouncer.due(10.0) == []
    debouncer.hurry()
    assert debouncer.due(10.0) == ["v"]
    assert not debouncer.idle()
    refreshed(debouncer, "v", 10.0, 11.0)
    assert debouncer.idle()


def test_a_view_waits_for_one_below_that_lets_another_one_above_go_first() -> None:
    """Once `root` has had its turn, `both` goes before it; `child` waits for `root` all the same, and comes last."""
    debouncer = Debouncer()
    brisk = {"debounce": 0.0, "max_wait": 0.5, "max_load": 1.0}
    debouncer.replace(
        {view: Timing(**brisk, parents=ANCESTORS[view]) for view in ("root", "other", "child", "both")}, 0.0
    )
    for view in ("root", "both"):
        debouncer.dirty(view, dirt("t"), 0.0)
    run = debouncer.start("root", 0.0, NOW)
    debouncer.dirty("root", dirt("t"), 0.0)
    debouncer.dirty("child", dirt("t"), 0.0)
    assert debouncer.due(0.0) == []
    debouncer.succeed(run, 0.0)
    for view in ("both", "root", "child"):
        assert debouncer.due(0.0) == [view]
        refreshed(debouncer, view, 0.0, 0.0)
    assert debouncer.due(0.0) == []


def test_outstanding_is_what_waits_and_what_is_being_made_good() -> None:
    debouncer = one_view(w=TIMING)
    assert debouncer.outstanding() is None
    debouncer.dirty("v", dirt("a", keys={1}), 0.0)
    debouncer.start("v", 0.0, NOW)
    debouncer.dirty("w", dirt("b", keys={2}), 0.0)
    found = debouncer.outstanding()
    assert found == dirt("a", "b", keys={1, 2})
    debouncer.dirty("v", dirt("c"), 0.0)
    assert debouncer.outstanding() == dirt("a", "b", "c")


def test_rested_is_when_all_is_shown_and_a_change_would_be_acted_on_at_once() -> None:
    debouncer = one_view()
    assert debouncer.rested(0.0)
    debouncer.dirty("v", dirt("t"), 1.0)
    assert not debouncer.rested(2.0)
    run = debouncer.start("v", 2.0, NOW)
    assert not debouncer.rested(2.5)
    debouncer.succeed(run, 3.0)
    assert not debouncer.rested(6.9)
    assert debouncer.rested(7.0)


# All promises at once, on random histories.


@dataclass(slots=True)
class _Known:
    """What the model keeps of one view."""

    timing: Timing
    #: Changes that no successful refresh has taken, with the time of each.
    unshown: dict[str, float] = field(default_factory=dict)
    active_at: float = -math.inf
    load_floor: float = -math.inf
    #: Between these the next try comes, after a failure or a lock.
    retry_from: float = -math.inf
    retry_by: float = -math.inf
    failures: int = 0
    waits: int = 0
    broken: bool = False
    #: Mended while its refresh was in flight.
    mended: bool = False
    demanded: bool = False
    refreshed_at: float = 0.0
    #: When the content is another by time alone, as the last refresh told.
    changes_at: float = math.inf
    run: Run | None = None
    run_was_demanded: bool = False
    #: When the oldest thing that is put back, or waits, came; a refresh for `every` has no change to name.
    dirty_since: float | None = None

    def floor(self) -> float:
        """No start before this."""
        if self.demanded:
            return self.retry_from if self.waits else -math.inf
        return max(self.load_floor, self.retry_from)

    def may_start(self, now: float) -> bool:
        """Whether there is something to do, and nothing of its own forbids it."""
        by_time = self.timing.every is not None and self.refreshed_at + self.timing.every <= now
        by_time = by_time or self.changes_at <= now
        return not self.broken and self.floor() <= now and (self.dirty_since is not None or by_time)

    def no_later_than(self) -> float:
        """Due by then, when no view below is running or due."""
        if self.broken:
            return math.inf
        if self.demanded:
            return self.retry_by if self.waits else -math.inf
        wanted = math.inf if self.timing.every is None else self.refreshed_at + self.timing.every
        wanted = min(wanted, self.changes_at)
        if self.dirty_since is not None:
            wanted = self.dirty_since + self.timing.max_wait
        return max(wanted, self.load_floor, self.retry_by)


timings = st.builds(
    Timing,
    debounce=st.sampled_from([0.0, 0.1, 1.0]),
    max_wait=st.sampled_from([0.5, 2.0]),
    max_load=st.sampled_from([0.1, 0.2, 0.5, 1.0]),
    every=st.sampled_from([None, None, 3.0]),
    retry_first=st.just(0.1),
    retry_max=st.just(5.0),
)
views = st.sampled_from(sorted(ANCESTORS))
moments = st.sampled_from([0.0, 0.001, 0.03, 0.1, 0.35, 1.0, 4.0])


class Schedule(RuleBasedStateMachine):
    """The simulated service and the model."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.debouncer = Debouncer(Random(1))
        self.known: dict[str, _Known] = {}
        self.forgotten: list[Run] = []
        self.changes = 0
        self.free_slots = 2

    @initialize(data=st.data(), slots=st.integers(1, 3))
    def begin(self, data: st.DataObject, slots: int) -> None:
        self.free_slots = slots
        self.replace(data, set(ANCESTORS))

    # What happens.

    @rule(view=views)
    def change(self, view: str) -> None:
        known = self.known.get(view)
        idle = known is not None and (
            known.run is None
            and known.dirty_since is None
            and self.now - known.active_at >= known.timing.debounce
            and not known.broken
            and self.now >= max(known.load_floor, known.retry_by)
        )
        self.debouncer.dirty(view, dirt(self.note(view)), self.now)
        if idle and not self.held_back(view):
            assert view in self.debouncer.due(self.now), "the first change after idle time was not due at once"
        self.drive()

    @rule(view=views)
    def demand(self, view: str) -> None:
        known = self.known.get(view)
        if known is None:
            return
        self.debouncer.demand(view, dirt(self.note(view)), self.now)
        known.demanded, known.broken = True, False
        known.retry_from = known.retry_by = -math.inf
        if known.run is None and not self.held_back(view):
            assert view in self.debouncer.due(self.now), "a demand was not due at once"
        self.drive()

    @rule(moment=moments)
    def time_passes(self, moment: float) -> None:
        self.sleep_until(self.now + moment)

    @precondition(lambda self: any(known.run for known in self.known.values()))
    @rule(
        data=st.data(),
        moment=moments,
        outcome=st.sampled_from(["well", "well", "well", "failed", "broken", "locked"]),
        changes_in=st.sampled_from([math.inf, math.inf, 0.0, 0.2, 3.0]),
    )
    def refresh_ends(self, data: st.DataObject, moment: float, outcome: str, changes_in: float) -> None:
        running = sorted(view for view, known in self.known.items() if known.run)
        view = data.draw(st.sampled_from(running))
        self.sleep_until(self.now + moment)
        self.end(view, outcome, changes_in)
        self.drive()

    @precondition(lambda self: self.forgotten)
    @rule(outcome=st.sampled_from(["well", "failed", "locked"]))
    def forgotten_refresh_ends(self, outcome: str) -> None:
        run = self.forgotten.pop(0)
        self.tell(run, outcome)
        self.free_slots += 1
        self.drive()

    @rule(view=views)
    def mend(self, view: str) -> None:
        self.debouncer.mend(view)
        known = self.known.get(view)
        if known is not None:
            known.broken, known.failures = False, 0
            known.mended = known.run is not None
            known.retry_from = known.retry_by = -math.inf
        self.drive()

    @rule()
    def hurry(self) -> None:
        self.debouncer.hurry()
        for known in self.known.values():
            waits = known.dirty_since is not None if known.run is None else self.debouncer.pending(known.run.view)
            if waits and not (known.broken or known.failures or known.waits):
                known.demanded = True
        self.drive()

    @rule(data=st.data(), names=st.sets(views, min_size=2))
    def new_plan(self, data: st.DataObject, names: set[str]) -> None:
        self.replace(data, names)
        self.drive()

    # The driver: what the refresher does.

    def drive(self) -> None:
        """Start what is due, as far as there are free slots."""
        for view in self.debouncer.due(self.now)[: self.free_slots]:
            self.start(view)

    def sleep_until(self, end: float) -> None:
        """Pass the time up to ``end``, looking only when `wake_at` says."""
        looks = 0
        while (wake := self.debouncer.wake_at(self.now)) <= end:
            assert wake > self.now
            self.now = wake
            self.drive()
            looks += 1
            assert looks < 1_000, "it wakes for nothing, again and again"
        self.now = end

    def start(self, view: str) -> None:
        known = self.known[view]
        assert known.run is None, "two refreshes of one view in flight"
        assert not known.broken, "a broken view was tried"
        assert known.may_start(self.now + EPSILON), "there was no reason to start it"
        assert self.now >= known.floor() - EPSILON, "the load limit or a backoff was not kept"
        below = known.timing.parents
        assert not any(self.known[parent].run for parent in below), "started while a view below is running"
        assert not below & set(self.debouncer.due(self.now)), "started while a view below is about to be"
        run = self.debouncer.start(view, self.now, NOW)
        assert run.dirt.tables >= known.unshown.keys(), "a change was lost"
        assert run.started == self.now
        if known.dirty_since is not None:
            assert run.dirty_since == known.dirty_since
        known.run, known.run_was_demanded = run, known.demanded
        known.demanded, known.mended, known.dirty_since = False, False, None
        known.changes_at = math.inf
        self.free_slots -= 1

    def end(self, view: str, outcome: str, changes_in: float = math.inf) -> None:
        known = self.known[view]
        run = known.run
        assert run is not None
        known.run = None
        self.free_slots += 1
        count = self.tell(run, outcome, self.now + changes_in)
        if outcome == "well":
            known.changes_at = self.now + changes_in
            for change in run.dirt.tables:
                known.unshown.pop(change, None)
            known.refreshed_at = run.started
            known.failures = known.waits = 0
            known.retry_from = known.retry_by = -math.inf
        else:
            known.dirty_since = run.dirty_since
        if outcome == "locked":
            wait = min(BUSY_FIRST * 2**known.waits, BUSY_MAX)
            known.waits += 1
            known.retry_from, known.retry_by = self.now + wait / 2, self.now + wait
            known.demanded = known.demanded or known.run_was_demanded
            return
        if outcome != "well":
            known.failures += 1
            known.waits = 0
            assert count == known.failures
            wait = min(known.timing.retry_first * 2 ** (known.failures - 1), known.timing.retry_max)
            known.retry_from, known.retry_by = self.now + wait / 2, self.now + wait
            known.broken = outcome == "broken" and not known.demanded and not known.mended
        known.active_at = self.now
        known.load_floor = self.now + (self.now - run.started) * (1 / known.timing.max_load - 1)

    def tell(self, run: Run, outcome: str, changes_at: float = math.inf) -> int:
        if outcome == "well":
            self.debouncer.succeed(run, self.now, changes_at)
        elif outcome == "locked":
            self.debouncer.busy(run, self.now)
        else:
            return self.debouncer.fail(run, self.now, broken=outcome == "broken")
        return 0

    def replace(self, data: st.DataObject, names: set[str]) -> None:
        chosen = {
            view: Timing(
                debounce=timing.debounce,
                max_wait=timing.max_wait,
                max_load=timing.max_load,
                every=timing.every,
                retry_first=timing.retry_first,
                retry_max=timing.retry_max,
                parents=ancestors & names,
            )
            for view, ancestors in ANCESTORS.items()
            if view in names
            for timing in [data.draw(timings)]
        }
        self.debouncer.replace(chosen, self.now)
        for view in self.known.keys() - names:
            run = self.known.pop(view).run
            if run is not None:
                self.forgotten.append(run)
        for view, timing in chosen.items():
            if view in self.known:
                self.known[view].timing = timing
            else:
                self.known[view] = _Known(timing, refreshed_at=self.now)

    def note(self, view: str) -> str:
        """A change of ``view`` now; returns the name under which it must be seen again."""
        self.changes += 1
        name = f"change {self.changes}"
        known = self.known.get(view)
        if known is not None:
            known.unshown[name] = self.now
            known.active_at = self.now
            if known.dirty_since is None:
                known.dirty_since = self.now
        return name

    def held_back(self, view: str) -> bool:
        """Whether a view below is running or due, or one above goes first since this one has had its turn, or a view below
        is held back so: it is due all the same, and this one waits for it."""
        due = set(self.debouncer.due(self.now))
        below = self.known[view].timing.parents
        return (
            any(self.known[parent].run for parent in below)
            or bool((below | self.above(view)) & due)
            or any(self.above(parent) & due and self.known[parent].may_start(self.now) for parent in below)
        )

    def above(self, view: str) -> set[str]:
        """The views that stand on ``view``."""
        return {other for other, known in self.known.items() if view in known.timing.parents}

    # What holds at every moment.

    @invariant()
    def is_due_in_time(self) -> None:
        due = self.debouncer.due(self.now)
        for view, known in self.known.items():
            if known.run is None and known.no_later_than() <= self.now - EPSILON and not self.held_back(view):
                assert view in due, "it should have been due by now"

    @invariant()
    def nothing_becomes_due_before_wake_at(self) -> None:
        wake = self.debouncer.wake_at(self.now)
        assert wake > self.now
        due = self.debouncer.due(self.now)
        if wake - self.now > 10 * EPSILON:
            end = self.now + 1_000.0 if wake == math.inf else wake - EPSILON
            for share in (0.1, 0.5, 1.0):
                assert self.debouncer.due(self.now + (end - self.now) * share) == due, "a wake-up was missed"

    @invariant()
    def due_views_do_not_stand_on_one_another(self) -> None:
        due = self.debouncer.due(self.now)
        for view in due:
            assert not self.known[view].timing.parents & set(due)
            assert self.known[view].run is None

    @invariant()
    def it_knows_what_is_not_shown(self) -> None:
        for view, known in self.known.items():
            taken = known.run.dirt.tables if known.run is not None else set()
            assert self.debouncer.pending(view) == (known.dirty_since is not None)
            if known.unshown.keys() - taken:
                assert self.debouncer.pending(view), "a change was lost"
            if known.unshown:
                oldest = min(known.unshown.values())
                assert self.debouncer.stale_for(view, self.now) >= self.now - oldest - EPSILON
            elif known.run is None and known.dirty_since is None:
                assert self.debouncer.stale_for(view, self.now) == 0.0
        assert (self.debouncer.outstanding() is None) == (
            not any(known.run is not None or known.dirty_since is not None for known in self.known.values())
        )

    def teardown(self) -> None:
        """Once nothing fails any more, every view comes to show every change, woken by `wake_at` alone."""
        if not self.known:
            return
        for view in self.known:
            self.mend(view)
        while self.forgotten:
            self.forgotten_refresh_ends("well")
        deadline = self.now + 1_000.0
        while any(known.unshown for known in self.known.values()):
            running = sorted(view for view, known in self.known.items() if known.run)
            if running:
                self.now += 0.05
                self.end(running[0], "well")
                self.drive()
            else:
                wake = self.debouncer.wake_at(self.now)
                assert wake < deadline, "a change is never shown"
                self.sleep_until(wake)


TestSchedule = Schedule.TestCase
TestSchedule.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_where_there_is_not_room_for_all_each_has_its_turn() -> None:
    """Forty views that are always dirty, four at a time, a second each: the last are refreshed like the first."""
    views = [f"v{number:02}" for number in range(40)]
    debouncer = Debouncer()
    debouncer.replace({view: Timing(debounce=0.1, max_wait=2, max_load=0.2) for view in views}, 0.0)
    running: list[Run] = []
    done: Counter[str] = Counter()
    for tick in range(2_400):
        now = tick / 20
        for view in views:
            debouncer.dirty(view, Dirt(heard_at=NOW), now)
        for run in [run for run in running if run.started <= now - 1]:
            running.remove(run)
            debouncer.succeed(run, now)
            done[run.view] += 1
        running += [debouncer.start(view, now, NOW) for view in debouncer.due(now)[: 4 - len(running)]]
    assert min(done[view] for view in views) >= max(done.values()) - 2 > 0
