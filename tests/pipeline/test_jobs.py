"""Jobs: run once for each of their times, by whoever leads, whatever dies in between."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from afresh_notifier import jobs as jobs_module
from afresh_notifier.errors import SettingsError
from afresh_notifier.jobs import Job, carry_out
from afresh_notifier.observations import JobDone, JobFailed, Warned
from afresh_notifier.settings import Settings
from conftest import eventually
from support.scenario import afresh, connected

RUNS = "CREATE TABLE runs (n int GENERATED ALWAYS AS IDENTITY, at timestamptz DEFAULT clock_timestamp())"


@pytest.fixture
async def runs(db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> asyncpg.Connection:
    monkeypatch.setattr(jobs_module, "PACE", 0.02)
    monkeypatch.setattr(jobs_module, "RETRY_FIRST", 0.02)
    monkeypatch.setattr(jobs_module, "RETRY_MAX", 0.05)
    await db.execute(RUNS)
    return db


def job(folder: Path, statement: str = "INSERT INTO runs DEFAULT VALUES;", **more: Any) -> dict[str, Any]:
    file = folder / "job.sql"
    file.write_text(statement)
    return {"name": "count", "schedule": "0 3 * * *", "file": str(file), **more}


class Clock:
    """Takes the place of `datetime` in a module."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self, _zone: object) -> datetime:
        return self.moment


async def missed(db: asyncpg.Connection, days: int = 3) -> None:
    """The job was run some days ago, and nobody was there since."""
    await db.execute("INSERT INTO afresh.jobs (name, due) VALUES ('count', now() - $1 * interval '1 day')", days)


async def count(db: asyncpg.Connection) -> int:
    return int(await db.fetchval("SELECT count(*) FROM runs"))


async def ran(db: asyncpg.Connection, times: int) -> bool:
    return await count(db) == times


