"""The consumer: takes changes, from the change log and from what was notified, and passes on what follows from them.

In: the inbox, the change log, and the lease. Out, while this instance leads: marks for the views that are dirty, and
appended invalidations that wait for no view, both in the transaction that takes the changes out of the log; and, after its
commit, word to the refresher. On every instance it keeps the plan true: it is read anew after a gap, after a change of the
catalogue, when a table is heard of that the plan does not know, and, where no event trigger tells, at a steady pace.

What a crash can leave, by the step after which it comes, and why each is right:

- before the transaction: the change is in the log, which the next leader looks through as a whole;
- within it: the same, since nothing of it was committed;
- after its commit: the change is in the marks, which the next leader reads, and what was to be told is in the
  invalidation log, which every instance follows;
- the commit's answer was lost: either of the two; the marks are read again (`_unsure`).

A change that was only notified is in nobody's log until that commit. So a gap in the listening, a full inbox, and taking
over from another leader count as a change of everything in every table whose changes are notified.

Concurrency: one task. Between two awaits of a transaction the plan cannot change, since this task alone replaces it; the
lease can be lost at any time, and then two leaders do what one should: see `lease` for why that is no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import asyncpg

from afresh_cache.backoff import backoff
from afresh_notifier import change_log, database, effects, invalidation_log, marks, survey
from afresh_notifier.changes import Bell, CatalogueChange, Change, Gap, Heard
from afresh_notifier.clock import loop_time
from afresh_notifier.database import Connection
from afresh_notifier.debounce import Dirt
from afresh_notifier.invalidation_log import Reading
from afresh_notifier.lease import Lease
from afresh_notifier.listener import INBOX_SIZE, Inbox
from afresh_notifier.observations import (
    BellSet,
    CatalogueFailed,
    CatalogueRead,
    ChangesHeard,
    ConsumeFailed,
    GapFound,
    Observe,
    SettingIgnored,
)
from afresh_notifier.pace import Pace
from afresh_notifier.packs import InstalledPack
from afresh_notifier.refresher import Refresher
from afresh_notifier.resources import query
from afresh_notifier.settings import Settings
from afresh_notifier.strangers import Strangers

#: First and longest wait between two attempts at what failed, in seconds.
RETRY_FIRST, RETRY_MAX = 0.1, 2.0

#: How long one reading of the plan, and one look at the log, may take, in seconds; then its connection is cut.
READ_PATIENCE, LOOK_PATIENCE = 30.0, 10.0

#: How often the whole log and all marks are looked through, for what others have left there, in seconds; and by how much
#: longer than such a look takes the next one is away.
FULL_PACE, FULL_SHARE = 5.0, 20.0

#: How often the invalidation log is trimmed, in seconds.
TRIM_PACE = 30.0

#: What a table that the plan does not know is called in observations: anybody can invent names.
UNKNOWN = "unknown"


class Consumer:
    """Turns changes into dirty views and invalidations, while this instance leads."""

    def __init__(
        self,
        settings: Settings,
        packs: Sequence[InstalledPack],
        pool: asyncpg.Pool,
        inbox: Inbox,
        refresher: Refresher,
        lease: Lease,
        appended: Callable[[Connection, Reading], Awaitable[None]],
        observe: Observe,
    ) -> None:
        self._settings = settings
        self._packs = packs
        self._pool = pool
        self._inbox = inbox
        self._refresher = refresher
        self._lease = lease
        self._appended = appended
        self._observe = observe
        #: The term under which we lead; None while we do not.
        self._term: int | None = None
        self._pace = Pace(settings.capture, loop_time())
        self._horizon = change_log.EVERYTHING
        #: Changes that were notified, and are not consumed yet; and that some may have been missed.
        self._notified: list[Change] = []
        self._gap: Gap | None = None
        self._rung = False
        #: Marks may have been committed of which the refresher does not know.
        self._unsure = False
        #: The newest mark that was looked at.
        self._generation = 0
        self._full_at = self._trim_at = -math.inf
        self._replan = True
        #: When the plan is read anew at the latest, in the event loop's time.
        self._poll_at = math.inf
        self._strangers = Strangers()
        self._ignored: tuple[SettingIgnored, ...] = ()
        self._failures = 0
        self._started = self._new_in_office = False

    async def run(self) -> None:
        """Consume until the inbox is closed and empty, then once more. Cancelled, it leaves what it was about."""
        while (heard := await self._next()) is not None:
            self._hear(heard)
            try:
                await self._step()
                self._failures = 0
            except database.TRANSIENT as error:
                self._failures += 1
                wait = backoff(self._failures, RETRY_FIRST, RETRY_MAX)
                what = database.said(error)[0]
                failed = CatalogueFailed if self._replan else ConsumeFailed
                self._observe(failed(problem=what, retry_in=wait))
                await asyncio.sleep(wait)
        if self._term is not None:
            await self._finish()

    async def _next(self) -> list[Heard] | None:
        """What was heard, by the time at which something is to be done; None when nothing more will be."""
        at = self._poll_at
        if self._replan or self._failures:
            at = loop_time()
        elif self._term is not None:
            at = loop_time() if self._rung else min(at, self._full_at, self._pace.look_at(loop_time()))
        if at <= loop_time() and self._inbox.waiting:
            return await self._inbox.take()
        try:
            async with asyncio.timeout_at(at if math.isfinite(at) else None):
                return await self._inbox.take()
        except TimeoutError:
            return []

    def _hear(self, heard: list[Heard]) -> None:
        for item in heard:
            match item:
                case Change():
                    self._notified.append(item)
                case CatalogueChange():
                    self._replan = True
                case Bell():
                    self._rung = True
                case Gap(reason=reason):
                    self._observe(GapFound(reason=reason))
                    self._gap = item.after(self._gap)
                    self._replan = True
                case _:
                    pass
        if len(self._notified) > INBOX_SIZE:
            reason, heard_at = f"more than {INBOX_SIZE} changes waited", self._notified[0].heard_at
            self._gap = Gap(reason=reason, heard_at=heard_at).after(self._gap)
            self._notified.clear()

    async def _step(self) -> None:
        if self._term != self._lease.term:
            self._change_office(self._lease.term)
        if self._gap is not None:
            # What cut the listening connection off may have frozen the pool's: they are opened anew.
            await self._pool.expire_connections()
            # And it may be another server, or one that has crashed and gives out numbers of transactions again.
            self._horizon = change_log.EVERYTHING
        if self._replan or loop_time() >= self._poll_at:
            await self._read_plan()
        if self._term is None:
            self._notified.clear()
            self._gap, self._rung = None, False
        else:
            await self._look()

    def _change_office(self, term: int | None) -> None:
        self._term = term
        if term is None:
            self._new_in_office = False
            self._refresher.follow()
            return
        self._refresher.lead(term)
        self._pace = Pace(self._settings.capture, loop_time())
        self._horizon = change_log.EVERYTHING
        self._full_at = -math.inf
        self._replan = self._new_in_office = True
        if self._gap is None:
            self._gap = Gap(reason="another instance led", heard_at=datetime.now(UTC))

    async def _look(self) -> None:
        """Take what there is, if it is time to look, and pass it on."""
        now = loop_time()
        full = now >= self._full_at
        told = bool(self._rung or self._notified or self._gap)
        if not (told or full or self._unsure or now >= self._pace.look_at(now)):
            return
        expected = told or self._pace.busy
        rung, self._rung = self._rung, False
        if full:  # should it fail, by taking too long for one, the next look asks for what is new
            self._full_at = now + FULL_PACE
        async with database.lent(self._pool, LOOK_PATIENCE) as connection:
            await self._see_to_the_bell(connection)
            horizon = change_log.EVERYTHING if full else self._horizon
            if not expected:
                expected, horizon_then = await change_log.peek(connection, horizon)
                if not expected:
                    self._horizon = horizon_then
                    self._pace.looked(0, loop_time())
            if expected and await self._consume(connection, horizon) == 0 and rung:
                full = True  # somebody rang for something else: marks that he put
            if self._unsure or full:
                await self._read_marks(connection)
            if full:  # where there is much that cannot be vacuumed, it takes its time: then less often
                self._full_at = loop_time() + max(FULL_PACE, FULL_SHARE * (loop_time() - now))
            if loop_time() >= self._trim_at:
                log = self._settings.log
                await invalidation_log.trim(connection, max_entries=log.max_entries, max_age=log.max_age)
                self._trim_at = loop_time() + TRIM_PACE

    async def _see_to_the_bell(self, connection: Connection) -> None:
        seconds = self._pace.bell(loop_time())
        if seconds is not None:
            rang = self._pace.ringing
            await connection.execute(query("set_bell"), seconds)
            self._pace.set(seconds, loop_time())
            if self._pace.ringing != rang:
                self._observe(BellSet(ringing=self._pace.ringing))

    async def _consume(self, connection: Connection, horizon: change_log.Horizon) -> int | None:
        """Take changes, mark what they dirty, append what they make stale at once: one transaction.

        Returns how many rows it took out of the log; None where it left them there, since the plan must be read first.
        """
        unsure, self._unsure = self._unsure, True
        transaction = connection.transaction(isolation="read_committed")
        await transaction.start()
        try:
            taken = await change_log.take(connection, horizon)
            changes = [*self._notified, *taken.changes]
            look_at = self._strangers.look_at(
                (change.table for change in changes), self._refresher.plan.patterns.catalogue.knows, loop_time()
            )
            if look_at <= loop_time():
                await transaction.rollback()
                self._replan = self._rung = True
                self._unsure = unsure
                return None
            self._poll_at = min(self._poll_at, look_at)
            async with self._refresher.deciding:
                dirty, told = await self._pass_on(connection, changes)
                await transaction.commit()
                for view, dirt in dirty.items():
                    self._refresher.dirty(view, dirt)
        except asyncpg.PostgresError:
            with contextlib.suppress(*database.TRANSIENT):
                await transaction.rollback()
            raise
        self._unsure = unsure
        self._horizon = taken.horizon
        self._notified.clear()
        self._gap, self._started = None, True
        self._pace.looked(taken.rows, loop_time(), more=taken.more)
        if told is not None:
            await self._appended(connection, told)
        self._report(changes)
        return taken.rows

    async def _pass_on(self, connection: Connection, changes: list[Change]) -> tuple[dict[str, Dirt], Reading | None]:
        """Mark and append what follows from ``changes``; returns what is dirty, and what was appended."""
        plan, healthy = self._refresher.plan.patterns, self._refresher.healthy()
        dirty = effects.dirtied(plan.catalogue, changes, self._gap)
        stale = effects.stale(plan, changes, self._gap, healthy, "gap" if self._started else "restart")
        await marks.put(connection, [self._refresher.mark(view, dirt) for view, dirt in dirty.items()])
        told = await invalidation_log.append_all(connection, stale)
        if told is None:
            # Nothing of this is told before a refresh has committed, which is flushed, and all before it; what is lost in
            # a crash is lost together: the changes are in the log again. So no disk is waited for.
            await connection.execute(query("commit_without_flush"))
        return dirty, told

    def _report(self, changes: list[Change]) -> None:
        knows = self._refresher.plan.patterns.catalogue.knows
        for change in changes:
            table = change.table if knows(change.table) else UNKNOWN
            self._observe(ChangesHeard(table=table, count=change.count))

    async def _read_marks(self, connection: Connection) -> None:
        """Tell the refresher of marks of which it may not know: those of the leader before us, or of a commit whose answer
        was lost; and, now and then, those that somebody else has put for views that seem to be fresh."""
        present = await marks.read(connection)
        for mark in present:
            if mark.view not in self._refresher.plan.timings:
                self._replan = True  # it was put by a refresh that knew an older plan; who adopts one clears it
            elif self._unsure or self._refresher.stale_for(mark.view) == 0.0:
                self._refresher.dirty(mark.view, mark.dirt())
        self._unsure = False
        late = [mark for mark in present if mark.generation > self._generation]
        if late:
            await self._tell_for_others(connection, late)
        self._generation = max([self._generation, *(mark.generation for mark in present)])

    async def _tell_for_others(self, connection: Connection, late: list[marks.Mark]) -> None:
        """What an earlier leader, who did not know that we have given a view up, has left to its refresh."""
        refresher = self._refresher
        async with refresher.deciding:
            healthy = refresher.healthy()
            waited = [mark.dirt() for mark in late if mark.view not in healthy and not refresher.own(mark)]
            stale = effects.left(refresher.plan.patterns, waited, healthy)
            async with database.transaction(connection, isolation="read_committed"):
                told = await invalidation_log.append_all(connection, stale)
        if told is not None:
            await self._appended(connection, told)

    async def _read_plan(self) -> None:
        """Read the plan and hand it to the refresher; a leader acts upon what is otherwise than before."""
        began = time.perf_counter()
        self._replan = True
        leading = self._term is not None
        suspects: frozenset[str] = frozenset()
        present: list[marks.Mark] = []
        async with database.lent(self._pool, READ_PATIENCE) as connection:
            read = await survey.read(connection, self._settings, self._packs, leading=leading)
            if leading:
                unsure, self._unsure = self._unsure, True
                async with self._refresher.deciding:
                    suspects, present, told = await survey.adopt(connection, read, self._refresher)
                self._unsure = unsure
                if told is not None:
                    await self._appended(connection, told)
        catalogue = read.plan.patterns.catalogue
        # Beside what was known: what is otherwise than in the plan before, should an adoption's answer have been lost.
        suspects |= catalogue.suspects(self._refresher.plan.patterns.catalogue)
        self._refresher.replace(read.plan, suspects)
        if self._new_in_office:
            suspects |= {mark.view for mark in present}
            self._refresher.wind_up()
            self._new_in_office = self._unsure = False
        for mark in present:
            if mark.view in suspects:
                self._refresher.dirty(mark.view, mark.dirt())
        self._replan = False
        self._poll_at = loop_time() + self._settings.database.catalogue_poll if read.must_poll else math.inf
        self._strangers.plan_read(catalogue.knows, loop_time())
        self._observe(
            CatalogueRead(
                catalogue=catalogue, suspects=suspects, ignored=read.ignored, seconds=time.perf_counter() - began
            )
        )
        if read.ignored != self._ignored:
            self._ignored = read.ignored
            for problem in read.ignored:
                self._observe(problem)

    async def _finish(self) -> None:
        """Take what there is for the last time, and silence the bell, which nobody will heed."""
        try:
            self._rung = True
            await self._look()
            async with database.lent(self._pool, LOOK_PATIENCE) as connection:
                await connection.execute(query("set_bell"), 0)
        except database.TRANSIENT as error:
            self._observe(ConsumeFailed(problem=database.said(error)[0], retry_in=math.inf))
