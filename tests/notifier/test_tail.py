"""The tail: everything that is appended comes to the hub, in order and once, through whatever becomes of the log or of us;
and a client who is ahead of this instance is waited for.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import aiohttp
import asyncpg
import pytest

from afresh_cache.messages import (
    Invalidate,
    Position,
    PositionUpdate,
    Resync,
    ServerMessage,
    Status,
    Subscribed,
    encode,
    read_server_message,
)
from afresh_notifier import app, database, invalidation_log
from afresh_notifier import tail as tail_module
from afresh_notifier.board import Board
from afresh_notifier.http import Api
from afresh_notifier.hub import Hub
from afresh_notifier.invalidation import Invalidation
from afresh_notifier.live import Live
from afresh_notifier.metrics import Metrics
from afresh_notifier.observations import CaughtUp, FellBehind, Invalidated, Observation, TailFailed
from afresh_notifier.refresher import Refresher
from afresh_notifier.replay import Replay
from afresh_notifier.settings import DatabaseSettings, Settings
from afresh_notifier.subscriber import Subscriber
from afresh_notifier.tail import Tail
from conftest import PATIENCE, ServerUnderTest, eventually
from support.doors import NoQueries, connect
from support.scenario import connected

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Wire:
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        self.messages: list[ServerMessage] = []

    def write(self, data: bytes) -> None:
        message = read_server_message(data.decode())
        assert message is not None
        self.messages.append(message)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False


def framed(message: ServerMessage, _: Position) -> bytes:
    return encode(message)


class Instance:
    """A hub and its tail, on a database; nobody wakes the tail but the test."""

    def __init__(self, pool: asyncpg.Pool, most: int) -> None:
        self.observed: list[Observation] = []
        self.replay = Replay(max_entries=most, max_age=1e9)
        self.hub = Hub(self.replay, self.observed.append, pace=0.0, buffer=1 << 20, position_interval=1e9)
        self.tail = Tail(pool, self.hub, self.observed.append, most=most)
        self.wire = Wire()
        self.subscriber = Subscriber(transport=self.wire, frame=framed)
        self.url = ""

    @property
    def offsets(self) -> list[int]:
        """What was published, in order."""
        return [seen.offset for seen in self.observed if isinstance(seen, Invalidated)]

    async def told(self) -> list[ServerMessage]:
        """What a subscriber of everything is told, after a flush."""
        await self.hub.flush()
        messages, self.wire.messages = self.wire.messages, []
        return messages


@asynccontextmanager
async def instance(dsn: str, *, most: int = 1_000, load: bool = True, run: bool = True) -> AsyncIterator[Instance]:
    settings = Settings.model_validate({"server": {"port": 0, "flush": 0}})
    async with database.pool(DatabaseSettings(dsn=dsn), size=2) as pool:
        made = Instance(pool, most)
        if load:
            await made.tail.load()
        made.hub.join(made.subscriber)
        made.hub.listen(made.subscriber, None)
        refresher = Refresher(pool, lambda _: None, made.observed.append, concurrency=1)
        live = Live(NoQueries(), buffer=settings.server.client_buffer)
        api = Api(settings.server, made.hub, made.tail, live, refresher, Board(), Metrics(), made.observed.append)
        running = asyncio.create_task(made.tail.run() if run else asyncio.sleep(0), name="tail")
        try:
            async with app._http(settings, api) as url:
                made.url = url
                yield made
                await api.goodbye(1.0)
        finally:
            running.cancel()
            await asyncio.wait([running])


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is not read but when somebody says so."""
    monkeypatch.setattr(tail_module, "POLL", 1e6)
    monkeypatch.setattr(tail_module, "CURRENT_FOR", 1e6)


async def append(db: asyncpg.Connection, *patterns: str) -> int:
    """One entry for each; returns the last offset."""
    return (await append_all(db, *patterns)).newest


async def append_all(db: asyncpg.Connection, *patterns: str) -> invalidation_log.Reading:
    """One entry for each; returns them."""
    entries = [Invalidation(patterns=(pattern,), at=AT) for pattern in patterns]
    appended = await invalidation_log.append_all(db, entries)
    assert appended is not None
    return appended


