"""Live queries: one execution for all who ask the same, and everybody is told the newest answer, and each answer once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

import orjson
import pytest

from afresh_cache.messages import Error, Position, Result, ServerMessage
from afresh_notifier import live as live_module
from afresh_notifier.errors import QueryFailed, QueryRefused
from afresh_notifier.invalidation import Invalidation
from afresh_notifier.live import Live
from afresh_notifier.subscriber import Subscriber
from conftest import eventually
from support.wire import Wire, framed


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second attempt comes soon."""
    monkeypatch.setattr(live_module, "RETRY_FIRST", 0.01)
    monkeypatch.setattr(live_module, "LAG_PACE", 0.01)


@dataclass(frozen=True, slots=True)
class Question:
    key: str


@dataclass(frozen=True, slots=True)
class Answer:
    body: bytes
    position: Position
    truncated: bool = False

    @property
    def etag(self) -> str:
        return self.body.decode()


class World:
    """Truths that a test changes, and who asked for them how often; asking can be held up, or fail."""

    def __init__(self, *, buffer: int = 1 << 30) -> None:
        self.truth: dict[str, int] = {}
        self.asked: Counter[str] = Counter()
        self.offset = 0
        self.going_on = asyncio.Event()
        self.going_on.set()
        self.fails: Exception | None = None
        self.live = Live(self, buffer=buffer)

    async def question(self, name: str, params: Mapping[str, Any]) -> Question:
        return Question(f"{name}:{params['id']}")

    async def ask(self, question: Question) -> Answer:
        self.asked[question.key] += 1
        body = orjson.dumps([{"n": self.truth.get(question.key, 0)}])
        answer = Answer(body, Position(epoch="e", offset=self.offset))
        await self.going_on.wait()
        if self.fails is not None:
            raise self.fails
        return answer

    def change(self, key: str, *, unheard: bool = False) -> None:
        """Another truth, and word of it."""
        self.truth[key] = self.truth.get(key, 0) + 1
        self.offset += 1
        if not unheard:
            self.invalidate(key)

    def invalidate(self, *patterns: str) -> None:
        """What the hub says."""
        self.live.invalidate(Invalidation(patterns=patterns, at=datetime.now(UTC)))

    def client(self) -> tuple[Subscriber, Wire]:
        wire = Wire()
        return Subscriber(transport=wire, frame=framed), wire

    async def settled(self) -> None:
        """Nothing is being asked, and nothing is to be."""
        await eventually(lambda: not self.live._due and not any(one.asking for one in self.live._watched.values()))


@asynccontextmanager
async def running(**options: int) -> AsyncIterator[World]:
    world = World(**options)
    task = asyncio.create_task(world.live.run(), name="live")
    yield world
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


def told(wire: Wire) -> list[ServerMessage]:
    return [message for message, _ in wire.read()]


def result(n: int, offset: int = 0, *, id: str = "1") -> Result:  # noqa: A002
    return Result(id=id, offset=offset, rows=[{"n": n}])


async def test_the_answer_comes_at_once_and_again_when_it_has_changed() -> None:
    async with running() as world:
        subscriber, wire = world.client()
        world.live.open(subscriber, "1", Question("q:1"))
        await eventually(lambda: bool(wire.unread))
        assert told(wire) == [result(0)]
        world.change("q:1")
        await eventually(lambda: bool(wire.unread))
        assert told(wire) == [result(1, 1)]


async def test_an_answer_that_is_the_same_as_before_is_not_told() -> None:
    async with running() as world:
        subscriber, wire = world.client()
        world.live.open(subscriber, "1", Question("q:1"))
        await eventually(lambda: bool(wire.unread))
        told(wire)
        world.invalidate("q")
        await eventually(lambda: world.asked["q:1"] == 2)
        await world.settled()
        assert wire.unread == []


async def test_what_concerns_another_question_asks_nothing() -> None:
    async with running() as world:
        subscriber, wire = world.client()
        world.live.open(subscriber, "1", Question("q:1"))
        await eventually(lambda: bool(wire.unread))
        world.invalidate("q:2", "q:1:", "p")
        await world.settled()
        assert world.asked == {"q:1": 1}
        world.live.invalidate(None)
        await eventually(lambda: world.asked["q:1"] == 2)


async def test_a_thousand_who_ask_the_same_share_one_execution_and_one_frame() -> None:
    async with running() as world:
        clients = [world.client() for _ in range(1_000)]
        for subscriber, _ in clients:
            world.live.open(subscriber, "1", Question("q:1"))
        await eventually(lambda: all(wire.unread for _, wire in clients))
        assert world.asked["q:1"] == 1
        world.change("q:1")
        await eventually(lambda: all(len(wire.unread) == 2 for _, wire in clients))
        assert world.asked["q:1"] == 2
        assert len({id(wire.unread[1]) for _, wire in clients}) == 1
        assert world.live.questions == 1


