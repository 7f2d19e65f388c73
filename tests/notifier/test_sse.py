"""Server-sent events over a real socket: the same stream as the WebSocket's, read as a browser reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
import orjson
import pytest

from afresh_cache.messages import MAX_PATTERN_LENGTH, MAX_PATTERNS, Invalidate, Position, Welcome
from afresh_notifier.observations import ClientLeft
from afresh_notifier.sse import chunk, event
from conftest import PATIENCE, eventually
from support.doors import Doors, doors

HERE = Position(epoch="epoch", offset=7)
TOLD = Invalidate(offset=7, patterns=["a"], at="2026-01-02T03:04:05.000Z")


@dataclass(frozen=True, slots=True)
class Event:
    """One event as a browser sees it."""

    name: str
    id: str
    data: dict[str, object]


def parse(text: str) -> Event | None:
    """One block of the stream; None for a comment or a field that makes no event."""
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        name, _, value = line.partition(":")
        assert name in ("event", "id", "data", "retry", ""), f"{line!r} is no line of the stream"
        fields[name] = value.removeprefix(" ")
    return Event(fields["event"], fields["id"], orjson.loads(fields["data"])) if "data" in fields else None


class Stream:
    """A client of the events: it reads the body's bytes itself."""

    def __init__(self, reader: asyncio.StreamReader, head: bytes) -> None:
        self._reader = reader
        self.status = int(head.split()[1])
        self.headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head.decode().split("\r\n")[1:] if line)
        }
        self._body = b""

    async def _more(self) -> None:
        if self.headers.get("transfer-encoding") == "chunked":
            size = int((await self._reader.readline()).strip(), 16)
            data = await self._reader.readexactly(size)
            assert await self._reader.readexactly(2) == b"\r\n"
        else:
            data = await self._reader.read(65_536)
        if not data:
            raise EOFError
        self._body += data

    async def block(self) -> str:
        """The next block of lines, whatever it is."""
        async with asyncio.timeout(PATIENCE):
            while b"\n\n" not in self._body:
                await self._more()
        text, _, self._body = self._body.partition(b"\n\n")
        return text.decode()

    async def hear(self) -> Event:
        """The next event."""
        while True:
            found = parse(await self.block())
            if found is not None:
                return found


