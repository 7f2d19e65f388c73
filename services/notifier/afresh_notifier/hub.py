"""The hub: who hears what, and how it reaches them.

In: invalidations (`publish`) and resyncs. Out: encoded frames, written straight to each subscriber's transport.

Promises. A subscriber hears, in order and once, every invalidation that meets one of his patterns, from the offset he
subscribed at; what meets in one flush, or while he does not read, is merged (exact, since an invalidation is a set of
patterns) and carries the highest offset in it. A subscriber who does not read harms nobody: what waits for him is one
merged invalidation, bounded by `MAX_WAITING` patterns, past which it is one resync; the bytes in his socket's buffer are
bounded by `buffer`. Each message is encoded once for all who hear the same.

A resync has its place in the log like an invalidation: who stands before it, connected or not, cannot be told what he
missed and is told to drop everything.

Concurrency. `publish`, `resync`, `join` and `leave` are synchronous. `run` is one task: it takes the batch that has
gathered and advances `head` in one step, then writes, yielding every hundred subscribers. Who joins during that gets
the log up to `head` from his `join`, and what is published later from the next batch; nothing is told twice or missed.
The write itself never waits: a transport's buffer is asked for its size before each.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Protocol

from afresh_cache.messages import (
    Invalidate,
    Position,
    PositionUpdate,
    Resync,
    ResyncReason,
    ServerMessage,
)
from afresh_notifier.clock import loop_time, rfc3339
from afresh_notifier.invalidation import Invalidation, InvalidationLog, merge_all
from afresh_notifier.observations import ClientResynced, Delivered, Invalidated, Observe

#: Patterns that may wait, merged, for one subscriber who does not read.
MAX_WAITING = 1_000

#: Answers to clients that come back which are remembered until the next flush.
MAX_ANSWERS = 1_000

#: Writes between two yields to the event loop.
BURST = 100

#: How often a subscriber who did not read is looked at again, in seconds.
LAG_PACE = 0.1

#: What a subscriber listens to: None is everything, the empty set nothing.
Interest = frozenset[str] | None


class Transport(Protocol):
    """The part of an asyncio transport that is used here."""

    def write(self, data: bytes) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def is_closing(self) -> bool: ...


@dataclass(slots=True, eq=False)
class Subscriber:
    """One client on one connection. ``frame`` turns an encoded message, and the resume position after it, into the
    bytes of this kind of connection; one function object for all of a kind, so that its result can be shared."""

    transport: Transport
    frame: Callable[[ServerMessage, Position], bytes]
    interest: Interest = frozenset()
    #: The offset up to which everything was written, or merged into ``waiting``.
    offset: int = 0
    #: The offset that the client has been told.
    told: int = 0
    waiting: Invalidation | None = None
    resync: ResyncReason | None = None

    @property
    def lagging(self) -> bool:
        """Whether something waits for this subscriber to read."""
        return self.waiting is not None or self.resync is not None


@dataclass(slots=True)
class _Flush:
    """One flush: how far it brings everybody, what it has encoded, and what came of it, for the observers."""

    head: int
    messages: dict[tuple[int, Interest], Invalidation | None] = field(default_factory=dict)
    frames: dict[tuple[object, int, Interest], bytes] = field(default_factory=dict)
    written: int = 0
    lagging: int = 0
    resynced: Counter[ResyncReason] = field(default_factory=Counter)


class Hub:
    """Tells every subscriber what concerns him."""

    def __init__(
        self,
        log: InvalidationLog,
        observe: Observe,
        *,
        pace: float,
        buffer: int,
        position_interval: float,
    ) -> None:
        self._log = log
        self._observe = observe
        self._pace = pace
        self._buffer = buffer
        self._position_interval = position_interval
        self._head = 0
        #: The newest resync: its offset, and why.
        self._resynced: tuple[int, ResyncReason] = (0, "restart")
        self._subscribers: set[Subscriber] = set()
        #: What was answered to those who came back since the last flush; many come at once, and ask the same.
        self._answers: dict[tuple[str, int, Interest], Invalidation | ResyncReason | None] = {}
        self._filled = asyncio.Event()

    @property
    def position(self) -> Position:
        """The log's identity, and the offset up to which it has been flushed."""
        return Position(epoch=self._log.epoch, offset=self._head)

    @property
    def newest(self) -> int:
        """The newest offset that was published, flushed or not."""
        return self._log.last

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._subscribers)

    def publish(self, invalidation: Invalidation) -> None:
        """Put ``invalidation`` into the log; who must hear it does at the next flush."""
        numbered = self._log.append(invalidation, loop_time())
        self._observe(
            Invalidated(
                offset=numbered.offset, patterns=numbered.patterns, tables=numbered.tables, views=numbered.views
            )
        )
        self._filled.set()

    def resync(self, reason: ResyncReason) -> None:
        """Tell everybody to drop everything; who comes back from before it is told so too."""
        self._resynced = (self._log.break_off(loop_time()), reason)
        self._filled.set()

    def join(self, subscriber: Subscriber) -> None:
        """Take ``subscriber`` in; he hears nothing until `listen`."""
        subscriber.offset = subscriber.told = self._head
        self._subscribers.add(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        """He is gone."""
        self._subscribers.discard(subscriber)

    def listen(self, subscriber: Subscriber, interest: Interest) -> None:
        """From now on ``subscriber`` hears ``interest``; what he was to hear before is on its way to him first.

        What waits for him is written even if he does not read: he is about to be answered with the offset at which he now
        stands, and whoever resumes from there must have been told what was before it.
        """
        flush = _Flush(head=self._head)
        self._bring(subscriber, flush)
        if subscriber.lagging and not subscriber.transport.is_closing():
            self._write_waiting(subscriber)
        self._report(flush)
        subscriber.interest = interest

    def missed(self, since: Position, interest: Interest) -> Invalidation | ResyncReason | None:
        """What a client with ``interest`` has missed since ``since`` up to `position`, in one; None for nothing, or why
        that cannot be told."""
        key = (since.epoch, since.offset, interest)
        if key not in self._answers:
            if len(self._answers) >= MAX_ANSWERS:
                self._answers.clear()
            self._answers[key] = self._answer(since, interest)
        answer = self._answers[key]
        if isinstance(answer, str):
            self._observe(ClientResynced(reason=answer, count=1))
        return answer

    def _answer(self, since: Position, interest: Interest) -> Invalidation | ResyncReason | None:
        if since.epoch != self._log.epoch:
            return "restart"
        try:
            return self._heard(since.offset, self._head, interest)
        except LookupError:
            return self._why(since.offset, "expired")
        except OverflowError:
            return "overflow"

    async def run(self) -> None:
        """Flush what is published, until cancelled; what was not flushed then stays in the log."""
        loop = asyncio.get_running_loop()
        positions_at = loop.time() + self._position_interval
        while True:
            patience = LAG_PACE if any(s.lagging for s in self._subscribers) else positions_at - loop.time()
            try:
                async with asyncio.timeout(max(0.0, patience)):
                    await self._filled.wait()
            except TimeoutError:
                pass
            self._filled.clear()
            await self.flush()
            if loop.time() >= positions_at:
                await self._tell_positions()
                positions_at = loop.time() + self._position_interval
            await asyncio.sleep(self._pace)

    async def flush(self) -> None:
        """Write what has been published since the last flush, and what waits for those who read again."""
        if self._head != self._log.last:
            self._head = self._log.last
            self._answers.clear()
        flush = _Flush(head=self._head)
        for number, subscriber in enumerate(list(self._subscribers), 1):
            self._bring(subscriber, flush)
            if number % BURST == 0:
                await asyncio.sleep(0)
        self._report(flush)
        if flush.written or flush.lagging:
            self._observe(Delivered(clients=flush.written, lagging=flush.lagging))

    async def drain(self) -> None:
        """Flush until nobody has anything waiting for him; for a clean stop, under a deadline of the caller's."""
        await self.flush()
        while any(subscriber.lagging and not subscriber.transport.is_closing() for subscriber in self._subscribers):
            await asyncio.sleep(LAG_PACE)
            await self.flush()

    def tell(self, subscriber: Subscriber, message: ServerMessage) -> None:
        """Write one message to one subscriber, whatever waits for him: answers, which he asked for and so reads."""
        if not subscriber.transport.is_closing():
            subscriber.transport.write(subscriber.frame(message, self._position_of(subscriber)))

    def _bring(self, subscriber: Subscriber, flush: _Flush) -> None:
        """Bring ``subscriber`` up to the flush's head: write what he has not heard, or, if he does not read, keep it."""
        if subscriber.transport.is_closing():
            return
        since = subscriber.offset
        news = self._news(subscriber, flush)
        subscriber.offset = max(since, flush.head)
        if news is not None and not subscriber.lagging and self._reads(subscriber):
            subscriber.told = news.offset
            subscriber.transport.write(self._frame(subscriber, since, news, flush))
            flush.written += 1
            return
        if news is not None:
            subscriber.waiting = news if subscriber.waiting is None else subscriber.waiting.merge(news)
            if len(subscriber.waiting.patterns) > MAX_WAITING:
                _owe_resync(subscriber, "overflow", flush)
        if not subscriber.lagging:
            return
        if self._reads(subscriber):
            self._write_waiting(subscriber)
            flush.written += 1
        else:
            flush.lagging += 1

    def _news(self, subscriber: Subscriber, flush: _Flush) -> Invalidation | None:
        """What he has not heard; None for nothing, or where he is owed a resync, which covers whatever there is."""
        if subscriber.offset >= flush.head or subscriber.resync is not None:
            return None
        key = (subscriber.offset, subscriber.interest)
        if key not in flush.messages:
            try:
                flush.messages[key] = self._heard(subscriber.offset, flush.head, subscriber.interest)
            except (LookupError, OverflowError):  # the log is shorter than what he has not heard, or it is too much
                _owe_resync(subscriber, self._why(subscriber.offset, "overflow"), flush)
                return None
        return flush.messages[key]

    def _frame(self, subscriber: Subscriber, since: int, news: Invalidation, flush: _Flush) -> bytes:
        """``news`` as bytes, made once for all of a kind who hear the same."""
        key = (subscriber.frame, since, subscriber.interest)
        if key not in flush.frames:
            position = Position(epoch=self._log.epoch, offset=flush.head)
            flush.frames[key] = subscriber.frame(message_of(news), position)
        return flush.frames[key]

    def _heard(self, after: int, upto: int, interest: Interest) -> Invalidation | None:
        """What somebody with ``interest`` hears of the offsets in (``after``, ``upto``], in one; None for nothing.

        Raises LookupError where the log does not reach back so far, OverflowError where it is too much for one message.
        """
        entries = self._log.between(after, upto)
        if entries is None:
            raise LookupError(after)
        return merge_all((cut for entry in entries if (cut := _for(entry, interest)) is not None), MAX_WAITING)

    def _why(self, after: int, otherwise: ResyncReason) -> ResyncReason:
        """Why somebody who stands at ``after`` cannot be told what he missed."""
        offset, reason = self._resynced
        return reason if after < offset else otherwise

    def _report(self, flush: _Flush) -> None:
        for reason, count in flush.resynced.items():
            self._observe(ClientResynced(reason=reason, count=count))

    def _write_waiting(self, subscriber: Subscriber) -> None:
        message: ServerMessage
        if subscriber.resync is not None:
            message = Resync(offset=subscriber.offset, reason=subscriber.resync)
            subscriber.told = subscriber.offset
        else:
            assert subscriber.waiting is not None  # noqa: S101 - he was lagging
            message = message_of(subscriber.waiting)
            subscriber.told = subscriber.waiting.offset
        subscriber.waiting = subscriber.resync = None
        subscriber.transport.write(subscriber.frame(message, self._position_of(subscriber)))

    async def _tell_positions(self) -> None:
        for number, subscriber in enumerate(list(self._subscribers), 1):
            listens = subscriber.interest is None or bool(subscriber.interest)
            if listens and subscriber.told < subscriber.offset and not subscriber.lagging and self._reads(subscriber):
                subscriber.told = subscriber.offset
                self.tell(subscriber, PositionUpdate(epoch=self._log.epoch, offset=subscriber.offset))
            if number % BURST == 0:
                await asyncio.sleep(0)

    def _reads(self, subscriber: Subscriber) -> bool:
        """Whether there is room in his socket's buffer; he who did not read must have taken half of it first."""
        bound = self._buffer // 2 if subscriber.lagging else self._buffer
        return subscriber.transport.get_write_buffer_size() <= bound

    def _position_of(self, subscriber: Subscriber) -> Position:
        return Position(epoch=self._log.epoch, offset=subscriber.told)


def _cut(patterns: Iterable[str], interest: Interest) -> tuple[str, ...]:
    """Those of ``patterns`` that somebody with ``interest`` hears."""
    if interest is None:
        return tuple(patterns)
    hears = _listener_of(interest)
    return tuple(pattern for pattern in patterns if hears(pattern))


@lru_cache(maxsize=1024)
def _listener_of(interest: frozenset[str]) -> Callable[[str], bool]:
    """Whether one of these subscriptions hears a pattern (`afresh_cache.patterns.hears`), however many they are: those that
    begin with the pattern stand together in order, and those that it begins with have one of a few lengths."""
    ordered = sorted(interest)
    lengths = sorted({len(subscription) for subscription in interest})

    def hears(pattern: str) -> bool:
        place = bisect_left(ordered, pattern)
        if place < len(ordered) and ordered[place].startswith(pattern):
            return True
        return any(pattern[:length] in interest for length in lengths)

    return hears


def _owe_resync(subscriber: Subscriber, reason: ResyncReason, flush: _Flush) -> None:
    if subscriber.interest is None or subscriber.interest:
        subscriber.waiting, subscriber.resync = None, reason
        flush.resynced[reason] += 1


def _for(invalidation: Invalidation, interest: Interest) -> Invalidation | None:
    """``invalidation`` as somebody with ``interest`` hears it; None where it does not concern him."""
    patterns = _cut(invalidation.patterns, interest)
    if not patterns:
        return None
    return replace(invalidation, patterns=patterns)


def message_of(invalidation: Invalidation) -> Invalidate:
    """The wire message for ``invalidation``."""
    lsn = invalidation.lsn
    return Invalidate(
        offset=invalidation.offset,
        patterns=list(invalidation.patterns),
        tables=sorted(invalidation.tables),
        views=sorted(invalidation.views),
        lsn=None if lsn is None else f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}",
        at=rfc3339(invalidation.at),
    )
