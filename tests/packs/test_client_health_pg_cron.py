"""`pg_cron.sql` of ``client_health``, beside a stand-in for the extension's schema: pg_cron itself must be preloaded."""

from __future__ import annotations

import asyncpg
import pytest

from packs.client_health_support import PACK, VIEWS, load_sample

SCRIPT = PACK.read("pg_cron.sql")

#: What the script and the checks use of pg_cron: its table of jobs, and a schedule that replaces a job of the same name.
PG_CRON = """
    CREATE SCHEMA cron;
    CREATE TABLE cron.job (
        jobid bigint GENERATED ALWAYS AS IDENTITY, schedule text, command text, active boolean DEFAULT true,
        jobname {kind} UNIQUE
    );
    CREATE FUNCTION cron.schedule(job_name {kind}, schedule text, command text) RETURNS bigint LANGUAGE sql AS $$
        INSERT INTO cron.job (jobname, schedule, command) VALUES (job_name, schedule, command)
        ON CONFLICT (jobname) DO UPDATE SET schedule = excluded.schedule, command = excluded.command
        RETURNING jobid
    $$;
    CREATE FUNCTION cron.unschedule(job_name text) RETURNS boolean LANGUAGE sql AS $$
        DELETE FROM cron.job WHERE jobname = job_name RETURNING true
    $$;
"""


async def jobs(db: asyncpg.Connection) -> dict[str, tuple[str, str]]:
    return {r["jobname"]: (r["schedule"], r["command"]) for r in await db.fetch("SELECT * FROM cron.job")}


async def check(db: asyncpg.Connection) -> tuple[str, bool]:
    (row,) = [row for row in await db.fetch(PACK.read("verify.sql")) if row["check"] == "jobs of pg_cron"]
    return row["found"], row["ok"]


async def test_without_pg_cron_it_says_so_and_what_to_do(db: asyncpg.Connection) -> None:
    assert await db.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_cron'") == 0
    with pytest.raises(asyncpg.FeatureNotSupportedError, match="pg_cron is not installed in the database") as raised:
        await db.execute(SCRIPT)
    assert "without it" in (raised.value.hint or "")
    assert "shared_preload_libraries" in (raised.value.hint or "")
    assert await check(db) == ("none: none is needed", True)


@pytest.mark.parametrize("kind", ["text", "name"])
async def test_both_views_are_scheduled_every_five_minutes_however_often_it_is_run(
    db: asyncpg.Connection, kind: str
) -> None:
    await db.execute(PG_CRON.format(kind=kind))
    for _ in range(2):
        await db.execute(SCRIPT)
        assert await jobs(db) == {
            f"refresh_{view}": ("*/5 * * * *", f"REFRESH MATERIALIZED VIEW CONCURRENTLY public.{view}")
            for view in VIEWS
        }
    found, ok = await check(db)
    assert (found.count("*/5 * * * *"), ok) == (2, True)


async def test_what_is_scheduled_refreshes_the_views(db: asyncpg.Connection) -> None:
    await db.execute(PG_CRON.format(kind="text"))
    await db.execute(SCRIPT)
    await load_sample(db, 3)
    await db.execute("SET search_path = ''")  # a job's session has the search path of its user
    for _, command in (await jobs(db)).values():
        await db.execute(command)
    assert await db.fetchval("SELECT count(*) FROM public.client_health_summary") == 3


async def test_the_script_says_how_to_take_the_schedule_away(db: asyncpg.Connection) -> None:
    await db.execute(PG_CRON.format(kind="text"))
    await db.execute(SCRIPT)
    statements = [line.removeprefix("--").strip() for line in SCRIPT.splitlines() if "SELECT cron.unschedule" in line]
    assert len(statements) == 2
    await db.execute(statements[0])
    found, ok = await check(db)
    assert not ok, found
    await db.execute(statements[1])
    assert await jobs(db) == {}
    assert await check(db) == ("none: none is needed", True)


async def test_a_job_at_another_pace_fails_the_check(db: asyncpg.Connection) -> None:
    await db.execute(PG_CRON.format(kind="text"))
    await db.execute(SCRIPT)
    await db.execute("UPDATE cron.job SET schedule = '0 * * * *' WHERE jobname = 'refresh_client_health_summary'")
    assert not (await check(db))[1]


async def test_a_view_that_is_not_there_is_not_scheduled(db: asyncpg.Connection) -> None:
    await db.execute(PG_CRON.format(kind="text"))
    await db.execute("DROP MATERIALIZED VIEW event_compliance_summary CASCADE")
    with pytest.raises(asyncpg.UndefinedTableError, match=r"no view public\.event_compliance_summary"):
        await db.execute(SCRIPT)
    assert await jobs(db) == {}


async def test_a_schema_of_that_name_without_its_functions_is_no_pg_cron(db: asyncpg.Connection) -> None:
    await db.execute("CREATE SCHEMA cron")
    with pytest.raises(asyncpg.FeatureNotSupportedError):
        await db.execute(SCRIPT)


async def test_jobs_that_may_not_be_read_are_left_alone(db: asyncpg.Connection) -> None:
    await db.execute(PG_CRON.format(kind="text"))
    await db.execute(SCRIPT)
    await db.execute("SET ROLE service_role")
    assert await check(db) == ("none: none is needed", True)
    await db.execute("RESET ROLE")
