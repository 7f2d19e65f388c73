"""Migrations: brings the engine's objects and the packs' into a database, and takes them away again.

In: folders of migrations (`sql/triggers`, `sql/packs/<name>/migrations`), read by pogo-migrate. Out: `Step`s, one for
each migration as it is applied or taken back. Each migration is one transaction: where it fails, the database is
as it was before it, and those before it stay.

Two runs at once exclude each other by an advisory lock that is *polled*: a session that blocks waiting for one holds
a snapshot, and `CREATE INDEX CONCURRENTLY` in the other run would wait for that for ever.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from pogo_core.error import BadMigrationError
from pogo_core.migration import Migration, topological_sort
from pogo_core.util import sql as pogo_sql

from afresh_notifier import privileges
from afresh_notifier.database import facts, raised_by_us, said
from afresh_notifier.errors import MigrationError
from afresh_notifier.resources import query, sql_folder

ENGINE = "engine"

#: How long a run waits for another one to end, in seconds.
LOCK_PATIENCE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """One folder of migrations and the name under which the database remembers them."""

    name: str
    folder: Path

    @property
    def ledger(self) -> str:
        """The name in pogo-migrate's table."""
        return "afresh" if self.name == ENGINE else f"afresh:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One migration: ``applied`` is whether it is in the database now, ``known`` whether we have its file."""

    scope: str
    migration: str
    title: str
    applied: bool
    known: bool = True


def engine_scope() -> Scope:
    """What Afresh itself installs."""
    return Scope(name=ENGINE, folder=sql_folder() / "triggers")


async def recorded(connection: asyncpg.Connection) -> dict[str, frozenset[str]]:
    """The ids of all applied migrations, by ledger; only reads. A scope without any is not in it."""
    found: dict[str, set[str]] = {}
    if await connection.fetchval(query("migrations_recorded")):
        async with _explained(connection, "the table of applied migrations cannot be read"):
            rows = await connection.fetch(query("migrations_applied"))
        for row in rows:
            found.setdefault(row["ledger"], set()).add(row["migration"])
    return {ledger: frozenset(ids) for ledger, ids in found.items()}


async def applied_packs(connection: asyncpg.Connection) -> list[str]:
    """The names of the packs of which something is applied, known to us or not; only reads."""
    prefix = Scope(name="", folder=Path()).ledger
    return sorted(ledger.removeprefix(prefix) for ledger in await recorded(connection) if ledger.startswith(prefix))


async def status(connection: asyncpg.Connection, scopes: Sequence[Scope]) -> list[Step]:
    """What is applied and what is not; with what the database has and we do not know (a newer Afresh was here).

    It only reads. Raises `MigrationError` where a migration's file is no migration.
    """
    ledgers = await recorded(connection)
    steps = []
    for scope in scopes:
        migrations = await _migrations(scope)
        applied = ledgers.get(scope.ledger, frozenset())
        steps += [Step(scope=scope.name, migration=m.id, title=m.__doc__, applied=m.id in applied) for m in migrations]
        steps += [
            Step(scope=scope.name, migration=unknown, title="", applied=True, known=False)
            for unknown in sorted(applied - {m.id for m in migrations})
        ]
    return steps


async def up(connection: asyncpg.Connection, scopes: Sequence[Scope]) -> AsyncGenerator[Step, None]:
    """Apply what is missing, scope by scope, yielding each step when it is done.

    Raises `MigrationError`. Cancelling rolls the migration in progress back.
    """
    async with _alone(connection):
        async with _explained(connection, "the table of applied migrations cannot be made"):
            await pogo_sql.ensure_pogo_sync(connection)
        for scope in scopes:
            applied = (await recorded(connection)).get(scope.ledger, frozenset())
            if scope.name == ENGINE and not applied:
                await _refuse_foreign(connection)
            for migration in await _migrations(scope):
                if migration.id not in applied:
                    async with _carried_out(connection, migration):
                        await migration.apply(connection)
                        await pogo_sql.migration_applied(
                            connection, migration.id, migration.hash, schema_name=scope.ledger
                        )
                    yield Step(scope=scope.name, migration=migration.id, title=migration.__doc__, applied=True)


async def down(connection: asyncpg.Connection, scopes: Sequence[Scope]) -> AsyncGenerator[Step, None]:
    """Take back all that is applied, in the opposite order, yielding each step when it is done.

    Raises `MigrationError`. Cancelling rolls the migration in progress back.
    """
    async with _alone(connection):
        for scope in reversed(scopes):
            applied = (await recorded(connection)).get(scope.ledger, frozenset())
            for migration in reversed(await _migrations(scope)):
                if migration.id in applied:
                    async with _carried_out(connection, migration):
                        await migration.rollback(connection)
                        await pogo_sql.migration_unapplied(connection, migration.id, schema_name=scope.ledger)
                    yield Step(scope=scope.name, migration=migration.id, title=migration.__doc__, applied=False)


