"""The client: hears in order, reconnects by itself, resumes, and gives up only where trying again would not help."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from afresh_cache import client
from afresh_cache.client import Connected, Disconnected, Event, listen, websocket_url
from afresh_cache.errors import SubscriptionRefused
from afresh_cache.messages import PROTOCOL, Invalidate, Position, Resync, Subscribed, Welcome, encode
from conftest import PATIENCE, eventually
from support.doors import Doors, doors


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second attempt comes soon."""
    monkeypatch.setattr(client, "RETRY_FIRST", 0.01)


Events = AsyncGenerator[Event, None]


async def heard(events: Events) -> Event:
    """The next event."""
    async with asyncio.timeout(PATIENCE):
        return await anext(events)


async def connected(events: Events) -> Connected:
    """The next connection; attempts that fail before are passed over, anything else is not."""
    while isinstance(event := await heard(events), Disconnected):
        pass
    assert isinstance(event, Connected)
    return event


def cut(open_doors: Doors) -> None:
    """Cut every connection as a network does."""
    for subscriber in open_doors.subscribers:
        subscriber.transport.abort()  # type: ignore[attr-defined]


@asynccontextmanager
async def answering(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A server that answers /ws with ``handler``."""
    application = web.Application()
    application.router.add_get("/ws", handler)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def free_port() -> int:
    with socket.socket() as plain:
        plain.bind(("127.0.0.1", 0))
        port: int = plain.getsockname()[1]
        return port


async def test_a_connection_on_which_nothing_can_be_said_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[aiohttp.ClientWebSocketResponse] = []

    async def nothing_is_taken(self: aiohttp.ClientWebSocketResponse, text: str) -> None:
        opened.append(self)
        raise TimeoutError

    monkeypatch.setattr(aiohttp.ClientWebSocketResponse, "send_str", nothing_is_taken)
    async with doors() as open_doors, aclosing(listen(open_doors.url)) as events:
        for _ in range(2):
            assert isinstance(await heard(events), Disconnected)
        assert [socket.closed for socket in opened] == [True, True]


async def test_a_client_hears_what_concerns_it() -> None:
    async with doors() as open_doors, aclosing(listen(open_doors.url, patterns=["a"])) as events:
        assert await heard(events) == Connected(position=Position(epoch="epoch", offset=0), recovered=True)
        open_doors.publish("b")
        await open_doors.flushed()
        open_doors.publish("a:1")
        told = await heard(events)
        assert isinstance(told, Invalidate)
        assert (told.offset, told.patterns) == (2, ["a:1"])
        open_doors.publish("a", reason="gap")
        assert await heard(events) == Resync(offset=3, reason="gap")


async def test_a_client_of_everything_hears_everything() -> None:
    async with doors() as open_doors, aclosing(listen(open_doors.url)) as events:
        await connected(events)
        open_doors.publish("anything")
        told = await heard(events)
        assert isinstance(told, Invalidate)
        assert told.patterns == ["anything"]


async def test_what_happened_while_the_connection_was_down_is_heard_in_one() -> None:
    async with doors() as open_doors, aclosing(listen(open_doors.url, patterns=["a"])) as events:
        await connected(events)
        open_doors.publish("a:1")
        assert isinstance(await heard(events), Invalidate)
        cut(open_doors)
        gone = await heard(events)
        assert isinstance(gone, Disconnected)
        assert gone.reason
        for pattern in ("a:2", "b", "a:3"):
            open_doors.publish(pattern)
        await open_doors.flushed()
        told = await heard(events)
        while isinstance(told, Disconnected):
            told = await heard(events)
        assert isinstance(told, Invalidate)
        assert (told.offset, told.patterns) == (4, ["a:2", "a:3"])
        assert await connected(events) == Connected(position=Position(epoch="epoch", offset=4), recovered=True)
        # The position has moved with it: a second loss tells nothing twice.
        cut(open_doors)
        assert (await connected(events)).position == Position(epoch="epoch", offset=4)
        open_doors.publish("a:4")
        told = await heard(events)
        assert isinstance(told, Invalidate)
        assert told.patterns == ["a:4"]


async def test_what_the_server_says_first_does_not_move_the_position() -> None:
    """A welcome names the log's end, which says nothing of what was heard."""
    asked: list[object] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=(PROTOCOL,))
        await socket.prepare(request)
        await socket.send_bytes(b"\x00")  # frames that are none of ours are passed over
        await socket.send_str(encode(Welcome(epoch="e", offset=9)).decode())
        message = await socket.receive_json()
        asked.append(message.get("since"))
        if message.get("since"):
            await socket.send_str(encode(Subscribed(id="1", epoch="e", offset=4, recovered=True)).decode())
        else:
            await socket.send_str(encode(Subscribed(id="1", epoch="e", offset=3, recovered=True)).decode())
            await socket.send_str('{"type":"of a later version","offset":99}')
            await socket.send_str(encode(Invalidate(offset=4, patterns=["a"], at="")).decode())
        await socket.close()
        return socket

    async with answering(handler) as url, aclosing(listen(url)) as events:
        await connected(events)
        assert isinstance(await heard(events), Invalidate)
        await connected(events)
        await connected(events)
    assert asked[:3] == [None, {"epoch": "e", "offset": 4}, {"epoch": "e", "offset": 4}]


