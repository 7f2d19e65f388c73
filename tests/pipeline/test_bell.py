"""The bell: silent while changes come fast, rung while they do not, and nothing is missed when it is switched."""

from __future__ import annotations

from typing import Any

import asyncpg

from afresh_notifier.observations import BellSet, ChangesHeard
from conftest import eventually
from support.scenario import DIAMOND, afresh, connected, diamond_fresh

#: Few changes count as many, so that a switch comes soon.
TOUCHY: dict[str, Any] = {"capture": {"threshold": 10}}

BELL = "SELECT last_value > extract(EPOCH FROM clock_timestamp()) FROM afresh.bell"


class Ear:
    """Hears what is rung."""

    def __init__(self) -> None:
        self.rung = 0

    def __call__(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self.rung += payload == ""


async def storm(db: asyncpg.Connection) -> None:
    """So many changes that the bell is silenced."""
    for _ in range(60):
        await db.execute("UPDATE entries SET amount = amount + 1 WHERE id = 0")


async def test_bell_is_silenced_under_a_storm_and_rings_again_after_it(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    ear = Ear()
    async with afresh(dsn, **TOUCHY) as running, connected(dsn) as other:
        await other.add_listener("afresh", ear)
        await running.settled(db)
        await running.seen.until(BellSet, ringing=True)
        before = ear.rung
        await db.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        await eventually(lambda: ear.rung == before + 1)
        seen = running.seen.mark
        await storm(db)
        await running.seen.until(BellSet, since=seen, ringing=False)
        assert not await db.fetchval(BELL)
        await running.seen.until(BellSet, since=seen, ringing=True)
        assert await db.fetchval(BELL)
        assert await diamond_fresh(db)


async def test_transaction_that_stays_open_across_the_switch_is_not_missed(dsn: str, db: asyncpg.Connection) -> None:
    """It read "silent", and commits after the look that follows the switch to ringing: nobody rings for it."""
    await db.execute(DIAMOND)
    ear = Ear()
    async with afresh(dsn, **TOUCHY) as running, connected(dsn) as writer, connected(dsn) as other:
        await other.add_listener("afresh", ear)
        await running.settled(db)
        seen = running.seen.mark
        await storm(db)
        await running.seen.until(BellSet, since=seen, ringing=False)
        await writer.execute("BEGIN; UPDATE entries SET amount = 77 WHERE id = 3")
        assert not await db.fetchval(BELL)
        await running.seen.until(BellSet, since=seen, ringing=True)
        await running.settled(db)
        marked, rung = running.seen.mark, ear.rung
        await writer.execute("COMMIT")
        await running.seen.until(ChangesHeard, since=marked, table="public.entries")
        assert ear.rung == rung
        await running.settled(db)
        assert await diamond_fresh(db)


async def test_bell_that_never_rings_lets_a_transaction_be_prepared(dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(DIAMOND)
    async with afresh(dsn, capture={"bell": "never"}) as running:
        await running.settled(db)
        await db.execute("BEGIN; UPDATE entries SET amount = 9 WHERE id = 2; PREPARE TRANSACTION 'afresh test'")
        seen = running.seen.mark
        await db.execute("COMMIT PREPARED 'afresh test'")
        await running.seen.until(ChangesHeard, since=seen, table="public.entries")
        await running.settled(db)
        assert await diamond_fresh(db)
        assert running.seen.of(BellSet, ringing=True) == []
