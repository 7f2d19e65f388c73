"""The lease: one of two leads, and soon the other one does, however the first ceases: by its word, its end, its silence."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import pytest

from afresh_notifier.clock import loop_time
from afresh_notifier.lease import Lease
from afresh_notifier.observations import Following, Leading, LeaseFailed, Observation
from afresh_notifier.settings import DatabaseSettings, LeaseSettings
from conftest import eventually
from support.scenario import connected

#: Long enough that a slow machine renews in time.
LENGTH, RENEW = 2.5, 0.5


class Instance:
    """One that wants to lead."""

    def __init__(self, dsn: str, name: str) -> None:
        self.observed: list[Observation] = []
        self.changes: list[int | None] = []
        self.lease = Lease(
            DatabaseSettings(dsn=dsn),
            LeaseSettings(length=LENGTH, renew=RENEW),
            name,
            lambda: self.changes.append(self.lease.term),
            self.observed.append,
        )
        self.running = asyncio.create_task(self.lease.run(), name=f"lease of {name}")

    @property
    def leads(self) -> bool:
        return self.lease.term is not None

    def saw(self, kind: type[Observation]) -> list[Observation]:
        return [seen for seen in self.observed if isinstance(seen, kind)]

    async def die(self) -> None:
        """Without a word: the lease stays as it is."""
        self.running.cancel()
        await asyncio.wait([self.running])

    def backend(self) -> int:
        connection = self.lease._connection
        assert connection is not None
        pid: int = connection.get_server_pid()
        return pid


@asynccontextmanager
async def instance(dsn: str, name: str) -> AsyncIterator[Instance]:
    made = Instance(dsn, name)
    try:
        yield made
    finally:
        await made.die()


@asynccontextmanager
async def two(dsn: str) -> AsyncIterator[tuple[Instance, Instance]]:
    """The first one leads, the second follows and knows it."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(instance(dsn, "first"))
        await eventually(lambda: first.leads)
        second = await stack.enter_async_context(instance(dsn, "second"))
        await eventually(lambda: bool(second.saw(Following)))
        yield first, second


async def test_one_of_two_leads_and_the_other_knows_who(dsn: str, db: asyncpg.Connection) -> None:
    async with two(dsn) as (first, second):
        assert first.observed == [Leading(term=1)]
        assert first.changes == [1]
        assert second.observed == [Following(leader="first", term=1)]
        expires = await db.fetchval("SELECT expires FROM afresh.lease")

        async def renewed() -> bool:
            return bool(await db.fetchval("SELECT expires > $1 FROM afresh.lease", expires))

        await eventually(renewed)
        assert first.lease.term == 1
        assert second.lease.term is None
        assert second.changes == []


async def test_of_many_that_start_at_once_one_leads(dsn: str) -> None:
    async with AsyncExitStack() as stack:
        all_of_them = [await stack.enter_async_context(instance(dsn, f"number {n}")) for n in range(6)]
        await eventually(lambda: sum(bool(one.saw(Leading) or one.saw(Following)) for one in all_of_them) == 6)
        assert sum(one.leads for one in all_of_them) == 1


async def test_who_resigns_is_followed_at_once(dsn: str) -> None:
    async with two(dsn) as (first, second):
        await first.die()
        await first.lease.resign()
        assert not first.leads
        second.lease.wake()  # as LeaseFree does
        began = loop_time()
        await eventually(lambda: second.leads)
        assert loop_time() - began < LENGTH / 2
        assert second.lease.term == 2
        await first.lease.resign()  # again: it has nothing to give up
        assert second.leads


async def test_a_resignation_is_heard_by_all(dsn: str) -> None:
    heard: list[object] = []
    async with two(dsn) as (first, _), connected(dsn) as listener:
        await listener.add_listener("afresh", lambda *arguments: heard.append(arguments[3]))
        await first.die()
        await first.lease.resign()
        await eventually(lambda: bool(heard))
    assert heard == ['{"v":1,"op":"LEASE"}']


async def test_who_dies_without_a_word_is_followed_when_his_lease_has_run_out(dsn: str) -> None:
    async with two(dsn) as (first, second):
        await first.die()
        assert not second.leads
        await eventually(lambda: second.leads)
        assert second.lease.term == 2
        await eventually(lambda: not first.leads)


async def test_a_connection_that_is_cut_is_replaced_and_the_term_stays(dsn: str, db: asyncpg.Connection) -> None:
    async with two(dsn) as (first, second):
        pid = first.backend()
        await db.execute("SELECT pg_terminate_backend($1)", pid)
        await eventually(lambda: first.lease._connection is not None and first.backend() != pid)
        assert first.lease.term == 1
        assert not second.leads