async def test_a_client_that_dies_before_it_is_subscribed_hears_what_it_missed_again() -> None:
    asked: list[object] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=(PROTOCOL,))
        await socket.prepare(request)
        await socket.send_str(encode(Welcome(epoch="e", offset=9)).decode())
        asked.append((await socket.receive_json()).get("since"))
        await socket.send_str(encode(Invalidate(offset=8, patterns=["a"], at="")).decode())
        await socket.close()
        return socket

    since = Position(epoch="e", offset=3)
    async with answering(handler) as url, aclosing(listen(url, since=since)) as events:
        for _ in range(2):
            assert isinstance(await heard(events), Invalidate)
            assert isinstance(await heard(events), Disconnected)
    assert asked == [{"epoch": "e", "offset": 3}] * 2


async def test_a_client_resumes_from_a_position_that_was_kept() -> None:
    async with doors() as open_doors:
        for pattern in ("a:1", "a:2"):
            open_doors.publish(pattern)
        await open_doors.flushed()
        async with aclosing(listen(open_doors.url, since=Position(epoch="epoch", offset=1))) as events:
            told = await heard(events)
            assert isinstance(told, Invalidate)
            assert told.patterns == ["a:2"]
            assert (await connected(events)).recovered


async def test_a_quiet_client_keeps_its_position_young() -> None:
    """The log holds two entries, and the client slept through ten that did not concern it."""
    async with (
        doors(entries=2, position_interval=0.01) as open_doors,
        aclosing(listen(open_doors.url, patterns=["a"])) as events,
    ):
        await connected(events)
        waiting = asyncio.create_task(heard(events))
        for _ in range(10):
            open_doors.publish("b")
            await open_doors.flushed()
        await eventually(lambda: all(s.told == 10 for s in open_doors.subscribers))
        cut(open_doors)
        assert isinstance(await waiting, Disconnected)
        assert (await connected(events)) == Connected(position=Position(epoch="epoch", offset=10), recovered=True)


async def test_a_service_that_starts_anew_resyncs_its_clients() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    events = listen(url, patterns=["a"])
    async with aclosing(events):
        async with doors(port=port, epoch="first") as open_doors:
            await connected(events)
            open_doors.publish("a")
            assert isinstance(await heard(events), Invalidate)
            waiting = asyncio.create_task(heard(events))
            await asyncio.sleep(0)
        gone = await waiting
        assert isinstance(gone, Disconnected)
        assert "1001" in gone.reason
        refused = await heard(events)
        assert isinstance(refused, Disconnected)
        async with doors(port=port, epoch="second") as open_doors:
            while isinstance(told := await heard(events), Disconnected):
                pass
            assert told == Resync(offset=0, reason="restart")
            assert await heard(events) == Connected(position=Position(epoch="second", offset=0), recovered=False)
            open_doors.publish("a")
            told = await heard(events)
            assert isinstance(told, Invalidate)
            assert told.offset == 1


async def test_a_client_may_start_before_the_service() -> None:
    port = free_port()
    async with aclosing(listen(f"127.0.0.1:{port}")) as events:
        assert isinstance(await heard(events), Disconnected)
        async with doors(port=port):
            await connected(events)


async def test_pauses_between_attempts_grow_and_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRY_FIRST", 0.001)
    monkeypatch.setattr(client, "RETRY_MAX", 0.01)
    async with aclosing(listen(f"http://127.0.0.1:{free_port()}")) as events:
        longest = [0.001, 0.002, 0.004, 0.008, 0.01, 0.01]
        for most in longest:
            gone = await heard(events)
            assert isinstance(gone, Disconnected)
            assert most / 2 <= gone.retry_in <= most


async def test_after_a_connection_that_stood_the_pauses_begin_anew() -> None:
    port = free_port()
    async with aclosing(listen(f"http://127.0.0.1:{port}")) as events:
        for _ in range(4):
            assert isinstance(await heard(events), Disconnected)
        async with doors(port=port) as open_doors:
            await connected(events)
            cut(open_doors)
            gone = await heard(events)
            assert isinstance(gone, Disconnected)
            assert gone.retry_in <= 0.01


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "bad_request"), (401, "unauthorized"), (403, "forbidden"), (404, "not_found"), (426, "upgrade_required")],
)
async def test_a_refusal_that_another_try_would_not_change_ends_it(status: int, code: str) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    async with answering(handler) as url, aclosing(listen(url)) as events:
        with pytest.raises(SubscriptionRefused) as caught:
            await heard(events)
        assert caught.value.code == code


