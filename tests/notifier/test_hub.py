"""The hub: everybody hears exactly what concerns him, in order and once, however publishing, joining, listening,
reading and leaving meet each other. The transports here are in memory, so that a test decides when a client reads.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afresh_cache.messages import (
    Invalidate,
    Position,
    PositionUpdate,
    Resync,
    ResyncReason,
    ServerMessage,
    Status,
    encode,
)
from afresh_cache.patterns import hears
from afresh_notifier import hub as hub_module
from afresh_notifier import replay as replay_module
from afresh_notifier.hub import Hub
from afresh_notifier.invalidation import Invalidation, merge_all
from afresh_notifier.observations import ClientResynced, Observation
from afresh_notifier.replay import Interest, Replay
from afresh_notifier.subscriber import Subscriber, message_of
from conftest import eventually
from support.wire import Wire, framed

EPOCH = "e"
AT = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)

#: A small world of patterns in which prefixes meet.
WORDS = ("a", "a:1", "a:1:x", "a:2", "b", "b:1", "c")


class World:
    """A hub, its log, and what it observed."""

    def __init__(self, *, entries: int = 10_000, age: float = 1e9, buffer: int = 1 << 30) -> None:
        self.replay = Replay(max_entries=entries, max_age=age)
        self.observed: list[Observation] = []
        self.hub = Hub(self.replay, self.observed.append, pace=0.0, buffer=buffer, position_interval=1e9)
        self.hub.begin(EPOCH, 0)

    def client(self, *patterns: str, everything: bool = False) -> tuple[Subscriber, Wire]:
        wire = Wire()
        subscriber = Subscriber(transport=wire, frame=framed)
        self.hub.join(subscriber)
        if patterns or everything:
            self.hub.listen(subscriber, None if everything else frozenset(patterns))
        return subscriber, wire

    def publish(self, *patterns: str, reason: ResyncReason | None = None) -> None:
        """The next of the log; with a ``reason`` it is a resync of whoever hears one of ``patterns``."""
        offset = self.hub.newest + 1
        self.hub.publish(Invalidation(offset=offset, patterns=patterns, reason=reason, at=AT), 0.0)

    def resynced(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for seen in self.observed:
            if isinstance(seen, ClientResynced):
                found[seen.reason] += seen.count
        return found


def heard(wire: Wire) -> list[tuple[int, set[str]]]:
    """The invalidations that wait in ``wire``, and nothing else is there."""
    found = []
    for message, _ in wire.read():
        assert isinstance(message, Invalidate)
        assert len(set(message.patterns)) == len(message.patterns)
        found.append((message.offset, set(message.patterns)))
    return found


# One promise each, by example.


async def test_what_meets_in_one_flush_is_one_frame_with_the_highest_offset() -> None:
    world = World()
    _, wire = world.client("a", "b")
    world.publish("a")
    world.publish("b")
    world.publish("c")
    await world.hub.flush()
    assert heard(wire) == [(2, {"a", "b"})]


async def test_a_pattern_is_heard_where_one_is_a_prefix_of_the_other() -> None:
    world = World()
    _, wide = world.client("a")
    _, narrow = world.client("a:1:x")
    _, everything = world.client(everything=True)
    _, nothing = world.client()
    world.publish("a:1", "b")
    await world.hub.flush()
    assert heard(wide) == [(1, {"a:1"})]
    assert heard(narrow) == [(1, {"a:1"})]
    assert heard(everything) == [(1, {"a:1", "b"})]
    assert heard(nothing) == []


async def test_nothing_before_the_subscription_is_told() -> None:
    world = World()
    world.publish("a")
    await world.hub.flush()
    _, wire = world.client("a")
    await world.hub.flush()
    assert heard(wire) == []


async def test_who_joins_after_a_publication_and_before_its_flush_hears_it() -> None:
    world = World()
    world.publish("a")
    subscriber, wire = world.client("a")
    assert world.hub.position.offset == subscriber.offset == 0
    await world.hub.flush()
    assert heard(wire) == [(1, {"a"})]


async def test_an_interest_that_changes_loses_nothing_of_the_old_one() -> None:
    world = World()
    subscriber, wire = world.client("a")
    world.publish("a")
    world.hub.listen(subscriber, frozenset({"b"}))
    world.publish("a", "b")
    await world.hub.flush()
    # Neither was flushed when the interest changed, so both are heard as the new one hears them.
    assert heard(wire) == [(2, {"b"})]


async def test_an_encoded_message_is_shared_by_all_who_hear_the_same() -> None:
    world = World()
    calls = []

    def counting(message: ServerMessage, position: Position) -> bytes:
        calls.append(message)
        return framed(message, position)

    wires = [Wire() for _ in range(50)]
    for number, wire in enumerate(wires):
        subscriber = Subscriber(transport=wire, frame=counting)
        world.hub.join(subscriber)
        world.hub.listen(subscriber, frozenset({"a"}) if number % 2 else None)
    world.publish("a", "b")
    await world.hub.flush()
    assert len(calls) == 2
    assert all(wire.unread[0] is wires[number % 2].unread[0] for number, wire in enumerate(wires))


async def test_who_is_closing_or_has_left_is_written_nothing() -> None:
    world = World()
    subscriber, wire = world.client("a")
    gone, gone_wire = world.client("a")
    wire.closing = True
    world.hub.leave(gone)
    world.hub.leave(gone)
    world.publish("a")
    await world.hub.flush()
    world.hub.tell(subscriber, Resync(offset=1, reason="gap"))
    world.hub.listen(subscriber, None)
    assert wire.unread == gone_wire.unread == []
    assert world.hub.clients == 1


async def test_a_long_flush_lets_others_run_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "BURST", 10)
    world = World()
    wires = [world.client("a")[1] for _ in range(101)]
    world.publish("a")
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await world.hub.flush()
    task.cancel()
    assert turns >= 10
    assert [heard(wire) for wire in wires] == [[(1, {"a"})]] * 101


async def test_what_waits_for_who_does_not_read_is_merged_and_harms_nobody() -> None:
    world = World(buffer=1_000)
    slow, slow_wire = world.client(everything=True)
    _, quick_wire = world.client(everything=True)
    quick = []
    for number in range(500):
        world.publish(f"p{number}")
        await world.hub.flush()
        quick += heard(quick_wire)
    assert quick == [(number + 1, {f"p{number}"}) for number in range(500)]
    assert slow.lagging
    assert slow_wire.most <= 1_000 + max(map(len, slow_wire.unread))
    before = heard(slow_wire)
    await world.hub.flush()
    [(offset, patterns)] = heard(slow_wire)
    assert offset == 500
    assert {p for _, some in before for p in some} | patterns == {f"p{number}" for number in range(500)}
    assert sum(len(some) for _, some in before) + len(patterns) == 500
    assert not slow.lagging


async def test_one_that_lags_is_written_to_again_only_when_half_is_read() -> None:
    world = World(buffer=1_000)
    slow, wire = world.client(everything=True)
    while not slow.lagging:
        world.publish("a")
        await world.hub.flush()
    wire.read(1)
    await world.hub.flush()
    assert slow.lagging
    while wire.get_write_buffer_size() > 500:
        wire.read(1)
    await world.hub.flush()
    assert not slow.lagging


async def test_more_than_may_wait_is_one_resync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "MAX_WAITING", 20)
    world = World(buffer=0)
    slow, wire = world.client(everything=True)
    world.publish("first")
    await world.hub.flush()
    for number in range(100):
        world.publish(f"p{number}")
        await world.hub.flush()
    assert [type(message) for message, _ in wire.read()] == [Invalidate]
    await world.hub.flush()
    assert [message for message, _ in wire.read()] == [Resync(offset=101, reason="overflow")]
    assert world.resynced() == {"overflow": 1}
    world.publish("later")
    await world.hub.flush()
    assert heard(wire) == [(102, {"later"})]
    assert not slow.lagging


async def test_a_log_that_is_too_short_for_a_flush_resyncs() -> None:
    world = World(entries=3)
    _, wire = world.client("a")
    _, idle_wire = world.client()
    for _ in range(4):
        world.publish("a")
    await world.hub.flush()
    assert [message for message, _ in wire.read()] == [Resync(offset=4, reason="overflow")]
    assert idle_wire.unread == []
    assert world.resynced() == {"overflow": 1}


async def test_a_resync_reaches_whoever_hears_its_patterns_and_covers_what_was_before() -> None:
    world = World()
    _, wire = world.client("a")
    _, everything_wire = world.client(everything=True)
    _, other_wire = world.client("b")
    _, idle_wire = world.client()
    world.publish("a", "b")
    world.publish("a:1", reason="gap")
    world.publish("a:1")
    await world.hub.flush()
    assert [message for message, _ in wire.read()] == [Resync(offset=3, reason="gap")]
    assert [message for message, _ in everything_wire.read()] == [Resync(offset=3, reason="gap")]
    assert heard(other_wire) == [(1, {"b"})]
    assert idle_wire.unread == []
    world.publish("a:2")
    await world.hub.flush()
    assert heard(wire) == heard(everything_wire) == [(4, {"a:2"})]
    assert heard(other_wire) == []
    assert world.resynced() == {"gap": 2}


async def test_who_was_away_during_a_gap_is_resynced_when_he_comes_back() -> None:
    world = World()
    world.publish("a")
    await world.hub.flush()
    here = world.hub.position
    world.publish("a", reason="gap")
    await world.hub.flush()
    assert world.hub.missed(here, None) == "gap"
    assert world.hub.missed(here, frozenset({"b"})) is None
    assert world.hub.missed(world.hub.position, None) is None


async def test_a_resync_between_the_welcome_and_its_flush_is_heard_once() -> None:
    world = World()
    world.publish("a", reason="gap")
    subscriber, wire = world.client("a")
    assert world.hub.missed(Position(epoch=EPOCH, offset=0), frozenset("a")) is None
    await world.hub.flush()
    await world.hub.flush()
    assert [message for message, _ in wire.read()] == [Resync(offset=1, reason="gap")]
    assert subscriber.offset == 1


# Whether we are current.


async def test_who_hears_something_is_told_once_that_we_are_not_current() -> None:
    world = World()
    _, wire = world.client("a")
    _, stranger = world.client()
    world.hub.be_current(False)
    for _ in range(2):
        await world.hub.flush()
    assert [message for message, _ in wire.read()] == [Status(current=False)]
    assert stranger.read() == []  # who listens to nothing believes nothing
    _, late = world.client("a")
    assert [message for message, _ in late.read()] == [Status(current=False)]


async def test_that_we_are_current_again_is_told_after_all_that_there_was_to_hear() -> None:
    world = World(buffer=100)
    subscriber, wire = world.client("a")
    world.hub.be_current(False)
    await world.hub.flush()
    wire.read()
    world.publish("a:" + "1" * 50)
    await world.hub.flush()  # that much, and he does not read
    world.publish("a:2")
    world.hub.be_current(True)
    for _ in range(2):
        await world.hub.flush()
    assert subscriber.lagging
    assert heard(wire) == [(1, {"a:" + "1" * 50})]
    await world.hub.flush()
    assert heard(wire) == [(2, {"a:2"})]
    await world.hub.flush()
    assert [message for message, _ in wire.read()] == [Status(current=True)]


async def test_a_flush_that_has_begun_does_not_say_what_has_become_true_since(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is published while it yields is told by the next one, and that we are current again not before."""
    monkeypatch.setattr(hub_module, "BURST", 1)
    world = World()
    wires = [world.client("a")[1] for _ in range(3)]
    world.hub.be_current(False)
    await world.hub.flush()
    for wire in wires:
        wire.read()
    world.publish("a:1")
    flushing = asyncio.create_task(world.hub.flush())
    await asyncio.sleep(0)
    world.publish("a:2")
    world.hub.be_current(True)
    await flushing
    assert all(Status(current=True) not in [message for message, _ in wire.read()] for wire in wires)
    await world.hub.flush()
    for wire in wires:
        told, status = (message for message, _ in wire.read())
        assert isinstance(told, Invalidate)
        assert told.patterns == ["a:2"]
        assert status == Status(current=True)


