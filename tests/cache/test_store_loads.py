"""Loads: one for each key, none that brings back what was invalidated, and nobody who waits for ever.

Every load here ends when its test says so; nothing waits for the clock.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afresh_cache.errors import LoadsItself, NothingLoaded
from afresh_cache.patterns import glob
from afresh_cache.store import PatternCache, _peek, _Timed


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Loader:
    """A loader that ends when it is told; ``begun`` counts how often it was called."""

    def __init__(self) -> None:
        self.begun = 0
        self._result: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.begun += 1
        return await self._result

    def bring(self, value: str) -> None:
        self._result.set_result(value)

    def fail(self, error: Exception) -> None:
        self._result.set_exception(error)


async def settled() -> None:
    """Everything that can go on without us has gone on."""
    for _ in range(10):
        await asyncio.sleep(0)


Asked = asyncio.Task[str]


async def ended(task: Asked) -> None:
    """The task has ended, and nothing has gone on after that."""
    while not task.done():  # noqa: ASYNC110 - waiting for the task itself would give the others another turn
        await asyncio.sleep(0)


async def asking(cache: PatternCache[str], loader: Loader, key: str = "a", **options: float) -> Asked:
    """A task that asks for ``key``, and has got as far as it can."""
    task = asyncio.create_task(cache.get_or_load(key, loader, **options))
    await settled()
    return task


#: Each makes what is loaded of "a" stale.
INVALIDATIONS: dict[str, Callable[[PatternCache[str]], object]] = {
    "prefix": lambda cache: cache.delete_prefix("a"),
    "glob": lambda cache: cache.delete_pattern("?"),
    "everything": lambda cache: cache.clear(),
    "pop": lambda cache: cache.pop("a", None),
}
invalidated = pytest.mark.parametrize("invalidate", INVALIDATIONS.values(), ids=INVALIDATIONS)


async def test_a_value_is_loaded_once_and_served_after() -> None:
    cache = PatternCache[str]()
    loader = Loader()
    loader.bring("1")
    assert [await cache.get_or_load("a", loader) for _ in range(3)] == ["1"] * 3
    assert loader.begun == 1
    assert cache["a"] == "1"
    stats = cache.stats()
    assert (stats.loads, stats.misses, stats.hits) == (1, 1, 3)


async def test_of_many_who_miss_at_once_one_loads() -> None:
    cache = PatternCache[str]()
    loaders = [Loader() for _ in range(100)]
    tasks = [await asking(cache, loader) for loader in loaders]
    assert [loader.begun for loader in loaders] == [1] + [0] * 99
    loaders[0].bring("1")
    assert await asyncio.gather(*tasks) == ["1"] * 100
    assert (cache.stats().misses, cache.stats().loads) == (100, 1)


async def test_loads_of_different_keys_do_not_wait_for_each_other() -> None:
    cache = PatternCache[str]()
    one, other = Loader(), Loader()
    first = await asking(cache, one, "a")
    second = await asking(cache, other, "b")
    other.bring("2")
    assert await second == "2"
    one.bring("1")
    assert await first == "1"


@invalidated
async def test_what_was_loaded_before_an_invalidation_is_not_stored(
    invalidate: Callable[[PatternCache[str]], object],
) -> None:
    cache = PatternCache[str]()
    old, new = Loader(), Loader()
    before = [await asking(cache, old) for _ in range(3)]
    invalidate(cache)
    after = [await asking(cache, new) for _ in range(3)]
    assert (old.begun, new.begun) == (1, 1)
    old.bring("old")
    assert await asyncio.gather(*before) == ["old"] * 3
    assert "a" not in cache
    new.bring("new")
    assert await asyncio.gather(*after) == ["new"] * 3
    assert cache["a"] == "new"
    assert (cache.stats().loads, cache.stats().overtaken_loads) == (2, 1)


@invalidated
async def test_an_old_load_that_ends_last_does_not_replace_the_new_one(
    invalidate: Callable[[PatternCache[str]], object],
) -> None:
    cache = PatternCache[str]()
    old, new = Loader(), Loader()
    before = await asking(cache, old)
    invalidate(cache)
    after = await asking(cache, new)
    new.bring("new")
    assert await after == "new"
    old.bring("old")
    assert await before == "old"
    assert cache["a"] == "new"


async def test_a_value_that_was_set_is_not_replaced_by_an_older_load() -> None:
    cache = PatternCache[str]()
    loader = Loader()
    task = await asking(cache, loader)
    cache["a"] = "set"
    assert await cache.get_or_load("a", Loader()) == "set"
    loader.bring("loaded")
    assert await task == "loaded"
    assert cache["a"] == "set"


async def test_an_invalidation_that_does_not_match_does_not_concern_a_load() -> None:
    cache = PatternCache[str]()
    loader = Loader()
    task = await asking(cache, loader, "a:1")
    for pattern in ("a:1:", "a:2", "b", "*:2"):
        cache.delete_pattern(pattern)
    loader.bring("1")
    await task
    assert cache["a:1"] == "1"


async def test_loads_under_way_are_found_and_stay_in_the_index() -> None:
    cache = PatternCache[str](maxsize=10)
    loaders = {f"a:{number:04}": Loader() for number in range(300)}
    tasks = [asyncio.create_task(cache.get_or_load(key, loader)) for key, loader in loaders.items()]
    await settled()
    for number in range(5000):  # others come and go, so that the index is swept
        cache[f"b:{number}"] = ""
    assert set(loaders) <= cache._index.known
    assert cache.delete_prefix("a:00") == 0
    for loader in loaders.values():
        loader.bring("1")
    await asyncio.gather(*tasks)
    assert cache.stats().overtaken_loads == 100


async def test_a_failure_reaches_those_who_wait_and_nobody_after() -> None:
    cache = PatternCache[str]()
    loader, error = Loader(), OSError("gone")
    tasks = [await asking(cache, loader) for _ in range(3)]
    loader.fail(error)
    assert await asyncio.gather(*tasks, return_exceptions=True) == [error] * 3
    again = Loader()
    again.bring("1")
    assert await cache.get_or_load("a", again) == "1"
    assert (cache.stats().loads, cache.stats().failed_loads) == (2, 1)


async def test_a_failure_that_nobody_waits_for_leaves_nothing_behind() -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    cache = PatternCache[str]()
    loader = Loader()
    tasks = [await asking(cache, loader) for _ in range(2)]
    tasks[1].cancel()
    loader.fail(OSError("gone"))
    await asyncio.gather(*tasks, return_exceptions=True)
    del tasks, loader
    gc.collect()
    assert told == []
    assert not cache._flights


async def test_when_the_one_who_loads_is_cancelled_the_one_who_waited_longest_takes_over() -> None:
    cache = PatternCache[str]()
    loaders = [Loader() for _ in range(4)]
    tasks = [await asking(cache, loader) for loader in loaders]
    tasks[0].cancel()
    await settled()
    assert [loader.begun for loader in loaders] == [1, 1, 0, 0]
    loaders[1].bring("1")
    assert await asyncio.gather(*tasks[1:]) == ["1"] * 3
    assert tasks[0].cancelled()
    assert cache["a"] == "1"
    assert (cache.stats().misses, cache.stats().loads, cache.stats().failed_loads) == (4, 2, 1)


async def test_one_who_waits_and_is_cancelled_leaves_no_more() -> None:
    cache = PatternCache[str]()
    loader = Loader()
    tasks = [await asking(cache, loader) for _ in range(3)]
    tasks[1].cancel()
    await settled()
    assert tasks[1].cancelled()
    loader.bring("1")
    assert [await tasks[0], await tasks[2]] == ["1", "1"]
    assert loader.begun == 1


async def test_an_heir_that_is_cancelled_before_it_wakes_passes_the_lead_on() -> None:
    cache = PatternCache[str]()
    loaders = [Loader() for _ in range(3)]
    tasks = [await asking(cache, loader) for loader in loaders]
    tasks[0].cancel()
    await ended(tasks[0])
    tasks[1].cancel()  # has the lead by now, and has not run yet
    await settled()
    assert [loader.begun for loader in loaders] == [1, 0, 1]
    loaders[2].bring("1")
    assert await tasks[2] == "1"


async def test_an_invalidation_between_two_leaders_begins_anew() -> None:
    cache = PatternCache[str]()
    loaders = [Loader() for _ in range(3)]
    tasks = [await asking(cache, loader) for loader in loaders]
    tasks[0].cancel()
    await ended(tasks[0])
    cache.delete_prefix("a")
    await settled()
    assert sum(loader.begun for loader in loaders) == 2
    (leader,) = (loader for loader in loaders[1:] if loader.begun)
    leader.bring("new")
    assert await asyncio.gather(*tasks[1:]) == ["new"] * 2
    assert cache["a"] == "new"


async def test_when_the_leader_of_an_invalidated_load_is_cancelled_all_begin_anew() -> None:
    cache = PatternCache[str]()
    loaders = [Loader() for _ in range(3)]
    tasks = [await asking(cache, loader) for loader in loaders]
    cache.delete_prefix("a")
    tasks[0].cancel()
    await settled()
    assert [loader.begun for loader in loaders] == [1, 1, 0]
    loaders[1].bring("new")
    assert await asyncio.gather(*tasks[1:]) == ["new"] * 2
    assert cache["a"] == "new"


async def test_a_thousand_leaders_that_give_up_cost_a_thousand_loads() -> None:
    cache = PatternCache[str]()

    async def ask() -> str:
        async with cache.load("a") as load:
            pass
        return load.value

    ends = await asyncio.gather(*(ask() for _ in range(1000)), return_exceptions=True)
    assert {type(end) for end in ends} == {NothingLoaded}
    assert cache.stats().loads == 1000
    assert not cache._flights


async def test_a_task_closed_while_it_waits_is_never_given_the_lead() -> None:
    cache = PatternCache[str]()
    loader, other = Loader(), Loader()
    leader = await asking(cache, loader)
    closed = cache.get_or_load("a", Loader())
    closed.send(None)
    closed.close()
    waiting = await asking(cache, other)
    leader.cancel()
    await settled()
    other.bring("1")
    assert await waiting == "1"


async def test_a_timeout_of_the_one_who_loads_is_his_alone() -> None:
    cache = PatternCache[str]()
    slow, other = Loader(), Loader()

    async def impatient() -> str:
        async with asyncio.timeout(0):
            return await cache.get_or_load("a", slow)

    first = asyncio.create_task(impatient())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(cache.get_or_load("a", other))
    with pytest.raises(TimeoutError):
        await first
    other.bring("1")
    assert await waiting == "1"


# Other loops


def test_a_load_that_another_loop_has_left_behind_is_not_waited_for() -> None:
    cache = PatternCache[str]()

    async def left_behind() -> list[Asked]:
        return [await asking(cache, Loader()) for _ in range(2)]

    async def again() -> str:
        loader = Loader()
        loader.bring("1")
        task = await asking(cache, loader)
        assert task.done()
        return task.result()

    loop = asyncio.new_event_loop()
    tasks = loop.run_until_complete(left_behind())
    assert asyncio.run(again()) == "1"
    assert cache["a"] == "1"
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.wait(tasks))
    loop.close()
    assert cache["a"] == "1"
    assert not cache._flights


def test_a_load_without_a_loop_leaves_nothing_behind() -> None:
    cache = PatternCache[str]()

    async def loader() -> str:
        return "1"

    with pytest.raises(RuntimeError, match="no running event loop"):
        cache.get_or_load("a", loader).send(None)
    assert not cache._flights


# The lease


async def test_a_lease_gives_the_value_or_the_duty_to_load_it() -> None:
    cache = PatternCache[str]()
    async with cache.load("a", ttl=5) as load:
        assert load.missed
        with pytest.raises(AttributeError, match=r"set load\.value first"):
            load.value  # noqa: B018
        load.value = "1"
        assert cache["a"] == "1"  # at once, not at the end of the block
        with pytest.raises(AttributeError, match="there already"):
            load.value = "2"
    assert load.value == "1"
    async with cache.load("a") as load:
        assert (load.missed, load.stale, load.value) == (False, False, "1")
        with pytest.raises(AttributeError, match="there already"):
            load.value = "2"


async def test_a_block_that_ends_without_a_value_is_an_error_and_another_takes_over() -> None:
    cache = PatternCache[str]()
    entered = asyncio.Event()

    async def forgetful() -> None:
        async with cache.load("a"):
            await entered.wait()

    first = asyncio.create_task(forgetful())
    await settled()
    loader = Loader()
    loader.bring("1")
    waiting = await asking(cache, loader)
    entered.set()
    with pytest.raises(NothingLoaded, match=r"set load\.value, or raise"):
        await first
    assert await waiting == "1"


async def test_what_the_block_does_after_the_load_does_not_concern_the_value() -> None:
    cache = PatternCache[str]()

    async def ask() -> None:
        async with cache.load("a") as load:
            load.value = "1"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await ask()
    assert cache["a"] == "1"
    assert cache.stats().failed_loads == 0


async def test_a_load_that_asks_for_its_own_key_is_told_so() -> None:
    cache = PatternCache[str]()

    async def outer() -> str:
        return await cache.get_or_load("a", outer)

    with pytest.raises(LoadsItself, match="'a'"):
        await outer()
    assert not cache._flights


@pytest.mark.parametrize("length", [2, 3])
async def test_loads_that_wait_for_each_other_in_a_ring_are_told_so(length: int) -> None:
    caches = [PatternCache[str]() for _ in range(length)]
    begun = asyncio.Barrier(length)

    async def ask(number: int) -> str:
        async def loader() -> str:
            await begun.wait()
            return await caches[(number + 1) % length].get_or_load("a", Loader())

        return await caches[number].get_or_load("a", loader)

    tasks = [asyncio.create_task(ask(number)) for number in range(length)]
    await settled()
    assert all(task.done() for task in tasks)
    assert {type(task.exception()) for task in tasks} == {LoadsItself}
    assert not any(cache._flights for cache in caches)


async def test_one_who_waits_for_a_load_that_waits_for_another_is_told_nothing() -> None:
    cache = PatternCache[str]()
    loader = Loader()
    inner = await asking(cache, loader, "inner")
    outer = [asyncio.create_task(cache.get_or_load("outer", lambda: cache.get_or_load("inner", loader)))]
    await settled()
    outer.append(asyncio.create_task(cache.get_or_load("outer", loader)))
    await settled()
    loader.bring("1")
    assert await asyncio.gather(inner, *outer) == ["1"] * 3


@pytest.mark.parametrize("fails", [False, True])
async def test_who_has_brought_what_another_waited_for_may_wait_for_that_one(fails: bool) -> None:
    cache = PatternCache[str]()
    loader, other = Loader(), Loader()

    async def first() -> str:
        with suppress(OSError):
            await cache.get_or_load("a", loader)
        return await cache.get_or_load("b", Loader())  # in the same step, before the other has run

    async def second() -> str:
        with suppress(OSError):
            await cache.get_or_load("a", Loader())
        return await other()

    tasks = [asyncio.create_task(first()), asyncio.create_task(cache.get_or_load("b", second))]
    await settled()
    if fails:
        loader.fail(OSError())
    else:
        loader.bring("1")
    await settled()
    other.bring("2")
    assert await asyncio.gather(*tasks) == ["2", "2"]


async def test_a_value_that_is_too_large_is_returned_and_not_stored() -> None:
    cache = PatternCache[str](maxsize=3, getsizeof=len)
    loader = Loader()
    tasks = [await asking(cache, loader) for _ in range(2)]
    loader.bring("large")
    assert await asyncio.gather(*tasks) == ["large"] * 2
    assert not cache


async def test_a_value_whose_size_cannot_be_told_still_reaches_those_who_wait() -> None:
    def broken(value: str) -> int:
        raise ZeroDivisionError

    cache = PatternCache[str](getsizeof=broken)
    loader = Loader()
    tasks = [await asking(cache, loader) for _ in range(2)]
    loader.bring("1")
    first, second = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(first, ZeroDivisionError)
    assert second == "1"


# Stale and early


async def test_what_is_stale_is_served_while_it_is_loaded_anew() -> None:
    clock = Clock()
    cache = PatternCache[str](ttl=10, stale_ttl=5, timer=clock)
    cache["a"] = "old"
    clock.now += 10
    loader = Loader()
    first = await asking(cache, loader)
    assert loader.begun == 1
    assert await (await asking(cache, Loader())) == "old"
    async with cache.load("a") as load:
        assert (load.missed, load.stale, load.value) == (False, True, "old")
    loader.bring("new")
    assert await first == "new"
    assert await (await asking(cache, Loader())) == "new"
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.stale_hits) == (1, 1, 2)


async def test_past_its_stale_time_an_entry_is_gone() -> None:
    clock = Clock()
    cache = PatternCache[str](ttl=10, stale_ttl=5, timer=clock)
    cache["a"] = "old"
    clock.now += 10
    loader = Loader()
    first = await asking(cache, loader)
    clock.now += 5
    second = await asking(cache, Loader())
    assert not second.done()
    loader.bring("new")
    assert [await first, await second] == ["new"] * 2


async def test_what_was_invalidated_is_never_served_stale() -> None:
    clock = Clock()
    cache = PatternCache[str](ttl=10, stale_ttl=5, timer=clock)
    cache["a"] = "old"
    clock.now += 10
    before, after = Loader(), Loader()
    first = await asking(cache, before)
    cache.delete_prefix("a")
    second = await asking(cache, after)
    third = await asking(cache, Loader())
    assert not second.done()
    assert not third.done()
    before.bring("old")
    after.bring("new")
    assert [await first, await second, await third] == ["old", "new", "new"]


async def test_shortly_before_it_expires_an_entry_is_loaded_anew_by_one() -> None:
    clock = Clock()
    cache = PatternCache[str](ttl=10, timer=clock)
    cache["a"] = "old"
    clock.now += 6.9
    assert await (await asking(cache, Loader(), early=3)) == "old"
    clock.now += 0.1
    loader = Loader()
    first = await asking(cache, loader, early=3)
    assert loader.begun == 1
    assert await (await asking(cache, Loader(), early=3)) == "old"
    assert cache["a"] == "old"
    loader.bring("new")
    assert await first == "new"
    clock.now += 9
    assert cache["a"] == "new"
    assert cache.stats().stale_hits == 0


async def test_an_entry_without_end_is_never_early() -> None:
    cache = PatternCache[str]()
    cache["a"] = "1"
    assert await cache.get_or_load("a", Loader(), early=1e9) == "1"


async def test_evictions_and_expiry_do_not_concern_a_load() -> None:
    clock = Clock()
    cache = PatternCache[str](maxsize=1, ttl=10, timer=clock)
    cache["a"] = "old"
    clock.now += 10
    loader = Loader()
    task = await asking(cache, loader)
    cache["b"] = ""
    assert len(cache) == 1
    loader.bring("new")
    await task
    assert cache["a"] == "new"


# Distrust


async def test_while_distrusted_one_loads_and_nothing_is_stored() -> None:
    cache = PatternCache[str]()
    cache["a"] = "kept"
    cache.distrust()
    loader = Loader()
    tasks = [await asking(cache, loader) for _ in range(3)]
    loader.bring("loaded")
    assert await asyncio.gather(*tasks) == ["loaded"] * 3
    assert loader.begun == 1
    cache.trust()
    assert cache["a"] == "kept"
    assert (cache.stats().untrusted_loads, cache.stats().overtaken_loads) == (1, 0)


@pytest.mark.parametrize("when", ["before", "during"])
async def test_a_load_that_was_under_way_in_distrust_is_not_stored_after_it(when: str) -> None:
    cache = PatternCache[str]()
    loader = Loader()
    if when == "before":
        cache.distrust()
    task = await asking(cache, loader)
    if when == "during":
        cache.distrust()
    cache.trust()
    loader.bring("1")
    assert await task == "1"
    assert "a" not in cache


# Against a model

KEYS = ("a:1", "a:2", "b:1")
STEP = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(KEYS), st.sampled_from([0.0, 3.0])),
    st.tuples(st.just("ask"), st.sampled_from(KEYS), st.just(0.0)),
    st.tuples(st.just("get"), st.sampled_from(KEYS), st.just(0)),
    st.tuples(st.sampled_from(["bring", "fail", "nothing"]), st.just(""), st.integers(0, 5)),
    st.tuples(st.just("bring"), st.just(""), st.integers(0, 5)),
    st.tuples(st.just("cancel"), st.just(""), st.integers(0, 9)),
    st.tuples(st.just("drop"), st.sampled_from(["a", "a:1", "*:1", "b:?", "", "c"]), st.just(0)),
    st.tuples(st.sampled_from(["set", "pop"]), st.sampled_from(KEYS), st.just(0)),
    st.tuples(st.just("wait"), st.just(""), st.sampled_from([1.0, 4.0, 8.0])),
    st.tuples(st.sampled_from(["distrust", "trust"]), st.just(""), st.just(0)),
    st.tuples(st.just("run"), st.just(""), st.integers(1, 4)),
    st.tuples(st.just("run"), st.just(""), st.just(10)),
)


class World:
    """A cache whose values say when they were read, and everybody who asks it."""

    def __init__(self, maxsize: int, stale_ttl: float) -> None:
        self.clock = Clock()
        self.cache = PatternCache[tuple[str, int]](maxsize, ttl=10, stale_ttl=stale_ttl, timer=self.clock)
        self.moments = itertools.count(1)
        self.stale_at: Counter[str] = Counter()  # when each key was last made stale
        self.running: dict[asyncio.Future[str], tuple[str, int]] = {}  # loads, with their key and when they began
        self.tasks: list[asyncio.Task[None]] = []
        self.cancelled: set[asyncio.Task[None]] = set()
        self.asked = self.begun = self.failed = 0

    async def ask(self, key: str, early: float) -> None:
        asked, stale_before = next(self.moments), self.stale_at[key]
        self.asked += 1
        async with self.cache.load(key, early=early) as load:
            if load.missed:
                load.value = (key, await self.read(key))
        of, read_at = load.value
        assert of == key
        assert read_at > stale_before, f"asked at {asked}, after {stale_before}, and got what was read at {read_at}"

    async def read(self, key: str) -> int:
        """Read the source: what it gives is as old as the moment at which this begins."""
        began = next(self.moments)
        others = [one for one in self.running.values() if one[0] == key and one[1] > self.stale_at[key]]
        assert not others, f"{key} is loaded twice at once"
        gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.running[gate] = (key, began)
        self.begun += 1
        try:
            how = await gate
            if how == "fail":
                raise OSError(key)
            if how == "nothing":
                raise GaveUp
        except BaseException:
            self.failed += 1
            raise
        finally:
            del self.running[gate]
        return began

    def gates(self) -> list[asyncio.Future[str]]:
        return [gate for gate in self.running if not gate.done()]

    def make_stale(self, matches: Callable[[str], object]) -> None:
        moment = next(self.moments)
        for key in KEYS:
            if matches(key):
                self.stale_at[key] = moment

    async def step(self, what: str, text: str, number: float) -> None:
        cache = self.cache
        if what == "ask":
            self.tasks.append(asyncio.create_task(self.ask(text, number)))
        elif what == "get":
            self.asked += 1
            found = cache.get(text)
            assert found is None or (cache._trusted and found[1] > self.stale_at[text])
        elif what in ("bring", "fail", "nothing"):
            if gates := self.gates():
                gates[int(number) % len(gates)].set_result(what)
        elif what == "cancel":
            if pending := [task for task in self.tasks if not task.done()]:
                task = pending[int(number) % len(pending)]
                task.cancel()
                self.cancelled.add(task)
        elif what == "drop":
            is_glob = set(text) & set("*?")
            self.make_stale(glob(text).fullmatch if is_glob else lambda key: key.startswith(text))
            cache.delete_pattern(text)
        elif what in ("set", "pop"):
            self.make_stale(lambda key: key == text)
            if what == "set":
                cache[text] = (text, next(self.moments))
            else:
                cache.pop(text, None)
        elif what == "wait":
            self.clock.now += number
        elif what in ("distrust", "trust"):
            getattr(cache, what)()
        else:
            for _ in range(int(number)):
                await asyncio.sleep(0)
        self.check()

    def kept(self) -> Iterator[tuple[str, int]]:
        for key in self.cache._kept:
            entry = _peek(self.cache._kept, key)
            yield entry.value if isinstance(entry, _Timed) else entry

    def check(self) -> None:
        for key, read_at in self.kept():
            assert read_at > self.stale_at[key], f"{key}, read at {read_at}, is kept after {self.stale_at[key]}"
        cache, stats = self.cache, self.cache.stats()
        assert cache._index.known >= {*cache._kept, *cache._flights}
        assert stats.entries <= cache._kept.maxsize
        assert stats.loads == self.begun

    async def end(self) -> None:
        """All loads end, whoever takes one over loads too, and then nobody waits any more."""
        for _ in range(1000):
            await settled()
            if not (gates := self.gates()):
                break
            gates[-1].set_result("bring")
            self.check()
        stuck = [task for task in self.tasks if not task.done()]
        assert not stuck
        for task, end in zip(self.tasks, await asyncio.gather(*self.tasks, return_exceptions=True), strict=True):
            assert end is None or isinstance(end, OSError | GaveUp) or task in self.cancelled, end
        stats = self.cache.stats()
        assert not self.cache._flights
        assert stats.hits + stats.misses + stats.stale_hits == self.asked
        assert stats.failed_loads == self.failed
        assert stats.overtaken_loads + stats.untrusted_loads <= stats.loads - stats.failed_loads


class GaveUp(BaseException):
    """The block is left with neither a value nor a failure that concerns others."""


@settings(max_examples=400, deadline=None)
@given(st.lists(STEP, min_size=10, max_size=60), st.sampled_from([1, 2, 100]), st.sampled_from([0.0, 5.0]))
def test_nobody_is_given_what_was_stale_before_he_asked_and_nobody_waits_for_ever(
    steps: list[tuple[str, str, float]], maxsize: int, stale_ttl: float
) -> None:
    async def play() -> None:
        world = World(maxsize, stale_ttl)
        for step in steps:
            await world.step(*step)
        await world.end()

    asyncio.run(play())
