"""The WebSocket, protocol `afresh.v1`: how a client says what it wants to hear, and how it is told.

In: a request for `/ws`. Out: frames on its transport, written by the hub and, as answers, from here; docs/asyncapi.yaml
describes them. A frame that is JSON but no message of ours is answered with an error, and the connection stays; one that
is not even JSON ends it, as does one that is too large.

Close codes: 1000 the client left; 1001 the service stops; 1003 a binary frame; 1007 a frame that is not a JSON object;
1009 a frame larger than `server.max_frame`.

Concurrency: one handler task for each connection reads its frames; the hub's task writes. Between two frames the handler
waits until the client has taken most of what was written, so that one who asks and never reads cannot fill memory.
Cancelled (the connection died, or the server stops), the handler leaves the hub.
"""

from __future__ import annotations

import asyncio

from aiohttp import WSCloseCode, WSMsgType, web

from afresh_cache.errors import BadMessage
from afresh_cache.messages import (
    PROTOCOL,
    Error,
    Position,
    Query,
    ServerMessage,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
    encode,
    read_client_message,
)
from afresh_notifier.errors import QueryError
from afresh_notifier.hub import Hub
from afresh_notifier.live import Live
from afresh_notifier.replay import Interest
from afresh_notifier.settings import ServerSettings
from afresh_notifier.subscriber import Subscriber
from afresh_notifier.tail import Tail

#: Subscriptions and queries that one connection may hold, together.
MAX_SUBSCRIPTIONS = 100


def frame(message: ServerMessage, position: Position) -> bytes:
    """An unmasked text frame (RFC 6455, section 5.2): the same bytes for every client."""
    del position
    payload = encode(message)
    size = len(payload)
    if size < 126:
        header = bytes((0x81, size))
    elif size < 65_536:
        header = b"\x81\x7e" + size.to_bytes(2, "big")
    else:
        header = b"\x81\x7f" + size.to_bytes(8, "big")
    return header + payload


class Session:
    """One client's subscriptions and queries: pure but for what it tells the hub and the live queries."""

    def __init__(self, hub: Hub, tail: Tail, live: Live, subscriber: Subscriber) -> None:
        self._hub = hub
        self._tail = tail
        self._live = live
        self._subscriber = subscriber
        self._subscriptions: dict[str, Interest] = {}

    def welcome(self) -> None:
        """The server's first word."""
        self._hub.join(self._subscriber)
        position = self._hub.position
        self._tell(Welcome(epoch=position.epoch, offset=position.offset))

    async def take(self, text: str) -> bool:
        """Act on one frame; False where the connection must end."""
        try:
            message = read_client_message(text)
        except BadMessage as error:
            self._tell(Error(id=error.message_id, code="bad_message", message=str(error)))
            return error.parseable
        if isinstance(message, Unsubscribe):
            self._unsubscribe(message)
        elif len({message.id, *self._subscriptions, *self._live.ids(self._subscriber)}) > MAX_SUBSCRIPTIONS:
            self._tell(
                Error(
                    id=message.id,
                    code="too_many_subscriptions",
                    message=f"one connection holds at most {MAX_SUBSCRIPTIONS}; subscribe to shorter prefixes instead",
                )
            )
        elif isinstance(message, Subscribe):
            await self._subscribe(message)
        else:
            await self._query(message)
        return True

    async def _query(self, message: Query) -> None:
        try:
            question = await self._live.source.question(message.name, message.params)
        except QueryError as error:
            self._tell(Error(id=message.id, code=error.code, message=error.problem))
            return
        self._end(message.id)
        self._live.open(self._subscriber, message.id, question)
        self._listen()

    async def _subscribe(self, message: Subscribe) -> None:
        interest: Interest = None if message.patterns is None else frozenset(message.patterns)
        await self._tail.meet(message.since)
        # No await from here on: what is answered, and what is told after it, fit together.
        self._end(message.id)
        self._subscriptions[message.id] = interest
        self._listen()
        # What was missed comes first: whoever hears that he is subscribed has heard all up to there, and one who dies
        # before that has lost nothing by it.
        recovered = self._hub.catch_up(self._subscriber, message.since, interest)
        here = self._hub.position
        self._tell(Subscribed(id=message.id, epoch=here.epoch, offset=here.offset, recovered=recovered))

    def _unsubscribe(self, message: Unsubscribe) -> None:
        if not self._end(message.id):
            self._tell(
                Error(
                    id=message.id,
                    code="unknown_subscription",
                    message="there is no such subscription on this connection",
                )
            )
            return
        self._listen()

    def _end(self, id: str) -> bool:  # noqa: A002 - the protocol's word
        """Whatever is called so is over; returns whether anything was."""
        subscribed = id in self._subscriptions
        self._subscriptions.pop(id, None)
        return self._live.close(self._subscriber, id) or subscribed

    def _listen(self) -> None:
        interests = self._subscriptions.values()
        everything = any(interest is None for interest in interests)
        union = frozenset[str]().union(*(interest for interest in interests if interest is not None))
        self._hub.listen(self._subscriber, None if everything else union)

    def _tell(self, message: ServerMessage) -> None:
        self._hub.tell(self._subscriber, message)


async def serve(
    request: web.Request,
    hub: Hub,
    tail: Tail,
    live: Live,
    settings: ServerSettings,
    sockets: set[web.WebSocketResponse],
) -> web.WebSocketResponse:
    """Handle one connection until it ends; it is in ``sockets`` for as long as it is open."""
    socket = web.WebSocketResponse(
        protocols=(PROTOCOL,), heartbeat=settings.heartbeat, max_msg_size=settings.max_frame, compress=False
    )
    try:
        await socket.prepare(request)
    except ConnectionError:  # gone during the handshake, which is no error of ours
        return socket
    transport = request.transport
    if transport is None:  # gone between the handshake and here
        return socket
    subscriber = Subscriber(transport=transport, frame=frame)
    session = Session(hub, tail, live, subscriber)
    sockets.add(socket)

    def leave() -> None:
        live.leave(subscriber)
        hub.leave(subscriber)

    try:
        session.welcome()
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                leave()  # nothing may follow the close frame
                await socket.close(code=WSCloseCode.UNSUPPORTED_DATA, message=b"text frames only")
            elif message.type is WSMsgType.TEXT and not await session.take(message.data):
                leave()
                await socket.close(code=WSCloseCode.INVALID_TEXT, message=b"not a JSON object")
            # A transport tells of a drained buffer to its protocol alone, which is aiohttp's: so it is asked.
            while transport.get_write_buffer_size() > settings.client_buffer and not transport.is_closing():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    except ConnectionError:
        pass  # gone, in the middle of an answer
    finally:
        sockets.discard(socket)
        leave()
        if socket.close_code == WSCloseCode.ABNORMAL_CLOSURE:
            transport.abort()  # it answers no ping: nor would it ever take what waits for it
    return socket
