"""A pooler that gives out its sessions by the transaction, as PgBouncer's `pool_mode = transaction` does."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit


@dataclass(slots=True)
class _Session:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@asynccontextmanager
async def pooling(dsn: str) -> AsyncIterator[str]:
    """An address that leads to the database of ``dsn``, each transaction to the other of two sessions.

    The server must let us in without a password, as the test server does.
    """
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.create_task(_serve(dsn, reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        parts = urlsplit(dsn)
        yield f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}?sslmode=disable"
    finally:
        server.close()
        await asyncio.gather(*connections)
        await server.wait_closed()


async def _serve(dsn: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    client = _Session(reader, writer)
    (length,) = struct.unpack("!i", await reader.readexactly(4))
    startup = struct.pack("!i", length) + await reader.readexactly(length - 4)
    sessions: list[_Session] = []
    greeting = b""
    for _ in range(2):
        session = await _open(dsn)
        session.writer.write(startup)
        said = b""
        while not said.startswith(b"Z"):
            said = await _message(session.reader)
            greeting += said if not sessions else b""
        sessions.append(session)
    writer.write(greeting)
    turn = 0

    async def back(session: _Session) -> None:
        nonlocal turn
        while message := await _message(session.reader):
            client.writer.write(message)
            if message == b"Z\x00\x00\x00\x05I":
                turn = 1 - turn
        client.writer.close()

    relays = [asyncio.create_task(back(session)) for session in sessions]
    while message := await _message(reader):
        sessions[turn].writer.write(message)
    for session in sessions:
        session.writer.close()
    await asyncio.gather(*relays)


async def _message(reader: asyncio.StreamReader) -> bytes:
    """One message of the protocol; empty at the end."""
    try:
        head = await reader.readexactly(5)
        return head + await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


async def _open(dsn: str) -> _Session:
    parts = urlsplit(dsn)
    folder = parse_qs(parts.query).get("host")
    if folder:
        return _Session(*await asyncio.open_unix_connection(f"{folder[0]}/.s.PGSQL.{parts.port or 5432}"))
    return _Session(*await asyncio.open_connection(parts.hostname, parts.port or 5432))
