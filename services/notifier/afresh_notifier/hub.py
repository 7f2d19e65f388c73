"""The hub: who hears what, and how it reaches them.

In: invalidations, as they are numbered in the log (`publish`). Out: encoded frames, written straight to each subscriber's
transport.

Promises. A subscriber hears, in order and once, every invalidation that meets one of his patterns, from the offset he
subscribed at; what meets in one flush, or while he does not read, is merged (exact, since an invalidation is a set of
patterns) and carries the highest offset in it. A subscriber who does not read harms nobody: what waits for him is one
merged invalidation, bounded, past which it is one resync (`subscriber`); the bytes in his socket's buffer are bounded by
`buffer`. Each message is encoded once for all who hear the same.

A resync has its place in the log like an invalidation: who stands before it, connected or not, and whom it concerns, cannot
be told what he missed and is told to drop everything. Where the log is another one than before, everybody is.

Who keeps something that invalidations make stale, in this process, is told first (`watch`): before a subscriber can hear
of an offset, every watcher has dropped what it means.

Concurrency. `publish`, `begin`, `join` and `leave` are synchronous. `run` is one task: it takes the batch that has
gathered and advances `head` in one step, then writes, yielding every hundred subscribers. Who joins during that gets
the log up to `head` from his `join`, and what is published later from the next batch; nothing is told twice or missed.
The write itself never waits: a transport's buffer is asked for its size before each.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from afresh_cache.messages import Position, PositionUpdate, Resync, ResyncReason, ServerMessage, Status
from afresh_notifier.clock import loop_time, woken
from afresh_notifier.invalidation import Invalidation
from afresh_notifier.observations import ClientResynced, Delivered, Invalidated, Observe
from afresh_notifier.replay import Interest, Missed, Replay
from afresh_notifier.subscriber import Subscriber, message_of

#: Writes between two yields to the event loop.
BURST = 100

#: How often a subscriber who did not read is looked at again, in seconds.
LAG_PACE = 0.1

#: Acts on an invalidation before anybody else hears of it; None: everything may be stale.
Watcher = Callable[[Invalidation | None], None]


@dataclass(slots=True)
class _Flush:
    """One flush: how far it brings everybody, whether we were current then, what it has encoded, and what came of it, for
    the observers."""

    head: int
    current: bool
    turns: int
    missed: dict[tuple[int, Interest], Missed] = field(default_factory=dict)
    frames: dict[tuple[object, int, Interest], bytes] = field(default_factory=dict)
    written: int = 0
    lagging: int = 0
    resynced: Counter[ResyncReason] = field(default_factory=Counter)


class Hub:
    """Tells every subscriber what concerns him."""

    def __init__(
        self,
        replay: Replay,
        observe: Observe,
        *,
        pace: float,
        buffer: int,
        position_interval: float,
    ) -> None:
        self._replay = replay
        self._observe = observe
        self._pace = pace
        self._buffer = buffer
        self._position_interval = position_interval
        self._head = 0
        self._current = True
        #: Whether we were current when `_head` was reached; not while what was read to become current is yet to be flushed.
        self._head_current = True
        #: How often that we are current has begun or ended: a flush that is under way says nothing of it then.
        self._turns = 0
        #: How often the log has become another one: a flush that is under way ends then.
        self._beginnings = 0
        self._subscribers: set[Subscriber] = set()
        self._watchers: list[Watcher] = []
        self._filled = asyncio.Event()

    @property
    def position(self) -> Position:
        """The log's identity, and the offset up to which it has been flushed."""
        return Position(epoch=self._replay.epoch, offset=self._head)

    @property
    def newest(self) -> int:
        """The newest offset that was published, flushed or not."""
        return self._replay.last

    @property
    def published(self) -> Position:
        """The log's identity, and the newest offset that was published, flushed or not: up to there watchers have acted."""
        return Position(epoch=self._replay.epoch, offset=self._replay.last)

    @property
    def current(self) -> bool:
        """Whether the log could be read lately."""
        return self._current

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._subscribers)

    def watch(self, watcher: Watcher) -> None:
        """From now on ``watcher`` is called with each invalidation, before anybody else hears of it, and with None where
        the log becomes another one. It returns at once, and never raises."""
        self._watchers.append(watcher)

    def publish(self, invalidation: Invalidation, now: float) -> None:
        """Remember ``invalidation``, which was logged at ``now``; watchers act on it at once, and who else must hear it
        does at the next flush."""
        self._replay.add(invalidation, now)
        for watcher in self._watchers:
            watcher(invalidation)
        self._observe(
            Invalidated(
                offset=invalidation.offset,
                patterns=invalidation.patterns,
                tables=invalidation.tables,
                views=invalidation.views,
                reason=invalidation.reason,
                age=loop_time() - now,
            )
        )
        self._filled.set()

    def be_current(self, current: bool) -> None:
        """Whether the log can be read: while it cannot, nobody is told anything, and everybody is told that."""
        if current != self._current:
            self._current = current
            self._head_current = self._head_current and current
            self._turns += 1
            self._filled.set()

    def begin(self, epoch: str, offset: int) -> None:
        """The log is ``epoch`` from now on, and what it holds up to ``offset`` is not known here.

        Whoever is connected is told to drop everything, and where he stands now.
        """
        reason: ResyncReason = "restart" if epoch != self._replay.epoch else "expired"
        self._replay.begin(epoch, offset)
        for watcher in self._watchers:
            watcher(None)
        self._head = offset
        self._beginnings += 1
        flush = self._begin_flush()
        for subscriber in self._subscribers:
            subscriber.offset = subscriber.told = offset
            _owe_resync(subscriber, reason, flush)
            subscriber.displaced = subscriber.lagging
        self._report(flush)
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
        flush = self._begin_flush()
        self._bring(subscriber, flush)
        if subscriber.lagging and not subscriber.transport.is_closing():
            self._write_waiting(subscriber)
        self._report(flush)
        subscriber.interest = interest
        self._tell_current(subscriber, flush)

    def missed(self, since: Position, interest: Interest) -> Missed:
        """What a client with ``interest`` has missed since ``since`` up to `position`, in one; None for nothing, or why
        that cannot be told."""
        answer = self._replay.since(since, self._head, interest)
        if isinstance(answer, str):
            self._observe(ClientResynced(reason=answer, count=1))
        return answer

    def catch_up(self, subscriber: Subscriber, since: Position | None, interest: Interest) -> bool:
        """Tell ``subscriber`` in one what of ``interest`` he has missed since ``since`` (None: nothing) up to `position`;
        False where that cannot be told, and he is told to drop everything."""
        missed = None if since is None else self.missed(since, interest)
        if isinstance(missed, str):
            self.tell(subscriber, Resync(offset=self._head, reason=missed))
            return False
        if missed is not None:
            self.tell(subscriber, message_of(missed))
        return True

    async def run(self) -> None:
        """Flush what is published, until cancelled; what was not flushed then stays in the log."""
        positions_at = loop_time() + self._position_interval
        while True:
            waiting = any(s.lagging or s.misled(self._current) for s in self._subscribers)
            await woken(self._filled, loop_time() + LAG_PACE if waiting else positions_at)
            self._filled.clear()
            await self.flush()
            if loop_time() >= positions_at:
                await self._tell_positions()
                positions_at = loop_time() + self._position_interval
            await asyncio.sleep(self._pace)

    async def flush(self) -> None:
        """Write what has been published since the last flush, and what waits for those who read again."""
        self._head, self._head_current = self._replay.last, self._current
        flush, beginnings = self._begin_flush(), self._beginnings
        for number, subscriber in enumerate(list(self._subscribers), 1):
            self._bring(subscriber, flush)
            if number % BURST == 0:
                await asyncio.sleep(0)
                if self._beginnings != beginnings:
                    break
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

    def _begin_flush(self) -> _Flush:
        return _Flush(head=self._head, current=self._head_current, turns=self._turns)

    def _bring(self, subscriber: Subscriber, flush: _Flush) -> None:
        """Bring ``subscriber`` up to the flush's head: write what he has not heard, or, if he does not read, keep it."""
        if subscriber.transport.is_closing():
            return
        self._bring_news(subscriber, flush)
        if flush.turns == self._turns and subscriber.reads(self._buffer):
            self._tell_current(subscriber, flush)

    def _bring_news(self, subscriber: Subscriber, flush: _Flush) -> None:
        since = subscriber.offset
        news = self._news(subscriber, flush)
        subscriber.offset = max(since, flush.head)
        if news is not None and not subscriber.lagging and subscriber.reads(self._buffer):
            subscriber.told = news.offset
            subscriber.transport.write(self._frame(subscriber, since, news, flush))
            flush.written += 1
            return
        if news is not None:
            try:
                subscriber.keep(news)
            except OverflowError:
                _owe_resync(subscriber, "overflow", flush)
        if not subscriber.lagging:
            return
        if subscriber.reads(self._buffer):
            self._write_waiting(subscriber)
            flush.written += 1
        else:
            flush.lagging += 1

    def _tell_current(self, subscriber: Subscriber, flush: _Flush) -> None:
        """Whether we are current, if he believes otherwise: after what he has to hear before he believes it again."""
        if subscriber.misled(flush.current) and not subscriber.lagging:
            subscriber.current = flush.current
            self.tell(subscriber, Status(current=flush.current))

    def _news(self, subscriber: Subscriber, flush: _Flush) -> Invalidation | None:
        """What he has not heard; None for nothing, or where he is owed a resync, which covers whatever there is."""
        if subscriber.offset >= flush.head or subscriber.resync is not None:
            return None
        key = (subscriber.offset, subscriber.interest)
        if key not in flush.missed:
            flush.missed[key] = self._replay.missed(subscriber.offset, flush.head, subscriber.interest)
        missed = flush.missed[key]
        if isinstance(missed, str):
            # Who is connected was not away: where the replay is shorter than what he has not heard, it was too much.
            _owe_resync(subscriber, "overflow" if missed == "expired" else missed, flush)
            return None
        return missed

    def _frame(self, subscriber: Subscriber, since: int, news: Invalidation, flush: _Flush) -> bytes:
        """``news`` as bytes, made once for all of a kind who hear the same."""
        key = (subscriber.frame, since, subscriber.interest)
        if key not in flush.frames:
            position = Position(epoch=self._replay.epoch, offset=flush.head)
            flush.frames[key] = subscriber.frame(message_of(news), position)
        return flush.frames[key]

    def _report(self, flush: _Flush) -> None:
        for reason, count in flush.resynced.items():
            self._observe(ClientResynced(reason=reason, count=count))

    def _write_waiting(self, subscriber: Subscriber) -> None:
        self.tell(subscriber, subscriber.take())
        if subscriber.displaced:  # a resync names no epoch
            subscriber.displaced = False
            self.tell(subscriber, PositionUpdate(epoch=self._replay.epoch, offset=subscriber.told))

    async def _tell_positions(self) -> None:
        for number, subscriber in enumerate(list(self._subscribers), 1):
            behind = subscriber.listens and not subscriber.lagging and subscriber.told < subscriber.offset
            if behind and subscriber.reads(self._buffer):
                subscriber.told = subscriber.offset
                self.tell(subscriber, PositionUpdate(epoch=self._replay.epoch, offset=subscriber.offset))
            if number % BURST == 0:
                await asyncio.sleep(0)

    def _position_of(self, subscriber: Subscriber) -> Position:
        return Position(epoch=self._replay.epoch, offset=subscriber.told)


def _owe_resync(subscriber: Subscriber, reason: ResyncReason, flush: _Flush) -> None:
    if subscriber.listens:
        subscriber.owe(reason)
        flush.resynced[reason] += 1