async def test_who_listens_before_the_flush_that_brings_what_was_missed_does_not_believe_us_current() -> None:
    world = World()
    world.hub.be_current(False)
    await world.hub.flush()
    world.publish("a:1")
    world.hub.be_current(True)
    _, wire = world.client("a")
    assert [message for message, _ in wire.read()] == [Status(current=False)]
    await world.hub.flush()
    told, status = (message for message, _ in wire.read())
    assert isinstance(told, Invalidate)
    assert status == Status(current=True)


async def test_a_flush_that_has_begun_does_not_say_that_we_are_current_when_we_are_not_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_module, "BURST", 1)
    world = World()
    clients = [world.client() for _ in range(3)]
    flushing = asyncio.create_task(world.hub.flush())
    await asyncio.sleep(0)
    world.hub.be_current(False)
    for subscriber, _ in clients:
        world.hub.listen(subscriber, frozenset({"a"}))
    await flushing
    for _, wire in clients:
        assert [message for message, _ in wire.read()] == [Status(current=False)]


async def test_who_did_not_read_is_told_that_we_are_not_current_when_he_reads_again() -> None:
    world = World(buffer=100)
    subscriber, wire = world.client("a")
    world.publish("a:" + "1" * 50)
    await world.hub.flush()
    assert not subscriber.lagging  # he has not read it, and nothing more waits for him
    running = asyncio.create_task(world.hub.run())
    world.hub.be_current(False)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(heard(wire)) == 1
    await eventually(lambda: [message for message, _ in wire.read()] == [Status(current=False)])
    running.cancel()


