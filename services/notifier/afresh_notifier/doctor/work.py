"""Checks of what the leader does beside refreshing: whether jobs can be run, and whether embeddings follow their texts."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from afresh_notifier import database, embeddings
from afresh_notifier.doctor.finding import Finding, ok, problem, warning
from afresh_notifier.embeddings import Wanted
from afresh_notifier.errors import SourceUnusable
from afresh_notifier.jobs import Job
from afresh_notifier.resources import query

#: How long one look at a table's rows may take.
_LOOK = "5s"


async def check_jobs(connection: asyncpg.Connection, jobs: Sequence[Job]) -> list[Finding]:
    """Whether each job's statement can be prepared, and what became of its last run. Nothing is run."""
    rows = {row["name"]: row for row in await connection.fetch(query("job_rows"))} if jobs else {}
    findings = []
    for job in jobs:
        about, row = f"job {job.name}", rows.get(job.name)
        try:
            async with database.transaction(connection, readonly=True):
                await connection.execute(query("set_search_path"), "public")
                await connection.prepare(job.statement)
        except asyncpg.PostgresError as error:
            what, hint = database.said(error)
            findings.append(problem(about, f"its statement cannot be run: {what}", hint or "correct it"))
            continue
        if row is not None and row["problem"] is not None:
            findings.append(
                warning(
                    about,
                    f"it has failed {row['failures']} times in a row: {row['problem']}",
                    f"mend that, and run it: afresh jobs --run {job.name}",
                )
            )
        else:
            findings.append(ok(about, f"can be run, at {job.schedule} ({job.timezone})"))
    return findings


async def check_embeddings(connection: asyncpg.Connection, wanted: Sequence[Wanted], most: int) -> list[Finding]:
    """Whether each column can hold its embeddings and hears of its texts; and whether some lack theirs."""
    findings = []
    for one in wanted:
        about = f"embeddings of {one.name}"
        try:
            source = await embeddings.look_up(connection, one, most=most)
        except SourceUnusable as error:
            findings.append(problem(about, error.problem, error.hint))
            continue
        waiting = await connection.fetchrow(query("embedding_waiting"), source.members, one.text, 10_000)
        assert waiting is not None  # noqa: S101 - an aggregate without GROUP BY has one row
        if waiting["failed"]:
            rows = "1 row" if waiting["failed"] == 1 else f"{waiting['failed']} rows"
            what = f"{rows} could not be embedded: {waiting['problem']}"
            findings.append(warning(about, what, "mend that; the service tries them again, and so does `afresh embed`"))
        elif await _some_lack_theirs(connection, source):
            findings.append(warning(about, "some rows have a text, and no embedding", "run `afresh embed`"))
        else:
            findings.append(ok(about, "follow their texts"))
    return findings


async def _some_lack_theirs(connection: asyncpg.Connection, source: embeddings.Source) -> bool:
    try:
        async with database.transaction(connection, readonly=True):
            await connection.execute(query("limit_statement"), _LOOK)
            return bool(await connection.fetchval(source.lacking, source.members))
    except (asyncpg.QueryCanceledError, asyncpg.InsufficientPrivilegeError):
        return False
