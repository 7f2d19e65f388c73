"""`afresh.v1` over a real socket: what the server says to whom, and how it takes what is not as it should be."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest

from afresh_cache.messages import (
    PROTOCOL,
    Error,
    Invalidate,
    Position,
    PositionUpdate,
    Resync,
    Subscribed,
    Welcome,
    encode,
)
from afresh_notifier.observations import ClientJoined, ClientLeft
from afresh_notifier.websocket import MAX_SUBSCRIPTIONS, frame
from conftest import PATIENCE, eventually
from support.doors import Doors, connect, doors

HERE = Position(epoch="epoch", offset=0)


def decode(data: bytes) -> tuple[int, bytes, bytes]:
    """A frame's opcode and payload, and what is behind it: a reference decoder (RFC 6455, section 5.2)."""
    first, second = data[0], data[1]
    assert first & 0x80, "the frame is not final"
    assert not first & 0x70, "reserved bits are set"
    assert not second & 0x80, "a server must not mask"
    size, start = second & 0x7F, 2
    if size == 126:
        size, start = int.from_bytes(data[2:4], "big"), 4
        assert size > 125, "the size is not minimally encoded"
    elif size == 127:
        size, start = int.from_bytes(data[2:10], "big"), 10
        assert 0xFFFF < size < 1 << 63, "the size is not minimally encoded"
    assert len(data) >= start + size, "the frame is cut off"
    return first & 0x0F, data[start : start + size], data[start + size :]


def masked(text: bytes, opcode: int = 1) -> bytes:
    """A client's frame."""
    size = len(text)
    assert size < 65_536
    header = (
        bytes((0x80 | opcode, 0x80 | size)) if size < 126 else bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    )
    key = os.urandom(4)
    return header + key + bytes(byte ^ key[n % 4] for n, byte in enumerate(text))