@asynccontextmanager
async def stream(
    open_doors: Doors, query: str = "", *, version: str = "1.1", headers: Mapping[str, str] | None = None
) -> AsyncIterator[Stream]:
    """The events for the block."""
    reader, writer = await asyncio.open_connection(*open_doors.address)
    try:
        lines = [f"GET /events{query} HTTP/{version}", "Host: localhost"]
        lines += [f"{k}: {v}" for k, v in (headers or {}).items()]
        writer.write("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape"))
        async with asyncio.timeout(PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
        yield Stream(reader, head)
    finally:
        writer.transport.abort()


def test_an_event_has_a_name_an_id_and_one_line_of_data() -> None:
    text = event(TOLD, HERE).decode()
    assert text.endswith("\n\n")
    assert text.count("\n") == 4
    found = parse(text.removesuffix("\n\n"))
    assert found is not None
    assert (found.name, found.id) == ("invalidate", "epoch:7")
    assert found.data == orjson.loads(orjson.dumps(TOLD))


def test_a_chunk_is_the_event_behind_its_length() -> None:
    data = chunk(TOLD, HERE)
    size, _, rest = data.partition(b"\r\n")
    assert rest == event(TOLD, HERE) + b"\r\n"
    assert int(size, 16) == len(event(TOLD, HERE))


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_both_versions_of_http_can_read_the_stream(version: str) -> None:
    async with doors() as open_doors, stream(open_doors, "?patterns=a,b", version=version) as heard:
        assert heard.status == 200
        assert heard.headers["content-type"].startswith("text/event-stream")
        assert heard.headers["cache-control"] == "no-store"
        assert ("transfer-encoding" in heard.headers) == (version == "1.1")
        assert await heard.block() == "retry: 1000"
        assert await heard.hear() == Event("welcome", "epoch:0", {"type": "welcome", "epoch": "epoch", "offset": 0})
        open_doors.publish("a:1", "c")
        told = await heard.hear()
        assert (told.name, told.id, told.data["patterns"]) == ("invalidate", "epoch:1", ["a:1"])
        open_doors.publish("c")
        await open_doors.flushed()
        open_doors.publish("b")
        told = await heard.hear()
        assert (told.id, told.data["offset"]) == ("epoch:3", 3)


async def test_patterns_left_out_are_all_patterns() -> None:
    async with doors() as open_doors, stream(open_doors) as heard:
        await heard.hear()
        open_doors.publish("anything")
        assert (await heard.hear()).data["patterns"] == ["anything"]


async def test_patterns_may_be_percent_encoded() -> None:
    async with doors() as open_doors, stream(open_doors, f"?patterns={quote('clients:a%20b')},,b&patterns=c") as heard:
        await heard.hear()
        open_doors.publish("clients:a%20b", "z")
        assert (await heard.hear()).data["patterns"] == ["clients:a%20b"]


async def test_a_client_that_comes_back_hears_what_it_missed_and_then_where_it_is() -> None:
    async with doors() as open_doors:
        for pattern in ("a:1", "b", "a:2", "b"):
            open_doors.publish(pattern)
        await open_doors.flushed()
        async with stream(open_doors, "?patterns=a", headers={"Last-Event-ID": "epoch:1"}) as heard:
            told = await heard.hear()
            assert (told.name, told.id) == ("invalidate", "epoch:4")
            assert (told.data["offset"], told.data["patterns"]) == (3, ["a:2"])
            assert (await heard.hear()).name == "welcome"
            open_doors.publish("a:3")
            assert (await heard.hear()).id == "epoch:5"


@pytest.mark.parametrize(("last", "reason"), [("another:1", "restart"), ("epoch:1", "expired")])
async def test_what_cannot_be_told_is_a_resync(last: str, reason: str) -> None:
    async with doors(entries=1) as open_doors:
        for _ in range(3):
            open_doors.publish("a")
            await open_doors.flushed()
        async with stream(open_doors, headers={"Last-Event-ID": last}) as heard:
            told = await heard.hear()
            assert (told.name, told.id, told.data) == (
                "resync",
                "epoch:3",
                {"type": "resync", "offset": 3, "reason": reason},
            )
            assert (await heard.hear()).name == "welcome"


async def test_nothing_has_an_id_that_is_past_what_was_missed_before_that_was_told() -> None:
    """A browser resumes from the last id that it read, whatever event that was."""
    async with doors() as open_doors:
        open_doors.publish("a")
        await open_doors.flushed()
        open_doors.hub.be_current(False)
        async with stream(open_doors, headers={"Last-Event-ID": "epoch:0"}) as heard:
            told = [await heard.hear() for _ in range(3)]
            assert [(one.name, one.id) for one in told] == [
                ("invalidate", "epoch:1"),
                ("status", "epoch:1"),
                ("welcome", "epoch:1"),
            ]


async def test_a_quiet_client_is_told_its_position_and_kept_open_by_comments() -> None:
    async with (
        doors(heartbeat=0.02, position_interval=0.02) as open_doors,
        stream(open_doors, "?patterns=a") as heard,
    ):
        await heard.hear()
        open_doors.publish("b")
        blocks: list[str] = []
        while not ("" in blocks or ":" in blocks) or not any(block.startswith("event: position") for block in blocks):
            blocks.append(await heard.block())
        told = next(found for block in blocks if (found := parse(block)) is not None)
        assert (told.id, told.data) == ("epoch:1", {"type": "position", "epoch": "epoch", "offset": 1})


@pytest.mark.parametrize("last", ["nonsense", "epoch:", "epoch:-1", "epoch:x", ":3", "epoch:9" + "9" * 19, "\udcff"])
async def test_a_last_event_id_that_is_none_is_a_problem(last: str) -> None:
    async with doors() as open_doors, stream(open_doors, headers={"Last-Event-ID": last}) as heard:
        assert heard.status == 400
        assert heard.headers["content-type"].startswith("application/problem+json")
    assert open_doors.hub.clients == 0


@pytest.mark.parametrize(
    "patterns",
    ["", ",", ",".join(["p"] * 3), "x" * (MAX_PATTERN_LENGTH + 1), ",".join(map(str, range(MAX_PATTERNS + 1)))],
)
async def test_patterns_that_are_none_are_a_problem(patterns: str) -> None:
    async with (
        doors() as open_doors,
        aiohttp.ClientSession() as session,
        session.get(f"{open_doors.url}/events", params={"patterns": patterns}) as answer,
    ):
        if patterns == "p,p,p":  # the same one thrice is one
            assert answer.status == 200
            return
        assert answer.status == 400
        problem = await answer.json(content_type="application/problem+json")
        assert problem["code"] == "bad_request"
        assert problem["detail"].startswith("patterns: ")


async def test_a_client_that_is_gone_is_forgotten() -> None:
    async with doors() as open_doors:
        async with stream(open_doors) as heard:
            await heard.hear()
            assert open_doors.hub.clients == 1
        await eventually(lambda: open_doors.hub.clients == 0)
        assert open_doors.observations(ClientLeft) == [ClientLeft(kind="sse")]


async def test_pages_of_named_origins_may_read_the_stream() -> None:
    page = {"Origin": "https://app.example"}
    async with doors(origins=["https://app.example"]) as open_doors:
        async with stream(open_doors, headers=page) as heard:
            assert heard.headers["access-control-allow-origin"] == "https://app.example"
            assert heard.headers["vary"] == "Origin"
            assert Welcome(epoch="epoch", offset=0).type == (await heard.hear()).name
        async with stream(open_doors, headers={"Origin": "https://elsewhere.example"}) as heard:
            assert heard.status == 403
            assert "access-control-allow-origin" not in heard.headers