async def test_who_listens_is_told_that_we_are_not_current_even_if_he_does_not_read() -> None:
    world = World(buffer=100)
    subscriber, wire = world.client("a")
    world.publish("a:" + "1" * 50)
    await world.hub.flush()
    world.hub.be_current(False)
    world.hub.listen(subscriber, frozenset({"a", "b"}))
    assert [message for message, _ in wire.read()][1:] == [Status(current=False)]


# Another log.


async def test_whoever_listens_when_the_log_becomes_another_one_drops_everything_and_learns_where_he_stands() -> None:
    world = World()
    _, wire = world.client("a")
    _, idle_wire = world.client()
    world.publish("a")
    world.hub.begin("another", 40)
    assert world.hub.position == Position(epoch="another", offset=40)
    await world.hub.flush()
    position = Position(epoch="another", offset=40)
    assert wire.read() == [
        (Resync(offset=40, reason="restart"), position),
        (PositionUpdate(epoch="another", offset=40), position),
    ]
    assert idle_wire.unread == []
    world.publish("a:1")
    await world.hub.flush()
    await world.hub.flush()
    assert heard(wire) == [(41, {"a:1"})]
    assert world.resynced() == {"restart": 1}


async def test_what_was_published_of_the_new_log_before_he_was_told_of_it_is_covered() -> None:
    world = World()
    _, wire = world.client("a")
    world.hub.begin("another", 0)
    world.publish("a")
    world.publish("a")
    await world.hub.flush()
    assert [message for message, _ in wire.read()] == [
        Resync(offset=2, reason="restart"),
        PositionUpdate(epoch="another", offset=2),
    ]


