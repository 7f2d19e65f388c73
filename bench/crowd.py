"""Many WebSocket clients of `afresh.v1` in a process of their own, each as lean as it can be; run by `bench.resume`.

In, a JSON object a line on standard input: `{"do": "connect", "urls": […]}` spreads all clients anew over these addresses;
`{"do": "reconnect", "urls": […]}` has all of them drop their connections and come back at once, each with the position
where it stands; `{"do": "expect", "urls": […]}` has those whose connection breaks do so; `{"do": "report", "wanted": […]}`
waits until all have heard the patterns wanted (or cannot have, since they resynced) and tells how it went. Out: one object
a line for each of these but `expect`.

A client reads the handshake's answer, and then whole frames; what many are sent alike is parsed once for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import orjson

#: Connections that are made at the same time: more would only measure the kernel's queue for them.
_BACKLOG = 100

#: How long a client may go without an answer, or without what it is to hear, before it counts as silent, in seconds.
_PATIENCE = 30.0

_HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: afresh.v1\r\n\r\n"
)

#: What is on a client's own wire is masked; a mask of zeroes leaves the bytes as they are.
_MASK = bytes(4)


@dataclass(slots=True, eq=False)
class _Client:
    """One client: where it stands, and what it has heard."""

    epoch: str = ""
    offset: int = 0
    heard: set[str] = field(default_factory=set)
    tries: int = 0
    answered_at: float | None = None
    recovered: bool = False
    resyncs: int = 0
    task: asyncio.Task[None] | None = None


class _Crowd:
    def __init__(self, size: int) -> None:
        self._clients = [_Client() for _ in range(size)]
        self._door = asyncio.Semaphore(_BACKLOG)
        self._urls: list[str] = []
        #: When the first came (back), and who is to be answered.
        self._began: float | None = None
        self._returning: set[_Client] = set()

    async def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry ``order`` out; what is said to it."""
        match order["do"]:
            case "connect" | "reconnect":
                self._urls, self._began = order["urls"], None
                self._returning = set()
                for client in self._clients:
                    if client.task is not None:
                        client.task.cancel()
                for number, client in enumerate(self._clients):
                    if order["do"] == "connect":
                        client.epoch = ""
                        client.heard.clear()
                        client.resyncs = 0
                    client.task = asyncio.create_task(self._live(client, number), name=f"client {number}")
                await asyncio.sleep(0)
                return await self._answers()
            case "expect":
                self._urls, self._began = order["urls"], None
                self._returning = set()
            case "answers":
                return await self._answers()
            case "report":
                return await self._report(frozenset(order["wanted"]))
        return {}

    async def _answers(self) -> dict[str, Any]:
        """How those who came (back) were answered, once all of them are."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while not self._returning or any(client.answered_at is None for client in self._returning):  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        times = [client.answered_at for client in self._returning if client.answered_at is not None]
        return {
            "came": len(self._returning),
            "answered": len(times),
            "recovered": sum(client.recovered for client in self._returning if client.answered_at is not None),
            "began": self._began,
            "seconds": max(times) - self._began if times and self._began is not None else None,
        }

    async def _report(self, wanted: frozenset[str]) -> dict[str, Any]:
        """Who has heard all of ``wanted``, and of the others who was told to drop everything."""
        lacking = list(self._clients)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while lacking := [c for c in lacking if not c.resyncs and not c.heard.issuperset(wanted)]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        return {"resynced": sum(c.resyncs > 0 for c in self._clients), "silent": len(lacking)}

    async def _live(self, client: _Client, number: int) -> None:
        """Be connected, until cancelled; who is thrown out comes back at once."""
        while True:
            client.answered_at, client.recovered = None, False
            self._returning.add(client)
            if self._began is None:
                self._began = time.perf_counter()
            url = self._urls[(number + client.tries) % len(self._urls)]
            client.tries += 1
            writer: asyncio.StreamWriter | None = None
            try:
                async with self._door:
                    reader, writer = await self._connect(client, url)
                await self._listen(client, reader)
            except (OSError, EOFError, asyncio.LimitOverrunError, ConnectionError):
                await asyncio.sleep(0.02)
            finally:
                if writer is not None:
                    writer.transport.abort()

    async def _connect(self, client: _Client, url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            since = {"since": {"epoch": client.epoch, "offset": client.offset}} if client.epoch else {}
            said = orjson.dumps({"type": "subscribe", "id": "1", "patterns": ["bench"], **since})
            size = bytes((0x80 | len(said),)) if len(said) < 126 else b"\xfe" + len(said).to_bytes(2, "big")
            writer.write(_HANDSHAKE.format(host=parts.netloc).encode() + b"\x81" + size + _MASK + said)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 101"):
                raise ConnectionError(answer.decode())
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer

    async def _listen(self, client: _Client, reader: asyncio.StreamReader) -> None:
        while True:
            kind, size = await reader.readexactly(2)
            if size == 126:
                size = int.from_bytes(await reader.readexactly(2), "big")
            elif size == 127:
                size = int.from_bytes(await reader.readexactly(8), "big")
            payload = await reader.readexactly(size)
            if kind & 0x0F == 8:
                raise EOFError
            if kind & 0x0F != 1:
                continue
            what, epoch, offset, recovered, patterns = _parse(payload)
            match what:
                case "subscribed":
                    client.epoch, client.offset = epoch, offset
                    client.recovered, client.answered_at = recovered, time.perf_counter()
                case "position":
                    client.epoch, client.offset = epoch, offset
                case "invalidate":
                    client.heard |= patterns
                    client.offset = max(client.offset, offset)
                case "resync":
                    client.resyncs += 1
                    client.offset = max(client.offset, offset)
                case _:
                    pass


@lru_cache(maxsize=256)
def _parse(payload: bytes) -> tuple[str, str, int, bool, frozenset[str]]:
    """The fields of a message that matter here."""
    m = orjson.loads(payload)
    return (
        m["type"],
        m.get("epoch", ""),
        m.get("offset", 0),
        m.get("recovered", False),
        frozenset(m.get("patterns", ())),
    )


async def _main(size: int) -> None:
    crowd = _Crowd(size)
    orders = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        print(json.dumps(await crowd.obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
