"""Promise 1: no lost refresh. Random interleavings of writes, slow refreshes and failures, on the real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import ServerUnderTest, eventually
from support.scenario import DIAMOND, Gates, Running, afresh, connected, diamond_fresh, gates

#: Writers that may leave a transaction open; one more never does.
WRITERS = 3

#: What an interleaving is made of: a word, and the number of a writer or a gate.
Step = tuple[str, int]

_writer = st.integers(0, WRITERS - 1)
_gate = st.integers(1, 3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["update", "insert", "delete", "begin", "commit", "rollback"]), _writer),
        st.tuples(st.sampled_from(["update", "insert", "begin"]), _writer),
        st.tuples(st.sampled_from(["close", "close", "open", "reach", "fail", "mend"]), _gate),
        st.tuples(st.sampled_from(["hold", "hold", "cancel", "terminate", "hear", "deafen"]), st.integers(1, 2)),
    ),
    min_size=2,
    max_size=12,
)

#: Ends a refresh in flight, if there is one.
_END_REFRESH = """
SELECT count(pg_cancel_backend(pid)) FILTER (WHERE NOT $1), count(pg_terminate_backend(pid)) FILTER (WHERE $1)
FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'afresh' AND state = 'active' AND query LIKE 'REFRESH%'
"""


@dataclass
class World:
    """One database with a service on it, for all interleavings."""

    running: Running
    db: asyncpg.Connection
    gates: Gates
    writers: list[asyncpg.Connection]
    open: set[int]

    async def play(self, steps: list[Step], commit: bool) -> None:
        """Do ``steps``; then let everything go, and look whether any view is older than the last commit."""
        for word, number in steps:
            await self._step(word, number)
        for writer in sorted(self.open):
            await self.writers[writer].execute("COMMIT" if commit else "ROLLBACK")
        self.open.clear()
        await self.db.execute("UPDATE switches SET fails = false WHERE fails")
        await self.gates.open_all()
        await self.running.settled(self.db)
        assert await diamond_fresh(self.db)

    async def _step(self, word: str, number: int) -> None:
        match word:
            case "update":
                await self.writers[number].execute("UPDATE entries SET amount = amount + 1 WHERE id = $1", number)
            case "insert":
                await self.writers[number].execute(
                    "INSERT INTO entries VALUES ($1, $2, 1) ON CONFLICT (id) DO UPDATE SET amount = entries.amount + 1",
                    number + 10,
                    number,
                )
            case "delete":
                await self.writers[number].execute("DELETE FROM entries WHERE id = $1", number + 10)
            case "begin":
                if number not in self.open:
                    await self.writers[number].execute("BEGIN")
                    self.open.add(number)
            case "commit" | "rollback":
                if number in self.open:
                    await self.writers[number].execute(word)
                    self.open.discard(number)
            case "close":
                await self.gates.close(number)
            case "open":
                await self.gates.open(number)
            case "reach":
                await self._reach(number)
            case "hold":
                # The heart of it: a refresh that has its snapshot, and whatever comes next comes too late for it.
                await self.gates.close(number)
                await self.writers[-1].execute("UPDATE entries SET amount = amount + 1 WHERE id = $1", WRITERS)
                await self.running.heard_all(self.db)
                await self._reach(number)
            case "fail" | "mend":
                await self.gates.fail(number, fails=word == "fail")
            case "hear":
                await self.running.heard_all(self.db)
            case "cancel" | "terminate":
                await self.db.execute(_END_REFRESH.replace("$1", str(word == "terminate")))
            case "deafen":
                await self.db.execute(f"SELECT pg_terminate_backend({self.running.seen.listener_pid})")

    async def _reach(self, gate: int) -> None:
        """Wait until a refresh hangs at ``gate``, if one must come there: a base view's, that has something to show and has
        not just passed."""
        view = {1: "public.totals", 2: "public.counts"}.get(gate)
        if view is not None and gate in self.gates.closed:

            async def hangs_or_has_passed() -> bool:
                return not self.running.stale(view) or await self.gates.hanging(gate) is not None

            await eventually(hangs_or_has_passed)


@pytest.fixture
def world(server: ServerUnderTest, engine_template: str) -> Iterator[tuple[asyncio.Runner, World]]:
    """The service and its database, in a loop that stands still between two interleavings."""
    ready: list[World] = []
    with asyncio.Runner() as runner:
        name = runner.run(server.create(engine_template))
        dsn = server.dsn(name)
        stop = asyncio.Event()

        async def live() -> None:
            async with connected(dsn) as db, gates(dsn) as held:
                await db.execute(DIAMOND)
                writers = [await asyncpg.connect(dsn) for _ in range(WRITERS + 1)]
                async with afresh(dsn, database={"probe_timeout": 30}) as running:
                    ready.append(World(running, db, held, writers, set()))
                    await stop.wait()
                for writer in writers:
                    writer.terminate()

        async def begin() -> asyncio.Task[None]:
            task = asyncio.create_task(live(), name="world")
            await eventually(lambda: bool(ready) or task.done())
            return task

        async def end(task: asyncio.Task[None]) -> None:
            stop.set()
            await task
            await server.drop(name)

        task = runner.run(begin())
        try:
            yield runner, ready[0]
        finally:
            runner.run(end(task))


@settings(
    max_examples=1000,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS, commit=st.booleans())
def test_no_view_ends_older_than_the_last_commit(
    world: tuple[asyncio.Runner, World], steps: list[Step], commit: bool
) -> None:
    runner, played = world
    runner.run(played.play(steps, commit))
