"""The lease: which of the instances leads.

In: a connection of its own. Out: `term`, the number under which this instance leads, None while it does not.

The lease is a row with a holder and an expiry by the server's clock, renewed every `renew` seconds. Nothing is locked
between two renewals: an advisory lock on a connection is kept by a stopped backend, or by one behind a dead network, for as
long as it likes. Whoever takes over adds a row under the next term, and where somebody frozen holds that one's index entry,
under the one after. Should the server's clock jump back, a lease that nobody has renewed for its whole length by our own
clock counts as expired.

Two instances may believe for a moment that they lead: one that slept through its lease, say. Both then take changes out
of the log and refresh views, and no harm comes of it. A change is taken by one of them alone, with its marks, in one
transaction; marks have slots of their own for each term; refreshes of one view take turns, each with a snapshot of its
own, and clear only the marks that they read before it; invalidations are numbered under a lock. What is done twice is
told twice. The one whose term is lower learns of the other at its next renewal, and steps down.

Concurrency: `run` is one task. `term` is also None as soon as the lease has run out by our own clock, counted from before
its renewal was sent, so that a process which was stopped and goes on does not believe what it believed before. Whoever has
seen that, and sleeps until he is called, must be called: so a renewal that succeeds after that moment is worth nothing, the
term is over, and the next one is taken.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime

import asyncpg

from afresh_notifier import database
from afresh_notifier.clock import loop_time, woken
from afresh_notifier.observations import Following, Leading, LeaseFailed, Observe
from afresh_notifier.resources import query
from afresh_notifier.settings import DatabaseSettings, LeaseSettings

#: Why a term is over though nobody else leads.
RAN_OUT = "it ran out before it could be renewed"


class Lease:
    """This instance's part in the choice of a leader; ``holder`` names it, for people. ``changed`` is called when it has
    begun to lead, or has ceased to."""

    def __init__(
        self,
        database_settings: DatabaseSettings,
        settings: LeaseSettings,
        holder: str,
        changed: Callable[[], None],
        observe: Observe,
    ) -> None:
        self._database = database_settings
        self._settings = settings
        self.holder = holder
        self._observe = observe
        self._connection: asyncpg.Connection | None = None
        self._term: int | None = None
        self._held_until = 0.0
        #: The newest lease of somebody else: its term and expiry, and since when we have seen it so.
        self._seen: tuple[int, datetime | None] = (0, None)
        self._seen_since = 0.0
        #: Terms to leave out at the next try, since somebody holds their index entries.
        self._leave_out = 0
        self._woken = asyncio.Event()
        self._changed = changed
        self._following: str | None = None

    @property
    def term(self) -> int | None:
        """The term under which this instance leads now; None while it does not."""
        return self._term if self._term is not None and loop_time() < self._held_until else None

    def wake(self) -> None:
        """The leader has resigned: see at once whether the lease is to be had."""
        self._woken.set()

    async def run(self) -> None:
        """Renew the lease, or try to get it, until cancelled."""
        try:
            while True:
                self._woken.clear()
                began = loop_time()
                try:
                    connection = await self._connected()
                    async with asyncio.timeout(self._settings.renew):
                        await self._tick(connection)
                except database.TRANSIENT as error:
                    self._drop_connection()
                    self._observe(LeaseFailed(problem=database.said(error)[0]))
                if self._term is not None and self.term is None:
                    self._lose(RAN_OUT)
                pause = self._settings.renew if self._term is not None else self._settings.renew / 2
                await woken(self._woken, began + pause)
        finally:
            self._drop_connection()

    async def resign(self) -> None:
        """Let somebody else lead at once; where that cannot be said, the lease runs out. Not while `run` runs."""
        if self._term is None:
            return
        term, self._term = self._term, None
        with contextlib.suppress(*database.TRANSIENT):
            async with asyncio.timeout(self._settings.renew), database.connection(self._database) as connection:
                await connection.execute(query("lease_resign"), term)

    async def _tick(self, connection: asyncpg.Connection) -> None:
        sent = loop_time()
        if self._term is not None:
            renewed = await connection.fetchval(query("lease_renew"), self._term, self._settings.length)
            if renewed is None:
                self._lose("another instance leads")
                return
            if self.term is not None:
                self._held_until = sent + self._settings.length
                return
            self._lose(RAN_OUT)
        newest = await connection.fetchrow(query("lease_newest"))
        # Of one of our own we do not know: the answer was lost, or it ran out by our clock. The next term is ours.
        if newest is not None and newest["holder"] != self.holder and not self._free(newest):
            if newest["holder"] != self._following:
                self._following = newest["holder"]
                self._observe(Following(leader=newest["holder"], term=newest["term"]))
            return
        term = (newest["term"] if newest is not None else 0) + 1 + self._leave_out
        try:
            taken = await connection.fetchval(query("lease_take"), term, self.holder, self._settings.length)
        except asyncpg.LockNotAvailableError:
            self._leave_out += 1
            return
        if taken is None:
            return
        self._term, self._held_until = taken, sent + self._settings.length
        self._leave_out, self._following = 0, None
        self._observe(Leading(term=taken))
        self._changed()
        await connection.execute(query("lease_trim"), taken)

    def _free(self, newest: asyncpg.Record) -> bool:
        """Whether this lease has run out, or, whatever the server's clock says, nobody has touched it for its length."""
        if newest["expired"]:
            return True
        seen = (newest["term"], newest["expires"])
        if seen != self._seen:
            self._seen, self._seen_since = seen, loop_time()
        return loop_time() - self._seen_since > self._settings.length

    def _lose(self, reason: str) -> None:
        self._term = None
        self._observe(Following(leader=None, term=None, reason=reason))
        self._changed()

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await database.connect(self._database, name="afresh lease", lock_timeout="200ms")
        return self._connection

    def _drop_connection(self) -> None:
        if self._connection is not None:
            database.cut(self._connection)
            self._connection = None
