"""A client of `afresh.v1`: hears invalidations over a WebSocket, reconnects, and resumes where it was.

In: the service's address and the patterns of interest. Out: events, in order, as an asynchronous iterator that ends only
when it is closed. What was missed while the connection was down comes as one `Invalidate`, or as a `Resync` where the
server cannot say; never silence. A connection that goes quiet is found dead by the protocol's own ping.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from afresh_cache.backoff import backoff
from afresh_cache.errors import BadMessage, SubscriptionRefused
from afresh_cache.messages import (
    PROTOCOL,
    Error,
    Invalidate,
    Position,
    PositionUpdate,
    Resync,
    Subscribe,
    Subscribed,
    encode,
    read_server_message,
)

#: First and longest wait between two attempts to connect, in seconds.
RETRY_FIRST, RETRY_MAX = 0.1, 10.0

#: How long a handshake may take, and how often the server is pinged, in seconds.
CONNECT_TIMEOUT, HEARTBEAT = 5.0, 15.0

#: The one subscription that a connection holds.
SUBSCRIPTION = "1"

#: Refusals that another try would not change.
_FINAL = {400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 426: "upgrade_required"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """The subscription stands, at ``position``; ``recovered``: all that was missed has been told."""

    position: Position
    recovered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected:
    """The connection is gone; the next attempt is in ``retry_in`` seconds."""

    reason: str
    retry_in: float


Event = Connected | Disconnected | Invalidate | Resync


async def listen(
    url: str,
    *,
    patterns: Iterable[str] | None = None,
    token: str | None = None,
    since: Position | None = None,
) -> AsyncGenerator[Event, None]:
    """Everything that concerns ``patterns`` (None: all), from ``since`` (None: now) on.

    ``token`` is sent along as the subprotocol `bearer.<token>`, for a proxy in front: the service does not ask for it.
    ``url`` is the service's, `http://host:port` or `wss://host/ws`. Raises `SubscriptionRefused` where the server will not
    have us, ValueError for a url that is none. Cancelling it, or closing it (`contextlib.aclosing`), closes the connection.
    """
    address = websocket_url(url)
    wanted = None if patterns is None else tuple(patterns)
    protocols = (PROTOCOL,) if token is None else (PROTOCOL, f"bearer.{token}")
    failures = 0
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    socket = await session.ws_connect(
                        address,
                        protocols=protocols,
                        heartbeat=HEARTBEAT,
                        max_msg_size=0,
                        timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                    )
                    await socket.send_str(encode(Subscribe(id=SUBSCRIPTION, patterns=wanted, since=since)).decode())
                async with socket:
                    async for event, position in _events(socket, since):
                        since, failures = position, 0
                        if event is not None:
                            yield event
                    reason = f"closed by the server ({socket.close_code})"
            except aiohttp.WSServerHandshakeError as error:
                if error.status in _FINAL:
                    raise SubscriptionRefused(_FINAL[error.status], f"{address}: {error.message}") from error
                reason = f"{error.status} {error.message}"
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
            failures += 1
            wait = backoff(failures, RETRY_FIRST, RETRY_MAX)
            yield Disconnected(reason=reason, retry_in=wait)
            await asyncio.sleep(wait)


async def _events(
    socket: aiohttp.ClientWebSocketResponse, since: Position | None
) -> AsyncGenerator[tuple[Event | None, Position | None], None]:
    """What one connection says, each with the position to resume from after it. Raises `SubscriptionRefused`."""
    subscribed = False  # until then what is said is of another log perhaps, or before the answer to our position
    async for frame in socket:
        if frame.type is not aiohttp.WSMsgType.TEXT:
            continue
        try:
            message = read_server_message(frame.data)
        except BadMessage as error:
            raise aiohttp.ClientError(f"the server does not speak {PROTOCOL}: {error}") from error
        match message:
            case Subscribed():
                subscribed = True
                since = Position(epoch=message.epoch, offset=message.offset)
                yield Connected(position=since, recovered=message.recovered), since
            case PositionUpdate() if subscribed:
                since = Position(epoch=message.epoch, offset=message.offset)
                yield None, since
            case Invalidate() | Resync():
                if subscribed and since is not None:
                    since = Position(epoch=since.epoch, offset=max(since.offset, message.offset))
                yield message, since
            case Error() if message.code == "forbidden" or message.id == SUBSCRIPTION:
                raise SubscriptionRefused(message.code, message.message)
            case _:
                pass


def websocket_url(url: str) -> str:
    """The WebSocket's address at a service that is named by any of its addresses. Raises ValueError."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    schemes = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
    if parts.scheme not in schemes or not parts.netloc:
        raise ValueError(f"{url!r} is not an address such as http://127.0.0.1:8080")
    path = parts.path.rstrip("/")
    return urlunsplit((schemes[parts.scheme], parts.netloc, path if path.endswith("/ws") else f"{path}/ws", "", ""))
