"""The pace: when the leader looks at the change log, and whether writers ring a bell for it. Pure: it is told the time.

In: what each look brought. Out: when to look next, and what the bell is to be set to. Times are seconds of one monotonic
clock.

A bell is a NOTIFY, which takes a lock on the whole database at commit. So it rings only while changes come slowly; while
they come fast it is silent, and the leader looks every few milliseconds instead. A writer who has read "silent" may
commit after the look that follows the switch to ringing, so that nobody tells of his change: therefore the leader looks
at an idle pace as well. The bell is set for some seconds at a time, and is renewed: when the leader is gone, it falls
silent by itself.
"""

from __future__ import annotations

import math

from afresh_notifier.settings import CaptureSettings

#: For how many seconds the bell is set, and how long before its end it is set anew.
RING_FOR, RENEW_BEFORE = 10, 5.0

#: Over how many seconds, about, the rate of changes is averaged.
MEMORY = 1.0


class Pace:
    """The state of one leader's looking, at the paces that the settings name."""

    def __init__(self, paces: CaptureSettings, now: float) -> None:
        self._paces = paces
        self._rate = 0.0
        self._busy = False
        self._looked_at = now
        self._look_at = now
        #: Until when the bell rings; None while it is not known what it is set to.
        self._rings_until: float | None = None

    def looked(self, taken: int, now: float, *, more: bool = False) -> None:
        """A look took ``taken`` changes; ``more``: it was not all there was."""
        self._rate = self._rate * math.exp((self._looked_at - now) / MEMORY) + taken / MEMORY
        self._looked_at = now
        if self._busy:
            self._busy = self._rate >= self._paces.threshold / 2
        else:
            self._busy = self._rate > self._paces.threshold
        self._look_at = now if more else now + self._pause()

    def bell(self, now: float) -> int | None:
        """For how many seconds from now the bell is to be set, 0 to silence it; None to leave it as it is."""
        if self._busy or self._paces.bell == "never":
            return None if self._rings_until == -math.inf else 0
        if self._rings_until is None or now >= self._rings_until - RENEW_BEFORE:
            return RING_FOR
        return None

    def set(self, seconds: int, now: float) -> None:
        """The bell was set so. Where it was silent and rings from now on, it is time for the last look."""
        if seconds and (self._rings_until is None or self._rings_until <= now):
            self._look_at = now
        self._rings_until = now + seconds if seconds else -math.inf

    def look_at(self, now: float) -> float:
        """When to look next, or to see to the bell."""
        if self.bell(now) is not None:
            return now
        if self._rings_until is not None and math.isfinite(self._rings_until):
            return min(self._look_at, self._rings_until - RENEW_BEFORE)
        return self._look_at

    @property
    def busy(self) -> bool:
        """Whether changes come fast."""
        return self._busy

    @property
    def ringing(self) -> bool:
        """Whether writers ring."""
        return self._rings_until is not None and math.isfinite(self._rings_until)

    def _pause(self) -> float:
        if self._busy:
            return self._paces.busy_pace
        return self._paces.slow_pace if self._paces.bell == "never" else self._paces.idle_pace
