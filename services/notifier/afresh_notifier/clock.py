"""The two clocks: the event loop's, by which we pace things and wait, and the world's, as it is written for others."""

from __future__ import annotations

import asyncio
import contextlib
import math
from datetime import UTC, datetime


def loop_time() -> float:
    """Seconds by the running event loop's clock, which never goes back; they mean something beside one another alone."""
    return asyncio.get_running_loop().time()


async def woken(event: asyncio.Event, at: float = math.inf) -> None:
    """Return once ``event`` is set, but at ``at`` (as `loop_time` has it) at the latest. Cancelled, it stops waiting."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(at if math.isfinite(at) else None):
            await event.wait()


def rfc3339(moment: datetime) -> str:
    """An aware ``moment`` in UTC, to the millisecond: `2026-01-02T03:04:05.678Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
