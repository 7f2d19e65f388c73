"""The queue of moments: nothing comes early, all comes in the end, and what was left behind is bounded."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from afresh_cache.expiry import STEP, ExpiryQueue, Ticket


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 20), st.integers(0, 3)), max_size=300))
def test_what_is_valid_comes_when_it_is_due_and_no_earlier(steps: list[tuple[str, int, int]]) -> None:
    queue, holders, now = ExpiryQueue(), dict[str, Ticket](), 0.0

    def is_valid(ticket: Ticket) -> bool:
        return holders.get(ticket[1]) is ticket

    for key, ttl, passes in steps:
        now += passes
        while due := queue.take_due(now):
            assert len(due) <= STEP
            assert [ticket[0] for ticket in due] == sorted(ticket[0] for ticket in due)
            for ticket in due:
                assert ticket[0] <= now
                if is_valid(ticket):
                    del holders[ticket[1]]
        assert all(now < moment for moment, _ in holders.values())
        assert queue.next_due == math.inf or queue.next_due > now
        holders[key] = (now + ttl, key)
        queue.push(holders[key], len(holders), is_valid)


def test_tickets_that_were_left_behind_are_sorted_out_in_small_steps() -> None:
    queue, holders = ExpiryQueue(), dict[str, Ticket]()
    looked_at = 0

    def is_valid(ticket: Ticket) -> bool:
        nonlocal looked_at
        looked_at += 1
        return holders.get(ticket[1]) is ticket

    for number in range(5000):
        key = str(number % 100)
        holders[key] = (float(number), key)
        before = looked_at
        queue.push(holders[key], len(holders), is_valid)
        assert looked_at - before <= STEP
        assert len(queue) <= 2.5 * 100 + 100
    found = []
    while due := queue.take_due(math.inf):
        found += [ticket for ticket in due if is_valid(ticket)]
    assert found == sorted(holders.values())
    assert len(queue) == 0
    assert queue.next_due == math.inf