async def test_a_log_that_was_trimmed_past_us_is_the_same_log_and_a_resync() -> None:
    world = World()
    _, wire = world.client("a")
    world.publish("a")
    await world.hub.flush()
    wire.read()
    world.hub.begin(EPOCH, 50)
    await world.hub.flush()
    assert [message for message, _ in wire.read()] == [
        Resync(offset=50, reason="expired"),
        PositionUpdate(epoch=EPOCH, offset=50),
    ]
    assert world.hub.missed(Position(epoch=EPOCH, offset=1), None) == "expired"


async def test_who_does_not_read_while_the_log_changes_twice_is_told_once_of_the_newest() -> None:
    world = World(buffer=0)
    subscriber, wire = world.client("a")
    world.publish("a")
    await world.hub.flush()
    world.publish("a:1")
    await world.hub.flush()
    assert subscriber.lagging
    for epoch in ("second", "third"):
        world.hub.begin(epoch, 7)
        world.publish("a")
        await world.hub.flush()
    assert heard(wire) == [(1, {"a"})]
    await world.hub.flush()
    assert [message for message, _ in wire.read()] == [
        Resync(offset=8, reason="restart"),
        PositionUpdate(epoch="third", offset=8),
    ]
    assert not subscriber.lagging


async def test_who_asks_for_something_else_while_he_is_to_drop_everything_is_told_that_first() -> None:
    world = World()
    subscriber, wire = world.client("a")
    world.hub.begin("another", 5)
    world.hub.listen(subscriber, frozenset({"b"}))
    assert [message for message, _ in wire.read()] == [
        Resync(offset=5, reason="restart"),
        PositionUpdate(epoch="another", offset=5),
    ]
    await world.hub.flush()
    assert wire.unread == []