async def test_many_invalidations_while_it_is_asked_ask_once_more() -> None:
    async with running() as world:
        subscriber, wire = world.client()
        world.going_on.clear()
        world.live.open(subscriber, "1", Question("q:1"))
        await eventually(lambda: world.asked["q:1"] == 1)
        for _ in range(5):
            world.change("q:1")
        await asyncio.sleep(0)
        world.going_on.set()
        await eventually(lambda: len(wire.unread) == 2)
        await world.settled()
        assert world.asked["q:1"] == 2
        assert told(wire)[-1] == result(5, 5)


async def test_who_comes_while_it_is_asked_is_told_with_the_rest_and_who_comes_later_at_once() -> None:
    async with running() as world:
        first, second, third = (world.client() for _ in range(3))
        world.going_on.clear()
        world.live.open(first[0], "1", Question("q:1"))
        await eventually(lambda: world.asked["q:1"] == 1)
        world.live.open(second[0], "other", Question("q:1"))
        world.going_on.set()
        await eventually(lambda: bool(first[1].unread and second[1].unread))
        await world.settled()
        world.live.open(third[0], "1", Question("q:1"))
        assert told(third[1]) == [result(0)]
        assert told(second[1]) == [result(0, id="other")]
        assert world.asked["q:1"] == 1


async def test_an_id_that_is_used_again_means_the_new_question_alone() -> None:
    async with running() as world:
        subscriber, wire = world.client()
        world.live.open(subscriber, "1", Question("q:1"))
        world.live.open(subscriber, "1", Question("q:2"))
        await eventually(lambda: bool(wire.unread))
        await world.settled()
        told(wire)
        world.change("q:1")
        world.change("q:2")
        await eventually(lambda: bool(wire.unread))
        await world.settled()
        assert told(wire) == [result(1, 2)]
        assert world.live.questions == 1


@pytest.mark.parametrize("how", ["close", "leave"])
async def test_when_nobody_wants_to_know_nothing_is_asked_and_nothing_is_kept(how: str) -> None:
    async with running() as world:
        subscriber, wire = world.client()
        world.going_on.clear()
        world.live.open(subscriber, "1", Question("q:1"))
        await eventually(lambda: world.asked["q:1"] == 1)
        if how == "close":
            assert world.live.close(subscriber, "1")
            assert not world.live.close(subscriber, "1")
        else:
            world.live.leave(subscriber)
        world.change("q:1")
        world.going_on.set()
        await eventually(lambda: world.live.questions == 0)
        assert wire.unread == []
        assert world.asked["q:1"] == 1
        assert (len(world.live._keys), world.live._opened, subscriber.queries) == (0, {}, 0)


async def test_who_does_not_read_gets_the_newest_when_he_does_and_harms_nobody() -> None:
    async with running(buffer=30) as world:
        (slow, wire), (quick, other) = world.client(), world.client()
        for subscriber in (slow, quick):
            world.live.open(subscriber, "1", Question("q:1"))
        for number in range(1, 5):
            await eventually(lambda: bool(other.unread))
            told(other)
            world.change("q:1")
            await eventually(lambda number=number: world.asked["q:1"] == number + 1)
        await eventually(lambda: bool(other.unread))
        assert len(wire.unread) == 1
        assert told(wire) == [result(0)]
        await eventually(lambda: bool(wire.unread))
        assert told(wire) == [result(4, 4)]
        assert world.live._owed == set()


async def test_who_is_gone_is_written_nothing() -> None:
    async with running() as world:
        subscriber, wire = world.client()
        world.live.open(subscriber, "1", Question("q:1"))
        wire.closing = True
        await eventually(lambda: world.asked["q:1"] == 1)
        await world.settled()
        world.live.leave(subscriber)


async def test_what_cannot_be_answered_is_said_once_and_asked_again() -> None:
    async with running() as world:
        subscriber, wire = world.client()
        world.fails = QueryFailed("q", "PostgreSQL is away")
        world.live.open(subscriber, "1", Question("q:1"))
        await eventually(lambda: world.asked["q:1"] >= 4)
        assert told(wire) == [Error(id="1", code="query_failed", message="PostgreSQL is away")]
        late, other = world.client()
        world.live.open(late, "2", Question("q:1"))
        await eventually(lambda: bool(other.unread))
        world.fails = None
        await eventually(lambda: bool(wire.unread))
        assert told(wire) == [result(0)]
        assert [type(message) for message in told(other)] == [Error, Result]


async def test_after_an_error_the_answer_is_told_though_it_is_the_one_from_before() -> None:
    async with running() as world:
        subscriber, wire = world.client()
        world.live.open(subscriber, "1", Question("q:1"))
        await eventually(lambda: bool(wire.unread))
        world.fails = QueryFailed("q", "no")
        world.invalidate("q")
        await eventually(lambda: len(wire.unread) == 2)
        world.fails = None
        await eventually(lambda: len(wire.unread) == 3)
        assert [type(message) for message in told(wire)] == [Result, Error, Result]


