"""The consumer: takes what was heard, and passes on what follows from it.

In: the inbox. Out: dirty views to the refresher, invalidations that wait for no view to `publish`, and a resync to the
clients after a gap. It also keeps the plan true: it is read anew after a gap, after a change of the catalogue, when a
table is heard of that the plan does not know, and, where no event trigger tells, at a steady pace.

Concurrency: one task. While it reads the plan (the only long await) changes gather in the inbox, which is bounded and
turns into a gap when it is full; the plan is replaced in one step between awaits, and a change is always looked up in
the plan that stands when it is consumed. A change that commits after the plan was read and before it stands is in the
inbox behind us. The order after a gap: plan, dirty views, then the resync, so that whatever a client loads
afterwards is told again when its view is refreshed.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import asyncpg

from afresh_cache.messages import ResyncReason
from afresh_notifier import database, planning
from afresh_notifier.changes import CatalogueChange, Change, Gap, Heard
from afresh_notifier.debounce import Dirt
from afresh_notifier.invalidation import Invalidation
from afresh_notifier.listener import Inbox
from afresh_notifier.observations import (
    CatalogueFailed,
    CatalogueRead,
    ChangesHeard,
    GapFound,
    Observe,
    SettingIgnored,
)
from afresh_notifier.packs import InstalledPack
from afresh_notifier.refresher import Refresher
from afresh_notifier.resources import query
from afresh_notifier.settings import Settings

#: First and longest wait between two attempts to read the catalogue, in seconds.
RETRY_FIRST, RETRY_MAX = 0.1, 5.0


class Consumer:
    """Turns what was heard into dirty views and invalidations."""

    def __init__(
        self,
        settings: Settings,
        packs: Sequence[InstalledPack],
        pool: asyncpg.Pool,
        inbox: Inbox,
        refresher: Refresher,
        publish: Callable[[Invalidation], None],
        resync: Callable[[ResyncReason], None],
        observe: Observe,
    ) -> None:
        self._settings = settings
        self._packs = packs
        self._pool = pool
        self._inbox = inbox
        self._refresher = refresher
        self._publish = publish
        self._resync = resync
        self._observe = observe
        self._ignored: tuple[SettingIgnored, ...] = ()
        self._poll = True
        #: Tables that were heard of and that the newest plan still does not know: not looked for again and again.
        self._strangers: frozenset[str] = frozenset()
        self._started = False

    async def run(self) -> None:
        """Consume until the inbox is closed and empty. Cancelled, it loses what it had taken: that is a stop at once."""
        while True:
            poll = self._settings.database.catalogue_poll if self._poll else None
            try:
                async with asyncio.timeout(poll):
                    heard = await self._inbox.take()
            except TimeoutError:
                heard = []
            if heard is None:
                return
            await self._consume(heard)

    async def _consume(self, heard: list[Heard]) -> None:
        changes = [item for item in heard if isinstance(item, Change)]
        gap = next((item for item in heard if isinstance(item, Gap)), None)
        tables = {change.table for change in changes}
        catalogue = self._refresher.plan.patterns.catalogue
        strangers = {table for table in tables - self._strangers if not catalogue.knows(table)}
        if gap is not None:
            self._observe(GapFound(reason=gap.reason))
        if gap or strangers or not heard or any(isinstance(item, CatalogueChange) for item in heard):
            await self._read_plan()
            catalogue = self._refresher.plan.patterns.catalogue
            self._strangers = frozenset(table for table in tables | self._strangers if not catalogue.knows(table))
        if gap is not None:
            self._refresher.dirty(frozenset(self._refresher.plan.timings), None, gap.heard_at)
            self._resync("gap" if self._started else "restart")
            self._started = True
        if changes:
            await self._pass_on(changes)

    async def _pass_on(self, changes: list[Change]) -> None:
        """Dirty the views first, which start refreshing while the position for the rest is asked for."""
        for table, count in Counter(change.table for change in changes).items():
            self._observe(ChangesHeard(table=table, count=count))
        plan, healthy = self._refresher.plan.patterns, self._refresher.healthy()
        at_once: dict[str, None] = {}
        tables: set[str] = set()
        for change in changes:
            dirt = Dirt(
                tables={change.table},
                keys=None if change.keys is None else set(change.keys),
                heard_at=change.heard_at,
            )
            self._refresher.dirty(frozenset(plan.catalogue.reading(change.table)), dirt, change.heard_at)
            patterns = plan.at_once(change.table, change.keys, healthy)
            if patterns:
                at_once.update(dict.fromkeys(patterns))
                tables.add(change.table)
        if at_once:
            self._publish(
                Invalidation(
                    patterns=tuple(at_once),
                    tables=frozenset(tables),
                    lsn=await self._position(),
                    at=min(change.heard_at for change in changes),
                )
            )

    async def _position(self) -> int | None:
        """A write-ahead log position that covers what was heard; None where the server does not say at once."""
        try:
            async with asyncio.timeout(1.0), self._pool.acquire() as connection:
                return int(await connection.fetchval(query("current_lsn")))
        except database.TRANSIENT:
            return None

    async def _read_plan(self) -> None:
        """Read the plan and hand it to the refresher; tried until it works, since nothing is right without it."""
        wait = RETRY_FIRST
        while True:
            began = time.perf_counter()
            try:
                async with self._pool.acquire(timeout=self._settings.database.connect_timeout) as connection:
                    facts = await database.facts(connection)
                    extended = await _extend_watches(connection)
                    reading = await planning.read(connection, self._settings, self._packs)
            except database.TRANSIENT as error:
                self._observe(CatalogueFailed(problem=database.said(error)[0], retry_in=wait))
                await asyncio.sleep(wait)
                wait = min(wait * 2, RETRY_MAX)
                continue
            self._poll = not (facts.event_trigger and extended)
            catalogue = reading.plan.patterns.catalogue
            suspects = catalogue.suspects(self._refresher.plan.patterns.catalogue)
            self._refresher.replace(reading.plan, suspects, datetime.now(UTC))
            self._observe(
                CatalogueRead(
                    catalogue=catalogue,
                    suspects=suspects,
                    ignored=reading.ignored,
                    seconds=time.perf_counter() - began,
                )
            )
            if reading.ignored != self._ignored:
                self._ignored = reading.ignored
                for problem in reading.ignored:
                    self._observe(problem)
            return


async def _extend_watches(connection: database.Connection) -> bool:
    """Watch the partitions that came without a trigger's having seen it, before the plan is read: what was written to
    them so far is covered by the refresh that their being new causes. False where that must be tried again: a lock was
    not to be had at once, the role may not, or a trigger is in the way (`afresh doctor` says which watch is incomplete)."""
    try:
        async with connection.transaction():
            await connection.execute(query("transaction_limits"), "10s", "500ms")
            await connection.execute(query("extend_watches"))
    except asyncpg.PostgresError:
        return False
    return True
