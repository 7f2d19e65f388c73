"""The ordered keys: exact for every prefix, a superset of what is alive, and bounded."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from afresh_cache.key_index import KeyIndex

#: Few characters, so that keys share prefixes: among them the first and the last of all, and a surrogate.
TEXT = st.text(st.sampled_from("\0:ab\ud800\ue000\U0010ffff"), max_size=6)


@given(st.sets(TEXT), TEXT)
@example({"a", "a\U0010ffff", "a\U0010ffffb", "b"}, "a\U0010ffff")
@example({"", "\U0010ffff", "\U0010ffff\U0010ffffa"}, "\U0010ffff\U0010ffff")
@example({"\ud7ff", "\ud7ffa", "\ud800"}, "\ud7ff")
def test_the_keys_that_begin_with_a_prefix_are_found_in_order(keys: set[str], prefix: str) -> None:
    index = KeyIndex()
    for key in keys:
        index.add(key)
    assert index.beginning_with(prefix) == sorted(key for key in keys if key.startswith(prefix))


@given(st.sets(TEXT), TEXT)
def test_the_empty_prefix_finds_all(keys: set[str], prefix: str) -> None:
    assert KeyIndex(keys).beginning_with("") == sorted(keys)


@given(st.lists(st.tuples(st.booleans(), TEXT)))
def test_what_is_added_and_taken_out_is_as_in_a_set(steps: list[tuple[bool, str]]) -> None:
    index, model = KeyIndex(), set[str]()
    known = index.known
    for adds, key in steps:
        if adds:
            index.add(key)
            model.add(key)
        else:
            index.discard([key])
            model.discard(key)
        assert len(index) == len(model)
        assert (key in index) == (key in model)
    assert index.beginning_with("") == sorted(model)
    assert known == model


@given(st.sets(TEXT, min_size=1), st.sets(TEXT), st.integers(1, 10))
def test_one_round_of_sweeps_takes_out_all_that_is_dead_and_nothing_else(
    keys: set[str], alive: set[str], limit: int
) -> None:
    index = KeyIndex(keys)
    for _ in range(-(-len(keys) // limit)):
        index.sweep(alive.__contains__, limit)
    assert index.beginning_with("") == sorted(keys & alive)


def test_a_sweep_looks_at_no_more_keys_than_it_was_told() -> None:
    index = KeyIndex(f"{number:04}" for number in range(1000))
    looked_at: list[str] = []

    def alive(key: str) -> bool:
        looked_at.append(key)
        return True

    for _ in range(11):
        assert index.sweep(alive, 100) == 0
    assert looked_at == [f"{number % 1000:04}" for number in range(1100)]


def test_a_sweep_goes_on_where_the_key_at_which_it_stopped_is_gone() -> None:
    index = KeyIndex("abcdef")
    index.sweep(lambda _: True, 2)
    index.discard("c")
    assert index.sweep(lambda _: False, 2) == 2
    assert index.beginning_with("") == ["a", "b", "f"]


@pytest.mark.parametrize("limit", [1, 10])
def test_an_empty_index_is_swept_without_harm(limit: int) -> None:
    assert KeyIndex().sweep(lambda _: False, limit) == 0


def test_a_cleared_index_knows_nothing() -> None:
    index = KeyIndex(["a"])
    known = index.known
    index.clear()
    assert not len(index)
    assert not known
    assert index.beginning_with("") == []
    index.add("a")
    assert index.beginning_with("a") == ["a"]
