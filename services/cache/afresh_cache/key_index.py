"""Keys in order, so that those which begin with a prefix are found without looking at the others.

In: keys as they become known, and prefixes. Out: the keys that begin with a prefix, in order.

Promised: `beginning_with` costs a binary search and its matches, whatever else is in the index, and is exact for every
prefix. A key that is known already costs one look into a set. Nothing here takes time that grows with the index, but
`clear`.

The index may hold more than its owner does. A key that was dropped mostly comes back soon, and to keep it costs less
than to put it in anew; so an owner leaves dead keys in, discards them when it meets them, and calls `sweep` now and then,
which looks at a bounded number of keys from where it stopped the last time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from itertools import islice

from sortedcontainers import SortedList

#: The last of all characters: nothing comes after it, so that a prefix that ends in it has no next one of its length.
_LAST = chr(0x10FFFF)


class KeyIndex:
    """An ordered set of texts that is asked for prefixes."""

    __slots__ = ("_cursor", "_known", "_ordered")

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._known = set(keys)
        self._ordered: SortedList[str] = SortedList(self._known)
        self._cursor = ""

    @property
    def known(self) -> AbstractSet[str]:
        """All keys, without order: the same set for as long as the index lives, for those who ask it often."""
        return self._known

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, key: object) -> bool:
        return key in self._known

    def add(self, key: str) -> None:
        """Put ``key`` in, unless it is there."""
        if key not in self._known:
            self._known.add(key)
            self._ordered.add(key)

    def discard(self, keys: Iterable[str]) -> None:
        """Take ``keys`` out, where they are there."""
        known, remove = self._known, self._ordered.remove
        for key in keys:
            if key in known:
                known.remove(key)
                remove(key)

    def beginning_with(self, prefix: str) -> list[str]:
        """The keys that begin with ``prefix``, in order; all of them where it is empty."""
        stem = prefix.rstrip(_LAST)
        # Texts are ordered by code points. What begins with the prefix ends before the next text of the stem's length.
        end = stem[:-1] + chr(ord(stem[-1]) + 1) if stem else None
        return list(self._ordered.irange(prefix, end, inclusive=(True, False)))

    def sweep(self, alive: Callable[[str], bool], limit: int) -> int:
        """Look at the next ``limit`` keys, and take out those that are not ``alive``; returns how many those were.

        One call after the other goes round and round.
        """
        slice_ = list(islice(self._ordered.irange(self._cursor), limit + 1))
        self._cursor = slice_.pop() if len(slice_) > limit else ""
        dead = [key for key in slice_ if not alive(key)]
        self.discard(dead)
        return len(dead)

    def clear(self) -> None:
        """Take everything out."""
        self._known.clear()
        self._ordered.clear()
        self._cursor = ""