@pytest.mark.parametrize("behind", [0, 5, 20])
async def test_a_log_that_becomes_another_one_during_a_flush_moves_nobody_beyond_it(
    monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    """The flush had the old log's offsets; had it gone on, its end would be beyond what the new log has."""
    monkeypatch.setattr(hub_module, "BURST", 2)
    world = World()
    clients = [world.client("a") for _ in range(6)]
    for _ in range(10):
        world.publish("a")
    flushing = asyncio.create_task(world.hub.flush())
    await asyncio.sleep(0)
    assert sum(bool(wire.unread) for _, wire in clients) == 2
    world.hub.begin("another", behind)
    world.publish("b")
    await flushing
    assert all(subscriber.offset <= behind + 1 for subscriber, _ in clients)
    world.publish("a:1")
    await world.hub.flush()
    newest = Position(epoch="another", offset=behind + 2)
    told = []
    for subscriber, wire in clients:
        messages = wire.read()
        told.append(len(messages))
        assert messages[-2:] == [
            (Resync(offset=newest.offset, reason="restart"), newest),
            (PositionUpdate(epoch="another", offset=newest.offset), newest),
        ]
        assert all(position.epoch == EPOCH for _, position in messages[:-2])
        assert subscriber.offset == subscriber.told == newest.offset
    assert sorted(told) == [2, 2, 2, 2, 3, 3]
    world.publish("a:2")
    await world.hub.flush()
    assert all(heard(wire) == [(newest.offset + 1, {"a:2"})] for _, wire in clients)


async def test_who_answers_while_behind_is_first_told_what_waits_for_him() -> None:
    """Whoever resumes from the offset in the answer must have been told what came before it."""
    world = World(buffer=0)
    subscriber, wire = world.client("a")
    for number in range(3):
        world.publish(f"a:{number}")
        await world.hub.flush()
    assert subscriber.lagging
    world.hub.listen(subscriber, frozenset({"b"}))
    assert not subscriber.lagging
    assert heard(wire) == [(1, {"a:0"}), (3, {"a:1", "a:2"})]


async def test_missed_is_told_in_one_or_refused_with_the_reason() -> None:
    world = World(entries=3)
    for number in range(5):
        world.publish(f"a:{number}", "b")
    await world.hub.flush()
    here = world.hub.position
    assert here == Position(epoch=EPOCH, offset=5)
    found = world.hub.missed(Position(epoch=EPOCH, offset=3), frozenset({"a"}))
    assert isinstance(found, Invalidation)
    assert (found.offset, found.patterns) == (5, ("a:3", "a:4"))
    assert world.hub.missed(Position(epoch=EPOCH, offset=3), frozenset({"c"})) is None
    assert world.hub.missed(here, None) is None
    assert isinstance(world.hub.missed(Position(epoch=EPOCH, offset=2), None), Invalidation)
    assert world.hub.missed(Position(epoch=EPOCH, offset=1), None) == "expired"
    assert world.hub.missed(Position(epoch=EPOCH, offset=6), None) == "expired"
    assert world.hub.missed(Position(epoch="another", offset=5), None) == "restart"


async def test_missed_ends_where_the_next_flush_begins() -> None:
    world = World()
    world.publish("a")
    await world.hub.flush()
    world.publish("b")
    _, wire = world.client(everything=True)
    found = world.hub.missed(Position(epoch=EPOCH, offset=0), None)
    assert isinstance(found, Invalidation)
    assert found.patterns == ("a",)
    await world.hub.flush()
    assert heard(wire) == [(2, {"b"})]


async def test_run_flushes_what_is_published_and_tells_quiet_clients_their_position() -> None:
    replay = Replay(max_entries=10, max_age=1e9)
    hub = Hub(replay, lambda _: None, pace=0.0, buffer=1 << 20, position_interval=0.02)
    hub.begin(EPOCH, 0)
    wires = {interest: Wire() for interest in ("a", "b")}
    for interest, wire in wires.items():
        subscriber = Subscriber(transport=wire, frame=framed)
        hub.join(subscriber)
        hub.listen(subscriber, frozenset({interest}))
    running = asyncio.create_task(hub.run())
    try:
        hub.publish(Invalidation(offset=1, patterns=("a",), at=AT), 0.0)
        await eventually(lambda: bool(wires["a"].unread and wires["b"].unread))
        assert [message for message, _ in wires["b"].read()] == [PositionUpdate(epoch=EPOCH, offset=1)]
        assert heard(wires["a"]) == [(1, {"a"})]
        hub.publish(Invalidation(offset=2, patterns=("b",), at=AT), 0.0)
        await eventually(lambda: bool(wires["a"].unread and wires["b"].unread))
    finally:
        running.cancel()
        await asyncio.wait([running])
    # Each is told once: who has heard it knows where he is.
    assert [message for message, _ in wires["a"].read()] == [PositionUpdate(epoch=EPOCH, offset=2)]
    assert heard(wires["b"]) == [(2, {"b"})]


async def test_run_looks_again_at_who_did_not_read() -> None:
    replay = Replay(max_entries=10, max_age=1e9)
    hub = Hub(replay, lambda _: None, pace=0.0, buffer=0, position_interval=1e9)
    hub.begin(EPOCH, 0)
    wire = Wire()
    subscriber = Subscriber(transport=wire, frame=framed)
    hub.join(subscriber)
    hub.listen(subscriber, None)
    running = asyncio.create_task(hub.run())
    try:
        hub.publish(Invalidation(offset=1, patterns=("a",), at=AT), 0.0)
        await eventually(lambda: bool(wire.unread))
        hub.publish(Invalidation(offset=2, patterns=("b",), at=AT), 0.0)
        await eventually(lambda: subscriber.lagging)
        assert heard(wire) == [(1, {"a"})]
        await eventually(lambda: bool(wire.unread))
        assert heard(wire) == [(2, {"b"})]
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_drain_waits_for_who_reads_and_not_for_who_is_gone() -> None:
    world = World(buffer=0)
    _, wire = world.client("a")
    _, gone_wire = world.client("a")
    for _ in range(2):
        world.publish("a")
        await world.hub.flush()
    gone_wire.closing = True
    draining = asyncio.create_task(world.hub.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    assert heard(wire) == [(1, {"a"})]
    await eventually(draining.done)
    assert heard(wire) == [(2, {"a"})]


def test_a_message_says_what_the_invalidation_does() -> None:
    invalidation = Invalidation(
        offset=7,
        patterns=("b", "a"),
        tables=frozenset({"public.t2", "public.t1"}),
        views=frozenset({"public.v"}),
        lsn=(0xA << 32) + 0x1B,
        at=AT.astimezone(tz=None) + timedelta(0),
    )
    assert orjson.loads(encode(message_of(invalidation))) == {
        "type": "invalidate",
        "offset": 7,
        "patterns": ["b", "a"],
        "tables": ["public.t1", "public.t2"],
        "views": ["public.v"],
        "lsn": "A/1B",
        "at": "2026-01-02T03:04:05.678Z",
    }
    assert message_of(Invalidation(patterns=("a",), at=AT)).lsn is None


# Everything at once, on random interleavings.


@dataclass
class Era:
    """What was published of one log, by offset; and whether it is a resync of whoever hears one of the patterns."""

    epoch: str
    start: int
    published: dict[int, tuple[bool, set[str]]] = field(default_factory=dict)


class Watcher:
    """One client: what he asked for when, what he heard, and from where he would resume."""

    def __init__(self, world: World, interest: Interest, *, reads: bool) -> None:
        self.world = world
        self.reads = reads
        self.wire = Wire()
        self.subscriber = Subscriber(transport=self.wire, frame=framed)
        world.hub.join(self.subscriber)
        self.start = world.hub.position
        #: (epoch, offset after which it holds, what), in order.
        self.interests: list[tuple[str, int, Interest]] = []
        self.heard: list[tuple[ServerMessage, Position]] = []
        self.listen(interest)

    def listen(self, interest: Interest) -> None:
        self.world.hub.listen(self.subscriber, interest)
        position = self.world.hub.position
        self.interests.append((position.epoch, position.offset, interest))

    def displaced(self, epoch: str, offset: int) -> None:
        """The log is another one: what he asked for holds in it."""
        self.interests.append((epoch, offset, self.interests[-1][2]))

    def interest_at(self, epoch: str, offset: int) -> Interest:
        """What he asked to hear of ``offset``; nothing, where he was not there yet."""
        there = [interest for of, after, interest in self.interests if of == epoch and after < offset]
        return there[-1] if there else frozenset()

    def take(self, count: int | None = None) -> None:
        self.heard += self.wire.read(count)

    def leave(self) -> None:
        self.take()
        self.world.hub.leave(self.subscriber)


def concerning(patterns: Iterable[str], interest: Interest) -> set[str]:
    """Those of ``patterns`` that somebody with ``interest`` is to hear, as the promise has it."""
    return {p for p in patterns if interest is None or any(hears(word, p) for word in interest)}


def check(watcher: Watcher, era: Era, upto: int | None, most_waiting: int) -> None:
    """Hold what ``watcher`` heard of the log ``era`` against what was published in it, all of it up to the offset
    ``upto``; None: it has ended since, and he may have been told any part of it."""
    there_before = era.epoch != watcher.start.epoch
    start = told = era.start if there_before else watcher.start.offset
    messages = [(message, position) for message, position in watcher.heard if position.epoch == era.epoch]
    listened = [interest for of, _, interest in watcher.interests if of == era.epoch][:1] != [frozenset()]
    if there_before and listened and (messages or upto is not None):
        (first, _), (second, _) = messages[:2]
        assert isinstance(first, Resync)
        assert first.reason == "restart"
        assert first.offset >= start
        assert second == PositionUpdate(epoch=era.epoch, offset=first.offset)
        told, messages = first.offset, messages[2:]

    def due_of(offset: int) -> set[str] | None:
        resync, patterns = era.published[offset]
        mine = concerning(patterns, watcher.interest_at(era.epoch, offset))
        return None if resync and mine else set() if resync else mine

    due = {offset: due_of(offset) for offset in era.published if start < offset}
    for message, position in messages:
        assert isinstance(message, Invalidate | Resync)
        assert message.offset > told, "offsets do not rise"
        assert position.offset >= message.offset
        span = {offset: patterns for offset, patterns in due.items() if told < offset <= message.offset}
        concerned: set[str] = set().union(*(patterns for patterns in span.values() if patterns))
        if isinstance(message, Invalidate):
            assert None not in span.values(), "a resync was passed over"
            assert set(message.patterns) == concerned, "more or less than what concerns him"
            assert span[message.offset], "not the highest offset in it"
        elif message.reason == "gap":
            assert None in span.values(), "a resync for nothing"
        else:
            assert message.reason == "overflow"
            assert len(concerned) > most_waiting, "a resync for what could have been merged"
        told = message.offset
        # What a frame's position covers, the client will not ask for again.
        later = [offset for offset, patterns in due.items() if told < offset <= position.offset and patterns != set()]
        assert not later, "the position promises more than was told"
    missing = [offset for offset, patterns in due.items() if told < offset <= (upto or 0) and patterns != set()]
    assert not missing, "something was never told"


interests = st.none() | st.frozensets(st.sampled_from(WORDS), max_size=3)
steps = st.one_of(
    st.tuples(st.just("publish"), st.sets(st.sampled_from(WORDS), min_size=1, max_size=3)),
    st.tuples(st.just("publish"), st.sets(st.sampled_from(WORDS), min_size=1, max_size=3)),
    st.tuples(st.just("listen"), st.tuples(st.integers(0, 1_000), interests)),
    st.tuples(st.just("join"), st.tuples(interests, st.booleans())),
    st.tuples(st.just("leave"), st.integers(0, 1_000)),
    st.tuples(st.just("read"), st.tuples(st.integers(0, 1_000), st.integers(1, 4))),
    st.tuples(st.just("resync"), st.sets(st.sampled_from(WORDS), min_size=1, max_size=2)),
    st.tuples(st.just("begin"), st.integers(0, 30)),
    st.tuples(st.just("yield"), st.integers(1, 5)),
    st.tuples(st.just("flush"), st.none()),
)


async def run_history(history: list[tuple[str, object]], first: list[tuple[Interest, bool]]) -> None:
    """Play ``history`` against a hub that flushes at the same time, then hold every client's hearing against it."""
    world = World(buffer=120)
    eras = [Era(epoch=EPOCH, start=0)]
    watchers = [Watcher(world, interest, reads=reads) for interest, reads in first]
    gone: list[tuple[Watcher, Position]] = []
    flushing: asyncio.Task[None] | None = None

    async def flushed() -> None:
        if flushing is not None:
            await flushing

    for step, what in history:
        match step, what:
            case "publish", set():
                world.publish(*sorted(what))
                eras[-1].published[world.hub.newest] = (False, what)
            case "resync", set():
                world.publish(*sorted(what), reason="gap")
                eras[-1].published[world.hub.newest] = (True, what)
            case "begin", int(offset):
                eras.append(Era(epoch=f"{EPOCH}{len(eras)}", start=offset))
                world.hub.begin(eras[-1].epoch, offset)
                for watcher in watchers:
                    watcher.displaced(eras[-1].epoch, offset)
            case "listen", (int(number), None | frozenset() as interest) if watchers:
                watchers[number % len(watchers)].listen(interest)
            case "join", (None | frozenset() as interest, bool(reads)):
                watchers.append(Watcher(world, interest, reads=reads))
            case "leave", int(number) if watchers:
                watcher = watchers.pop(number % len(watchers))
                watcher.leave()
                gone.append((watcher, watcher.heard[-1][1] if watcher.heard else watcher.start))
            case "read", (int(number), int(count)) if watchers:
                watchers[number % len(watchers)].take(count)
            case "yield", int(times):
                for _ in range(times):
                    await asyncio.sleep(0)
            case "flush", _:
                await flushed()
                for watcher in watchers:
                    if watcher.reads:
                        watcher.take()
                flushing = asyncio.create_task(world.hub.flush())
                await asyncio.sleep(0)
    await flushed()
    for _ in range(3):  # the second and third for those who had not read
        await world.hub.flush()
        for watcher in watchers:
            watcher.take()
    for watcher in watchers:
        assert not watcher.subscriber.lagging
        for era in eras:
            check(watcher, era, world.hub.newest if era is eras[-1] else None, replay_module.MAX_WAITING)
        assert watcher.wire.most <= 120 + 9 * 200
    for watcher, told in gone:
        for era in eras:
            check(watcher, era, told.offset if era.epoch == told.epoch else None, replay_module.MAX_WAITING)
        resumes(world, eras[-1], told)


def resumes(world: World, era: Era, since: Position) -> None:
    """Who comes back to the log of today from ``since`` hears exactly what he missed, or is resynced."""
    for interest in (None, frozenset({"a"}), frozenset({"b:1", "c"})):
        missed = world.hub.missed(since, interest)
        if since.epoch != era.epoch:
            assert missed == "restart"
            continue
        after = [(o, resync, concerning(p, interest)) for o, (resync, p) in era.published.items() if o > since.offset]
        if any(resync and patterns for _, resync, patterns in after):
            assert missed == "gap"
            continue
        due = {offset: patterns for offset, resync, patterns in after if not resync}
        concerned: set[str] = set().union(*due.values())
        if missed is None:
            assert not concerned
        elif len(concerned) > replay_module.MAX_WAITING:
            assert missed == "overflow"
        else:
            assert isinstance(missed, Invalidation)
            assert set(missed.patterns) == concerned
            assert missed.offset == max(offset for offset, patterns in due.items() if patterns)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    history=st.lists(steps, max_size=60),
    first=st.lists(st.tuples(interests, st.booleans()), min_size=1, max_size=6),
    burst=st.integers(1, 4),
    most_waiting=st.sampled_from([3, 1_000]),
)
def test_everybody_hears_exactly_what_concerns_him(
    history: list[tuple[str, object]], first: list[tuple[Interest, bool]], burst: int, most_waiting: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub_module, "BURST", burst)
        patch.setattr(replay_module, "MAX_WAITING", most_waiting)
        asyncio.run(run_history(history, first))


@pytest.mark.parametrize("seed", range(3))
async def test_hundreds_of_clients_hear_exactly_what_concerns_them(seed: int) -> None:
    """The same with the real burst, which is reached only by many."""
    random = Random(seed)

    def interest() -> Interest:
        return None if random.random() < 0.1 else frozenset(random.sample(WORDS, random.randrange(3)))

    history: list[tuple[str, object]] = []
    for _ in range(250):
        history.append(("publish", set(random.sample(WORDS, random.randint(1, 3)))))
        for _ in range(random.randrange(6)):
            number = random.randrange(1_000)
            history.append(
                random.choice(
                    [
                        ("listen", (number, interest())),
                        ("join", (interest(), random.random() < 0.8)),
                        ("leave", number),
                        ("read", (number, 3)),
                        ("yield", 1),
                        ("flush", None),
                    ]
                )
            )
        if random.random() < 0.02:
            history.append(("resync", {random.choice(WORDS)}))
        if random.random() < 0.01:
            history.append(("begin", random.randrange(300)))
    await run_history(history, [(interest(), random.random() < 0.8) for _ in range(350)])


@given(
    st.lists(
        st.tuples(st.frozensets(st.sampled_from(WORDS), min_size=1), st.none() | st.integers(0, 9)),
        min_size=1,
        max_size=8,
    )
)
def test_a_merge_is_the_union(parts: list[tuple[frozenset[str], int | None]]) -> None:
    invalidations = [
        Invalidation(offset=number, patterns=tuple(patterns), lsn=lsn, at=AT + timedelta(seconds=number))
        for number, (patterns, lsn) in enumerate(parts, 1)
    ]
    merged = merge_all(invalidations, len(WORDS))
    assert set(merged.patterns) == set().union(*(patterns for patterns, _ in parts))
    assert len(set(merged.patterns)) == len(merged.patterns)
    assert merged.offset == len(parts)
    assert merged.at == AT + timedelta(seconds=1)
    positions = [lsn for _, lsn in parts if lsn is not None]
    assert merged.lsn == (max(positions) if len(positions) == len(parts) else None)
