"""The cache beside what one would use instead: what it costs to drop a pattern, what an access costs, and an entry takes.

`measure_invalidation`: dropping what begins with a prefix, out of ten thousand to a million keys. The scan is what one
writes by hand, and what the ratios are to. cashews has `delete_match`. aiocache has nothing for patterns; whoever puts the
prefix into the namespace can clear that, which is the same scan.

`measure_access`: reads and writes beside the bare cachetools cache of the same policy, in rounds that take turns.

`measure_memory`: bytes for each entry, without its key and its value.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from statistics import median
from typing import Any

from aiocache import SimpleMemoryCache
from cachetools import LRUCache, TLRUCache, TTLCache
from cashews.backends.memory import Memory

from afresh_cache.store import PatternCache
from bench.report import Report, milliseconds

#: No entry lives as long as this, in seconds, so that a time to live is paid for and ends nothing.
_TTL = 3600.0

#: How many keys each round of an access uses, and how many rounds there are.
_BATCH, _ROUNDS = 1000, 31


def _key(number: int) -> str:
    """A thousand keys begin with the same two segments, ten with the same three."""
    return f"clients:{number // 1000:04}:{number % 1000 // 10:02}:{number % 10}"


@contextmanager
def _without_garbage() -> Iterator[None]:
    """What was made before is no concern of the garbage collector, whose rounds would hit whoever is measured."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


# Invalidation


class _Scanned:
    """A dict, which is scanned."""

    def __init__(self, keys: Iterable[str], *, glob: bool) -> None:
        self._store = dict.fromkeys(keys, 1)
        self._glob = glob

    async def drop(self, prefix: str) -> None:
        if self._glob:
            pattern = f"{prefix}*"
            found = [key for key in self._store if fnmatchcase(key, pattern)]
        else:
            found = [key for key in self._store if key.startswith(prefix)]
        for key in found:
            del self._store[key]

    async def restore(self, keys: Iterable[str]) -> None:
        self._store.update(dict.fromkeys(keys, 1))


class _Afresh:
    def __init__(self, keys: Sequence[str]) -> None:
        self._cache = PatternCache[int](maxsize=len(keys))
        self._cache.update(dict.fromkeys(keys, 1))

    async def drop(self, prefix: str) -> None:
        self._cache.delete_pattern(prefix)

    async def restore(self, keys: Iterable[str]) -> None:
        self._cache.update(dict.fromkeys(keys, 1))


class _Cashews:
    def __init__(self, keys: Sequence[str]) -> None:
        self._cache = Memory(size=len(keys) + 1)
        self._keys = keys

    async def drop(self, prefix: str) -> None:
        await self._cache.delete_match(f"{prefix}*")

    async def restore(self, keys: Iterable[str]) -> None:
        await self._cache.set_many(dict.fromkeys(keys, 1))


class _Aiocache:
    def __init__(self) -> None:
        self._cache = SimpleMemoryCache()

    async def drop(self, prefix: str) -> None:
        await self._cache.clear(namespace=prefix)

    async def restore(self, keys: Iterable[str]) -> None:
        await self._cache.multi_set([(key, 1) for key in keys])


