"""The Subscriber: what is stale is gone before anybody can ask for it again; while nothing is heard, the cache does what
was said that it should."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest

from afresh_cache import client
from afresh_cache.client import OnDisconnect, Subscriber
from afresh_cache.errors import CallbackCancelled, SubscriptionRefused
from afresh_cache.messages import Invalidate, Position, Resync
from afresh_cache.store import PatternCache
from conftest import PATIENCE, eventually
from support.doors import Doors, doors


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second attempt comes soon."""
    monkeypatch.setattr(client, "RETRY_FIRST", 0.01)


async def ready(subscriber: Subscriber) -> None:
    """Wait for the first subscription."""
    async with asyncio.timeout(PATIENCE):
        await subscriber.ready()


def cut(open_doors: Doors) -> None:
    """Cut every connection as a network does."""
    for subscriber in open_doors.subscribers:
        subscriber.transport.abort()  # type: ignore[attr-defined]


@contextmanager
def full(open_doors: Doors) -> Iterator[None]:
    """For the block the service takes no further client."""
    most = open_doors.settings.server.max_clients
    open_doors.api._streams += most
    yield
    open_doors.api._streams -= most


def filled() -> PatternCache[int]:
    cache: PatternCache[int] = PatternCache()
    cache.update({"a:1": 1, "a:2": 2, "b:1": 3})
    return cache


async def test_what_is_stale_is_dropped_and_the_rest_is_served() -> None:
    cache: PatternCache[int] = PatternCache()
    async with doors() as open_doors, Subscriber(open_doors.url, cache=cache) as subscriber:
        await ready(subscriber)
        assert subscriber.hears
        cache.update({"a:1": 1, "a:2": 2, "b:1": 3})
        open_doors.publish("a:1", "b")
        await eventually(lambda: len(cache) == 1)
        assert dict(cache) == {"a:2": 2}
        assert subscriber.position == Position(epoch="epoch", offset=1)


async def test_what_was_loaded_before_the_first_subscription_is_not_believed() -> None:
    cache = filled()
    async with doors() as open_doors, Subscriber(open_doors.url, cache=cache) as subscriber:
        await ready(subscriber)
        assert len(cache) == 0


async def test_a_load_that_began_before_the_first_subscription_is_not_stored() -> None:
    cache: PatternCache[int] = PatternCache()
    async with doors() as open_doors, cache.load("a:1") as load:
        async with Subscriber(open_doors.url, cache=cache) as subscriber:
            await ready(subscriber)
            load.value = 1
        assert "a:1" not in cache


async def test_a_load_that_is_overtaken_by_an_invalidation_is_not_stored() -> None:
    cache: PatternCache[int] = PatternCache()
    async with doors() as open_doors, Subscriber(open_doors.url, cache=cache) as subscriber:
        await ready(subscriber)
        async with cache.load("a:1") as load:
            open_doors.publish("a")
            await eventually(lambda: subscriber.position == Position(epoch="epoch", offset=1))
            load.value = 1
        assert load.value == 1
        assert "a:1" not in cache


async def test_a_resync_clears() -> None:
    cache: PatternCache[int] = PatternCache()
    async with doors() as open_doors, Subscriber(open_doors.url, cache=cache) as subscriber:
        await ready(subscriber)
        cache["z"] = 1
        open_doors.publish("a", reason="gap")
        await eventually(lambda: len(cache) == 0)


async def test_only_the_patterns_that_were_asked_for_are_heard() -> None:
    cache: PatternCache[int] = PatternCache()
    async with doors() as open_doors, Subscriber(open_doors.url, cache=cache, patterns=["a"]) as subscriber:
        await ready(subscriber)
        cache.update({"a:1": 1, "b:1": 3})
        open_doors.publish("b")
        await open_doors.flushed()
        open_doors.publish("a")
        await eventually(lambda: "a:1" not in cache)
        assert "b:1" in cache


@pytest.mark.parametrize("on_disconnect", ["keep", "clear", "bypass"])
async def test_what_was_missed_is_dropped_before_the_cache_is_believed_again(on_disconnect: OnDisconnect) -> None:
    cache: PatternCache[int] = PatternCache()
    async with (
        doors() as open_doors,
        Subscriber(open_doors.url, cache=cache, on_disconnect=on_disconnect) as subscriber,
    ):
        await ready(subscriber)
        cache.update({"a:1": 1, "a:2": 2, "b:1": 3})
        with full(open_doors):
            cut(open_doors)
            await eventually(lambda: not subscriber.hears)
            assert dict(cache) == ({"a:1": 1, "a:2": 2, "b:1": 3} if on_disconnect == "keep" else {})
            open_doors.publish("a:1")
            cache["c"] = 4  # what is stored meanwhile
        await eventually(lambda: subscriber.hears)
        kept = {"keep": {"a:2", "b:1", "c"}, "clear": {"c"}, "bypass": {"a:2", "b:1"}}
        assert set(cache) == kept[on_disconnect]


