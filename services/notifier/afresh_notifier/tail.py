"""The tail: follows the invalidation log, and hands what is appended to the hub. The same on every instance.

In: wake-ups, from the listener (somebody appended, or the listening connection is there again) and from whoever appended
here, who may say what that was, and lend his connection. Out: numbered invalidations, in order, each once, to the hub; or a
new beginning, where the log is another one than before (its epoch changed) or was trimmed past us.

Nothing is missed: offsets are in commit order, so "all after the last one" is all. Should a wake-up be lost, the log is
read at `POLL` anyway. Where it cannot be read for `CURRENT_FOR` seconds, the hub is told, and so is whoever is connected: a
cache that is kept true by us is not to be believed meanwhile. What is kept in this process itself is not believed from
the first reading that fails on, until one has been published (`watch`).

Concurrency: `run` is one task, and whoever appended tells it, or reads, in his own (`appended`); they take turns, so that
each goes on from where the one before has come to. A wake-up during a read causes another one, unless it names an offset
that was just read. A turn lasts `PATIENCE` seconds at most, and is given up by whoever is cancelled.
`reach` waits for a read that began after the call. Cancelled, it loses nothing: the log is read again from where the hub
stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable

import asyncpg

from afresh_cache.backoff import backoff
from afresh_cache.messages import Position
from afresh_notifier import database, invalidation_log
from afresh_notifier.clock import loop_time
from afresh_notifier.database import Connection
from afresh_notifier.hub import Hub
from afresh_notifier.invalidation_log import Reading
from afresh_notifier.observations import CaughtUp, FellBehind, Observe, TailFailed

#: How often the log is read without a wake-up, in seconds.
POLL = 2.0

#: How long one read may take, in seconds; then its connection is cut, and it is tried on another.
PATIENCE = 2.0

#: For how long after the beginning of a reading we count as current, in seconds: a poll, and the time for one more reading.
CURRENT_FOR = POLL + PATIENCE + 1.0

#: First and longest wait between two attempts, in seconds.
RETRY_FIRST, RETRY_MAX = 0.05, 2.0


class Tail:
    """Keeps the hub up with the log; at most ``most`` entries are read at once, as many as the hub remembers."""

    def __init__(self, pool: asyncpg.Pool, hub: Hub, observe: Observe, *, most: int) -> None:
        self._pool = pool
        self._hub = hub
        self._observe = observe
        self._most = most
        self._woken = asyncio.Event()
        #: Held by whoever reads, until what he has read is published.
        self._turn = asyncio.Lock()
        #: How far the next read must reach; infinity where it must be made in any case.
        self._wanted = 0.0
        self._waiting: list[asyncio.Future[None]] = []
        self._following = False
        self._watchers: list[Callable[[bool], None]] = []
        self._alarm: asyncio.TimerHandle | None = None

    def watch(self, watcher: Callable[[bool], None]) -> None:
        """``watcher`` is called when that we follow the log begins or ends: that the last reading was published, and the
        next is not overdue. It is called after all that was read has been published, returns at once, and never raises.

        So what was appended is published within `CURRENT_FOR` seconds, or we do not follow: a reading begins `POLL` after
        the one before at the latest, and fails by itself where the server does not answer. Mostly it is milliseconds.
        """
        self._watchers.append(watcher)

    def wake(self, offset: int | None = None) -> None:
        """Somebody appended, up to ``offset`` where that is known."""
        if offset is None or offset > self._hub.newest:
            self._wanted = max(self._wanted, math.inf if offset is None else offset)
            self._woken.set()

    async def appended(self, connection: Connection, appended: Reading) -> None:
        """Somebody here appended this, and has committed it on ``connection``: it is told at once, not when it is heard of.

        Where it comes next after what was published it is all there is up to its end, since whoever appends has the log to
        himself until he has committed; else all is read on that connection. Whatever fails is left to `run`; the
        connection may have been cut then.
        """
        if not self._turn.locked():
            if self._following and appended.follows(self._hub.published):
                self._publish(appended)
                await asyncio.sleep(0)  # the hub's turn, and
                await asyncio.sleep(0)  # the sockets': what whoever appended does next can wait
                return
            async with self._turn:
                try:
                    with database.cut_after(connection, PATIENCE):
                        await self._read(connection)
                except database.TRANSIENT:
                    self._follow_is(False)
        self.wake(appended.newest)

    async def reach(self, offset: float) -> None:
        """Return when the hub stands at ``offset``, or has all that there was after this call: then the log does not go so
        far (and never to infinity). Cancelled, it stops waiting."""
        if self._hub.newest >= offset:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._wanted = math.inf
        self._woken.set()
        await future

    async def meet(self, since: Position | None) -> None:
        """Before a client is answered who was somewhere else before and may be ahead of us: come to where he stands, if the
        log goes so far, and can be read now."""
        here = self._hub.position
        if since is None or since.epoch != here.epoch or since.offset <= here.offset:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self.reach(since.offset)
        await self._hub.flush()

    async def covers(self, since: Position) -> bool:
        """Whether all that somebody at ``since`` may have heard, here or elsewhere, has been published here; waits for a
        reading where that is not known, and is False where there is none within `PATIENCE`.

        Of another log than ours it is not known which is the newer one: a reading that began after the question knows.
        """
        if since.epoch == self._hub.published.epoch and since.offset <= self._hub.newest:
            return True
        try:
            async with asyncio.timeout(PATIENCE):
                await self.reach(math.inf)
        except TimeoutError:
            return False
        return True

    async def load(self) -> None:
        """Read once; the first time before anybody is told. Raises what asyncpg raises."""
        async with self._turn:
            await self._read_on_another()

    async def run(self) -> None:
        """Follow the log, until cancelled."""
        try:
            await self._follow()
        finally:
            self._follow_is(False)
            if self._alarm is not None:
                self._alarm.cancel()

    async def _follow(self) -> None:
        failures = 0
        while True:
            pause = backoff(failures, RETRY_FIRST, RETRY_MAX) if failures else POLL
            try:
                async with asyncio.timeout(pause):
                    await self._woken.wait()
                    if failures:
                        await asyncio.sleep(pause)
            except TimeoutError:
                self._wanted = math.inf
            async with self._turn:
                self._woken.clear()
                if self._wanted <= self._hub.newest:  # it was with what was read last, by whomever
                    continue
                self._wanted = 0.0
                waiting, self._waiting = self._waiting, []
                try:
                    await self._read_on_another()
                except database.TRANSIENT as error:
                    failures += 1
                    self._wanted = math.inf
                    self._waiting += [future for future in waiting if not future.done()]
                    self._follow_is(False)
                    self._observe(TailFailed(problem=database.said(error)[0]))
                    continue
            failures = 0
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    def _follow_is(self, following: bool) -> None:
        if following is not self._following:
            self._following = following
            for watcher in self._watchers:
                watcher(following)

    def _be_behind(self) -> None:
        self._follow_is(False)
        self._observe(FellBehind(seconds=CURRENT_FOR))
        self._hub.be_current(False)

    def _be_current(self, began: float) -> None:
        """A reading that began then has been published."""
        self._follow_is(True)
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_at(began + CURRENT_FOR, self._be_behind)
        if not self._hub.current:
            self._observe(CaughtUp())
            self._hub.be_current(True)

    async def _read_on_another(self) -> None:
        async with database.lent(self._pool, PATIENCE) as connection:
            await self._read(connection)

    async def _read(self, connection: Connection) -> None:
        after, began = self._hub.newest, loop_time()
        reading = await invalidation_log.read(connection, after, self._most)
        if reading.epoch != self._hub.position.epoch or reading.newest < after:
            # Another log: what it numbers like the old one is something else, so that all of it is read.
            if after > 0:
                reading = await invalidation_log.read(connection, 0, self._most)
            after = reading.entries[0][0].offset - 1 if reading.entries else reading.newest
            self._hub.begin(reading.epoch, after)
        elif reading.entries and reading.entries[0][0].offset > after + 1:
            self._hub.begin(reading.epoch, reading.entries[0][0].offset - 1)
        self._publish(reading)
        self._be_current(began)

    def _publish(self, reading: Reading) -> None:
        now = loop_time()
        for invalidation, age in reading.entries:
            self._hub.publish(invalidation, now - age)