async def measure_invalidation(scale: float) -> Report:
    """Run it: ``scale`` 1 goes up to a million keys."""
    rows: list[tuple[str, ...]] = []
    sizes = [round(size * min(scale, 1.0)) // 1000 * 1000 for size in (10_000, 100_000, 1_000_000)]
    for size in sizes:
        rows += await _invalidate(max(size, 1000), rounds=9)
    return Report(
        title="Dropping a pattern",
        columns=("keys", "matches", "scan", "fnmatch", "cashews", "aiocache", "Afresh", "scan to Afresh"),
        rows=tuple(rows),
        note=(
            "Medians of 9 rounds in which all take their turns; what was dropped is put back outside the measurement. "
            "Scan: a list of the keys that start with the prefix, and their deletion, on a dict. fnmatch: the same with "
            "fnmatchcase. cashews: delete_match of its backend in memory. aiocache: it drops no patterns; clear of a "
            "namespace, if that is what is dropped. Afresh: delete_pattern."
        ),
    )


async def _invalidate(size: int, rounds: int) -> list[tuple[str, ...]]:
    keys = [_key(number) for number in range(size)]
    contenders: dict[str, Any] = {
        "scan": _Scanned(keys, glob=False),
        "fnmatch": _Scanned(keys, glob=True),
        "cashews": _Cashews(keys),
        "aiocache": _Aiocache(),
        "Afresh": _Afresh(keys),
    }
    await contenders["cashews"].restore(keys)
    await contenders["aiocache"].restore(keys)
    rows = []
    chance = random.Random(7)
    with _without_garbage():
        for matches in (0, 10, 1000):
            taken: dict[str, list[float]] = {name: [] for name in contenders}
            for _ in range(rounds):
                for name in chance.sample(list(contenders), len(contenders)):
                    # What takes microseconds is measured often enough for its median to mean something.
                    times = [
                        await _dropped(contenders[name], chance.randrange(size), matches)
                        for _ in range(25 if name == "Afresh" else 1)
                    ]
                    taken[name].append(median(times))
            ratio = median(scan / ours for scan, ours in zip(taken["scan"], taken["Afresh"], strict=True))
            rows.append(
                (f"{size:,}", f"{matches:,}", *(milliseconds(median(taken[name])) for name in taken), f"{ratio:,.0f}")
            )
    return rows


async def _dropped(contender: Any, around: int, matches: int) -> float:
    """Seconds for dropping the ``matches`` keys around that one; they are there again afterwards."""
    if matches:
        first = around // matches * matches
        found = [_key(number) for number in range(first, first + matches)]
        prefix = found[0][: -1 if matches == 10 else -4]
    else:
        found, prefix = [], _key(around) + ":"
    began = time.perf_counter()
    await contender.drop(prefix)
    taken = time.perf_counter() - began
    await contender.restore(found)
    await asyncio.sleep(0)
    return taken


# Access


@dataclass(frozen=True, slots=True, kw_only=True)
class _Policy:
    """A bare cachetools cache of ``maxsize`` entries, and the time to live with which ours does the same."""

    name: str
    bare: Callable[[int], MutableMapping[str, int]]
    ttl: float | None


_POLICIES = (
    _Policy(name="LRUCache", bare=LRUCache, ttl=None),
    _Policy(name="TTLCache", bare=lambda maxsize: TTLCache(maxsize, _TTL), ttl=_TTL),
    _Policy(name="TLRUCache", bare=lambda maxsize: TLRUCache(maxsize, lambda _key, _value, now: now + _TTL), ttl=_TTL),
)


async def measure_access(scale: float) -> Report:
    """Run it: ``scale`` 1 is ten thousand and a million entries."""
    rows: list[tuple[str, ...]] = []
    for size in (10_000, max(20_000, round(1_000_000 * min(scale, 1.0)))):
        measured = [_access(policy, size) for policy in _POLICIES]
        for what in measured[0]:
            cells = (cell for one in measured for cell in one[what])
            rows.append((f"{size:,}", what, *cells))
    columns = [
        column
        for policy in _POLICIES
        for column in (f"Afresh{', ttl' if policy.ttl else ''}", policy.name, f"to {policy.name}")
    ]
    return Report(
        title="An access, beside the bare cachetools cache of the same policy",
        columns=("entries", "access", *columns),
        rows=tuple(rows),
        note=(
            f"Nanoseconds; medians of {_ROUNDS} rounds of {_BATCH:,} keys drawn at random, in which the two take turns, "
            "and the median of the rounds' ratios. A dropped key was dropped just before, and is known to the index; a "
            "fresh one was never there. In a full cache another entry has to go."
        ),
    )


def _access(policy: _Policy, size: int) -> dict[str, tuple[str, str, str]]:
    """For each kind of access nanoseconds here, in the bare cache, and their ratio."""
    room = size + _ROUNDS * _BATCH  # the fresh keys fill it, and after them it is full
    ours, bare = PatternCache[int](room, ttl=policy.ttl), policy.bare(room)
    keys = [_key(number) for number in range(size)]
    for key in keys:
        ours[key] = bare[key] = 1
    chance = random.Random(7)

    def some() -> list[str]:
        return chance.sample(keys, _BATCH)

    def dropped() -> list[str]:
        batch = some()
        for key in batch:
            ours.pop(key, None)
            bare.pop(key, None)
        return batch

    def fresh(name: str) -> Callable[[], list[str]]:
        numbers = iter(range(_ROUNDS))

        def batch() -> list[str]:
            number = next(numbers)
            return [f"{key}:{name}:{number}" for key in some()]

        return batch

    kinds: dict[str, tuple[Callable[[], list[str]], Callable[[Any, list[str]], float]]] = {
        "get, hit": (some, _get),
        "get, miss": (fresh("missing"), _get),
        "set, existing key": (some, _set),
        "set, dropped key": (dropped, _set),
        "set, fresh key": (fresh("fresh"), _set),
        "set, fresh key, full cache": (fresh("full"), _set),
    }
    with _without_garbage():
        return {what: _take_turns(ours, bare, batch, access) for what, (batch, access) in kinds.items()}


def _take_turns(
    ours: PatternCache[int],
    bare: MutableMapping[str, int],
    batch: Callable[[], list[str]],
    access: Callable[[Any, list[str]], float],
) -> tuple[str, str, str]:
    here: list[float] = []
    there: list[float] = []
    for number in range(_ROUNDS):
        keys = batch()
        if number % 2:
            here.append(access(ours, keys))
            there.append(access(bare, keys))
        else:
            there.append(access(bare, keys))
            here.append(access(ours, keys))
    ratio = median(one / other for one, other in zip(here, there, strict=True))
    return f"{median(here):,.0f}", f"{median(there):,.0f}", f"{ratio:.2f}"


def _get(cache: Any, keys: list[str]) -> float:
    get = cache.get
    began = time.perf_counter()
    for key in keys:
        get(key)
    return (time.perf_counter() - began) / len(keys) * 1e9


def _set(cache: Any, keys: list[str]) -> float:
    began = time.perf_counter()
    for key in keys:
        cache[key] = 1
    return (time.perf_counter() - began) / len(keys) * 1e9


# Memory


async def measure_memory(scale: float) -> Report:
    """Run it: ``scale`` 1 is a million entries."""
    size = max(10_000, round(1_000_000 * min(scale, 1.0)))
    keys = [_key(number) for number in range(size)]

    def filled(cache: MutableMapping[str, int]) -> float:
        gc.collect()
        tracemalloc.start()
        for key in keys:
            cache[key] = 1
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return taken / size

    measured = {policy.name: filled(policy.bare(size)) for policy in _POLICIES}
    measured["PatternCache"] = filled(PatternCache[int](size))
    measured["PatternCache, ttl"] = filled(PatternCache[int](size, ttl=_TTL))
    rows = []
    for policy in _POLICIES:
        name = "PatternCache, ttl" if policy.ttl else "PatternCache"
        ours, bare = measured[name], measured[policy.name]
        rows.append((f"{name} beside {policy.name}", f"{ours:,.0f}", f"{bare:,.0f}", f"{ours / bare:.2f}"))
    return Report(
        title="What an entry takes",
        columns=("cache", "bytes an entry", "bare", "ratio"),
        rows=tuple(rows),
        note=f"{size:,} entries, by tracemalloc; without the keys, which are shared, and without the values.",
    )