async def test_the_first_reading_brings_what_is_there(dsn: str, db: asyncpg.Connection) -> None:
    await append(db, "a", "b", "c")
    async with instance(dsn, run=False) as one:
        assert one.offsets == [1, 2, 3]
        assert one.hub.position.epoch == (await invalidation_log.read(db, 0, 1)).epoch
        missed = one.replay.missed(0, 3, None)
        assert isinstance(missed, Invalidation)
        assert missed.patterns == ("a", "b", "c")


async def test_the_first_reading_of_nothing_knows_the_log_all_the_same(dsn: str) -> None:
    async with instance(dsn, run=False) as one:
        assert one.hub.position.epoch
        assert one.hub.newest == 0


async def test_the_first_reading_of_a_long_log_brings_its_end(dsn: str, db: asyncpg.Connection) -> None:
    await append(db, *"abcdef")
    async with instance(dsn, most=2, run=False) as one:
        assert one.offsets == [5, 6]
        assert one.replay.missed(3, 6, None) == "expired"
        assert isinstance(one.replay.missed(4, 6, None), Invalidation)


@pytest.mark.usefixtures("deaf")
async def test_a_wake_up_brings_what_was_appended_each_once(dsn: str, db: asyncpg.Connection) -> None:
    async with instance(dsn) as one:
        for number in range(1, 20):
            offset = await append(db, "a")
            one.tail.wake(offset if number % 2 else None)
            one.tail.wake(offset)
            await eventually(lambda offset=offset: one.hub.newest == offset)
        assert one.offsets == list(range(1, 20))


