"""The refresher over no database: what becomes of refreshes when we begin or cease to lead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg
import pytest

from afresh_notifier import refresher as refresher_module
from afresh_notifier.debounce import Dirt, Timing
from afresh_notifier.dependencies import Catalogue
from afresh_notifier.errors import RefreshFailed
from afresh_notifier.invalidation import PatternMap
from afresh_notifier.next_change import NEVER
from afresh_notifier.observations import Observation, RefreshStarted
from afresh_notifier.refresh import Limits, Method, Refreshed
from afresh_notifier.refresher import Plan, Refresher
from conftest import PATIENCE, eventually
from support.catalogues import view

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

TIMING = Timing(debounce=0, max_wait=1, max_load=1, every=None, retry_first=0.1, retry_max=1, parents=frozenset())

PLAN = Plan(
    patterns=PatternMap(catalogue=Catalogue.of([view("a", ["t"]), view("b", ["t"])])),
    timings=dict.fromkeys(("a", "b"), TIMING),
    limits={name: Limits(timeout=1, lock_timeout=1, blocking=False) for name in ("a", "b")},
)


class Refreshes:
    """Takes the place of `refresh`: each waits until it is let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.go = asyncio.Event()

    async def __call__(self, _pool: object, name: str, *_: object, **_more: object) -> Refreshed:
        self.begun.append(name)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        return Refreshed(method=Method.PLAIN, marks=[], offset=1, next_change=NEVER)


def dirt() -> Dirt:
    return Dirt(tables={"t"}, keys=None, heard_at=AT)


@asynccontextmanager
async def refreshing(
    monkeypatch: pytest.MonkeyPatch, *, concurrency: int = 1
) -> AsyncIterator[tuple[Refresher, Refreshes, list[Observation]]]:
    """A refresher that runs, and that knows the plan; it does not lead yet."""
    refreshes, observed = Refreshes(), list[Observation]()
    monkeypatch.setattr(refresher_module, "refresh", refreshes)
    pool = asyncpg.create_pool("postgresql://nobody@127.0.0.1:1/none", min_size=0, max_size=1)
    made = Refresher(pool, lambda _: None, observed.append, concurrency=concurrency)
    made.replace(PLAN, ())
    running = asyncio.create_task(made.run())
    try:
        yield made, refreshes, observed
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_nothing_is_refreshed_where_another_one_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    async with refreshing(monkeypatch) as (refresher, refreshes, _):
        refresher.dirty("a", dirt())
        await asyncio.sleep(0.05)
        assert refreshes.begun == []
        refresher.lead(1)
        await asyncio.sleep(0.05)
        assert refreshes.begun == []  # what was said before does not count
        refresher.dirty("a", dirt())
        await eventually(lambda: refreshes.begun == ["a"])


async def test_who_ceases_to_lead_gives_up_what_is_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    async with refreshing(monkeypatch, concurrency=2) as (refresher, refreshes, _):
        refresher.lead(1)
        refresher.dirty("a", dirt())
        refresher.dirty("b", dirt())
        await eventually(lambda: len(refreshes.begun) == 2)
        refresher.follow()
        await eventually(lambda: sorted(refreshes.cancelled) == ["a", "b"])
        assert not refresher.pending("a")
        assert refresher.stale_for("a") == 0


async def test_who_waits_for_a_refresh_is_told_when_another_one_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    async with refreshing(monkeypatch) as (refresher, refreshes, _):
        refresher.lead(1)
        in_flight = asyncio.create_task(refresher.demand("a"))
        await eventually(lambda: refreshes.begun == ["a"])
        waiting = asyncio.create_task(refresher.demand("b"))
        await asyncio.sleep(0)
        refresher.follow()
        for task in (in_flight, waiting):
            with pytest.raises(RefreshFailed):
                await asyncio.wait_for(task, PATIENCE)


async def test_a_follower_refreshes_what_is_demanded(monkeypatch: pytest.MonkeyPatch) -> None:
    async with refreshing(monkeypatch) as (refresher, refreshes, observed):
        refreshes.go.set()
        await asyncio.wait_for(refresher.demand("a"), PATIENCE)
        assert refreshes.begun == ["a"]
        assert not [seen for seen in observed if isinstance(seen, RefreshStarted)]
        with pytest.raises(KeyError):
            await refresher.demand("unknown")


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
async def test_there_is_room_for_another_refresh_however_early_one_is_given_up(
    monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Also one that is cancelled before it has taken its first step."""
    async with refreshing(monkeypatch) as (refresher, refreshes, _):
        for term in range(1, 6):
            refresher.lead(term)
            refresher.dirty("a", dirt())
            for _ in range(steps):
                await asyncio.sleep(0)
            refresher.follow()
        await asyncio.sleep(0)
        refreshes.begun.clear()
        refresher.lead(9)
        refresher.dirty("a", dirt())
        await eventually(lambda: refreshes.begun == ["a"], patience=5)


async def test_a_refreshs_marks_and_those_of_what_comes_during_it_have_slots_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with refreshing(monkeypatch) as (refresher, refreshes, _):
        refresher.lead(3)
        before = refresher.mark("a", dirt()).slot
        refresher.dirty("a", dirt())
        await eventually(lambda: refreshes.begun == ["a"])
        during = refresher.mark("a", dirt()).slot
        assert before != during
        assert refresher.mark("b", dirt()).slot == before
        refresher.lead(4)
        assert refresher.mark("a", dirt()).slot not in (before, during)