async def test_what_the_query_refuses_is_asked_again_after_an_invalidation_or_for_who_comes() -> None:
    async with running() as world:
        subscriber, wire = world.client()
        world.fails = QueryRefused("q", "division by zero")
        world.live.open(subscriber, "1", Question("q:1"))
        await eventually(lambda: bool(wire.unread))
        await world.settled()
        assert world.asked["q:1"] == 1
        late, other = world.client()
        world.live.open(late, "1", Question("q:1"))
        await eventually(lambda: bool(other.unread))
        assert world.asked["q:1"] == 2
        world.fails = None
        world.change("q:1")
        await eventually(lambda: len(wire.unread) == 2)
        assert told(wire)[1] == result(1, 1)


@pytest.mark.parametrize("known", [False, True])
async def test_who_does_not_read_just_when_there_is_an_answer_is_told_when_he_does(known: bool) -> None:
    async with running(buffer=10) as world:
        reading, _ = world.client()
        if known:
            world.live.open(reading, "1", Question("q:1"))
        await world.settled()
        for _ in range(10):  # nothing is to be done any more: it waits for what comes
            await asyncio.sleep(0)
        subscriber, wire = world.client()
        wire.write(b"x" * 100)
        world.live.open(subscriber, "1", Question("q:1"))
        await world.settled()
        for _ in range(10):
            await asyncio.sleep(0)
        wire.unread.clear()
        await eventually(lambda: bool(wire.unread))
        assert told(wire) == [result(0)]


@pytest.mark.parametrize("refused", [True, False])
async def test_why_there_is_no_answer_is_told_when_he_reads_to_who_did_not(refused: bool) -> None:
    async with running(buffer=10) as world:
        world.fails = QueryRefused("q", "division by zero") if refused else QueryFailed("q", "PostgreSQL is away")
        subscriber, wire = world.client()
        wire.write(b"x" * 100)
        world.live.open(subscriber, "1", Question("q:1"))
        await eventually(lambda: world.asked["q:1"] >= (1 if refused else 2))
        if refused:
            await world.settled()
        for _ in range(10):
            await asyncio.sleep(0)
        wire.unread.clear()
        await eventually(lambda: bool(wire.unread))
        [error] = told(wire)
        assert isinstance(error, Error)
        assert error.message == world.fails.problem
        world.fails = None
        world.change("q:1")
        await eventually(lambda: bool(wire.unread))
        assert told(wire) == [result(1, 1)]


async def test_who_comes_while_the_log_cannot_be_followed_is_told_what_is_so_now() -> None:
    async with running() as world:
        early, wire = world.client()
        world.live.open(early, "1", Question("q:1"))
        await eventually(lambda: bool(wire.unread))
        told(wire)
        world.live.follow(False)
        world.change("q:1", unheard=True)
        late, other = world.client()
        world.live.open(late, "1", Question("q:1"))
        await eventually(lambda: bool(other.unread) and bool(wire.unread))
        assert told(other) == told(wire) == [result(1, 1)]
        world.live.follow(True)
        await world.settled()
        last, another = world.client()
        world.live.open(last, "1", Question("q:1"))
        await eventually(lambda: bool(another.unread))
        assert world.asked["q:1"] == 2


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_happens_everybody_ends_with_the_truth_and_is_never_told_the_same_twice(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "BURST", 2)
    random = Random(seed)
    keys = ["q:1", "q:2", "q:12"]
    async with running(buffer=120) as world:
        clients = [world.client() for _ in range(6)]
        wants: dict[tuple[int, str], str] = {}
        heard: dict[tuple[int, str], list[int]] = {}

        def read(number: int, count: int | None = None) -> None:
            for message, _ in clients[number][1].read(count):
                if isinstance(message, Result):
                    heard.setdefault((number, message.id), []).append(message.rows[0]["n"])
                elif isinstance(message, Error) and message.id is not None:
                    heard.setdefault((number, message.id), []).clear()

        for _ in range(300):
            number, called, key = random.randrange(6), random.choice("ab"), random.choice(keys)
            match random.randrange(8):
                case 0:
                    read(number)
                    heard.pop((number, called), None)
                    world.live.open(clients[number][0], called, Question(key))
                    wants[number, called] = key
                case 1 if random.random() < 0.5:
                    world.live.close(clients[number][0], called)
                    wants.pop((number, called), None)
                case 2 | 3:
                    world.change(key)
                case 4:
                    world.fails = random.choice([None, None, QueryFailed("q", "away"), QueryRefused("q", "no")])
                case 5:
                    read(number, random.choice([1, None]))
                case 6:
                    (world.going_on.clear if random.random() < 0.3 else world.going_on.set)()
                case _:
                    for _ in range(random.randrange(6)):
                        await asyncio.sleep(0)
        world.going_on.set()
        world.fails = None
        world.live.invalidate(None)  # what was refused is asked again

        def converged() -> bool:
            for number in range(6):
                read(number)
            return all(heard.get(asker, [None])[-1:] == [world.truth.get(key, 0)] for asker, key in wants.items())

        await eventually(converged)
        await world.settled()
        for asker in wants:
            assert all(before != after for before, after in zip(heard[asker], heard[asker][1:], strict=False))
        assert world.live.questions == len(set(wants.values()))
