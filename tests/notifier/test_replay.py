"""The replay: all that somebody missed, in one, or the reason why it cannot be told; never a part of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afresh_cache.messages import Position, ResyncReason
from afresh_notifier import replay as replay_module
from afresh_notifier.invalidation import Invalidation
from afresh_notifier.replay import Missed, Replay

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def replay(entries: int = 100, age: float = 100.0) -> Replay:
    one = Replay(max_entries=entries, max_age=age)
    one.begin("e", 0)
    return one


def add(one: Replay, *offsets: int, now: float = 0.0) -> Replay:
    """Each offset with a pattern of its own, which says it, and one that all share."""
    for offset in offsets:
        one.add(Invalidation(offset=offset, patterns=(f"p{offset}", "all"), at=AT), now)
    return one


def resync(one: Replay, offset: int, *patterns: str, reason: ResyncReason = "gap", now: float = 0.0) -> Replay:
    """A resync of whoever hears one of ``patterns``."""
    one.add(Invalidation(offset=offset, patterns=patterns, reason=reason, at=AT), now)
    return one


def offsets(missed: Missed) -> set[int] | ResyncReason:
    """Which of those an answer holds; it carries the highest of them."""
    if missed is None or isinstance(missed, str):
        return missed or set()
    found = {int(pattern[1:]) for pattern in missed.patterns if pattern != "all"}
    assert missed.offset == max(found)
    return found


@pytest.mark.parametrize(
    ("after", "upto", "found"),
    [(0, 5, {1, 2, 3, 4, 5}), (0, 0, set()), (2, 4, {3, 4}), (5, 5, set()), (4, 5, {5}), (3, 2, set())],
)
def test_a_stretch_is_open_below_and_closed_above(after: int, upto: int, found: set[int]) -> None:
    assert offsets(add(replay(), 1, 2, 3, 4, 5).missed(after, upto, None)) == found


def test_nothing_was_missed_of_nothing_and_an_offset_that_was_never_reached_is_not_known() -> None:
    assert replay().missed(0, 0, None) is None
    assert replay().missed(1, 1, None) == "expired"
    assert add(replay(), 1).missed(2, 2, None) == "expired"


def test_only_what_concerns_the_interest_was_missed() -> None:
    one = add(replay(), 1, 2, 3)
    missed = one.missed(0, 3, frozenset({"p2"}))
    assert isinstance(missed, Invalidation)
    assert (missed.patterns, missed.offset) == (("p2",), 2)
    assert one.missed(0, 3, frozenset({"q"})) is None
    assert one.missed(0, 3, frozenset()) is None


def test_offsets_that_were_left_out_are_missed_by_nobody() -> None:
    one = add(replay(entries=2), 10, 20, 30)
    assert offsets(one.missed(10, 30, None)) == {20, 30}
    assert offsets(one.missed(15, 30, None)) == {20, 30}
    assert one.missed(9, 30, None) == "expired"


def test_an_offset_that_does_not_rise_is_refused() -> None:
    one = add(replay(), 5)
    with pytest.raises(ValueError, match="offset 5 does not come after 5"):
        add(one, 5)
    with pytest.raises(ValueError, match="offset 4 does not come after 5"):
        resync(one, 4, "all")
    assert offsets(one.missed(0, 5, None)) == {5}


def test_what_is_more_than_it_holds_is_forgotten() -> None:
    one = add(replay(entries=3), 1, 2, 3, 4, 5)
    assert offsets(one.missed(2, 5, None)) == {3, 4, 5}
    assert one.missed(1, 5, None) == "expired"
    assert one.missed(1, 1, None) is None


def test_what_is_too_old_is_forgotten() -> None:
    one = add(replay(age=10.0), 1, 2, now=0.0)
    add(one, 3, now=10.0)
    assert offsets(one.missed(0, 3, None)) == {1, 2, 3}
    add(one, 4, now=10.1)
    assert one.missed(1, 4, None) == "expired"
    assert offsets(one.missed(2, 4, None)) == {3, 4}


def test_who_stands_before_a_resync_is_told_its_reason_until_it_is_forgotten() -> None:
    one = resync(add(replay(entries=3), 1, 2), 3, "all")
    assert offsets(one.missed(0, 2, None)) == {1, 2}
    add(one, 4, 5)
    assert one.missed(0, 5, None) == "expired"
    assert one.missed(2, 5, None) == one.missed(2, 3, None) == "gap"
    assert offsets(one.missed(3, 5, None)) == {4, 5}
    add(one, 6)
    assert one.missed(2, 6, None) == "expired"
    assert offsets(one.missed(3, 6, None)) == {4, 5, 6}


def test_a_resync_concerns_whoever_hears_one_of_its_patterns_and_nobody_else() -> None:
    one = add(resync(add(replay(), 1), 2, "p:x", "q"), 3)
    for interest in (None, frozenset({"p"}), frozenset({"p:x:y"}), frozenset({"q", "z"})):
        assert one.missed(0, 3, interest) == "gap"
        assert one.missed(2, 3, interest) != "gap"
    for interest in (frozenset({"p:y"}), frozenset({"z"}), frozenset()):
        assert one.missed(0, 3, interest) is None
    assert offsets(one.missed(0, 3, frozenset({"all", "p1", "p3"}))) == {1, 3}


def test_a_resync_of_nothing_concerns_nobody() -> None:
    one = add(resync(replay(), 1), 2)
    assert offsets(one.missed(0, 2, None)) == {2}


def test_of_two_resyncs_the_newest_that_concerns_him_says_why() -> None:
    one = resync(resync(replay(), 1, "a", "b", reason="restart"), 2, "b")
    assert one.missed(0, 2, None) == one.missed(0, 2, frozenset({"b"})) == "gap"
    assert one.missed(0, 1, None) == one.missed(0, 2, frozenset({"a"})) == "restart"


def test_another_log_begins_where_it_is_said_to_and_nothing_before_is_known() -> None:
    one = add(replay(), 1, 2, 3)
    assert offsets(one.since(Position(epoch="e", offset=1), 3, None)) == {2, 3}
    one.begin("f", 3)
    assert (one.epoch, one.last) == ("f", 3)
    assert one.since(Position(epoch="e", offset=1), 3, None) == "restart"
    assert one.since(Position(epoch="f", offset=3), 3, None) is None
    assert one.since(Position(epoch="f", offset=2), 3, None) == "expired"
    add(one, 5)
    assert offsets(one.missed(3, 5, None)) == {5}
    assert one.missed(2, 5, None) == "expired"


def test_the_same_log_may_begin_anew_further_on_or_further_back() -> None:
    one = add(replay(), 1, 2, 3)
    one.begin("e", 10)
    assert one.missed(3, 10, None) == "expired"
    assert one.missed(10, 10, None) is None
    one.begin("e", 2)
    assert one.missed(10, 2, None) == one.missed(3, 2, None) == "expired"
    assert offsets(add(one, 3).missed(2, 3, None)) == {3}


def test_more_than_one_message_holds_is_an_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "MAX_WAITING", 3)
    one = add(replay(), 1, 2, 3)
    assert offsets(one.missed(1, 3, None)) == {2, 3}
    assert one.missed(0, 3, None) == "overflow"
    assert one.missed(0, 3, frozenset({"all"})) != "overflow"


def test_a_position_of_another_log_says_nothing_here() -> None:
    one = add(replay(), 1, 2)
    assert one.since(Position(epoch="another", offset=1), 2, None) == "restart"
    assert offsets(one.since(Position(epoch="e", offset=1), 2, None)) == {2}


def test_an_answer_is_remembered_only_for_its_own_stretch_and_interest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "MAX_ANSWERS", 2)
    one = add(replay(), 1, 2)
    here = Position(epoch="e", offset=0)
    assert one.since(here, 2, None) is one.since(here, 2, None)
    assert offsets(one.since(here, 1, None)) == {1}
    assert one.since(here, 2, frozenset({"q"})) is None
    assert offsets(one.since(here, 2, frozenset({"p1"}))) == {1}
    assert offsets(one.since(here, 2, None)) == {1, 2}
    add(one, 3)
    assert offsets(one.since(here, 3, None)) == {1, 2, 3}


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["add", "add", "add", "resync", "begin"]), st.integers(1, 3), st.floats(0, 4)),
        max_size=30,
    ),
    entries=st.integers(1, 10),
    after=st.integers(0, 60),
    upto=st.integers(0, 60),
    hears_resyncs=st.booleans(),
)
def test_all_of_a_stretch_is_told_or_nothing(
    steps: list[tuple[str, int, float]], entries: int, after: int, upto: int, hears_resyncs: bool
) -> None:
    one, now, begun = replay(entries, age=10.0), 0.0, 0
    all_of_it: dict[int, tuple[str, float]] = {}
    for step, stride, pause in steps:
        now += pause
        offset = one.last + stride
        if step == "begin":
            begun = max(0, offset - 2)
            one.begin("e", begun)
            all_of_it.clear()
            continue
        if step == "add":
            add(one, offset, now=now)
        else:
            resync(one, offset, "resync", now=now)
        all_of_it[offset] = (step, now)
    interest = None if hears_resyncs else frozenset({"p", "all"})
    upto = min(upto, one.last)
    stretch = {offset for offset in all_of_it if after < offset <= upto}
    wanted = {offset for offset in stretch if all_of_it[offset][0] == "add"}
    missed = one.missed(after, upto, interest)
    broken = hears_resyncs and wanted != stretch
    kept = {offset for offset, (_, at) in list(all_of_it.items())[-entries:] if at >= now - 10.0}
    if after > one.last:
        assert missed == "expired"
    elif not isinstance(missed, str):
        assert offsets(missed) == wanted
        assert not broken
        assert after >= begun or after >= upto
    elif missed == "gap":
        assert broken
    else:
        assert missed == "expired"
        assert after < begun or any(after < offset for offset in all_of_it.keys() - kept)
