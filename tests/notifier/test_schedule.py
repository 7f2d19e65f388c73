"""When a job is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afresh_notifier.schedule import following, newest

moments = st.integers(0, 6 * 366 * 86400).map(
    lambda second: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
)
schedules = st.sampled_from(["* * * * *", "*/7 * * * *", "0 3 * * *", "30 2 * * 1-5", "15 10 1,15 * *", "0 0 1 1 *"])
zones = st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"])


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@given(schedules, zones, moments)
def test_the_newest_time_is_the_last_one_before_the_next(schedule: str, zone: str, now: datetime) -> None:
    time = newest(schedule, zone, now)
    after = following(schedule, zone, now)
    assert time is not None
    assert after is not None
    assert time <= now < after
    assert following(schedule, zone, time) == after or following(schedule, zone, time) == time
    assert newest(schedule, zone, after) == after
    assert newest(schedule, zone, after - timedelta(microseconds=1)) == time


@pytest.mark.parametrize(
    ("now", "last", "next_one"),
    [
        # The hour from two to three is left out: what was to be run in it is run at three.
        ("2026-03-29 00:59", "2026-03-28 01:30", "2026-03-29 01:00"),
        ("2026-03-29 01:00", "2026-03-29 01:00", "2026-03-30 00:30"),
        # It comes twice: what is to be run in it is run once.
        ("2026-10-25 00:30", "2026-10-25 00:30", "2026-10-26 01:30"),
        ("2026-10-25 01:30", "2026-10-25 00:30", "2026-10-26 01:30"),
    ],
)
def test_clocks_that_are_set_run_a_job_once(now: str, last: str, next_one: str) -> None:
    assert newest("30 2 * * *", "Europe/Berlin", at(now)) == at(last)
    assert following("30 2 * * *", "Europe/Berlin", at(now)) == at(next_one)


def test_a_day_that_comes_every_four_years_comes() -> None:
    assert newest("0 0 29 2 *", "UTC", at("2026-11-27")) == at("2024-02-29")
    assert following("0 0 29 2 *", "UTC", at("2026-11-27")) == at("2028-02-29")