async def script(scope: Scope, *, down: bool = False) -> str:
    """What the migrations of ``scope`` do, as one script for a tool of the user's own; with ``down``, what undoes them.

    It is the text of the files, section by section, in the order in which it must be run. Raises `MigrationError`.
    """
    parts = [
        f"-- {migration.id}: {migration.__doc__}\n\n{_section(migration, down=down)}\n"
        for migration in await _migrations(scope)
    ]
    return "\n".join(reversed(parts) if down else parts)


async def dropped(scope: Scope) -> dict[str, list[str]]:
    """What taking each migration of ``scope`` back drops, as its file says (`view public.a`). Raises `MigrationError`."""
    statement = re.compile(r"^DROP ([A-Z ]+?)(?: IF EXISTS)? ([^A-Z;][^;]*?)(?: CASCADE| RESTRICT)?;", re.MULTILINE)
    found = {}
    for migration in await _migrations(scope):
        rollback = _section(migration, down=True)
        found[migration.id] = [f"{kind.lower()} {' '.join(name.split())}" for kind, name in statement.findall(rollback)]
        if re.search(r"EXECUTE\b.*\bDROP\b", rollback):
            found[migration.id].append("what it finds to be its own when it runs")
    return found


def _section(migration: Migration, *, down: bool) -> str:
    """What applies the migration, or takes it back."""
    text = migration.path.read_text(encoding="utf-8").partition("-- migrate: apply")[2]
    apply, _, rollback = text.partition("-- migrate: rollback")
    return (rollback if down else apply).strip()


async def _migrations(scope: Scope) -> list[Migration]:
    """The migrations of ``scope`` in the order in which they are applied."""
    try:
        found = await pogo_sql.read_migrations(scope.folder, None, schema_name=scope.ledger)
        return topological_sort([migration.load() for migration in sorted(found, key=lambda m: m.id)])
    except BadMigrationError as error:
        raise MigrationError(
            f"{scope.folder}: {error}",
            hint="a migration is a file with `-- migrate: apply` and `-- migrate: rollback` on lines of their own, "
            "and SQL under each; docs/packs.md shows one",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise MigrationError(f"{scope.folder}: the migrations cannot be read: {error}") from error


@asynccontextmanager
async def _carried_out(connection: asyncpg.Connection, migration: Migration) -> AsyncIterator[None]:
    """The transaction of one migration; what PostgreSQL says of a failure reaches the user whole."""
    if migration.use_transaction:
        async with (
            _explained(connection, f"{migration.id} was not carried out, nothing of it remains"),
            connection.transaction(),  # asyncpg's: cancelled, it waits until the server has undone it, and the lock can go
        ):
            yield
    else:
        async with _explained(
            connection, f"{migration.id} was not carried out to its end, and it is one that runs without a transaction"
        ):
            yield


async def _refuse_foreign(connection: asyncpg.Connection) -> None:
    """Raises `MigrationError` where an engine is there of which nothing is written down."""
    if (await facts(connection)).installed:
        raise MigrationError(
            "the engine is in this database already, but not by `afresh migrate`: `afresh sql` was run by hand, perhaps",
            hint="it works as it is, and nothing needs to be done; apply packs the same way, with `afresh sql --pack`. "
            "To let `afresh migrate` keep it from now on, take it away first, and apply it again:\n"
            "afresh sql --down | psql -1 -v ON_ERROR_STOP=1\n"
            "afresh migrate up",
        )


@asynccontextmanager
async def _explained(connection: asyncpg.Connection, problem: str) -> AsyncIterator[None]:
    """Says what PostgreSQL refuses, and what to do: by its own hint, if that is one to follow."""
    try:
        yield
    except asyncpg.PostgresError as error:
        what, hint = said(error)
        if isinstance(error, asyncpg.InsufficientPrivilegeError):
            hint = await privileges.to_migrate(connection) or hint
        elif isinstance(error, asyncpg.DependentObjectsStillExistError) and not raised_by_us(error):
            # PostgreSQL's own hint is to use CASCADE, which takes away what is not ours.
            hint = "drop what is named above, if nobody needs it any more, and run this again"
        elif isinstance(error, asyncpg.DuplicateSchemaError):
            hint = "Afresh keeps its objects in a schema of this name: rename the one that is there, if it is yours"
        raise MigrationError(f"{problem}: {what}", hint=hint) from error


@asynccontextmanager
async def _alone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    deadline = time.monotonic() + LOCK_PATIENCE
    while not await connection.fetchval(query("migrate_lock")):
        if time.monotonic() > deadline:
            raise MigrationError(
                "another migration has been running for a minute",
                hint="wait for it, or look for it in pg_stat_activity (application_name 'afresh migrate')",
            )
        await asyncio.sleep(0.1)
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute(query("migrate_unlock"))