async def test_times_that_were_missed_are_made_up_for_once(runs: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    await missed(runs)
    before = datetime.now(UTC)
    async with afresh(dsn, jobs=[job(tmp_path)]) as running:
        done = await running.seen.until(JobDone, job="count")
        row = await runs.fetchrow("SELECT * FROM afresh.jobs")
        assert row is not None
        assert row["due"] == datetime.fromisoformat(done.due)
        assert before - timedelta(days=1) < row["due"] <= datetime.now(UTC)
        assert (row["due"].hour, row["due"].minute, row["failures"], row["problem"]) == (3, 0, 0, None)
        assert row["ran_at"] >= before
    await runs.execute("INSERT INTO afresh.jobs (name, due) VALUES ('other', now() - interval '2 days')")
    async with afresh(dsn, jobs=[job(tmp_path), {**job(tmp_path), "name": "other"}]) as running:
        await running.seen.until(JobDone, job="other")
        assert not running.seen.of(JobDone, job="count")
        assert await count(runs) == 2


async def test_a_job_that_nobody_has_heard_of_was_not_missed(
    runs: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    async with afresh(dsn, jobs=[job(tmp_path)]):

        async def known() -> bool:
            return bool(await runs.fetchval("SELECT count(*) FROM afresh.jobs"))

        await eventually(known)
    assert await count(runs) == 0


@pytest.mark.parametrize("stays", [True, False], ids=["while it runs", "while nothing runs"])
async def test_a_clock_that_was_far_ahead_stops_no_job(
    runs: asyncpg.Connection, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stays: bool
) -> None:
    await missed(runs)
    real = datetime.now(UTC)
    clock = Clock(real + timedelta(days=400))
    monkeypatch.setattr(jobs_module, "datetime", clock)

    async def is_due_again() -> bool:
        return bool(await runs.fetchval("SELECT due <= $1 FROM afresh.jobs", real))

    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(afresh(dsn, jobs=[job(tmp_path)]))
        await running.seen.until(JobDone, job="count")
        clock.moment = real
        if not stays:
            await stack.aclose()
            await stack.enter_async_context(afresh(dsn, jobs=[job(tmp_path)]))
        await eventually(is_due_again)
        assert await count(runs) == 1  # what is past is not made up for
        clock.moment += timedelta(days=1)
        await eventually(lambda: ran(runs, 2))


async def test_a_job_in_hand_that_a_clock_ran_far_ahead_keeps_no_other_one_back(
    runs: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    await missed(runs)
    await runs.execute("INSERT INTO afresh.jobs (name, due) VALUES ('long', now() + interval '400 days')")
    async with connected(dsn) as holder, holder.transaction():
        await holder.execute("SELECT FROM afresh.jobs WHERE name = 'long' FOR UPDATE")
        async with afresh(dsn, jobs=[job(tmp_path), {**job(tmp_path), "name": "long"}]) as running:
            await running.seen.until(JobDone, job="count")
            assert not running.seen.of(Warned, about="jobs")


async def test_a_job_that_fails_is_undone_and_tried_again_until_it_succeeds(
    runs: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    await missed(runs)
    await runs.execute("""
        CREATE FUNCTION work() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO runs DEFAULT VALUES;
            IF to_regclass('ready') IS NULL THEN RAISE 'not yet' USING HINT = 'make it ready'; END IF;
            RETURN 1;
        END $$;
    """)
    async with afresh(dsn, jobs=[job(tmp_path, "SELECT work()")]) as running:
        await eventually(lambda: len(running.seen.of(JobFailed)) >= 3)
        failed = running.seen.of(JobFailed)[2]
        assert (failed.problem, failed.hint, failed.failures) == ("not yet", "make it ready", 3)
        assert await count(runs) == 0
        assert await runs.fetchval("SELECT problem FROM afresh.jobs WHERE failures >= 3") == "not yet"
        await runs.execute("CREATE TABLE ready ()")
        await running.seen.until(JobDone, job="count")
        assert await count(runs) == 1
        assert await runs.fetchval("SELECT failures FROM afresh.jobs") == 0


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("SELECT 1; SELECT 2", "cannot insert multiple commands into a prepared statement"),
        ("SELECT pg_sleep(60)", "it took longer than 0.05 s"),
        ("nonsense", "syntax error"),
        ("VACUUM", "VACUUM cannot run inside a transaction block"),
        ("SELECT pg_terminate_backend(pg_backend_pid())", "connection"),
    ],
)
async def test_what_cannot_be_run_is_said_and_harms_nothing_else(
    runs: asyncpg.Connection, dsn: str, tmp_path: Path, statement: str, problem: str
) -> None:
    await missed(runs)
    good = {**job(tmp_path), "name": "good"}
    (tmp_path / "bad").mkdir()
    await runs.execute("INSERT INTO afresh.jobs (name, due) VALUES ('good', now() - interval '2 days')")
    async with afresh(dsn, jobs=[job(tmp_path / "bad", statement, timeout=0.05), good]) as running:
        failed = await running.seen.until(JobFailed, job="count")
        assert problem in failed.problem
        await running.seen.until(JobDone, job="good")
        assert await count(runs) == 1


@pytest.mark.parametrize("result", ["date '0044-03-15 BC'", "timestamptz '20000-01-01'"])
async def test_what_a_job_gives_is_not_read(runs: asyncpg.Connection, dsn: str, tmp_path: Path, result: str) -> None:
    await missed(runs)
    statement = f"INSERT INTO runs DEFAULT VALUES RETURNING {result}"
    async with afresh(dsn, jobs=[job(tmp_path, statement)]) as running:
        await running.seen.until(JobDone, job="count")
        assert await count(runs) == 1


async def test_where_it_cannot_be_seen_what_was_run_that_is_said_once_and_jobs_are_run_as_soon_as_it_can(
    runs: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    await missed(runs)
    await runs.execute("ALTER TABLE afresh.jobs RENAME TO other")
    async with afresh(dsn, jobs=[job(tmp_path)]) as running:
        await running.seen.until(Warned, about="jobs")
        await runs.execute("ALTER TABLE afresh.other RENAME TO jobs")
        await running.seen.until(JobDone, job="count")
        assert len(running.seen.of(Warned, about="jobs")) == 1


async def test_a_job_whose_row_was_taken_away_is_run_at_its_next_time_all_the_same(
    runs: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    await missed(runs)
    async with afresh(dsn, jobs=[job(tmp_path, "INSERT INTO runs SELECT FROM not_yet")]) as running:
        await running.seen.until(JobFailed, job="count")
        await runs.execute("DELETE FROM afresh.jobs; CREATE TABLE not_yet AS SELECT 1 AS x")
        await running.seen.until(JobDone, job="count")
        assert await count(runs) == 1


async def test_of_two_who_think_that_they_lead_one_runs_a_job(runs: asyncpg.Connection, dsn: str) -> None:
    await missed(runs)
    now = datetime.now(UTC)
    work = Job(
        name="count",
        source="",
        schedule="0 3 * * *",
        timezone="UTC",
        statement="INSERT INTO runs SELECT FROM pg_sleep(0.1)",
        timeout=5,
        description="",
    )
    due = work.newest(now)
    assert due is not None
    other = await asyncpg.connect(dsn)
    try:
        async with other.transaction():
            await other.execute("SELECT FROM afresh.jobs FOR UPDATE")
            beside = await carry_out(runs, work, due)
            assert (beside.ran, beside.due) == (False, None)
        assert (await carry_out(runs, work, due)).ran
        again = await carry_out(other, work, due)
        assert (again.ran, again.due) == (False, due)
        assert not (await carry_out(other, work, due - timedelta(days=1))).ran
    finally:
        await other.close()
    assert await count(runs) == 1


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"schedule": "0 3 * *"}, "it has five fields"),
        ({"schedule": "0 3 30 2 *"}, "expected a cron expression"),
        ({"schedule": "61 * * * *"}, "expected a cron expression"),
        ({"timezone": "Mars/Olympus"}, "expected a time zone"),
        ({"timezone": "/etc/passwd"}, "expected a time zone"),
        ({"timeout": 0}, "timeout"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Settings.model_validate({"jobs": [{"name": "a", "schedule": "0 3 * * *", "file": "a.sql", **change}]})


async def test_jobs_that_cannot_be_told_apart_or_found_are_said_at_the_start(dsn: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="named 2 times"):
        Settings.model_validate({"jobs": [job(tmp_path), job(tmp_path)]})
    with pytest.raises(SettingsError, match=r"job count: .*nothing\.sql cannot be read"):
        async with afresh(dsn, jobs=[{**job(tmp_path), "file": str(tmp_path / "nothing.sql")}]):
            pass
