"""When entries expire: a queue of moments that never has to be put in order all at once.

In: tickets, each the moment at which an entry is to be looked at, and its key. Out: those that are due, a few at a time.

An entry that is dropped leaves its ticket behind, since a heap cannot be searched. Where more than half of the tickets
must be such, they are sorted out, but in small steps: the heap is set aside and emptied from its end, which leaves it a
heap, and what is still valid goes over into a new one. Until that is done, what is due is taken from both.

Promised: one call looks at no more than `STEP` tickets. There are never more than two and a half times the entries that
there were at most, and a hundred.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush

#: A moment and a key. Whose ticket it is, is a matter of identity: an entry holds its own.
Ticket = tuple[float, str]

#: How many tickets one call looks at.
STEP = 4

#: So many tickets may be left behind before it is worth anything to sort them out.
_SLACK = 64


class ExpiryQueue:
    """Tickets by moment. ``next_due`` is the first moment at which anything may be due."""

    __slots__ = ("_aside", "_heap", "next_due")

    def __init__(self) -> None:
        self._heap: list[Ticket] = []
        self._aside: list[Ticket] = []
        self.next_due = math.inf

    def __len__(self) -> int:
        return len(self._heap) + len(self._aside)

    def push(self, ticket: Ticket, entries: int, is_valid: Callable[[Ticket], bool]) -> None:
        """Put a ticket in, and tidy up a little.

        ``entries`` is how many entries there are; ``is_valid`` says whether a ticket is still that of an entry.
        """
        if ticket[0] < self.next_due:
            self.next_due = ticket[0]
        heap, aside = self._heap, self._aside
        heappush(heap, ticket)
        if aside:
            for _ in range(min(STEP, len(aside))):
                if is_valid(set_aside := aside.pop()):
                    heappush(heap, set_aside)
        elif len(heap) > 2 * entries + _SLACK:
            self._heap, self._aside = aside, heap

    def take_due(self, now: float) -> list[Ticket]:
        """Take out up to `STEP` of the tickets whose moment is not after ``now``, the first first."""
        due: list[Ticket] = []
        while True:
            heap, aside = self._heap, self._aside
            if aside and (not heap or aside[0] < heap[0]):
                heap = aside
            self.next_due = heap[0][0] if heap else math.inf
            if self.next_due > now or not heap or len(due) == STEP:
                return due
            due.append(heappop(heap))

    def clear(self) -> None:
        """Take everything out."""
        self._heap.clear()
        self._aside.clear()
        self.next_due = math.inf
