"""The wait before another try: it doubles, is bounded, and is spread."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from afresh_cache.backoff import backoff


@given(
    failures=st.integers(1, 10_000),
    first=st.floats(0.001, 10.0),
    longest=st.floats(0.001, 86_400.0),
    seed=st.integers(),
)
def test_a_wait_is_between_a_half_and_the_whole_of_what_doubling_gives(
    failures: int, first: float, longest: float, seed: int
) -> None:
    whole = first
    for _ in range(failures - 1):
        if whole >= longest:
            break
        whole *= 2
    whole = min(whole, longest)
    assert whole / 2 <= backoff(failures, first, longest, Random(seed)) <= whole


def test_waits_are_spread_and_follow_from_the_random() -> None:
    waits = [backoff(3, 0.1, 10.0, Random(seed)) for seed in range(100)]
    assert waits == [backoff(3, 0.1, 10.0, Random(seed)) for seed in range(100)]
    assert max(waits) > 0.38
    assert min(waits) < 0.22


def test_who_brings_no_random_is_spread_too() -> None:
    assert len({backoff(1, 1.0, 1.0) for _ in range(10)}) > 1
