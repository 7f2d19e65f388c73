"""The pace: no change waits longer than the idle pace, whatever the bell does, and none rings while changes come fast."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afresh_notifier.pace import RENEW_BEFORE, RING_FOR, Pace
from afresh_notifier.settings import CaptureSettings

PACES = CaptureSettings(busy_pace=0.005, slow_pace=0.02, idle_pace=0.25, threshold=50.0, bell="auto")
NEVER = CaptureSettings(busy_pace=0.005, slow_pace=0.02, idle_pace=0.25, threshold=50.0, bell="never")


class Leader:
    """A leader that keeps a `Pace`, and writers beside it: each reads the bell, and commits later.

    The bell is the sequence in the database: what is set, all read at once. A look takes all that is committed. A ring is
    heard after ``delay``.
    """

    def __init__(self, paces: CaptureSettings, *, delay: float = 0.001) -> None:
        self.pace = Pace(paces, 0.0)
        self.delay = delay
        self.now = 0.0
        self.rings_until = -math.inf
        self.committed: list[float] = []
        #: How long each change lay in the log.
        self.waited: list[float] = []
        self.looks: list[float] = []
        self.sets: list[tuple[float, int]] = []
        self.rings: list[float] = []
        self._bells: list[float] = []

    def look(self) -> None:
        """As the consumer does: see to the bell, then take what there is."""
        seconds = self.pace.bell(self.now)
        if seconds is not None:
            self.rings_until = self.now + seconds if seconds else -math.inf
            self.pace.set(seconds, self.now)
            self.sets.append((self.now, seconds))
        self.looks.append(self.now)
        self.waited += [self.now - at for at in self.committed]
        self.pace.looked(len(self.committed), self.now)
        self.committed.clear()

    def run(self, writers: Iterable[tuple[float, float]], until: float) -> None:
        """``writers``: when each reads the bell, and how long after that it commits."""
        events = [(at, 0, at + hold, False) for at, hold in writers]
        heapq.heapify(events)
        while True:
            look_at = max(self.now, min([self.pace.look_at(self.now), *self._bells]))
            if events and events[0][0] < look_at:
                self.now, kind, commit, rings = heapq.heappop(events)
                if kind == 0:
                    heapq.heappush(events, (commit, 1, commit, self.now < self.rings_until))
                    continue
                self.committed.append(self.now)
                if rings:
                    self.rings.append(self.now)
                    self._bells.append(self.now + self.delay)
                continue
            if look_at > until:
                return
            self.now = look_at
            self._bells = [at for at in self._bells if at > self.now]
            self.look()


def steady(rate: float, until: float, since: float = 0.0) -> list[tuple[float, float]]:
    """Writers at ``rate`` a second that commit at once."""
    return [(since + n / rate, 0.0) for n in range(int((until - since) * rate))]


writers = st.lists(
    st.tuples(
        st.one_of(st.just(0.0), st.floats(0.0, 0.01), st.floats(0.0, 1.0), st.sampled_from([6.0, 11.0])),
        st.one_of(st.just(0.0), st.floats(0.0, 0.05), st.floats(0.0, 3.0), st.just(30.0)),
        st.integers(1, 120),
    ),
    max_size=20,
)


def placed(steps: list[tuple[float, float, int]]) -> list[tuple[float, float]]:
    """Groups of writers, one after the other: a pause before each, how long they hold, how many."""
    at, found = 0.0, []
    for pause, hold, count in steps:
        at += pause
        found += [(at + n * 0.001, hold) for n in range(count)]
    return found


@settings(deadline=None)
@given(writers)
def test_no_change_waits_for_longer_than_the_idle_pace(steps: list[tuple[float, float, int]]) -> None:
    """Also that of a writer who read "silent", and commits long after the bell rings again and the last look is over."""
    leader = Leader(PACES)
    found = placed(steps)
    until = max((at + hold for at, hold in found), default=0.0) + 1.0
    leader.run(found, until)
    assert len(leader.waited) == len(found)
    assert max(leader.waited, default=0.0) <= PACES.idle_pace + 1e-6


@settings(deadline=None)
@given(writers)
def test_a_change_that_rings_is_looked_at_when_the_ring_is_heard(steps: list[tuple[float, float, int]]) -> None:
    leader = Leader(PACES, delay=0.001)
    found = placed(steps)
    leader.run(found, max((at + hold for at, hold in found), default=0.0) + 1.0)
    for ring in leader.rings:
        assert any(ring <= look <= ring + 0.001 + 1e-9 for look in leader.looks)


@settings(deadline=None)
@given(writers)
def test_where_the_bell_may_never_ring_it_never_does_and_looks_come_at_the_slow_pace(
    steps: list[tuple[float, float, int]],
) -> None:
    leader = Leader(NEVER)
    found = placed(steps)
    leader.run(found, max((at + hold for at, hold in found), default=0.0) + 1.0)
    assert leader.rings == []
    assert [seconds for _, seconds in leader.sets] == [0]  # once, for what an earlier leader may have left
    assert not leader.pace.ringing
    assert len(leader.waited) == len(found)
    assert max(leader.waited, default=0.0) <= NEVER.slow_pace + 1e-6


def test_fast_changes_silence_the_bell_and_are_looked_at_at_the_busy_pace() -> None:
    leader = Leader(PACES)
    leader.run(steady(1000.0, 3.0), 3.0)
    assert not leader.pace.ringing
    assert leader.rings
    assert max(leader.rings) < 0.5
    looks = [look for look in leader.looks if look > 0.5]
    assert all(second - first == pytest.approx(PACES.busy_pace) for first, second in itertools.pairwise(looks))


def test_slow_changes_ring_each() -> None:
    leader = Leader(PACES)
    leader.run(steady(10.0, 20.0, since=0.05), 21.0)
    assert len(leader.rings) == len(steady(10.0, 20.0, since=0.05))
    assert max(leader.waited) <= leader.delay + 1e-9
    assert all(seconds == RING_FOR for _, seconds in leader.sets)


def test_an_idle_leader_looks_at_the_idle_pace_and_renews_the_bell_before_it_runs_out() -> None:
    leader = Leader(PACES)
    leader.run([], 60.0)
    assert 4 * 60 <= len(leader.looks) <= 4 * 60 + 20
    gaps = [second - first for (first, _), (second, _) in itertools.pairwise(leader.sets)]
    assert all(gap <= RING_FOR - RENEW_BEFORE + 1e-6 for gap in gaps)
    assert len(gaps) <= 60 / (RING_FOR - RENEW_BEFORE) + 1


def test_a_bell_that_nobody_renews_runs_out_by_itself() -> None:
    leader = Leader(PACES)
    leader.run([], 7.0)  # and dies
    assert leader.rings_until <= 7.0 + RING_FOR


def test_when_the_storm_is_over_the_bell_rings_again_and_one_more_look_follows_at_once() -> None:
    leader = Leader(PACES)
    leader.run(steady(1000.0, 2.0), 10.0)
    [(_, first), (_, silenced), (again, rings)] = leader.sets[:3]
    assert (first, silenced, rings) == (RING_FOR, 0, RING_FOR)
    assert 2.0 < again < 2.0 + 5.0
    assert again in leader.looks  # the look comes after the switch, in the same turn
    assert leader.pace.look_at(leader.now) <= leader.now + PACES.idle_pace


def test_the_last_look_is_due_when_the_bell_begins_to_ring_and_not_when_it_is_renewed() -> None:
    pace = Pace(PACES, 0.0)
    pace.looked(0, 1.0)
    pace.set(RING_FOR, 1.0)
    assert pace.look_at(1.0) == 1.0
    pace.looked(0, 1.0)
    pace.set(RING_FOR, 1.1)
    assert pace.look_at(1.1) == 1.0 + PACES.idle_pace


def test_what_a_look_left_over_is_looked_at_at_once() -> None:
    pace = Pace(PACES, 0.0)
    pace.set(RING_FOR, 0.0)
    pace.looked(20_000, 1.0, more=True)
    assert pace.look_at(1.0) == 1.0


def test_between_fast_and_slow_the_bell_does_not_flutter() -> None:
    """A rate about the threshold: once silenced, it is slow only below half of it."""
    leader = Leader(PACES)
    leader.run([*steady(60.0, 5.0), *steady(30.0, 60.0, since=5.0)], 60.0)
    assert [seconds for _, seconds in leader.sets if seconds == 0] == [0]
    leader.run(steady(20.0, 80.0, since=60.0), 80.0)
    assert leader.pace.ringing


@given(st.lists(st.tuples(st.integers(0, 200), st.floats(0.0, 12.0), st.booleans()), max_size=40))
def test_it_is_always_time_to_do_what_it_asks_for(steps: list[tuple[int, float, bool]]) -> None:
    """`look_at` is never later than the idle pace, is now while the bell is to be set, and then is past."""
    pace, now = Pace(PACES, 0.0), 0.0
    for taken, pause, obeys in steps:
        now += pause
        seconds = pace.bell(now)
        if seconds is not None:
            assert pace.look_at(now) == now
            if obeys:
                pace.set(seconds, now)
                assert pace.bell(now) is None
                assert pace.ringing == bool(seconds)
        pace.looked(taken, now)
        assert pace.look_at(now) <= now + PACES.idle_pace
