"""A client of `afresh.v1`: hears invalidations over a WebSocket, reconnects, and resumes where it was.

In: the service's address and the patterns of interest. Out: events, in order, as an asynchronous iterator that ends only
when it is closed. What was missed while the connection was down comes as one `Invalidate`, or as a `Resync` where the
server cannot say, and before `Connected`; never silence. A connection that goes quiet is found dead by the protocol's own
ping. `Subscriber` keeps a cache true by it.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self, TypeVar, get_args, runtime_checkable
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from afresh_cache.backoff import backoff
from afresh_cache.errors import BadMessage, CallbackCancelled, SubscriptionRefused
from afresh_cache.messages import (
    PROTOCOL,
    Error,
    Invalidate,
    Position,
    PositionUpdate,
    Resync,
    Status,
    Subscribe,
    Subscribed,
    encode,
    read_server_message,
)

#: First and longest wait between two attempts to connect, in seconds.
RETRY_FIRST, RETRY_MAX = 0.1, 10.0

#: How long a handshake may take, or a subscription, and how often the server is pinged, in seconds.
CONNECT_TIMEOUT, HEARTBEAT = 5.0, 15.0

#: Messages that may wait for a callback that takes its time; past that it is told one resync instead of them.
MAX_WAITING = 1_000

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


Event = Connected | Disconnected | Invalidate | Resync | Status


async def listen(
    url: str | Sequence[str],
    *,
    patterns: Iterable[str] | None = None,
    token: str | None = None,
    since: Position | None = None,
    heartbeat: float | None = None,
) -> AsyncGenerator[Event, None]:
    """Everything that concerns ``patterns`` (None: all), from ``since`` (None: now) on.

    The server is pinged every ``heartbeat`` seconds (None: `HEARTBEAT`); a connection that has not answered half as long
    after is given up.

    ``token`` is sent along as the subprotocol `bearer.<token>`, for a proxy in front: the service does not ask for it.
    ``url`` is the service's, `http://host:port` or `wss://host/ws`; of several, one for each instance, the next is tried
    when one fails. Raises `SubscriptionRefused` where the server will not have us, ValueError for a url that is none.
    Cancelling it, or closing it (`contextlib.aclosing`), closes the connection.
    """
    addresses = websocket_urls(url)
    wanted, heartbeat = prefixes(patterns), checked_heartbeat(heartbeat)
    protocols = (PROTOCOL,) if token is None else (PROTOCOL, f"bearer.{token}")
    failures = 0
    async with aiohttp.ClientSession() as session:
        for address in itertools.cycle(addresses):
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    socket = await session.ws_connect(
                        address,
                        protocols=protocols,
                        heartbeat=HEARTBEAT if heartbeat is None else heartbeat,
                        max_msg_size=0,
                        timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                    )
                async with socket:
                    async with asyncio.timeout(CONNECT_TIMEOUT):
                        await socket.send_str(encode(Subscribe(id=SUBSCRIPTION, patterns=wanted, since=since)).decode())
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
    deadline = asyncio.get_running_loop().time() + CONNECT_TIMEOUT
    while True:
        # Not aiohttp's own timeout: that begins anew with each pong of a server that answers pings, and not us.
        async with asyncio.timeout_at(None if subscribed else deadline):
            frame = await socket.receive()
        if frame.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED):
            return
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
            case Status():
                yield message, since
            case Error() if message.code == "forbidden" or message.id == SUBSCRIPTION:
                raise SubscriptionRefused(message.code, message.message)
            case _:
                pass


def prefixes(patterns: Iterable[str] | None) -> tuple[str, ...] | None:
    """The patterns of interest. Raises TypeError for a text in place of several, ValueError for what can match nothing."""
    if isinstance(patterns, str):
        raise TypeError(f"patterns: expected a list of prefixes, not a text: write [{patterns!r}]")
    wanted = None if patterns is None else tuple(patterns)
    for pattern in wanted or ():
        literal = re.split(r"[*{]", pattern)[0]
        if literal != pattern:
            what = "a template, as the service's settings have" if "{" in pattern else "a glob"
            raise ValueError(f"patterns: {pattern!r} is {what}; a subscriber names prefixes: {literal!r}")
    return wanted


def checked_heartbeat(heartbeat: float | None) -> float | None:
    """``heartbeat``, if it is one. Raises ValueError."""
    if heartbeat is not None and not (isinstance(heartbeat, int | float) and heartbeat > 0):
        raise ValueError(f"heartbeat: expected seconds, more than 0, not {heartbeat!r}")
    return heartbeat


def websocket_urls(url: str | Sequence[str]) -> list[str]:
    """The WebSocket's address at each of these services. Raises ValueError where there is none, or one that is none."""
    urls = [url] if isinstance(url, str) else list(url)
    if not urls:
        raise ValueError("expected the address of the service, such as http://127.0.0.1:8080")
    return [websocket_url(one) for one in urls]


