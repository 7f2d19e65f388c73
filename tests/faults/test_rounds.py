"""Every fault at least once, on the real command, from outside; `make faults` runs as many rounds as one likes."""

from __future__ import annotations

import asyncio

import pytest

from afresh_cache import client
from faults.breaking import FAULTS, FullDisk
from faults.million import run as write_a_million
from faults.rounds import IMPATIENCE, plan, run_all
from faults.world import Lane

pytestmark = pytest.mark.faults

#: Twenty-seven faults, two in a round.
ROUNDS = (len(FAULTS) + 1) // 2


@pytest.fixture(autouse=True)
def impatient_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """They notice a frozen connection within a round."""
    monkeypatch.setattr(client, "HEARTBEAT", IMPATIENCE)
    monkeypatch.setattr(client, "CONNECT_TIMEOUT", IMPATIENCE)


def test_nothing_is_lost_stale_or_silent_whatever_breaks() -> None:
    outcomes = run_all(plan(4, ROUNDS, together=2), jobs=2, default_lease=False)
    complaints = [
        line for outcome in outcomes for line in (*outcome.verdict.lines(), outcome.error) if line and not outcome.good
    ]
    assert not complaints, "\n".join(complaints)
    # A disk that may be filled can be mounted by few.
    assert {one.fault for outcome in outcomes for one in outcome.tried} >= set(FAULTS) - {FullDisk}
    assert sum(outcome.changes for outcome in outcomes) > ROUNDS


def test_changes_of_many_writers_survive_killed_leaders() -> None:
    """With the lease that is set when nobody sets it; how long a hand-over takes is measured by `make faults`."""
    with Lane() as lane:
        result = asyncio.run(write_a_million(lane, changes=40_000, kills=2, seed=1, wrote=lambda _: None))
    assert result.problems == []
    assert result.kills == 2
