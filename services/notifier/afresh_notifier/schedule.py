"""When a job is due: pure reckoning with cron expressions.

In: a schedule, its time zone, and moments. Out: the newest of its times up to a moment, and the next one after it. Where a
clock is set forward, what was to be run in the hour that is left out is run right after it; where it is set back, what is
run at a certain hour is not run twice (as Debian's cron does it; `cronsim` reckons so).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_MINUTE = timedelta(minutes=1)


def newest(schedule: str, timezone: str, now: datetime) -> datetime | None:
    """The newest time of ``schedule`` that is not after ``now``, in UTC; None where there was none for long."""
    # Backwards, it begins with the minute before the one that it is given.
    times = CronSim(schedule, (now + _MINUTE).astimezone(ZoneInfo(timezone)), reverse=True)
    try:
        return next((time.astimezone(UTC) for time in times if time <= now), None)
    except CronSimError:
        return None


def following(schedule: str, timezone: str, now: datetime) -> datetime | None:
    """The first time of ``schedule`` after ``now``, in UTC; None where there will be none for long."""
    try:
        return next(CronSim(schedule, now.astimezone(ZoneInfo(timezone)))).astimezone(UTC)
    except (StopIteration, CronSimError):
        return None
