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
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import asyncpg

from afresh_cache.backoff import backoff
from afresh_cache.messages import ResyncReason
from afresh_notifier import database, planning
from afresh_notifier.changes import CatalogueChange, Change, Gap, Heard
from afresh_notifier.clock import loop_time
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

#: How long one reading of the plan may take, in seconds; then its connection is cut, and it is tried on another.
READ_PATIENCE = 30.0

#: How often, in seconds, the plan may be read for tables that it does not know, and how many such are remembered.
STRANGER_PACE, MAX_STRANGERS = 1.0, 1_000

#: What a table that the plan does not know is called in observations: anybody can invent names.
UNKNOWN = "unknown"


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
        #: When the plan is read anew at the latest, in the event loop's time.
        self._poll_at = math.inf
        #: No plan is read for a stranger's sake before this.
        self._patience_until = -math.inf
        #: Tables that were heard of and that no plan read since knows: each is looked for once, until it comes into a plan
        #: (a change of the catalogue, a gap or a poll has it read) and may become a stranger again.
        self._strangers: set[str] = set()
        self._started = False

    async def run(self) -> None:
        """Consume until the inbox is closed and empty. Cancelled, it loses what it had taken: that is a stop at once."""
        while True:
            try:
                async with asyncio.timeout_at(self._poll_at if math.isfinite(self._poll_at) else None):
                    heard = await self._inbox.take()
            except TimeoutError:
                heard = []
            if heard is None:
                return
            await self._consume(heard)

    async def _consume(self, heard: list[Heard]) -> None:
        changes = [item for item in heard if isinstance(item, Change)]
        gap = next((item for item in heard if isinstance(item, Gap)), None)
        if gap is not None:
            self._observe(GapFound(reason=gap.reason))
            # What cut the listening connection off may have frozen the pool's: they are opened anew.
            await self._pool.expire_connections()
        if gap or any(isinstance(item, CatalogueChange) for item in heard) or loop_time() >= self._poll_at:
            self._dirty(changes)  # by the old plan too: in the new one their table may be called otherwise, or be gone
            await self._read_plan()
        elif self._strange(changes):
            if loop_time() >= self._patience_until:
                await self._read_plan()
            else:
                self._poll_at = min(self._poll_at, self._patience_until)
        if gap is not None:
            self._refresher.dirty(frozenset(self._refresher.plan.timings), None, gap.heard_at)
            self._resync("gap" if self._started else "restart")
            self._started = True
        if changes:
            await self._pass_on(changes)

    def _strange(self, changes: list[Change]) -> bool:
        """Whether one of these is of a table that is not known, and that was not looked for in vain before.

        What is missed by looking later is covered: a table or a view that comes into the plan is told and refreshed.
        """
        knows = self._refresher.plan.patterns.catalogue.knows
        strangers = {change.table for change in changes if not knows(change.table)} - self._strangers
        if len(self._strangers) < MAX_STRANGERS:
            self._strangers |= strangers
            return bool(strangers)
        return False

    async def _pass_on(self, changes: list[Change]) -> None:
        """Dirty the views first, which start refreshing while the position for the rest is asked for."""
        self._dirty(changes)
        plan, healthy = self._refresher.plan.patterns, self._refresher.healthy()
        known = (change.table if plan.catalogue.knows(change.table) else UNKNOWN for change in changes)
        for table, count in Counter(known).items():
            self._observe(ChangesHeard(table=table, count=count))
        at_once: dict[str, None] = {}
        tables: set[str] = set()
        for change in changes:
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

    def _dirty(self, changes: list[Change]) -> None:
        """Dirty the views that read the tables of these changes, as the present plan has it."""
        catalogue = self._refresher.plan.patterns.catalogue
        for change in changes:
            keys = None if change.keys is None else set(change.keys)
            dirt = Dirt(tables={change.table}, keys=keys, heard_at=change.heard_at)
            self._refresher.dirty(frozenset(catalogue.reading(change.table)), dirt, change.heard_at)

    async def _position(self) -> int | None:
        """A write-ahead log position that covers what was heard; None where the server does not say at once."""
        try:
            async with database.lent(self._pool, 1.0) as connection:
                return int(await connection.fetchval(query("current_lsn")))
        except database.TRANSIENT:
            return None

    async def _read_plan(self) -> None:
        """Read the plan and hand it to the refresher; tried until it works, since nothing is right without it."""
        failures = 0
        while True:
            began = time.perf_counter()
            stale = frozenset(view for view in self._refresher.plan.timings if self._refresher.stale_for(view))
            try:
                async with database.lent(self._pool, READ_PATIENCE) as connection:
                    facts = await database.facts(connection)
                    incomplete = await _extend_watches(connection)
                    reading = await planning.read(connection, self._settings, self._packs, stale)
            except database.TRANSIENT as error:
                failures += 1
                wait = backoff(failures, RETRY_FIRST, RETRY_MAX)
                self._observe(CatalogueFailed(problem=database.said(error)[0], retry_in=wait))
                await asyncio.sleep(wait)
                continue
            polls = not facts.event_trigger or bool(incomplete)
            self._poll_at = loop_time() + self._settings.database.catalogue_poll if polls else math.inf
            self._patience_until = loop_time() + STRANGER_PACE
            ignored = (*reading.ignored, *incomplete)
            catalogue = reading.plan.patterns.catalogue
            suspects = catalogue.suspects(self._refresher.plan.patterns.catalogue)
            self._refresher.replace(reading.plan, suspects, datetime.now(UTC))
            self._observe(
                CatalogueRead(
                    catalogue=catalogue,
                    suspects=suspects,
                    ignored=ignored,
                    seconds=time.perf_counter() - began,
                )
            )
            if ignored != self._ignored:
                self._ignored = ignored
                for problem in ignored:
                    self._observe(problem)
            if len(self._strangers) < MAX_STRANGERS:
                self._strangers = {table for table in self._strangers if not catalogue.knows(table)}
            else:  # too many to remember: they are looked for again, at the pace that holds for all
                self._strangers.clear()
            return


async def _extend_watches(connection: database.Connection) -> list[SettingIgnored]:
    """Watch the partitions that came without a trigger's having seen it, before the plan is read: what was written to
    them so far is covered by the refresh that their being new causes. Each watch is a transaction of its own, so that none
    holds another's locks, or fails with it. Returns what could not be done, which is tried again at the next poll."""
    failed = []
    for row in await connection.fetch(query("incomplete_watches")):
        try:
            async with connection.transaction():
                await connection.execute(query("transaction_limits"), "10s", "500ms")
                await connection.execute(query("extend_watch"), row["root"], row["keys"])
        except asyncpg.PostgresError as error:
            failed.append(
                SettingIgnored(
                    name=row["name"],
                    problem=f"the watch on {row['name']} does not cover all its partitions: {database.said(error)[0]}",
                    hint=f"let the table's owner run `afresh watch {row['name']}`",
                )
            )
    return failed
