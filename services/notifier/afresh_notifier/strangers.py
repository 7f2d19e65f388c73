"""Strangers: tables that are heard of and that the plan does not know; when to read the plan for their sake. Pure.

Anybody can invent names: so each is looked for once, at a bounded pace, and a bounded number is remembered. What is missed
by looking later is covered: a table or a view that comes into the plan is told and refreshed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

#: How often, in seconds, the plan may be read for tables that it does not know, and how many such are remembered.
STRANGER_PACE, MAX_STRANGERS = 1.0, 1_000


class Strangers:
    """The strangers of one service; times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        #: Looked for in vain, or about to be: not looked for again until they come into a plan, and leave it.
        self._met: set[str] = set()
        self._patience_until = -math.inf

    def look_at(self, tables: Iterable[str], knows: Callable[[str], bool], now: float) -> float:
        """When to read the plan for the sake of those that it does not know; infinity where none is new."""
        new = {table for table in tables if not knows(table)} - self._met
        if not new or len(self._met) >= MAX_STRANGERS:
            return math.inf
        self._met |= new
        return max(now, self._patience_until)

    def plan_read(self, knows: Callable[[str], bool], now: float) -> None:
        """There is a new plan."""
        self._patience_until = now + STRANGER_PACE
        # Where there are too many to remember, they are looked for again, at the pace that holds for all.
        full = len(self._met) >= MAX_STRANGERS
        self._met = set() if full else {table for table in self._met if not knows(table)}