@asynccontextmanager
async def raw(
    open_doors: Doors, receive: int = 4_096
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection after its handshake, with a small receive buffer, on which nothing answers by itself."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, open_doors.address)
    reader, writer = await asyncio.open_connection(sock=plain, limit=receive)
    try:
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        yield reader, writer
    finally:
        writer.transport.abort()


# Frames.


@pytest.mark.parametrize("size", [*range(60, 260), 65_400, *range(65_530, 65_540), 70_000])
def test_a_frame_is_read_by_the_reference_decoder(size: int) -> None:
    message = Error(code="x", message="")
    message = Error(code="x", message="m" * (size - len(encode(message))))
    assert len(encode(message)) == size
    assert decode(frame(message, HERE)) == (1, encode(message), b"")


def test_a_frame_of_every_size_says_how_long_it_is() -> None:
    empty = len(encode(Error(code="", message="")))
    for size in range(0, 70_000, 7):
        opcode, payload, rest = decode(frame(Error(code="", message="m" * size), HERE))
        assert (opcode, len(payload), rest) == (1, empty + size, b"")


# What a client hears.


async def test_the_first_word_is_the_welcome() -> None:
    async with doors() as open_doors:
        open_doors.publish("a")
        await open_doors.flushed()
        async with connect(open_doors.url) as client:
            assert await client.hear() == Welcome(epoch="epoch", offset=1)
            assert client.socket.protocol == PROTOCOL


async def test_a_client_that_names_no_subprotocol_is_served_too() -> None:
    async with doors() as open_doors, connect(open_doors.url, protocols=()) as client:
        assert isinstance(await client.hear(), Welcome)
        assert client.socket.protocol is None


async def test_a_client_hears_what_it_subscribed_to_until_it_unsubscribes() -> None:
    async with doors() as open_doors, connect(open_doors.url) as client:
        await client.hear()
        open_doors.publish("before")
        await open_doors.flushed()
        await client.subscribe("a", "b", id="1")
        assert await client.hear() == Subscribed(id="1", epoch="epoch", offset=1, recovered=True)
        await client.subscribe("c", id="2")
        assert await client.hear() == Subscribed(id="2", epoch="epoch", offset=1, recovered=True)
        open_doors.publish("a:1", "c", "d")
        heard = await client.hear()
        assert isinstance(heard, Invalidate)
        assert (heard.offset, heard.patterns) == (2, ["a:1", "c"])
        await client.say({"type": "unsubscribe", "id": "1"})
        await client.say({"type": "unsubscribe", "id": "1"})
        answer = await client.hear()
        assert isinstance(answer, Error)
        assert (answer.id, answer.code) == ("1", "unknown_subscription")
        open_doors.publish("a:1")
        await open_doors.flushed()
        open_doors.publish("c")
        heard = await client.hear()
        assert isinstance(heard, Invalidate)
        assert (heard.offset, heard.patterns) == (4, ["c"])


async def test_patterns_left_out_are_all_patterns() -> None:
    async with doors() as open_doors, connect(open_doors.url) as client:
        await client.hear()
        await client.subscribe("a", id="1")
        await client.subscribe(id="2")
        await client.hear(), await client.hear()
        open_doors.publish("a", "other")
        heard = await client.hear()
        assert isinstance(heard, Invalidate)
        assert heard.patterns == ["a", "other"]
        await client.say({"type": "unsubscribe", "id": "2"})
        await client.say({"type": "unsubscribe", "id": "no such"})
        assert isinstance(await client.hear(), Error)
        open_doors.publish("a", "other")
        heard = await client.hear()
        assert isinstance(heard, Invalidate)
        assert heard.patterns == ["a"]


async def test_a_subscription_of_the_same_id_replaces_the_earlier() -> None:
    async with doors() as open_doors, connect(open_doors.url) as client:
        await client.hear()
        await client.subscribe("a")
        await client.subscribe("b")
        await client.hear(), await client.hear()
        open_doors.publish("a")
        await open_doors.flushed()
        open_doors.publish("b")
        heard = await client.hear()
        assert isinstance(heard, Invalidate)
        assert heard.patterns == ["b"]


async def test_a_client_that_comes_back_hears_what_it_missed() -> None:
    async with doors() as open_doors:
        for pattern in ("a:1", "b", "a:2", "b"):
            open_doors.publish(pattern)
        await open_doors.flushed()
        async with connect(open_doors.url) as client:
            await client.hear()
            await client.subscribe("a", since=Position(epoch="epoch", offset=0))
            heard = await client.hear()
            assert isinstance(heard, Invalidate)
            assert (heard.offset, heard.patterns) == (3, ["a:1", "a:2"])
            # Whoever is told that he is subscribed has heard all that he missed.
            assert await client.hear() == Subscribed(id="1", epoch="epoch", offset=4, recovered=True)
            open_doors.publish("a:3")
            heard = await client.hear()
            assert isinstance(heard, Invalidate)
            assert (heard.offset, heard.patterns) == (5, ["a:3"])


async def test_a_client_that_missed_nothing_hears_nothing() -> None:
    async with doors() as open_doors:
        open_doors.publish("b")
        await open_doors.flushed()
        async with connect(open_doors.url) as client:
            await client.hear()
            await client.subscribe("a", since=Position(epoch="epoch", offset=0))
            assert await client.hear() == Subscribed(id="1", epoch="epoch", offset=1, recovered=True)
            open_doors.publish("a")
            heard = await client.hear()
            assert isinstance(heard, Invalidate)
            assert heard.offset == 2


@pytest.mark.parametrize(
    ("since", "reason"),
    [
        (Position(epoch="another", offset=4), "restart"),
        (Position(epoch="epoch", offset=1), "expired"),
        (Position(epoch="epoch", offset=99), "expired"),
    ],
)
async def test_what_cannot_be_told_is_a_resync_and_then_the_subscription(since: Position, reason: str) -> None:
    async with doors(entries=2) as open_doors:
        for _ in range(4):
            open_doors.publish("a")
            await open_doors.flushed()
        async with connect(open_doors.url) as client:
            await client.hear()
            await client.subscribe("a", since=since)
            heard = await client.hear()
            assert isinstance(heard, Resync)
            assert (heard.offset, heard.reason) == (4, reason)
            assert await client.hear() == Subscribed(id="1", epoch="epoch", offset=4, recovered=False)


async def test_a_client_that_was_away_during_a_gap_is_resynced() -> None:
    async with doors() as open_doors:
        async with connect(open_doors.url) as client:
            welcome = await client.hear()
            assert isinstance(welcome, Welcome)
        open_doors.publish("a", reason="gap")
        await open_doors.flushed()
        async with connect(open_doors.url) as client:
            await client.hear()
            await client.subscribe("a", since=Position(epoch=welcome.epoch, offset=welcome.offset))
            assert await client.hear() == Resync(offset=1, reason="gap")


async def test_a_quiet_client_is_told_its_position() -> None:
    async with doors(position_interval=0.02) as open_doors, connect(open_doors.url) as client:
        await client.hear()
        await client.subscribe("a")
        await client.hear()
        open_doors.publish("b")
        assert await client.hear() == PositionUpdate(epoch="epoch", offset=1)


# What a client should not say.


async def test_too_many_subscriptions_are_refused_and_the_others_stay() -> None:
    async with doors() as open_doors, connect(open_doors.url) as client:
        await client.hear()
        for number in range(MAX_SUBSCRIPTIONS):
            await client.subscribe("a", id=str(number))
            assert isinstance(await client.hear(), Subscribed)
        await client.subscribe("b", id="one more")
        refused = await client.hear()
        assert isinstance(refused, Error)
        assert (refused.id, refused.code) == ("one more", "too_many_subscriptions")
        await client.subscribe("c", id="0")
        assert isinstance(await client.hear(), Subscribed)
        open_doors.publish("a", "b", "c")
        heard = await client.hear()
        assert isinstance(heard, Invalidate)
        assert heard.patterns == ["a", "c"]


@pytest.mark.parametrize("text", ["{", "", "not json", "[]", '"subscribe"', "1", "null"])
async def test_a_frame_that_is_no_json_object_is_answered_and_ends_the_connection(text: str) -> None:
    async with doors() as open_doors, connect(open_doors.url) as client:
        await client.hear()
        await client.socket.send_str(text)
        answer = await client.hear()
        assert isinstance(answer, Error)
        assert (answer.id, answer.code) == (None, "bad_message")
        assert await client.closed() == 1007
        await eventually(lambda: open_doors.hub.clients == 0)


@pytest.mark.parametrize(
    ("message", "given"),
    [
        ({}, None),
        ({"type": "shout", "id": "7"}, "7"),
        ({"type": "subscribe"}, None),
        ({"type": "subscribe", "id": ""}, ""),
        ({"type": "subscribe", "id": 7}, None),
        ({"type": "subscribe", "id": "7", "patterns": []}, "7"),
        ({"type": "subscribe", "id": "7", "patterns": [""]}, "7"),
        ({"type": "subscribe", "id": "7", "patterns": ["p"] * 257}, "7"),
        ({"type": "subscribe", "id": "7", "patterns": ["p" * 513]}, "7"),
        ({"type": "subscribe", "id": "7", "since": {"epoch": "e"}}, "7"),
        ({"type": "subscribe", "id": "7", "since": {"epoch": "e", "offset": -1}}, "7"),
        ({"type": "subscribe", "id": "7", "pattern": ["a"]}, "7"),
        ({"type": "unsubscribe", "id": "7", "patterns": ["a"]}, "7"),
    ],
)
async def test_json_that_is_no_message_is_answered_and_the_connection_stays(message: object, given: str | None) -> None:
    async with doors() as open_doors, connect(open_doors.url) as client:
        await client.hear()
        await client.say(message)
        answer = await client.hear()
        assert isinstance(answer, Error)
        assert (answer.id, answer.code) == (given, "bad_message")
        await client.subscribe("a")
        assert isinstance(await client.hear(), Subscribed)


async def test_a_binary_frame_ends_the_connection() -> None:
    async with doors() as open_doors, connect(open_doors.url) as client:
        await client.hear()
        await client.socket.send_bytes(b"{}")
        assert await client.closed() == 1003


async def test_an_oversized_frame_ends_the_connection() -> None:
    async with doors(max_frame=1_000) as open_doors, connect(open_doors.url) as client:
        await client.hear()
        message = orjson.dumps({"type": "unsubscribe", "id": "7"}).decode()
        await client.socket.send_str(message + " " * (999 - len(message)))
        assert isinstance(await client.hear(), Error)
        await client.socket.send_str(message + " " * 1_000)
        assert await client.closed() == 1009
        await eventually(lambda: open_doors.hub.clients == 0)


async def test_text_that_is_no_utf_8_ends_the_connection() -> None:
    async with doors() as open_doors, raw(open_doors) as (reader, writer):
        writer.write(masked(b'{"type":"\xff"}'))
        async with asyncio.timeout(PATIENCE):
            opcode = 1
            while opcode != 8:
                head = await reader.readexactly(2)
                opcode, payload = head[0] & 0x0F, await reader.readexactly(head[1])
        assert int.from_bytes(payload[:2], "big") == 1007


async def test_a_request_that_asks_for_no_websocket_is_a_problem() -> None:
    async with (
        doors() as open_doors,
        aiohttp.ClientSession() as session,
        session.get(f"{open_doors.url}/ws") as answer,
    ):
        assert answer.status == 400
        assert answer.content_type == "application/problem+json"
        assert (await answer.json(content_type=None))["code"] == "bad_request"


# Who may connect from where.


async def refused(url: str, **arguments: Any) -> int:
    """The status with which a handshake is refused."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with connect(url, **arguments):
            pass
    return caught.value.status


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://[", "http://127.0.0.1:1", "\udcff"])
async def test_pages_of_other_origins_are_refused(origin: str) -> None:
    async with doors(origins=["https://app.example"]) as open_doors:
        assert await refused(open_doors.url, headers={"Origin": origin}) == 403
        assert open_doors.hub.clients == 0


async def test_pages_of_our_own_and_of_named_origins_connect() -> None:
    async with doors(origins=["https://app.example"]) as open_doors:
        for origin in (open_doors.url, "https://app.example"):
            async with connect(open_doors.url, headers={"Origin": origin}) as client:
                assert isinstance(await client.hear(), Welcome)


async def test_pages_of_any_origin_connect_where_that_is_allowed() -> None:
    elsewhere = {"Origin": "https://elsewhere.example"}
    async with doors(origins="*") as open_doors, connect(open_doors.url, headers=elsewhere) as client:
        assert isinstance(await client.hear(), Welcome)


async def test_more_clients_than_are_allowed_are_refused_until_one_leaves() -> None:
    async with doors(max_clients=2) as open_doors:
        async with connect(open_doors.url) as first, connect(open_doors.url) as second:
            await first.hear(), await second.hear()
            assert await refused(open_doors.url) == 503
            async with aiohttp.ClientSession() as session, session.get(f"{open_doors.url}/events") as answer:
                assert answer.status == 503
                assert (await answer.json(content_type=None))["code"] == "too_many_clients"
        await eventually(lambda: len(open_doors.observations(ClientLeft)) == 2)
        async with connect(open_doors.url) as third:
            assert isinstance(await third.hear(), Welcome)
        assert len(open_doors.observations(ClientJoined)) == 3


# How connections end.


async def test_a_client_that_leaves_is_forgotten() -> None:
    async with doors() as open_doors:
        async with connect(open_doors.url) as client:
            await client.hear()
            assert open_doors.hub.clients == 1
        await eventually(lambda: open_doors.hub.clients == 0)
        assert client.socket.close_code == 1000


async def test_a_client_whose_connection_dies_is_forgotten() -> None:
    async with doors() as open_doors:
        async with raw(open_doors):
            await eventually(lambda: open_doors.hub.clients == 1)
        await eventually(lambda: open_doors.hub.clients == 0)


async def test_a_client_that_answers_no_ping_is_cut_off_with_all_that_waits_for_it() -> None:
    """A close alone would wait for it to take what was written, and so for ever."""
    async with doors(heartbeat=0.3) as open_doors, raw(open_doors) as (_, writer):
        writer.write(masked(b'{"type":"subscribe","id":"1"}'))
        await eventually(lambda: any(s.interest is None for s in open_doors.subscribers))
        transport = open_doors.subscribers[0].transport
        server_side = transport.get_extra_info("socket")  # type: ignore[attr-defined]
        server_side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        open_doors.publish("x" * 1_000_000)
        await eventually(lambda: transport.get_write_buffer_size() > 0 or transport.is_closing())
        await eventually(lambda: open_doors.hub.clients == 0)
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0


async def test_a_client_that_answers_pings_stays() -> None:
    async with doors(heartbeat=0.5) as open_doors, raw(open_doors) as (reader, writer):
        pings = 0
        async with asyncio.timeout(PATIENCE):
            while pings < 3:  # the last comes because those before it were answered
                head = await reader.readexactly(2)
                payload = await reader.readexactly(head[1])
                if head[0] == 0x89:
                    pings += 1
                    writer.write(masked(payload, opcode=0xA))
        assert open_doors.hub.clients == 1


async def test_the_end_of_the_service_is_told_to_every_client() -> None:
    async with doors() as open_doors, connect(open_doors.url) as client:
        await client.hear()
        saying_goodbye = asyncio.create_task(open_doors.api.goodbye(PATIENCE))
        assert await client.closed() == 1001
        await saying_goodbye


async def test_a_client_that_does_not_answer_the_goodbye_is_not_waited_for() -> None:
    async with doors() as open_doors, connect(open_doors.url) as client, raw(open_doors):
        await client.hear()
        await eventually(lambda: open_doors.hub.clients == 2)
        async with asyncio.timeout(5.0):  # half of what aiohttp would wait for the answer
            saying_goodbye = asyncio.create_task(open_doors.api.goodbye(0.2))
            assert await client.closed() == 1001
            await saying_goodbye
        await eventually(lambda: open_doors.hub.clients == 0)


async def test_one_who_asks_and_never_reads_cannot_fill_memory() -> None:
    """Each answer is written, however many there are, but no question is read while the answers are not."""
    question = masked(b'{"type":"unsubscribe","id":"' + b"x" * 64 + b'"}')
    async with doors(client_buffer=8_192) as open_doors, raw(open_doors) as (reader, writer):
        await eventually(lambda: open_doors.hub.clients == 1)
        transport = open_doors.subscribers[0].transport
        writer.transport.set_write_buffer_limits(high=0)
        most, asked, blocked = 0, 0, False
        while not blocked:
            writer.write(question * 200)
            asked += 200
            assert asked < 400_000, "the server reads on and on"
            try:
                async with asyncio.timeout(1.0):
                    await writer.drain()
            except TimeoutError:
                blocked = True
            most = max(most, transport.get_write_buffer_size())
        assert most > 8_192, "the answers were never many enough to wait"
        assert most < 8_192 + 1_024
        answers = 0
        async with asyncio.timeout(PATIENCE):
            draining = asyncio.create_task(writer.drain())
            rest = b""
            while answers < asked + 1:  # the welcome is one more
                rest += await reader.read(65_536)
                while (size := _size(rest)) is not None and len(rest) >= size:
                    _, _, rest = decode(rest)
                    answers += 1
            await draining


async def test_one_who_does_not_read_is_told_in_one_when_he_does_and_others_at_once() -> None:
    async with doors(client_buffer=1_024) as open_doors, raw(open_doors) as (reader, writer):
        writer.write(masked(b'{"type":"subscribe","id":"1"}'))
        await eventually(lambda: any(s.interest is None for s in open_doors.subscribers))
        slow = next(s for s in open_doors.subscribers if s.interest is None)
        async with connect(open_doors.url) as quick:
            await quick.hear()
            await quick.subscribe()
            await quick.hear()
            published, merged = 0, 0
            filling = "x" * 20_000
            while merged < 20:
                published += 1
                merged += slow.lagging
                assert published < 2_000
                open_doors.publish(f"{filling}:{published % 7}", f"p{published}")
                heard = await quick.hear()
                assert isinstance(heard, Invalidate)
                assert heard.patterns[1] == f"p{published}"
                assert slow.transport.get_write_buffer_size() < 1_024 + 22_000
        told: list[str] = []
        offsets: list[int] = []
        async with asyncio.timeout(PATIENCE):
            rest = b""
            while not offsets or offsets[-1] < published:
                rest += await reader.read(65_536)
                while (size := _size(rest)) is not None and len(rest) >= size:
                    _, payload, rest = decode(rest)
                    message = orjson.loads(payload)
                    if message["type"] == "invalidate":
                        offsets.append(message["offset"])
                        told += [pattern for pattern in message["patterns"] if pattern.startswith("p")]
        assert told == [f"p{number}" for number in range(1, published + 1)]
        assert offsets == sorted(set(offsets))
        assert len(offsets) <= published - 10


def _size(data: bytes) -> int | None:
    """How long the frame is with which ``data`` begins; None where that cannot be said yet."""
    if len(data) < 2 or (data[1] == 126 and len(data) < 4) or (data[1] == 127 and len(data) < 10):
        return None
    if data[1] < 126:
        return 2 + data[1]
    return 4 + int.from_bytes(data[2:4], "big") if data[1] == 126 else 10 + int.from_bytes(data[2:10], "big")