@pytest.mark.usefixtures("deaf")
async def test_word_of_what_is_just_being_read_causes_no_further_read(
    dsn: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    read = invalidation_log.read

    async def slowly(connection: database.Connection, after: int, most: int) -> invalidation_log.Reading:
        nonlocal reads
        reads += 1
        reading = await read(connection, after, most)
        one.tail.wake(1)  # by the notification, while the appender's own word is being acted upon
        return reading

    async with instance(dsn) as one:
        monkeypatch.setattr(invalidation_log, "read", slowly)
        await append(db, "a")
        one.tail.wake(1)
        await eventually(lambda: one.hub.newest == 1)
        for _ in range(10):
            await asyncio.sleep(0)
        monkeypatch.setattr(invalidation_log, "read", read)
        await append(db, "b")
        one.tail.wake(2)
        await eventually(lambda: one.hub.newest == 2)
        assert reads == 1


@pytest.mark.usefixtures("deaf")
async def test_what_is_appended_here_is_told_by_whoever_appended(
    dsn: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with instance(dsn) as one:
        monkeypatch.setattr(invalidation_log, "read", None)  # nothing is read: it is all there is
        for number in range(5):
            appended = await append_all(db, "a", "b")
            await one.tail.appended(db, appended)
            assert one.offsets == list(range(1, 2 * number + 3))
            one.tail.wake(appended.newest)  # the notification
            await asyncio.sleep(0)


@pytest.mark.usefixtures("deaf")
async def test_what_was_appended_elsewhere_before_is_told_before(dsn: str, db: asyncpg.Connection) -> None:
    async with instance(dsn, run=False) as one:
        await append(db, "elsewhere")
        await one.tail.appended(db, await append_all(db, "a", "b"))
        assert one.offsets == [1, 2, 3]


@pytest.mark.usefixtures("deaf")
async def test_of_another_log_what_is_appended_is_not_taken_for_the_next_of_ours(
    dsn: str, db: asyncpg.Connection
) -> None:
    async with instance(dsn, run=False) as one:
        await one.tail.appended(db, await append_all(db, "a"))
        await db.execute("UPDATE afresh.log_identity SET incarnation = DEFAULT")
        await one.tail.appended(db, await append_all(db, "b"))
        assert one.hub.position.epoch == (await invalidation_log.read(db, 0, 1)).epoch
        assert one.offsets == [1, 1, 2]


@pytest.mark.usefixtures("deaf")
async def test_while_the_log_is_not_followed_what_is_appended_is_read(dsn: str, db: asyncpg.Connection) -> None:
    followed: list[bool] = []
    async with instance(dsn, run=False) as one:
        one.tail._follow_is(False)
        one.tail.watch(followed.append)
        await one.tail.appended(db, await append_all(db, "a"))
        assert one.offsets == [1]
        assert followed == [True]


@pytest.mark.usefixtures("deaf")
async def test_readings_that_meet_bring_each_once_and_in_order(dsn: str) -> None:
    """Two append here, and read; a third appends elsewhere, and is heard of."""
    async with instance(dsn) as one:

        async def appends(here: bool) -> None:
            async with connected(dsn) as own:
                for _ in range(40):
                    appended = await append_all(own, "a")
                    if here:
                        asyncio.get_running_loop().call_soon(one.tail.wake, appended.newest)
                        await one.tail.appended(own, appended)
                    else:
                        one.tail.wake(appended.newest)

        await asyncio.gather(appends(True), appends(True), appends(False))
        await eventually(lambda: one.hub.newest == 120)
        assert one.offsets == list(range(1, 121))


@pytest.mark.usefixtures("deaf")
async def test_what_was_read_by_whoever_appended_is_not_read_again(
    dsn: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    read = invalidation_log.read

    async def counted(connection: database.Connection, after: int, most: int) -> invalidation_log.Reading:
        reads.append(after)
        one.tail.wake(after + 2)  # the notification comes while it is read
        await asyncio.sleep(0)
        return await read(connection, after, most)

    async with instance(dsn) as one:
        monkeypatch.setattr(invalidation_log, "read", counted)
        for _ in range(5):
            await append(db, "elsewhere")
            await one.tail.appended(db, await append_all(db, "a"))
            await asyncio.sleep(0.01)
        assert reads == [0, 2, 4, 6, 8]


@pytest.mark.usefixtures("deaf")
@pytest.mark.parametrize(
    "how",
    [
        "ended",
        pytest.param(
            "frozen", marks=pytest.mark.skipif("AFRESH_TEST_DSN" in os.environ, reason="stops a process of the server")
        ),
    ],
)
async def test_connection_that_fails_whoever_appended_delays_nobody(
    dsn: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(tail_module, "PATIENCE", 0.2)
    async with instance(dsn) as one, connected(dsn) as own:
        await append(db, "elsewhere")
        appended, pid = await append_all(own, "a"), own.get_server_pid()
        if how == "ended":
            await db.execute("SELECT pg_terminate_backend($1)", pid)
        else:
            os.kill(pid, signal.SIGSTOP)
        try:
            followed: list[bool] = []
            one.tail.watch(followed.append)
            async with asyncio.timeout(PATIENCE):
                await one.tail.appended(own, appended)
            assert followed == [False]  # what is kept here is not believed until it has been read
            await eventually(lambda: one.offsets == [1, 2])
            assert followed == [False, True]
        finally:
            if how == "frozen":
                os.kill(pid, signal.SIGCONT)


async def test_a_lost_wake_up_is_made_up_for(dsn: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "POLL", 0.05)
    async with instance(dsn) as one:
        await append(db, "a", "b")
        await eventually(lambda: one.hub.newest == 2)


@pytest.mark.usefixtures("deaf")
async def test_to_reach_an_offset_is_to_have_it(dsn: str, db: asyncpg.Connection) -> None:
    async with instance(dsn) as one:
        offset = await append(db, "a", "b")
        async with asyncio.timeout(PATIENCE):
            await one.tail.reach(1)
            assert one.hub.newest == offset
            await one.tail.reach(offset)
            await append(db, "c")
            await one.tail.reach(math.inf)
            assert one.hub.newest == 3
            await one.tail.reach(99)
        assert one.hub.newest == 3


@pytest.mark.usefixtures("deaf")
async def test_many_may_wait_and_some_give_up(dsn: str, db: asyncpg.Connection) -> None:
    async with instance(dsn) as one:
        await append(db, "a")
        waiting = [asyncio.create_task(one.tail.reach(math.inf)) for _ in range(10)]
        await asyncio.sleep(0)
        for task in waiting[::2]:
            task.cancel()
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait(waiting)
        assert [task.cancelled() for task in waiting] == [True, False] * 5
        assert one.hub.newest == 1


@pytest.mark.usefixtures("deaf")
async def test_another_log_is_read_from_its_beginning(dsn: str, db: asyncpg.Connection) -> None:
    await append(db, "a", "b")
    async with instance(dsn) as one:
        before = one.hub.position.epoch
        await one.told()
        await db.execute("UPDATE afresh.log_identity SET incarnation = DEFAULT")
        await append(db, "c")
        await one.tail.reach(math.inf)
        epoch = one.hub.position.epoch
        assert epoch != before
        assert await one.told() == [
            Resync(offset=3, reason="restart"),
            PositionUpdate(epoch=epoch, offset=3),
        ]
        missed = one.hub.missed(Position(epoch=epoch, offset=1), None)
        assert isinstance(missed, Invalidation)
        assert missed.patterns == ("b", "c")
        assert one.hub.missed(Position(epoch=before, offset=1), None) == "restart"
        await append(db, "d")
        await one.tail.reach(4)
        [told] = await one.told()
        assert isinstance(told, Invalidate)
        assert (told.offset, told.patterns) == (4, ["d"])


@pytest.mark.usefixtures("deaf")
async def test_another_log_that_is_empty_begins_at_nothing(dsn: str, db: asyncpg.Connection) -> None:
    await append(db, "a", "b")
    async with instance(dsn) as one:
        await one.told()
        await db.execute("TRUNCATE afresh.invalidation_log; UPDATE afresh.log_identity SET incarnation = DEFAULT")
        await one.tail.reach(math.inf)
        assert one.hub.newest == one.hub.position.offset == 0
        epoch = one.hub.position.epoch
        assert await one.told() == [Resync(offset=0, reason="restart"), PositionUpdate(epoch=epoch, offset=0)]
        await append(db, "c")
        await one.tail.reach(1)
        assert [type(message) for message in await one.told()] == [Invalidate]


@pytest.mark.usefixtures("deaf")
async def test_a_log_that_goes_less_far_than_we_do_is_another_one(dsn: str, db: asyncpg.Connection) -> None:
    await append(db, "a", "b", "c")
    async with instance(dsn) as one:
        await one.told()
        await db.execute("TRUNCATE afresh.invalidation_log")
        await append(db, "d")
        await one.tail.reach(math.inf)
        assert one.hub.newest == 1
        assert [type(message) for message in await one.told()] == [Resync, PositionUpdate]


@pytest.mark.usefixtures("deaf")
@pytest.mark.parametrize("how", ["trimmed", "more than is remembered"])
async def test_what_we_cannot_read_any_more_is_a_resync(dsn: str, db: asyncpg.Connection, how: str) -> None:
    async with instance(dsn, most=3) as one:
        await append(db, "a")
        await one.tail.reach(1)
        await one.told()
        await append(db, *"bcdefg")
        if how == "trimmed":
            await invalidation_log.trim(db, max_entries=2, max_age=3600)
        await one.tail.reach(7)
        epoch = one.hub.position.epoch
        assert await one.told() == [Resync(offset=7, reason="expired"), PositionUpdate(epoch=epoch, offset=7)]
        assert one.hub.missed(Position(epoch=epoch, offset=1), None) == "expired"
        assert isinstance(one.hub.missed(Position(epoch=epoch, offset=6), None), Invalidation)


@pytest.mark.usefixtures("deaf")
async def test_while_the_database_is_away_it_goes_on_trying_and_misses_nothing(
    dsn: str, db: asyncpg.Connection, server: ServerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "RETRY_MAX", 0.1)
    name = await db.fetchval("SELECT current_database()")
    async with instance(dsn) as one, connected(server.dsn("postgres")) as admin:
        await append(db, "a")
        await one.tail.reach(1)
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            await db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            await append(db, "b", "c")
            reaching = asyncio.create_task(one.tail.reach(3))
            await eventually(lambda: sum(isinstance(seen, TailFailed) for seen in one.observed) >= 2)
            assert not reaching.done()
        finally:
            await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        async with asyncio.timeout(PATIENCE):
            await reaching
        assert one.offsets == [1, 2, 3]


async def test_who_is_connected_is_told_that_the_log_cannot_be_read_and_that_it_can_be_again(
    dsn: str, db: asyncpg.Connection, server: ServerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("RETRY_MAX", 0.1), ("POLL", 0.1), ("CURRENT_FOR", 0.5)):
        monkeypatch.setattr(tail_module, name, seconds)
    name = await db.fetchval("SELECT current_database()")
    async with instance(dsn) as one, connected(server.dsn("postgres")) as admin:
        hubbing = asyncio.create_task(one.hub.run(), name="hub")
        try:
            async with connect(one.url) as client:
                await client.hear()
                await client.subscribe("a")
                assert isinstance(await client.hear(), Subscribed)
                await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
                await db.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                assert await client.hear() == Status(current=False)
                assert not one.hub.current
                await append(db, "a")
                async with connect(one.url) as late:  # who comes meanwhile is told before he is subscribed
                    await late.hear()
                    await late.subscribe("a")
                    assert await late.hear() == Status(current=False)
                    assert isinstance(await late.hear(), Subscribed)
                    await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
                    for one_client in (client, late):
                        # First what was missed: whoever believes us again has heard all.
                        told = await one_client.hear()
                        assert isinstance(told, Invalidate)
                        assert told.patterns == ["a"]
                        assert await one_client.hear() == Status(current=True)
                assert one.hub.current
        finally:
            await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            hubbing.cancel()
            await asyncio.wait([hubbing])
    assert [type(seen) for seen in one.observed if isinstance(seen, FellBehind | CaughtUp)] == [FellBehind, CaughtUp]


# A client who is ahead of us: he was told by another instance.


@pytest.mark.usefixtures("deaf")
async def test_a_client_who_is_ahead_brings_us_up_before_he_is_answered(dsn: str, db: asyncpg.Connection) -> None:
    async with instance(dsn) as behind, connect(behind.url) as client:
        await client.hear()
        await append(db, "a", "b", "c")
        assert behind.hub.newest == 0
        since = Position(epoch=behind.hub.position.epoch, offset=2)
        await client.subscribe(since=since)
        told = await client.hear()
        assert isinstance(told, Invalidate)
        assert (told.offset, told.patterns) == (3, ["c"])
        assert await client.hear() == Subscribed(id="1", epoch=since.epoch, offset=3, recovered=True)


@pytest.mark.usefixtures("deaf")
async def test_a_stream_of_events_that_is_ahead_brings_us_up_too(dsn: str, db: asyncpg.Connection) -> None:
    async with instance(dsn) as behind, aiohttp.ClientSession() as session:
        epoch = behind.hub.position.epoch
        await append(db, "a", "b", "c")
        headers = {"Last-Event-ID": f"{epoch}:2"}
        async with session.get(f"{behind.url}/events", headers=headers) as response, asyncio.timeout(PATIENCE):
            text = ""
            while "welcome" not in text:
                text += (await response.content.readany()).decode()
    assert "event: resync" not in text
    assert f"id: {epoch}:3" in text
    assert '"patterns":["c"]' in text
    assert '"a"' not in text


@pytest.mark.usefixtures("deaf")
async def test_a_client_who_is_beyond_the_log_is_resynced(dsn: str, db: asyncpg.Connection) -> None:
    async with instance(dsn) as one, connect(one.url) as client:
        await client.hear()
        await append(db, "a")
        await client.subscribe(since=Position(epoch=one.hub.position.epoch, offset=9))
        assert await client.hear() == Resync(offset=1, reason="expired")
        answer = await client.hear()
        assert isinstance(answer, Subscribed)
        assert not answer.recovered


@pytest.mark.usefixtures("deaf")
async def test_a_client_who_is_ahead_is_not_waited_for_for_ever(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log cannot be read now: better a resync than silence."""
    monkeypatch.setattr(tail_module, "PATIENCE", 0.2)
    async with instance(dsn, run=False) as one, connect(one.url) as client:
        await client.hear()
        await client.subscribe(since=Position(epoch=one.hub.position.epoch, offset=5))
        assert await client.hear() == Resync(offset=0, reason="expired")


@pytest.mark.usefixtures("deaf")
@pytest.mark.parametrize("since", [None, Position(epoch="another", offset=9), Position(epoch="", offset=0)])
async def test_a_client_who_is_not_ahead_is_not_kept_waiting(dsn: str, since: Position | None) -> None:
    async with instance(dsn, run=False) as one, connected(dsn):
        async with asyncio.timeout(1.0):
            await one.tail.meet(since)
            await one.tail.meet(one.hub.position)