async def test_a_wrong_path_ends_it() -> None:
    async with doors() as open_doors, aclosing(listen(f"{open_doors.url}/elsewhere")) as events:
        with pytest.raises(SubscriptionRefused) as caught:
            await heard(events)
        assert caught.value.code == "not_found"


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_refusal_that_may_pass_is_tried_again(status: int) -> None:
    tries = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal tries
        tries += 1
        return web.Response(status=status)

    async with answering(handler) as url, aclosing(listen(url)) as events:
        for _ in range(3):
            gone = await heard(events)
            assert isinstance(gone, Disconnected)
            assert str(status) in gone.reason
    assert tries == 3


@pytest.mark.parametrize("patterns", [[], [""], ["x" * 513], ["p"] * 257])
async def test_patterns_that_the_server_will_not_take_are_an_error_and_no_silence(patterns: list[str]) -> None:
    async with doors() as open_doors, aclosing(listen(open_doors.url, patterns=patterns)) as events:
        with pytest.raises(SubscriptionRefused) as caught:
            await heard(events)
        assert caught.value.code == "bad_message"
        await eventually(lambda: open_doors.hub.clients == 0)


async def test_a_server_that_is_none_of_ours_is_tried_again() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("hello")
        async for _ in socket:
            pass
        return socket

    async with answering(handler) as url, aclosing(listen(url)) as events:
        gone = await heard(events)
        assert isinstance(gone, Disconnected)
        assert PROTOCOL in gone.reason


async def test_a_server_that_never_answers_the_handshake_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CONNECT_TIMEOUT", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        async with aclosing(listen(f"http://127.0.0.1:{silent.getsockname()[1]}")) as events:
            for _ in range(2):
                gone = await heard(events)
                assert isinstance(gone, Disconnected)
                assert gone.reason


async def test_a_server_that_answers_pings_and_never_the_subscription_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "CONNECT_TIMEOUT", 0.1)
    monkeypatch.setattr(client, "HEARTBEAT", 0.05)

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(encode(Welcome(epoch="e", offset=0)).decode())
        async for _ in socket:
            pass
        return socket

    async with answering(handler) as url, aclosing(listen(url)) as events:
        for _ in range(2):
            assert isinstance(await heard(events), Disconnected)


async def test_a_connection_that_goes_quiet_is_found_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "HEARTBEAT", 0.1)

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        await socket.send_str(encode(Subscribed(id="1", epoch="e", offset=0, recovered=True)).decode())
        async for _ in socket:  # pings are heard and not answered
            pass
        return socket

    async with answering(handler) as url, aclosing(listen(url)) as events:
        await connected(events)
        assert isinstance(await heard(events), Disconnected)


async def test_closing_it_closes_the_connection() -> None:
    async with doors() as open_doors:
        events = listen(open_doors.url)
        await connected(events)
        assert open_doors.hub.clients == 1
        await events.aclose()
        await eventually(lambda: open_doors.hub.clients == 0)


async def test_cancelling_it_closes_the_connection() -> None:
    async with doors() as open_doors:

        async def hear() -> None:
            async for _ in listen(open_doors.url):
                pass

        hearing = asyncio.create_task(hear())
        await eventually(lambda: open_doors.hub.clients == 1)
        hearing.cancel()
        await asyncio.wait([hearing])
        assert hearing.cancelled()
        await eventually(lambda: open_doors.hub.clients == 0)


async def test_a_token_goes_as_a_second_subprotocol() -> None:
    given: list[str | None] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        given.append(request.headers.get("Sec-WebSocket-Protocol"))
        return web.Response(status=401)

    async with answering(handler) as url:
        for token in (None, "secret"):
            async with aclosing(listen(url, token=token)) as events:
                with pytest.raises(SubscriptionRefused):
                    await heard(events)
    assert given == [PROTOCOL, f"{PROTOCOL},bearer.secret"]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://h:1", "ws://h:1/ws"),
        ("https://h", "wss://h/ws"),
        ("ws://h/ws", "ws://h/ws"),
        ("wss://h/afresh/", "wss://h/afresh/ws"),
        ("h:8080", "ws://h:8080/ws"),
        ("http://[::1]:8080/ws/", "ws://[::1]:8080/ws"),
        ("http://h/?x=1#y", "ws://h/ws"),
    ],
)
def test_the_service_may_be_named_by_any_of_its_addresses(url: str, address: str) -> None:
    assert websocket_url(url) == address


@pytest.mark.parametrize("url", ["", "ftp://h", "http://", "postgresql://h/db", "://h"])
async def test_an_address_that_is_none_is_an_error(url: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        websocket_url(url)
    async with aclosing(listen(url)) as events:
        with pytest.raises(ValueError, match="is not an address"):
            await heard(events)
