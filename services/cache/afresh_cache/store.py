"""A cache in the process: what was used least recently goes first, entries may expire, and whole patterns are dropped.

In: values under keys, set or loaded; patterns that have become stale. Out: the values, as long as they are good.

Promised: what an invalidation drops costs a binary search and its matches, however many entries there are. Nothing is
ever done to all entries at once, but by those who ask for all of them. A load that began before an invalidation of its
key never stores what it read, and nobody who comes after the invalidation is given it.

The entries are in a `cachetools.LRUCache`. Its siblings with a time to live are not used: `TTLCache` has one time for all
entries; `TLRUCache`, which has one for each, removes all that have expired by the next access that writes, which stalls
the loop when many do at once; and both look at the clock and at a linked list or heap for each look-up, where here an
entry carries its time with it, and only if it has any. `make bench ARGS=cache_access` measures it.

Not safe for threads. Loads belong to one event loop: what another one has left behind, nobody waits for.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, ItemsView, Iterator, MutableMapping, ValuesView
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType, TracebackType
from typing import Any, Final, Generic, Literal, Self, TypeVar, cast, overload

from cachetools import Cache, LRUCache

from afresh_cache.errors import LoadsItself, NothingLoaded
from afresh_cache.expiry import ExpiryQueue, Ticket
from afresh_cache.flight import Flight, Landed, Turn
from afresh_cache.key_index import KeyIndex
from afresh_cache.patterns import glob, literal_part

V = TypeVar("V")
D = TypeVar("D")

#: Under this name stand what `clear` dropped, and what was dropped by patterns that came after `COUNTED_PATTERNS` others.
EVERYTHING, OTHERS = "*", "(others)"

#: So many patterns are counted each by itself.
COUNTED_PATTERNS = 256

#: After so many keys that are new to the index it is swept, if it is much larger than the cache; and so many it looks at.
SWEEP_PACE, SWEEP_LIMIT = 32, 128


class _Sign(Enum):
    MISSING = "missing"
    INHERIT = "the cache's"


#: Stands for no value, where None may be one.
_MISSING: Final = _Sign.MISSING

#: A time to live that was left out.
INHERIT: Final = _Sign.INHERIT

TimeToLive = float | None | Literal[_Sign.INHERIT]


class _Timed:
    """A value that is stale after ``fresh_until``, and gone after ``expires``; ``ticket`` is for that moment or before."""

    __slots__ = ("expires", "fresh_until", "ticket", "value")

    def __init__(self, value: Any, fresh_until: float, expires: float, ticket: Ticket) -> None:
        self.value = value
        self.fresh_until = fresh_until
        self.expires = expires
        self.ticket = ticket


class _TooLarge(ValueError):
    pass


class _Entries(LRUCache[str, Any]):
    """The entries; a look-up that finds nothing is answered, and what had to go is counted."""

    evictions = 0

    def __missing__(self, key: str) -> Any:
        return _MISSING

    def popitem(self) -> tuple[str, Any]:
        self.evictions += 1
        return super().popitem()


#: A look-up that does not count as a use.
_peek: Callable[[_Entries, str], Any] = Cache.__getitem__


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """What the cache has done since it was made, and what it holds.

    Each look-up is a hit, a miss or a stale hit. Of ``loads``, those that have ended without a value are in
    ``failed_loads``, those whose result was not stored in ``overtaken_loads``, if the key was invalidated, set or deleted
    meanwhile, or in ``untrusted_loads``. ``evictions`` made room, ``expirations`` came of time. ``entries`` and ``size``
    count what is kept, even if it has expired and not been met since. ``dropped``: how many entries went by each pattern.
    """

    hits: int
    misses: int
    stale_hits: int
    loads: int
    failed_loads: int
    overtaken_loads: int
    untrusted_loads: int
    evictions: int
    expirations: int
    entries: int
    size: float
    dropped: MappingProxyType[str, int]


class PatternCache(MutableMapping[str, V]):
    """A cache of ``maxsize`` entries, or of as much as ``getsizeof(value)`` adds up to, for example bytes with ``len``.

    ``ttl``: seconds for which an entry is good, None for ever, unless its setter says otherwise. ``stale_ttl``: for so
    many seconds more it is given to those who come while somebody loads it anew. ``timer``: a clock that never goes back.
    """

    def __init__(
        self,
        maxsize: float = 10_000,
        *,
        ttl: float | None = None,
        stale_ttl: float = 0.0,
        getsizeof: Callable[[V], float] | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        if not maxsize >= 1:
            raise ValueError(f"maxsize: expected 1 or more, not {maxsize}; a cache that holds nothing has no use")
        if not stale_ttl >= 0:
            raise ValueError(f"stale_ttl: expected seconds, 0 or more, not {stale_ttl}")
        self._ttl = _checked(ttl)
        self._stale_ttl = stale_ttl
        self._timer = timer
        self._kept = _Entries(maxsize, _measure(getsizeof, maxsize))
        self._index = KeyIndex()
        self._expiries = ExpiryQueue()
        self._flights: dict[str, Flight[V]] = {}
        self._trusted = True
        self._fresh_keys = 0
        # Where look-ups look: while nothing that is kept may be trusted, where nothing is.
        self._entries = self._kept
        self._known = self._index.known
        self._hits = self._misses = self._stale_hits = self._expirations = 0
        self._loads = self._failed = self._overtaken = self._untrusted = 0
        self._dropped: dict[str, int] = {}

    # As a mapping

    @overload
    def get(self, key: str, default: None = None, /) -> V | None: ...
    @overload
    def get(self, key: str, default: V, /) -> V: ...
    @overload
    def get(self, key: str, default: D, /) -> V | D: ...
    def get(self, key: str, default: Any = None, /) -> Any:
        """The value of ``key``, or ``default``. Counts as a use. An entry that is stale is not given here.

        Raises TypeError where the key is no text.
        """
        entries = self._entries
        try:
            if key in entries:
                value = entries[key]
                if type(value) is not _Timed:
                    self._hits += 1
                    return value
                if (now := self._timer()) < value.fresh_until:
                    self._hits += 1
                    return value.value
                self._meet_expired(key, value, now)
        except TypeError:  # what cannot be hashed is no text
            _check_key(key)
            raise
        if type(key) is not str:
            _check_key(key)
        self._misses += 1
        return default

    def __getitem__(self, key: str) -> V:
        value: Any = self.get(key, _MISSING)
        if value is _MISSING:
            raise KeyError(key)
        return cast("V", value)

    def __contains__(self, key: object) -> bool:
        """Whether ``key`` has a good entry; does not count as a use. Raises TypeError where it is no text."""
        return self._look(_check_key(key)) is not _MISSING

    def set(self, key: str, value: V, *, ttl: TimeToLive = INHERIT) -> None:
        """Store ``value``, good for ``ttl`` seconds, None for ever; left out, as long as the cache says.

        A load of the key that is under way will not be stored. Raises TypeError where the key is no text, ValueError
        where the value is larger than the cache, which then holds nothing for the key, or where ``ttl`` is not above 0.
        """
        if type(key) is not str:
            _check_key(key)
        if ttl is INHERIT:
            ttl = self._ttl
        elif ttl is not None:
            _checked(ttl)
        if self._flights and (flight := self._flights.get(key)):
            flight.detach()
        if not self._trusted:
            self._discard(key)
            return
        try:
            self._kept[key] = value if ttl is None else self._timed(key, value, ttl)
        except _TooLarge:
            self._discard(key)
            raise
        if key not in self._known:
            self._index_fresh(key)

    __setitem__ = set  # noqa: A003 - this one is meant

    def __delitem__(self, key: str) -> None:
        """Drop an entry; a load of it that is under way will not be stored. Raises KeyError where there is none."""
        if self._take(key) is _MISSING:
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        """The keys of what is good, the longest there first. As in a dict, what is there must not change meanwhile."""
        for key, _ in self._items():
            yield key

    def __len__(self) -> int:
        """How many are good. Removes what has expired; where stale entries are kept, counts one by one."""
        now = self._timer()
        while self._expire_due(now):
            pass
        return sum(1 for _ in self._items()) if self._stale_ttl else len(self._entries)

    def items(self) -> ItemsView[str, V]:
        """The good entries; looking at them does not count as a use."""
        return _Items(self)

    def values(self) -> ValuesView[V]:
        """The good values; looking at them does not count as a use."""
        return _Values(self)

    @overload
    def pop(self, key: str, /) -> V: ...
    @overload
    def pop(self, key: str, /, default: V) -> V: ...
    @overload
    def pop(self, key: str, /, default: D) -> V | D: ...
    def pop(self, key: str, /, default: object = _MISSING) -> object:
        """Drop an entry and return its value, or ``default``. Raises KeyError where there is neither."""
        value = self._take(key)
        if value is not _MISSING:
            return value
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[str, V]:
        """Drop the good entry that has been there the longest. Raises KeyError where there is none."""
        for key, value in self._items():
            self._take(key)
            return key, value
        raise KeyError("the cache is empty")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._kept.currsize} of {self._kept.maxsize}>"

    # Invalidation

    def delete_prefix(self, prefix: str) -> int:
        """Drop what begins with ``prefix``, as an invalidation on the wire means it; returns how many entries went.

        Loads of such keys that are under way will not be stored. The empty prefix is everything.
        """
        _check_key(prefix)
        return self._drop(self._index.beginning_with(prefix), prefix) if prefix else self.clear()

    def delete_pattern(self, pattern: str) -> int:
        """The same, but with ``*`` or ``?`` in it ``pattern`` is a glob, and means the keys that it matches as a whole."""
        _check_key(pattern)
        literal = literal_part(pattern)
        if literal == pattern or pattern == f"{literal}*":
            return self.delete_prefix(literal)
        return self._drop(self._matching(pattern, literal), pattern)

    def clear(self) -> int:  # type: ignore[override]
        """Drop everything; returns how many entries went. Loads that are under way will not be stored."""
        dropped = len(self._kept)
        for flight in list(self._flights.values()):
            flight.detach()
        if not dropped:  # a second time with nothing in between: the keys do not come back
            self._index.clear()
        self._kept.clear()
        self._expiries.clear()
        self._count(EVERYTHING, dropped)
        return dropped

    def keys_matching(self, pattern: str) -> list[str]:
        """The keys of good entries that `delete_pattern` would drop, in order."""
        _check_key(pattern)
        literal = literal_part(pattern)
        keys = self._index.beginning_with(literal) if literal == pattern else self._matching(pattern, literal)
        return [key for key in keys if self._look(key) is not _MISSING]

    def distrust(self) -> None:
        """From now on every look-up misses and nothing is stored, since invalidations may not be heard.

        What is kept stays, unless it is invalidated, set or deleted, and is served again after `trust`. Loads go on, one
        for a key as ever; none that is under way at any moment of the distrust is stored.
        """
        self._trusted = False
        self._entries = _Entries(1)
        for flight in self._flights.values():
            flight.storable = False

    def trust(self) -> None:
        """The end of `distrust`: whatever was not heard meanwhile has been made good by now."""
        self._trusted = True
        self._entries = self._kept

    def stats(self) -> CacheStats:
        """What the cache has done and holds."""
        return CacheStats(
            hits=self._hits,
            misses=self._misses,
            stale_hits=self._stale_hits,
            loads=self._loads,
            failed_loads=self._failed,
            overtaken_loads=self._overtaken,
            untrusted_loads=self._untrusted,
            evictions=self._kept.evictions,
            expirations=self._expirations,
            entries=len(self._kept),
            size=self._kept.currsize,
            dropped=MappingProxyType(dict(self._dropped)),
        )

    # Loading

    def load(self, key: str, *, ttl: TimeToLive = INHERIT, early: float = 0.0) -> Load[V]:
        """Use it with ``async with``: the value, or the duty to load it. See `Load`.

        ``early``: so many seconds before it expires an entry is loaded anew by the first who comes, while the others are
        served. Raises TypeError where the key is no text, ValueError for a bad ``ttl`` or ``early``.
        """
        _check_key(key)
        if not early >= 0:
            raise ValueError(f"early: expected seconds, 0 or more, not {early}")
        return Load(self, key, self._ttl if ttl is INHERIT else _checked(ttl), early)

    async def get_or_load(
        self, key: str, loader: Callable[[], Awaitable[V]], *, ttl: TimeToLive = INHERIT, early: float = 0.0
    ) -> V:
        """The value of ``key``, or what ``await loader()`` brings, which is then stored for ``ttl`` seconds.

        Of many who ask for the same key, one loads. Raises what its loader raises, to all of them. Cancelling one leaves
        the others as they are: if it was the one that loads, another goes on with its own loader.

        While the loader is awaited the key may be invalidated, set or deleted; then the result goes to those who asked
        before, and is not stored. `Flight.wait` says what may change for those who wait.
        """
        if type(key) is str and key in self._entries:  # as in `get`
            value = self._entries[key]
            if type(value) is _Timed:
                if self._timer() < value.fresh_until - early:
                    self._hits += 1
                    return cast("V", value.value)
            else:
                self._hits += 1
                return cast("V", value)
        async with self.load(key, ttl=ttl, early=early) as load:
            if load.missed:
                load.value = await loader()
        return load.value

    def _approach(self, load: Load[V], *, first: bool) -> Flight[V] | None:
        """Serve ``load``, or give it the lead, and return None; or return the flight that it must wait for.

        What waits is counted when it comes ``first``, as a miss, whatever it is given in the end.
        """
        key = load.key
        value: Any = self._entries.get(key, _MISSING)
        flight = self._flights.get(key)
        if flight is not None and flight.is_left_behind():
            flight.detach()
            flight = None
        stale = False
        if type(value) is _Timed:
            now = self._timer()
            stale = now >= value.fresh_until
            if self._meet_expired(key, value, now) or (flight is None and now >= value.fresh_until - load.early):
                value = _MISSING
            else:
                value = value.value
        if value is not _MISSING:
            self._hits += first and not stale
            self._stale_hits += first and stale
            load.serve(value, stale=stale)
            return None
        self._misses += first
        if flight is None:
            self._lead(load, Flight(key, self._flights, storable=self._trusted))
            if key not in self._known:
                self._index_fresh(key)
        elif flight.waits_for_us():
            raise LoadsItself(key)
        return flight

    def _lead(self, load: Load[V], flight: Flight[V]) -> None:
        self._loads += 1
        load.lead(flight)

    def _land(self, flight: Flight[V], load: Load[V], value: V) -> None:
        """A load has brought ``value``: store it, if it may be stored, and wake those who wait."""
        flight.land(value)
        if flight.detached:
            self._overtaken += 1
        elif not flight.storable:
            self._untrusted += 1
        else:
            with suppress(_TooLarge):  # those who asked have it all the same
                self.set(load.key, value, ttl=load.ttl)

    def _crash(self, flight: Flight[V], error: BaseException | None) -> None:
        """A load has ended without a value."""
        self._failed += 1
        if isinstance(error, Exception):
            flight.fail(error)
        else:  # cancelled, or it did not say: nothing that concerns those who wait
            flight.give_up()

    # Entries

    def _timed(self, key: str, value: V, ttl: float) -> _Timed:
        """An entry that expires, with a ticket that will be looked at no later than that."""
        now = self._timer()
        fresh_until = now + ttl
        expires = fresh_until + self._stale_ttl
        expiries, kept = self._expiries, self._kept
        if expiries.next_due <= now:  # before what is good is evicted for this one
            self._expire_due(now)
        if key in kept:
            old = _peek(kept, key)
            # Most entries are replaced before they expire: the old ticket will do, and its time comes once.
            if type(old) is _Timed and old.ticket[0] <= expires:
                return _Timed(value, fresh_until, expires, old.ticket)
        ticket = (expires, key)
        expiries.push(ticket, len(kept), self._is_valid)
        return _Timed(value, fresh_until, expires, ticket)

    def _expire_due(self, now: float) -> bool:
        """Remove a few entries that have expired; returns whether there may be more."""
        kept, expiries = self._kept, self._expiries
        due = expiries.take_due(now)
        for ticket in due:
            if self._is_valid(ticket):
                key = ticket[1]
                entry = _peek(kept, key)
                if entry.expires <= now:
                    self._expire(key)
                else:
                    entry.ticket = (entry.expires, key)
                    expiries.push(entry.ticket, len(kept), self._is_valid)
        return bool(due)

    def _index_fresh(self, key: str) -> None:
        """Put a new key into the index, which is swept from time to time where it has grown far larger than the cache.

        Each key pays for looking at four. So in the time of one round through the index no more keys die than a third of
        it and those that were alive when it began; whence the index never holds more than twice the keys that were ever
        alive at once, and 1,400.
        """
        self._index.add(key)
        self._fresh_keys += 1
        if self._fresh_keys >= SWEEP_PACE:
            self._fresh_keys = 0
            if len(self._known) > 1.5 * (len(self._kept) + len(self._flights)) + 1024:
                self._index.sweep(self._is_alive if self._flights else self._kept.__contains__, SWEEP_LIMIT)

    def _is_alive(self, key: str) -> bool:
        return key in self._kept or key in self._flights

    def _is_valid(self, ticket: Ticket) -> bool:
        value = _peek(self._kept, ticket[1])
        return type(value) is _Timed and value.ticket is ticket

    def _look(self, key: str) -> Any:
        """The value of ``key`` if it is good, or _MISSING; counts nothing."""
        value = _peek(self._entries, key)
        if type(value) is _Timed:
            return value.value if self._timer() < value.fresh_until else _MISSING
        return value

    def _items(self) -> Iterator[tuple[str, V]]:
        for key in self._entries:
            value = self._look(key)
            if value is not _MISSING:
                yield key, value

    def _meet_expired(self, key: str, entry: _Timed, now: float) -> bool:
        """Whether ``entry`` is not even good for stale; it is removed then."""
        if now < entry.expires:
            return False
        self._expire(key)
        return True

    def _expire(self, key: str) -> None:
        del self._kept[key]
        self._expirations += 1

    def _discard(self, key: str) -> None:
        if key in self._kept:
            del self._kept[key]

    def _take(self, key: str) -> Any:
        """Drop ``key`` and detach its load; returns the value if it was good, or _MISSING."""
        _check_key(key)
        if flight := self._flights.get(key):
            flight.detach()
        value = self._look(key)
        self._discard(key)
        return value

    def _matching(self, pattern: str, literal: str) -> list[str]:
        matches = glob(pattern).fullmatch
        return [key for key in self._index.beginning_with(literal) if matches(key)]

    def _drop(self, keys: list[str], pattern: str) -> int:
        """Drop the entries of ``keys`` and detach their loads; a key that had neither goes from the index."""
        flights, delete = self._flights, self._kept.__delitem__
        missing = 0
        dead = []
        for key in keys:
            try:
                delete(key)
            except KeyError:
                missing += 1
                if key not in flights:
                    dead.append(key)
                    continue
            if key in flights:
                flights[key].detach()
        self._index.discard(dead)
        dropped = len(keys) - missing
        self._count(pattern, dropped)
        return dropped

    def _count(self, pattern: str, dropped: int) -> None:
        if dropped:
            if pattern not in self._dropped and len(self._dropped) >= COUNTED_PATTERNS:
                pattern = OTHERS
            self._dropped[pattern] = self._dropped.get(pattern, 0) + dropped


class Load(Generic[V]):
    """What `PatternCache.load` gives: the value of ``key``, or the duty to load it.

        async with cache.load("clients:7") as load:
            if load.missed:
                load.value = await fetch(7)
        return load.value

    ``missed``: nobody else loads it, so this block must set ``value``, or raise. As soon as it is set it is stored, unless
    the key was invalidated since the block began, and those who wait have it. ``stale``: the value has expired, and
    somebody is loading it anew.

    The only wait is for another's load, when the block is entered; `Flight.wait` says what can have changed after it. In
    the block's own awaits the key may be invalidated, set or deleted, and other tasks may come to wait, or be served what
    is stale; none of this concerns the block, and leaving it waits for nothing. Cancelling it while it loads gives the
    lead to one of those who wait.

    A block that ends without a value raises `NothingLoaded`; one that asks for its own key again, or for one whose load
    waits for this one's, `LoadsItself`.
    """

    __slots__ = ("_cache", "_flight", "_value", "early", "key", "missed", "stale", "ttl")

    def __init__(self, cache: PatternCache[V], key: str, ttl: float | None, early: float) -> None:
        self._cache = cache
        self._flight: Flight[V] | None = None
        self._value: V | Literal[_Sign.MISSING] = _MISSING
        self.key = key
        self.ttl = ttl
        self.early = early
        self.missed = False
        self.stale = False

    async def __aenter__(self) -> Self:
        cache = self._cache
        flight = cache._approach(self, first=True)
        while flight is not None:
            turn = await flight.wait()
            if isinstance(turn, Landed):
                self.serve(turn.value, stale=False)
                break
            if turn is Turn.LEAD:
                if not flight.detached:
                    cache._lead(self, flight)
                    break
                flight.give_up()  # invalidated since the lead was handed over: all who waited begin anew
            flight = cache._approach(self, first=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        flight, self._flight = self._flight, None
        if flight is not None:
            self._cache._crash(flight, error)
            if error is None:
                raise NothingLoaded(self.key)

    @property
    def value(self) -> V:
        """The value. Where it was missed, set it. Raises AttributeError where it is not there yet, or was there already."""
        if self._value is _MISSING:
            raise AttributeError(
                f"there is no value for {self.key!r} yet: load.missed is true, so set load.value first"
            )
        return self._value

    @value.setter
    def value(self, value: V) -> None:
        flight, self._flight = self._flight, None
        if flight is None:
            raise AttributeError(f"the value of {self.key!r} is there already: to replace it, use the cache's set")
        self._value = value
        self._cache._land(flight, self, value)

    def serve(self, value: V, *, stale: bool) -> None:
        """For the cache: here is the value."""
        self._value = value
        self.stale = stale

    def lead(self, flight: Flight[V]) -> None:
        """For the cache: load it."""
        flight.take_lead()
        self._flight = flight
        self.missed = True


class _Items(ItemsView[str, V]):
    _mapping: PatternCache[V]

    def __iter__(self) -> Iterator[tuple[str, V]]:
        return self._mapping._items()


class _Values(ValuesView[V]):
    _mapping: PatternCache[V]

    def __iter__(self) -> Iterator[V]:
        return (value for _, value in self._mapping._items())


def _check_key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(
            f"a key is a text, not {type(key).__name__}: write it out, as in f'clients:{{client_id}}', "
            "or let cached() make it from a template"
        )
    return key


def _checked(ttl: float | None) -> float | None:
    if ttl is not None and not (isinstance(ttl, int | float) and ttl > 0):
        raise ValueError(f"ttl: expected seconds, more than 0, or None for no end, not {ttl!r}")
    return ttl


def _measure(getsizeof: Callable[[V], float] | None, maxsize: float) -> Callable[[Any], float] | None:
    """What tells the size of an entry, if anything does."""
    if getsizeof is None:
        return None

    def measure(entry: Any) -> float:
        size = getsizeof(entry.value if type(entry) is _Timed else entry)
        if size > maxsize:
            raise _TooLarge(f"the value is too large: {size}, and the whole cache has {maxsize}; raise maxsize")
        if not size >= 0:
            raise ValueError(f"getsizeof: expected 0 or more, not {size}")
        return size

    return measure
