"""The doctor: looks for what will bite, and says what to do about it.

In: a connection, the settings, the packs. Out: `Finding`s. Each check is a function of its own that looks at one thing;
none changes anything, and none prints. `server` looks at PostgreSQL itself, `tables` at what is watched, `views`
at what is refreshed, `queries` at what is asked by name, `work` at jobs and embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from afresh_notifier import database, embeddings, jobs, planning
from afresh_notifier.doctor import queries, server, tables, views, work
from afresh_notifier.doctor.finding import Finding, Level, ok, problem, warning
from afresh_notifier.errors import DatabaseError, MigrationError
from afresh_notifier.named_queries import named_query
from afresh_notifier.packs import InstalledPack
from afresh_notifier.settings import DatabaseSettings, Settings

__all__ = ["Finding", "Level", "examine", "ok", "problem", "warning"]


#: What has to be read first comes first.
_ORDER: tuple[Level, ...] = ("problem", "warning", "ok")


async def examine(settings: Settings, reached: DatabaseSettings, packs: Sequence[InstalledPack]) -> list[Finding]:
    """All there is to find, problems first. A database that cannot be looked at is a finding too. Cancelling it is safe."""
    try:
        async with database.connection(reached, name="afresh doctor") as connection:
            findings = await _examine(connection, reached, settings, packs)
            return sorted(findings, key=lambda finding: _ORDER.index(finding.level))
    except (DatabaseError, MigrationError) as error:
        return [problem("connection", error.problem, error.hint)]
    except asyncpg.PostgresError as error:
        return [
            problem("connection", f"PostgreSQL does not answer what we must know: {error}", "mend that, and look again")
        ]
    except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
        return [problem("connection", f"it was lost while we looked: {error}", "try again")]


async def _examine(
    connection: asyncpg.Connection, reached: DatabaseSettings, settings: Settings, packs: Sequence[InstalledPack]
) -> list[Finding]:
    pooled = await server.check_session(connection)
    if pooled:
        return pooled  # nothing that is asked through it could be relied on
    facts = await database.facts(connection)
    findings = server.check_facts(facts)
    if any(finding.level == "problem" for finding in findings):
        return findings
    findings += await server.check_engine(connection, facts, packs)
    if facts.installed:
        findings += await server.check_event_triggers(connection)
        findings += await server.check_search_path(connection)
        findings += await server.check_change_log(connection, facts)
        findings += await server.check_publications(connection)
    findings += await server.check_queue(connection)
    findings += await server.check_slots(connection)
    findings += await server.check_prepared_transactions(connection, settings.capture.bell)
    if facts.installed:
        reading = await planning.read(connection, settings, packs)
        findings += tables.check_names(reading.ignored)
        findings += await tables.check_watches(connection)
        findings += await tables.check_keys(connection, settings, packs, reading.plan)
        findings += await views.examine(connection, reading.plan)
        findings += await views.check_cron(connection, reading.plan)
        named = named_query.collect(settings, packs)
        findings += await queries.examine(reached, settings.query, named)
        findings += queries.check_patterns(named, reading.plan)
        findings += await work.check_jobs(connection, jobs.collect(settings, packs))
        wanted = embeddings.collect(settings, packs)
        findings += await work.check_embeddings(connection, wanted, settings.embedding.dimensions)
    return findings
