"""The two clocks: the event loop's, by which things are paced, and the world's, as it is written for others."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime


def loop_time() -> float:
    """Seconds by the running event loop's clock, which never goes back; they mean something beside one another alone."""
    return asyncio.get_running_loop().time()


def rfc3339(moment: datetime) -> str:
    """An aware ``moment`` in UTC, to the millisecond: `2026-01-02T03:04:05.678Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