@pytest.mark.skipif("AFRESH_TEST_DSN" in os.environ, reason="stops a process of the server")
async def test_a_frozen_connection_loses_the_lease_no_longer_than_it_takes_to_make_another(dsn: str) -> None:
    async with two(dsn) as (first, second):
        pid = first.backend()
        os.kill(pid, signal.SIGSTOP)
        try:
            await eventually(lambda: bool(first.saw(LeaseFailed)))
            await eventually(lambda: first.leads or second.leads)
            await eventually(lambda: first.lease._connection is not None and first.backend() != pid)
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_who_cannot_renew_does_not_lead_by_his_own_clock_and_is_followed(
    dsn: str, db: asyncpg.Connection
) -> None:
    """His row is locked by a session that is stuck: so nobody can renew it, and nobody need."""
    async with two(dsn) as (first, second), connected(dsn) as stuck, stuck.transaction():
        await stuck.execute("SELECT FROM afresh.lease WHERE term = 1 FOR UPDATE")
        await eventually(lambda: bool(first.saw(LeaseFailed)))
        await eventually(lambda: second.leads)
        assert second.lease.term == 2
        await eventually(lambda: not first.leads)
        await eventually(lambda: bool(first.saw(Following)))
        assert first.changes == [1, None]
    assert await db.fetchval("SELECT count(*) FROM afresh.lease") == 2


async def test_a_lease_that_was_renewed_too_late_is_another_term(dsn: str) -> None:
    """It ran out by our own clock while the renewal waited: whoever saw that, and follows, must hear that we lead again."""
    async with instance(dsn, "one") as one, connected(dsn) as stuck:
        await eventually(lambda: one.leads)
        async with stuck.transaction():
            await stuck.execute("SELECT FROM afresh.lease FOR UPDATE")
            await eventually(lambda: bool(one.saw(LeaseFailed)))
            await eventually(lambda: not one.leads)
        await eventually(lambda: one.leads)
        assert one.changes == [1, None, 2]
        assert one.saw(Following) == [Following(leader=None, term=None, reason="it ran out before it could be renewed")]


async def test_a_process_that_slept_does_not_believe_what_it_believed(dsn: str) -> None:
    """The clock goes on while nothing runs: no task need come round for the term to be over."""
    async with instance(dsn, "one") as one:
        await eventually(lambda: one.leads)
        await one.die()
        one.lease._held_until = loop_time() - 0.001
        assert one.lease.term is None


@pytest.mark.parametrize("ahead", ["1 day", "100 years"])
async def test_a_lease_that_ends_in_the_far_future_is_no_lease_for_ever(
    dsn: str, db: asyncpg.Connection, ahead: str
) -> None:
    """The server's clock was set back."""
    async with two(dsn) as (first, second):
        await first.die()
        await db.execute("UPDATE afresh.lease SET expires = clock_timestamp() + $1::text::interval", ahead)
        began = loop_time()
        await eventually(lambda: second.leads)
        assert loop_time() - began >= LENGTH - 0.1
        assert second.lease.term == 2


async def test_a_lease_in_the_future_that_is_renewed_is_respected(dsn: str, db: asyncpg.Connection) -> None:
    async with two(dsn) as (first, second):
        await first.die()
        until = loop_time() + LENGTH + 1.0

        async def long_enough() -> bool:
            await db.execute("UPDATE afresh.lease SET expires = clock_timestamp() + interval '1 day'")
            await asyncio.sleep(0.1)
            return loop_time() > until

        await eventually(long_enough)
        assert not second.leads


async def test_a_term_that_somebody_frozen_holds_is_left_out(dsn: str) -> None:
    async with two(dsn) as (first, second), connected(dsn) as frozen, frozen.transaction():
        await frozen.execute("INSERT INTO afresh.lease VALUES (2, 'frozen', clock_timestamp() + interval '3 s')")
        await first.die()
        await first.lease.resign()
        second.lease.wake()
        began = loop_time()
        await eventually(lambda: second.leads)
        assert second.lease.term == 3
        assert loop_time() - began < 3 * RENEW + 1.0


async def test_whose_term_is_lower_steps_down(dsn: str, db: asyncpg.Connection) -> None:
    async with instance(dsn, "one") as one:
        await eventually(lambda: one.leads)
        await db.execute("INSERT INTO afresh.lease VALUES (5, 'another', clock_timestamp() + interval '1 hour')")
        await eventually(lambda: not one.leads)
        await eventually(lambda: Following(leader="another", term=5) in one.observed)
        assert Following(leader=None, term=None, reason="another instance leads") in one.observed
        assert one.changes == [1, None]
        await db.execute("UPDATE afresh.lease SET expires = '-infinity' WHERE term = 5")
        one.lease.wake()
        await eventually(lambda: one.lease.term == 6)


async def test_a_row_that_is_gone_is_a_lease_that_is_lost(dsn: str, db: asyncpg.Connection) -> None:
    async with instance(dsn, "one") as one:
        await eventually(lambda: one.leads)
        await db.execute("TRUNCATE afresh.lease")
        await eventually(lambda: one.changes[:2] == [1, None])
        await eventually(lambda: one.leads)


async def test_the_terms_of_the_past_are_trimmed(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute("INSERT INTO afresh.lease SELECT n, 'old', '-infinity' FROM generate_series(1, 40) AS n")
    async with instance(dsn, "one") as one:
        await eventually(lambda: one.lease.term == 41)

        async def trimmed() -> bool:
            return bool(await db.fetchval("SELECT min(term) = 31 FROM afresh.lease"))

        await eventually(trimmed)


async def test_while_there_is_no_database_it_goes_on_trying(dsn: str) -> None:
    async with instance("postgresql://nobody@127.0.0.1:1/none", "one") as one:
        await eventually(lambda: len(one.saw(LeaseFailed)) >= 2)
        assert not one.leads
        await one.die()
        await one.lease.resign()