async def test_it_is_cleared_once_for_a_disconnection_and_not_at_each_attempt_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache: PatternCache[int] = PatternCache()
    attempts: list[object] = []
    connect = aiohttp.ClientSession.ws_connect

    def counted(self: aiohttp.ClientSession, *arguments: Any, **named: Any) -> Any:
        attempts.append(arguments)
        return connect(self, *arguments, **named)

    monkeypatch.setattr(aiohttp.ClientSession, "ws_connect", counted)
    async with doors() as open_doors, Subscriber(open_doors.url, cache=cache, on_disconnect="clear") as subscriber:
        await ready(subscriber)
        with full(open_doors):
            cut(open_doors)
            await eventually(lambda: not subscriber.hears)
            cache["a"] = 1
            await eventually(lambda: len(attempts) >= 4)  # the first was well, and of the others two have failed
        await eventually(lambda: subscriber.hears)
        assert "a" in cache


async def test_bypass_believes_nothing_before_the_first_subscription() -> None:
    cache = filled()
    async with Subscriber("http://127.0.0.1:9", cache=cache, on_disconnect="bypass") as subscriber:
        assert not subscriber.hears
        assert len(cache) == 0
        cache["x"] = 1
        assert "x" not in cache


@pytest.mark.parametrize("on_disconnect", ["keep", "clear", "bypass"])
async def test_an_instance_that_is_not_current_is_as_good_as_none(on_disconnect: OnDisconnect) -> None:
    cache: PatternCache[int] = PatternCache()
    async with (
        doors() as open_doors,
        Subscriber(open_doors.url, cache=cache, on_disconnect=on_disconnect) as subscriber,
    ):
        await ready(subscriber)
        cache.update({"a:1": 1, "b:1": 3})
        open_doors.hub.be_current(False)
        await eventually(lambda: not subscriber.hears)
        assert len(cache) == (2 if on_disconnect == "keep" else 0)
        open_doors.publish("a")
        open_doors.hub.be_current(True)
        await eventually(lambda: subscriber.hears)
        assert set(cache) == (set() if on_disconnect == "clear" else {"b:1"})


async def test_who_reconnects_to_an_instance_that_is_not_current_does_not_believe_it() -> None:
    cache: PatternCache[int] = PatternCache()
    async with doors() as open_doors, Subscriber(open_doors.url, cache=cache, on_disconnect="bypass") as subscriber:
        await ready(subscriber)
        cache["a"] = 1
        open_doors.hub.be_current(False)
        with full(open_doors):
            cut(open_doors)
            await eventually(lambda: open_doors.hub.clients == 0)
        await eventually(lambda: open_doors.hub.clients == 1 and open_doors.subscribers[0].listens)
        await asyncio.sleep(0.05)
        assert not subscriber.hears
        assert "a" not in cache
        open_doors.hub.be_current(True)
        await eventually(lambda: "a" in cache)


@pytest.mark.parametrize(("on_disconnect", "kept"), [("keep", 1), ("clear", 0), ("bypass", 0)])
async def test_when_the_block_is_left_nobody_hears_any_more(on_disconnect: OnDisconnect, kept: int) -> None:
    cache: PatternCache[int] = PatternCache()
    async with doors() as open_doors:
        async with Subscriber(open_doors.url, cache=cache, on_disconnect=on_disconnect) as subscriber:
            await ready(subscriber)
            cache["a"] = 1
        assert not subscriber.hears
        assert len(cache) == kept


async def test_callbacks_hear_after_the_cache_has_acted_in_order_sync_or_async() -> None:
    cache: PatternCache[int] = PatternCache()
    heard: list[object] = []

    def on_invalidate(message: Invalidate) -> None:
        heard.append((message.patterns, "a" in cache))

    async def on_resync(message: Resync) -> None:
        await asyncio.sleep(0)
        heard.append(message.reason)

    async with (
        doors() as open_doors,
        Subscriber(open_doors.url, cache=cache, on_invalidate=on_invalidate, on_resync=on_resync) as subscriber,
    ):
        await ready(subscriber)
        cache["a"] = 1
        open_doors.publish("a")
        await open_doors.flushed()
        open_doors.publish("b", reason="gap")
        await eventually(lambda: heard == [(["a"], False), "gap"])


async def test_a_callback_that_takes_its_time_delays_no_drop_and_is_told_a_resync_for_what_is_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "MAX_WAITING", 3)
    cache: PatternCache[int] = PatternCache()
    going_on = asyncio.Event()
    resynced: list[Resync] = []

    async def on_invalidate(message: Invalidate) -> None:
        await going_on.wait()

    async with (
        doors() as open_doors,
        Subscriber(open_doors.url, cache=cache, on_invalidate=on_invalidate, on_resync=resynced.append) as subscriber,
    ):
        await ready(subscriber)
        for number in range(6):
            cache["a"] = number
            open_doors.publish("a")
            await eventually(lambda: "a" not in cache)
        going_on.set()
        await eventually(lambda: resynced == [Resync(offset=5, reason="overflow")])


async def test_what_a_callback_raises_ends_the_block() -> None:
    def on_invalidate(message: Invalidate) -> None:
        raise RuntimeError("no")

    async def block() -> None:
        async with doors() as open_doors, Subscriber(open_doors.url, on_invalidate=on_invalidate) as subscriber:
            await ready(subscriber)
            open_doors.publish("a")
            await asyncio.sleep(PATIENCE)

    with pytest.raises(RuntimeError, match="no"):
        await block()


