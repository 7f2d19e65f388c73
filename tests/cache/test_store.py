"""The cache as a mapping: what it keeps, how long, and what a pattern drops. Loads are in test_store_loads.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afresh_cache import store
from afresh_cache.patterns import glob
from afresh_cache.store import EVERYTHING, OTHERS, PatternCache


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


# As a mapping


def test_what_was_stored_is_found() -> None:
    cache = PatternCache[int]()
    cache["a"] = 1
    cache.set("b", 2)
    assert (cache["a"], cache.get("b"), cache.get("c"), cache.get("c", 3)) == (1, 2, None, 3)
    assert "a" in cache
    assert "c" not in cache
    assert len(cache) == 2
    assert dict(cache) == {"a": 1, "b": 2}
    assert list(cache.values()) == [1, 2]
    assert (cache.pop("a"), cache.pop("a", None), cache.setdefault("c", 4)) == (1, None, 4)
    assert cache == {"b": 2, "c": 4}
    cache.update(b=5)
    assert cache.popitem() == ("b", 5)
    del cache["c"]
    assert not cache
    for missing in (lambda: cache["c"], lambda: cache.__delitem__("c"), lambda: cache.pop("c"), cache.popitem):
        with pytest.raises(KeyError):
            missing()


def test_none_is_a_value() -> None:
    cache = PatternCache[int | None]()
    cache["a"] = None
    assert "a" in cache
    assert cache.get("a", 7) is None
    assert cache.pop("a", 7) is None


def test_what_was_used_least_recently_goes_first() -> None:
    cache = PatternCache[int](maxsize=2)
    cache["a"], cache["b"] = 1, 2
    assert cache.get("a") == 1
    assert "b" in cache  # to look whether it is there is no use
    assert list(cache.items()) == [("a", 1), ("b", 2)]
    cache["c"] = 3
    assert list(cache) == ["a", "c"]
    assert cache.stats().evictions == 1


def test_a_cache_may_count_bytes() -> None:
    cache = PatternCache[bytes](maxsize=10, getsizeof=len)
    cache["a"] = b"12345"
    cache.set("b", b"12345", ttl=1)
    assert cache.stats().size == 10
    cache["c"] = b"1"
    assert list(cache) == ["b", "c"]
    assert cache.stats().size == 6


@pytest.mark.parametrize("ttl", [None, 5.0])
def test_a_value_that_is_too_large_is_refused_and_what_was_there_before_is_gone(ttl: float | None) -> None:
    cache = PatternCache[bytes](maxsize=10, getsizeof=len, ttl=ttl)
    cache["a"] = b"old"
    with pytest.raises(ValueError, match="too large: 11, and the whole cache has 10"):
        cache["a"] = b"x" * 11
    assert "a" not in cache
    assert cache.stats().size == 0


@pytest.mark.parametrize("key", [7, None, b"a", ("a",), [], {}])
def test_a_key_that_is_no_text_is_refused_with_what_to_do(key: str) -> None:
    cache = PatternCache[int]()
    for use in (
        lambda: cache[key],
        lambda: cache.get(key),
        lambda: key in cache,
        lambda: cache.__setitem__(key, 1),
        lambda: cache.set(key, 1),
        lambda: cache.pop(key, 1),
        lambda: cache.__delitem__(key),
        lambda: cache.delete_prefix(key),
        lambda: cache.delete_pattern(key),
        lambda: cache.keys_matching(key),
        lambda: cache.load(key),
    ):
        with pytest.raises(TypeError, match="a key is a text"):
            use()
    assert cache.stats().misses == 0


@pytest.mark.parametrize("ttl", [0, -1, math.nan])
def test_a_time_to_live_that_is_none_is_refused(ttl: float) -> None:
    cache = PatternCache[int]()
    for use in (
        lambda: PatternCache[int](ttl=ttl),
        lambda: cache.set("a", 1, ttl=ttl),
        lambda: cache.load("a", ttl=ttl),
    ):
        with pytest.raises(ValueError, match="ttl: expected seconds"):
            use()


@pytest.mark.parametrize("maxsize", [0, -1, 0.5, math.nan])
def test_a_cache_that_could_hold_nothing_is_refused(maxsize: float) -> None:
    with pytest.raises(ValueError, match="maxsize: expected 1 or more"):
        PatternCache[int](maxsize)


def test_other_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="stale_ttl"):
        PatternCache[int](stale_ttl=-1)
    with pytest.raises(ValueError, match="early"):
        PatternCache[int]().load("a", early=-1)
    with pytest.raises(ValueError, match="getsizeof: expected 0 or more"):
        PatternCache[int](getsizeof=lambda value: value)["a"] = -1


# Expiry


def test_an_entry_expires_when_its_own_time_is_over(clock: Clock) -> None:
    cache = PatternCache[int](ttl=10, timer=clock)
    cache["a"] = 1
    cache.set("b", 2, ttl=20)
    cache.set("c", 3, ttl=None)
    clock.now += 9.9
    assert list(cache) == ["a", "b", "c"]
    clock.now += 0.1
    assert "a" not in cache
    assert cache.get("a") is None
    assert list(cache.items()) == [("b", 2), ("c", 3)]
    assert cache.keys_matching("") == ["b", "c"]
    clock.now += 1e9
    assert list(cache) == ["c"]
    assert len(cache) == 1
    assert cache.stats().expirations == 2


@pytest.mark.parametrize("later", [1.0, 10.0, 100.0, None])
def test_an_entry_that_is_replaced_lasts_as_long_as_the_new_one(clock: Clock, later: float | None) -> None:
    cache = PatternCache[int](timer=clock)
    cache.set("a", 1, ttl=10)
    clock.now += 5
    cache.set("a", 2, ttl=later)
    if later is None:
        clock.now += 1e6
        assert len(cache) == 1
        return
    clock.now += later / 2
    assert len(cache) == 1
    clock.now += later / 2 - 0.01
    assert cache.get("a") == 2
    clock.now += 0.01
    assert len(cache) == 0


def test_what_has_expired_leaves_before_what_is_good(clock: Clock) -> None:
    cache = PatternCache[int](maxsize=4, ttl=10, timer=clock)
    cache.set("good", 1, ttl=100)
    for number in range(3):
        cache[f"old:{number}"] = number
    clock.now += 10
    for number in range(3):
        cache[f"new:{number}"] = number
    assert "good" in cache
    assert (cache.stats().expirations, cache.stats().evictions) == (3, 0)


def test_one_write_removes_only_a_few_of_those_that_expired_together(clock: Clock) -> None:
    cache = PatternCache[int](ttl=10, timer=clock)
    for number in range(1000):
        cache[str(number)] = number
    clock.now += 10
    before = cache.stats().entries
    cache["new"] = 1
    assert before - 4 <= cache.stats().entries <= before
    for number in range(1000):
        cache[f"new:{number}"] = number
    assert cache.stats().entries == 1001


def test_writing_the_same_keys_for_ever_leaves_nothing_behind(clock: Clock) -> None:
    cache = PatternCache[int](maxsize=100, ttl=10, timer=clock)
    for number in range(10_000):
        clock.now += 0.01
        cache[str(number % 150)] = number
        if not number % 7:
            cache.delete_prefix(str(number % 150))
    assert len(cache._expiries) <= 2.5 * 100 + 100
    clock.now += 10
    assert len(cache) == 0
    assert len(cache._expiries) == 0


def test_a_stale_entry_is_not_given_to_those_who_do_not_load(clock: Clock) -> None:
    cache = PatternCache[int](ttl=10, stale_ttl=5, timer=clock)
    cache["a"] = 1
    clock.now += 10
    assert cache.get("a") is None
    assert "a" not in cache
    assert (len(cache), list(cache), cache.keys_matching("a")) == (0, [], [])
    assert cache.stats().entries == 1
    clock.now += 5
    assert len(cache) == 0
    assert cache.stats().entries == 0


def test_deleting_a_stale_entry_deletes_it(clock: Clock) -> None:
    cache = PatternCache[int](ttl=10, stale_ttl=5, timer=clock)
    cache["a"] = 1
    clock.now += 10
    with pytest.raises(KeyError):
        del cache["a"]
    assert cache.stats().entries == 0


# Patterns


def test_a_prefix_drops_what_begins_with_it_and_nothing_else() -> None:
    cache = PatternCache[int]()
    for key in ("clients", "clients:7", "clients-page-1", "client", "nps", "clients:*"):
        cache[key] = 1
    assert cache.delete_prefix("clients:*") == 1
    assert cache.delete_pattern("clients") == 3
    assert list(cache) == ["client", "nps"]
    assert cache.delete_prefix("") == 2


@pytest.mark.parametrize(
    ("pattern", "dropped"),
    [
        ("a:*", ["a:", "a:1", "a:1:x", "a:[1]", "a:\n:x"]),
        ("a:?", ["a:1"]),
        ("a:*:x", ["a:1:x", "a:\n:x"]),
        ("a:[1]", ["a:[1]"]),
        ("a:[1]*", ["a:[1]"]),
        ("a:[?]", ["a:[1]"]),
        ("*:x", ["a:1:x", "a:\n:x", "b:x"]),
        ("*", ["a:", "a:1", "a:1:x", "a:[1]", "a:\n:x", "b:x"]),
        ("?", []),
        ("**1**", ["a:1", "a:1:x", "a:[1]"]),
        ("a:*1*x*", ["a:1:x"]),
    ],
)
def test_a_glob_drops_the_keys_that_it_matches_as_a_whole(pattern: str, dropped: list[str]) -> None:
    cache = PatternCache[int]()
    for key in ("a:", "a:1", "a:1:x", "a:[1]", "a:\n:x", "b:x"):
        cache[key] = 1
    assert cache.keys_matching(pattern) == sorted(dropped)
    assert cache.delete_pattern(pattern) == len(dropped)
    assert not set(cache) & set(dropped)
    assert len(cache) == 6 - len(dropped)


def naive(pattern: str, key: str) -> bool:
    """What a glob matches, as slow and as plain as it can be said."""
    if not pattern:
        return not key
    if pattern[0] == "*":
        return any(naive(pattern[1:], key[cut:]) for cut in range(len(key) + 1))
    return bool(key) and pattern[0] in (key[0], "?") and naive(pattern[1:], key[1:])


@given(st.text(st.sampled_from("*?ab"), max_size=6), st.text(st.sampled_from("ab\n"), max_size=6))
def test_a_glob_means_what_it_says(pattern: str, key: str) -> None:
    assert bool(glob(pattern).fullmatch(key)) == naive(pattern, key)


def test_no_glob_takes_for_ever() -> None:
    assert not glob("*a" * 200 + "b").fullmatch("a" * 5000)


def test_what_was_dropped_is_counted_by_pattern_in_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "COUNTED_PATTERNS", 2)
    cache = PatternCache[int]()

    def drop(pattern: str) -> None:
        cache.update({f"{name}:{number}": 1 for name in "abcd" for number in range(2)})
        cache.delete_pattern(pattern)

    for pattern in ("a", "a:1", "b:*:", "c", "d", "a"):
        drop(pattern)
    assert dict(cache.stats().dropped) == {"a": 4, "a:1": 1, OTHERS: 4}
    monkeypatch.setattr(store, "COUNTED_PATTERNS", 3)
    assert cache.clear() == 8 - 2
    assert cache.clear() == 0
    assert cache.stats().dropped[OTHERS] == 10
    assert EVERYTHING not in cache.stats().dropped


def test_statistics_cannot_be_written_to() -> None:
    stats = PatternCache[int]().stats()
    with pytest.raises(FrozenInstanceError):
        stats.hits = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        stats.dropped["a"] = 1  # type: ignore[index]


def test_the_index_is_bounded_whatever_comes_and_goes() -> None:
    cache = PatternCache[int](maxsize=500)
    for number in range(20_000):
        cache[f"{number % 7}:{number}"] = number
        assert len(cache._index) <= 2 * 500 + 1400
    assert cache.keys_matching("") == sorted(cache)


def test_keys_that_do_not_come_back_leave_the_index_when_they_are_met_again() -> None:
    cache = PatternCache[int]()
    cache.update({f"a:{number}": 1 for number in range(10)})
    assert cache.delete_prefix("a") == 10
    assert len(cache._index) == 10
    assert cache.delete_prefix("a") == 0
    assert len(cache._index) == 0
    cache.update({f"a:{number}": 1 for number in range(10)})
    assert [cache.clear(), cache.clear()] == [10, 0]
    assert len(cache._index) == 0


# Distrust


def test_a_distrusted_cache_gives_and_takes_nothing_and_still_hears_what_is_stale() -> None:
    cache = PatternCache[int]()
    cache.update({"a": 1, "b:1": 2, "b:2": 3, "c": 4, "d": 5})
    cache.distrust()
    assert cache.get("a") is None
    assert "a" not in cache
    assert (len(cache), list(cache), cache.keys_matching("")) == (0, [], [])
    cache["new"] = 6
    cache["c"] = 7  # what is kept for it is older than this
    with pytest.raises(KeyError):
        del cache["d"]
    assert cache.delete_prefix("b") == 2
    cache.distrust()
    cache.trust()
    assert dict(cache) == {"a": 1}
    cache["new"] = 8
    assert cache["new"] == 8


def test_time_goes_on_while_a_cache_is_distrusted(clock: Clock) -> None:
    cache = PatternCache[int](ttl=10, timer=clock)
    cache["a"] = 1
    cache.distrust()
    clock.now += 10
    cache.trust()
    assert "a" not in cache


def test_everything_can_be_cleared_while_a_cache_is_distrusted() -> None:
    cache = PatternCache[int]()
    cache["a"] = 1
    cache.distrust()
    assert cache.clear() == 1
    cache.trust()
    assert "a" not in cache


# Against a model

KEYS = st.text(st.sampled_from("ab:"), max_size=3)
PATTERNS = st.text(st.sampled_from("ab:*?"), max_size=3)
STEPS = st.one_of(
    st.tuples(st.just("set"), KEYS, st.sampled_from([None, 1.0, 2.0, 5.0])),
    st.tuples(st.just("get"), KEYS, st.none()),
    st.tuples(st.just("drop"), PATTERNS, st.none()),
    st.tuples(st.just("prefix"), KEYS, st.none()),
    st.tuples(st.just("pop"), KEYS, st.none()),
    st.tuples(st.just("wait"), st.just(""), st.sampled_from([0.5, 1.0, 3.0])),
    st.tuples(st.just("len"), st.just(""), st.none()),
)


@given(st.lists(STEPS, max_size=60), st.sampled_from([0.0, 1.0]))
def test_a_large_cache_is_a_dict_whose_entries_expire(
    steps: list[tuple[str, str, float | None]], stale_ttl: float
) -> None:
    clock = Clock()
    cache = PatternCache[int](stale_ttl=stale_ttl, timer=clock)
    model: dict[str, tuple[int, float]] = {}

    def good() -> dict[str, int]:
        return {key: value for key, (value, until) in model.items() if clock.now < until}

    drops: Callable[[str, str], bool]
    for number, (what, text, seconds) in enumerate(steps):
        if what == "set":
            cache.set(text, number, ttl=seconds)
            model[text] = (number, math.inf if seconds is None else clock.now + seconds)
        elif what == "get":
            assert cache.get(text, -1) == good().get(text, -1)
        elif what in ("drop", "prefix"):
            is_glob = what == "drop" and set(text) & set("*?")
            drops = naive if is_glob else lambda pattern, key: key.startswith(pattern)
            gone = [key for key in model if drops(text, key)]
            assert cache.keys_matching(text) == sorted(set(gone) & set(good()))
            dropped = cache.delete_pattern(text) if what == "drop" else cache.delete_prefix(text)
            assert len(set(gone) & set(good())) <= dropped <= len(gone)
            for key in gone:
                del model[key]
        elif what == "pop":
            assert cache.pop(text, -1) == good().get(text, -1)
            model.pop(text, None)
        elif what == "wait":
            assert seconds is not None
            clock.now += seconds
        else:
            assert len(cache) == len(good())
        assert dict(cache.items()) == good()
        assert set(cache) == set(good())
        assert cache._index.known >= good().keys()
    assert cache.stats().entries == cache.stats().size


def test_an_empty_cache_says_what_it_is() -> None:
    assert repr(PatternCache[int](5)) == "<PatternCache 0 of 5>"
