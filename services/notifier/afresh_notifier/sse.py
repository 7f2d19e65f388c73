"""Server-sent events: the same stream as the WebSocket's, for clients that only listen.

In: `GET /events?patterns=a,b`, with `Last-Event-ID: <epoch>:<offset>` from a client that comes back. Out: events named as
the messages of `afresh.v1`, each with the position to resume from as its id; comments keep a quiet connection open.

Concurrency: as with the WebSocket, the hub's task writes. The handler sleeps, and leaves the hub when the connection dies,
by which aiohttp cancels it, or when the server stops.
"""

from __future__ import annotations

import asyncio

from aiohttp import HttpVersion11, web

from afresh_cache.errors import BadMessage
from afresh_cache.messages import (
    MAX_PATTERN_LENGTH,
    MAX_PATTERNS,
    Position,
    ServerMessage,
    Welcome,
    encode,
)
from afresh_notifier.errors import BadRequest
from afresh_notifier.hub import Hub
from afresh_notifier.replay import Interest
from afresh_notifier.settings import ServerSettings
from afresh_notifier.subscriber import Subscriber
from afresh_notifier.tail import Tail


def event(message: ServerMessage, position: Position) -> bytes:
    """One event, as a body without a length has it (HTTP/1.0)."""
    return b"event: %b\nid: %b\ndata: %b\n\n" % (message.type.encode(), str(position).encode(), encode(message))


def chunk(message: ServerMessage, position: Position) -> bytes:
    """One event as one chunk (RFC 9112, section 7.1)."""
    return _chunked(event(message, position))


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def interest(request: web.Request) -> Interest:
    """The patterns that a request asks for; all where it names none. Raises `BadRequest`."""
    given = request.query.getall("patterns", None)
    if given is None:
        return None
    patterns = frozenset(pattern for one in given for pattern in one.split(",") if pattern)
    if not patterns or len(patterns) > MAX_PATTERNS or any(len(pattern) > MAX_PATTERN_LENGTH for pattern in patterns):
        raise BadRequest(
            f"patterns: expected 1 to {MAX_PATTERNS} prefixes, separated by commas, "
            f"each of at most {MAX_PATTERN_LENGTH} characters"
        )
    return patterns


async def serve(request: web.Request, hub: Hub, tail: Tail, settings: ServerSettings) -> web.StreamResponse:
    """Handle one connection until it ends. Raises `BadRequest`."""
    wanted = interest(request)
    try:
        last = request.headers.get("Last-Event-ID")
        since = Position.parse(last) if last else None
    except BadMessage as error:
        raise BadRequest(f"Last-Event-ID: {error}") from error
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        }
    )
    await response.prepare(request)
    await response.write(b"retry: 1000\n\n")
    transport = request.transport
    if transport is None:
        return response
    chunked = request.version >= HttpVersion11
    subscriber = Subscriber(transport=transport, frame=chunk if chunked else event)
    quiet = _chunked(b":\n\n") if chunked else b":\n\n"
    try:
        await tail.meet(since)
        # No await from here to the welcome. What was missed comes first: each event's id says that all up to there has
        # been told, and `listen` may have something to say.
        hub.join(subscriber)
        hub.catch_up(subscriber, since, wanted)
        hub.listen(subscriber, wanted)
        here = hub.position
        hub.tell(subscriber, Welcome(epoch=here.epoch, offset=here.offset))
        while not transport.is_closing():
            await asyncio.sleep(settings.heartbeat)
            if transport.get_write_buffer_size() <= settings.client_buffer:
                transport.write(quiet)
    finally:
        hub.leave(subscriber)
    return response