async def test_a_callback_that_ends_as_cancelled_ends_the_block() -> None:
    """Nobody cancelled the one who calls: what it awaited was cancelled, and it would never be called again."""
    held: list[asyncio.Future[None]] = []

    async def on_invalidate(message: Invalidate) -> None:
        held.append(asyncio.get_running_loop().create_future())
        held[0].cancel()
        await held[0]

    async def block() -> None:
        async with doors() as open_doors, Subscriber(open_doors.url, on_invalidate=on_invalidate) as subscriber:
            await ready(subscriber)
            open_doors.publish("a")
            await asyncio.sleep(PATIENCE)

    with pytest.raises(CallbackCancelled):
        await block()


@pytest.mark.parametrize("on_disconnect", ["clear", "bypass"])
async def test_when_nobody_hears_any_more_the_cache_is_not_believed_though_the_block_takes_its_time_to_end(
    on_disconnect: OnDisconnect,
) -> None:
    cache: PatternCache[int] = PatternCache()
    kept: list[int] = []

    def on_invalidate(message: Invalidate) -> None:
        raise RuntimeError("no")

    async def block() -> None:
        async with (
            doors() as open_doors,
            Subscriber(
                open_doors.url, cache=cache, on_disconnect=on_disconnect, on_invalidate=on_invalidate
            ) as subscriber,
        ):
            await ready(subscriber)
            cache["b"] = 1
            open_doors.publish("a")
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                kept.append(len(cache))
                assert not subscriber.hears

    with pytest.raises(RuntimeError, match="no"):
        await block()
    assert kept == [0]


async def test_a_server_that_will_not_have_us_ends_the_block_and_the_cache_is_not_believed() -> None:
    cache = filled()
    with pytest.raises(SubscriptionRefused) as refused:
        async with (
            doors() as open_doors,
            Subscriber(f"{open_doors.url}/nowhere", cache=cache, on_disconnect="bypass"),
        ):
            await asyncio.sleep(PATIENCE)
    assert refused.value.code == "not_found"
    assert len(cache) == 0


async def test_what_the_block_raises_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with doors() as open_doors, Subscriber(open_doors.url):
            raise KeyError("mine")


async def test_what_the_block_raises_keeps_what_it_says_of_its_cause() -> None:
    caused, met = OSError("cause"), OSError("met")

    async def raises(error: Exception, cause: Exception | None) -> None:
        async with doors() as open_doors, Subscriber(open_doors.url):
            try:
                raise met
            except OSError:
                raise error from cause

    with pytest.raises(KeyError) as raised:
        await raises(KeyError("mine"), caused)
    assert raised.value.__cause__ is caused
    assert raised.value.__context__ is met


@pytest.mark.parametrize("inside", [True, False])
async def test_a_subscriber_is_for_one_block(inside: bool) -> None:
    async with doors() as open_doors:
        subscriber = Subscriber(open_doors.url)
        async with subscriber:
            if inside:
                with pytest.raises(RuntimeError, match="one block"):
                    await subscriber.__aenter__()
                await ready(subscriber)
        with pytest.raises(RuntimeError, match="one block"):
            await subscriber.__aenter__()


async def test_cancelling_the_block_ends_it() -> None:
    async with doors() as open_doors:

        async def block() -> None:
            async with Subscriber(open_doors.url) as subscriber:
                await ready(subscriber)
                await asyncio.sleep(PATIENCE)

        task = asyncio.create_task(block())
        await eventually(lambda: open_doors.hub.clients == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: open_doors.hub.clients == 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"url": "gopher://x"}, "is not an address"),
        ({"url": "http://x", "on_disconnect": "panic"}, "on_disconnect: expected"),
    ],
)
def test_what_cannot_be_is_refused_at_once(arguments: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Subscriber(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"patterns": "customers"}, TypeError, r"write \['customers'\]"),
        ({"patterns": ["customers:*"]}, ValueError, "is a glob; a subscriber names prefixes: 'customers:'"),
        ({"patterns": ["orders:{id}"]}, ValueError, "is a template, .* names prefixes: 'orders:'"),
        ({"cache": {}}, TypeError, "expected a PatternCache"),
        ({"on_invalidate": "x"}, TypeError, "on_invalidate: expected a function"),
        ({"heartbeat": 0}, ValueError, "heartbeat: expected seconds"),
        ({"heartbeat": "5s"}, ValueError, "heartbeat: expected seconds"),
    ],
)
def test_arguments_that_would_do_nothing_are_refused(
    arguments: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        Subscriber("http://x", **arguments)


async def test_nobody_waits_for_a_subscriber_that_has_not_begun() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await Subscriber("http://x").ready()


async def test_who_waits_for_a_subscription_that_will_never_stand_is_told_so() -> None:
    async with asyncio.timeout(PATIENCE):
        async with Subscriber("http://127.0.0.1:9") as subscriber:
            waiting = asyncio.create_task(subscriber.ready())
            await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="no subscription ever stood"):
            await waiting
