"""The replay: which of the recent invalidations somebody missed who stands at an offset, or why that cannot be told.

In: numbered invalidations, some of them resyncs, in the order of their offsets, which rise and may leave numbers out. Out,
for an interest and a stretch of offsets: all that was missed in one `Invalidation`, or the reason for a resync. Pure:
whoever adds says which offset it has and what time it is.

What is remembered is bounded, by number and by age, and so is what one answer may hold: past either it is a resync. An
answer covers its whole stretch or says that it cannot; it never leaves anything out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from afresh_cache.messages import Position, ResyncReason
from afresh_notifier.invalidation import Invalidation, merge_all

#: Patterns that may wait, merged, for one who does not read or was away.
MAX_WAITING = 1_000

#: Answers that are remembered, for as long as all are asked up to the same offset.
MAX_ANSWERS = 1_000

#: What somebody listens to: None is everything, the empty set nothing.
Interest = frozenset[str] | None

#: What was missed, in one; None for nothing, or why it cannot be told.
Missed = Invalidation | ResyncReason | None


class Replay:
    """The recent invalidations of one log, by offset.

    ``epoch`` names the log; offsets of one epoch mean nothing in another. Bounded by ``max_entries`` and ``max_age``
    (seconds): what is older is forgotten, and who asks for it is resynced.
    """

    def __init__(self, *, max_entries: int, max_age: float) -> None:
        self.epoch = ""
        self._max_entries = max_entries
        self._max_age = max_age
        #: When, and what.
        self._entries: deque[tuple[float, Invalidation]] = deque()
        self._last = 0
        #: The highest offset that was forgotten: who stands before it cannot be told all.
        self._forgotten = 0
        #: What was answered of the stretches that end at `_answered_upto`; many come back at once, and ask the same.
        self._answers: dict[tuple[int, Interest], Missed] = {}
        self._answered_upto = 0

    @property
    def last(self) -> int:
        """The newest offset; 0 while nothing was added."""
        return self._last

    def begin(self, epoch: str, offset: int) -> None:
        """Forget everything: the log is ``epoch`` now, and what it holds up to ``offset`` is not known here."""
        self.epoch, self._last, self._forgotten = epoch, offset, offset
        self._entries.clear()
        self._answers.clear()

    def add(self, invalidation: Invalidation, now: float) -> None:
        """Remember ``invalidation`` under the offset that it carries. Raises ValueError where that does not rise."""
        if invalidation.offset <= self._last:
            raise ValueError(f"offset {invalidation.offset} does not come after {self._last}")
        self._last = invalidation.offset
        self._entries.append((now, invalidation))
        while self._entries and (len(self._entries) > self._max_entries or self._entries[0][0] < now - self._max_age):
            self._forgotten = self._entries.popleft()[1].offset

    def since(self, position: Position, upto: int, interest: Interest) -> Missed:
        """What somebody with ``interest`` who stands at ``position`` missed up to the offset ``upto``; who asks what was
        asked before, up to the same offset, gets the same answer."""
        if position.epoch != self.epoch:
            return "restart"
        if upto != self._answered_upto or len(self._answers) >= MAX_ANSWERS:
            self._answers.clear()
            self._answered_upto = upto
        key = (position.offset, interest)
        if key not in self._answers:
            self._answers[key] = self.missed(position.offset, upto, interest)
        return self._answers[key]

    def missed(self, after: int, upto: int, interest: Interest) -> Missed:
        """What somebody with ``interest`` missed of the offsets in (``after``, ``upto``].

        Reasons: that of the newest resync in the stretch which concerns him; "expired" where it is not remembered that far
        back, or where ``after`` was never reached; "overflow" where it is too much for one message.
        """
        if after > self._last or (after < self._forgotten and after < upto):
            return "expired"
        found: list[Invalidation] = []
        for _, entry in reversed(self._entries):  # who asks is mostly just behind
            if entry.offset <= after:
                break
            if entry.offset > upto:
                continue
            mine = cut(entry, interest)
            if mine is not None and mine.reason is not None:
                return mine.reason
            if mine is not None:
                found.append(mine)
        try:
            return merge_all(found[::-1], MAX_WAITING) if found else None
        except OverflowError:
            return "overflow"


def cut(invalidation: Invalidation, interest: Interest) -> Invalidation | None:
    """``invalidation`` as somebody with ``interest`` hears it; None where it does not concern him."""
    if interest is None:
        return invalidation if invalidation.patterns else None
    hears = _listener_of(interest)
    patterns = tuple(pattern for pattern in invalidation.patterns if hears(pattern))
    return replace(invalidation, patterns=patterns) if patterns else None


@lru_cache(maxsize=1024)
def _listener_of(interest: frozenset[str]) -> Callable[[str], bool]:
    """Whether one of these subscriptions hears a pattern (`afresh_cache.patterns.hears`), however many they are: those that
    begin with the pattern stand together in order, and those that it begins with have one of a few lengths."""
    ordered = sorted(interest)
    lengths = sorted({len(subscription) for subscription in interest})

    def hears(pattern: str) -> bool:
        place = bisect_left(ordered, pattern)
        if place < len(ordered) and ordered[place].startswith(pattern):
            return True
        return any(pattern[:length] in interest for length in lengths)

    return hears