def websocket_url(url: str) -> str:
    """The WebSocket's address at a service that is named by any of its addresses. Raises ValueError."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    schemes = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
    if parts.scheme not in schemes or not parts.netloc:
        raise ValueError(f"{url!r} is not an address such as http://127.0.0.1:8080")
    path = parts.path.rstrip("/")
    return urlunsplit((schemes[parts.scheme], parts.netloc, path if path.endswith("/ws") else f"{path}/ws", "", ""))


#: What a cache does while its invalidations cannot be heard.
OnDisconnect = Literal["keep", "clear", "bypass"]

Message = TypeVar("Message", bound=Invalidate | Resync)
Callback = Callable[[Message], Awaitable[object] | object]


@runtime_checkable
class Cache(Protocol):
    """What can be kept true: a `PatternCache`, or anything else with these four methods."""

    def delete_prefix(self, prefix: str) -> object: ...
    def clear(self) -> object: ...
    def distrust(self) -> object: ...
    def trust(self) -> object: ...


class Subscriber:
    """Keeps ``cache`` true for as long as the block lasts::

        cache = PatternCache(ttl=300)
        async with Subscriber("http://127.0.0.1:8080", cache=cache):
            ...

    What is stale is dropped in the moment in which it is heard; after a reconnect what was missed is dropped, or all of it
    where that cannot be told. When the first subscription stands the cache is cleared: what was loaded before may have
    changed unheard. ``patterns`` limit what is heard; what the cache holds beside them nobody keeps true.

    **Not connected**, or connected to an instance that says that it is not current, nothing is heard. Then
    ``on_disconnect`` decides: "keep" goes on serving what there is, which its ttl bounds; "clear" drops it once, so that
    nothing older than the disconnection is served; "bypass" neither serves nor stores anything until what was missed has
    been heard, and then serves again what is still true. A connection that has silently died is noticed within 1.5 times
    ``heartbeat`` seconds, an instance that hears nothing says so after 5: for so long "clear" and "bypass" may serve what
    is not true any more.

    ``on_invalidate`` and ``on_resync``, functions or coroutine functions, are called with each message after the cache has
    acted on it, one after another, by a task of their own: one that takes its time delays no drop. At most `MAX_WAITING`
    messages wait for it; more become one resync. What they raise ends the block, as does a server that will not have us.

    Raises ValueError for an address or an ``on_disconnect`` that is none, RuntimeError for a second block; in the block
    `SubscriptionRefused`, and `CallbackCancelled` where a callback ends as cancelled. When the block ends, the cache is
    left as by a disconnection, however long it then takes to leave it.

    Concurrency: two tasks in a group that the block waits for; leaving the block cancels both. The one that hears never
    waits but for the next message, and between hearing and dropping there is no await.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        cache: Cache | None = None,
        patterns: Iterable[str] | None = None,
        token: str | None = None,
        since: Position | None = None,
        on_disconnect: OnDisconnect = "keep",
        on_invalidate: Callback[Invalidate] | None = None,
        on_resync: Callback[Resync] | None = None,
        heartbeat: float | None = None,
    ) -> None:
        if on_disconnect not in get_args(OnDisconnect):
            raise ValueError(f"on_disconnect: expected {', '.join(get_args(OnDisconnect))}, not {on_disconnect!r}")
        websocket_urls(url)
        self._url = url
        if cache is not None and not isinstance(cache, Cache):
            raise TypeError(
                f"cache: expected a PatternCache, or anything with delete_prefix, clear, distrust and trust, "
                f"not {type(cache).__name__}"
            )
        for name, callback in (("on_invalidate", on_invalidate), ("on_resync", on_resync)):
            if callback is not None and not callable(callback):
                raise TypeError(f"{name}: expected a function or a coroutine function, not {callback!r}")
        self._patterns = prefixes(patterns)
        self._token = token
        self._cache = cache
        self._on_disconnect = on_disconnect
        self._on_invalidate = on_invalidate
        self._on_resync = on_resync
        self._heartbeat = checked_heartbeat(heartbeat)
        self._position = since
        self._connected = False
        self._current = True
        #: The first subscription stands, or there will be none.
        self._ready = asyncio.Event()
        self._stood = False
        self._waiting: deque[Invalidate | Resync] = deque()
        self._filled = asyncio.Event()
        self._block: AbstractAsyncContextManager[None] | None = None

    @property
    def position(self) -> Position | None:
        """Up to where everything has been heard; None before the first connection."""
        return self._position

    @property
    def hears(self) -> bool:
        """Whether the subscription stands, and the instance at the other end is current."""
        return self._connected and self._current

    async def ready(self) -> None:
        """Return once the first subscription stands. Raises RuntimeError outside of the block. Cancelling it stops
        waiting, no more."""
        if self._block is None:
            raise RuntimeError("nobody connects yet: use it as: async with Subscriber(…) as subscriber")
        await self._ready.wait()
        if not self._stood:
            raise RuntimeError("the block has ended, and no subscription ever stood")

    async def __aenter__(self) -> Self:
        if self._block is not None:
            raise RuntimeError("a Subscriber is for one block, and this one has had it: make another")
        self._block = self._running()
        await self._block.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._block is not None  # noqa: S101 - it was entered
        return await self._block.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        self._judge()
        failed: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._hear(), name="afresh subscriber"),
                    group.create_task(self._call(), name="afresh callbacks"),
                ]
                yield
                for task in tasks:
                    task.cancel()
        except BaseExceptionGroup as errors:
            if len(errors.exceptions) > 1:
                raise
            failed = errors.exceptions[0]
        if failed is not None:  # raised here, where it keeps its own cause and context
            raise failed

    async def _hear(self) -> None:
        events = listen(
            self._url, patterns=self._patterns, token=self._token, since=self._position, heartbeat=self._heartbeat
        )
        try:
            async for event in events:
                self._take(event)
        finally:
            self._lose()
            self._ready.set()
            await events.aclose()

    def _take(self, event: Event) -> None:
        """Act on one event, at once."""
        match event:
            case Connected(position=position):
                if not self._stood:
                    self._clear()
                self._position, self._connected, self._stood = position, True, True
                self._ready.set()
                self._judge()
            case Disconnected():
                self._lose()
                self._current = True  # the next instance says if it is not
            case Status(current=current):
                self._current = current
                if current:
                    self._judge()
                else:
                    self._deafen()
            case Invalidate(patterns=patterns):
                if self._cache is not None:
                    for pattern in patterns:
                        self._cache.delete_prefix(pattern)
                self._told(event)
            case Resync():
                self._clear()
                self._told(event)

    def _told(self, message: Invalidate | Resync) -> None:
        if self._connected and self._position is not None:
            offset = max(self._position.offset, message.offset)
            self._position = Position(epoch=self._position.epoch, offset=offset)
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.clear()
            message = Resync(offset=message.offset, reason="overflow")
        self._waiting.append(message)
        self._filled.set()

    def _lose(self) -> None:
        if self._connected:  # and not at each further attempt that fails
            self._connected = False
            self._deafen()

    def _deafen(self) -> None:
        """From now on nothing is heard."""
        if self._on_disconnect == "clear":
            self._clear()
        self._judge()

    def _clear(self) -> None:
        if self._cache is not None:
            self._cache.clear()

    def _judge(self) -> None:
        if self._cache is not None and self._on_disconnect == "bypass":
            if self.hears:
                self._cache.trust()
            else:
                self._cache.distrust()

    async def _call(self) -> None:
        try:
            while True:
                await self._filled.wait()
                self._filled.clear()
                while self._waiting:
                    await self._call_with(self._waiting.popleft())
        finally:
            self._lose()  # the one who hears ends with us, but may take a second to close the connection

    async def _call_with(self, message: Invalidate | Resync) -> None:
        called: object = None
        try:
            if isinstance(message, Invalidate):
                called = self._on_invalidate and self._on_invalidate(message)
            else:
                called = self._on_resync and self._on_resync(message)
            if inspect.isawaitable(called):
                await called
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise CallbackCancelled from error
