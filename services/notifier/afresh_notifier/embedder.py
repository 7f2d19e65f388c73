"""The embedder: while this instance leads, rows whose text has changed get their embeddings.

In: the sources that `[[embeddings]]` names, the queue, the models, and word of changes, as the consumer takes them. Out:
rows with the embeddings of their texts; what becomes of that is observed.

It looks when a change of one of its tables was consumed, and every `PACE` seconds, since a table of texts need not be
watched for anything else. While the model cannot be asked it waits, longer each time; the rows stay in the queue.

Concurrency: one task, one connection of its own, one source after the other. Two leaders for a moment share the queue: rows
that are in somebody's hand are left alone. Cancelled, the connection is cut, and the rows are due again soon.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import asyncpg

from afresh_cache.backoff import backoff
from afresh_notifier import database
from afresh_notifier.clock import loop_time, woken
from afresh_notifier.embeddings import PATIENCE, Batch, Source, Wanted, codec, embed_some, look_up
from afresh_notifier.errors import SourceUnusable
from afresh_notifier.lease import Lease
from afresh_notifier.models import Models
from afresh_notifier.observations import (
    CatalogueRead,
    ChangesHeard,
    Embedded,
    EmbeddingFailed,
    EmbeddingsWaiting,
    Observation,
    Observe,
    Warned,
)
from afresh_notifier.resources import query
from afresh_notifier.settings import DatabaseSettings
from afresh_notifier.settings_values import folded_name
from afresh_notifier.settings_work import EmbeddingModelSettings

#: How often the queue is looked at though nothing was heard, in seconds.
PACE = 1.0

#: How often it is counted, in seconds.
COUNT_PACE = 5.0

#: How long looking at the tables, or counting, may take, in seconds.
LOOK_PATIENCE = 30.0

#: So many are counted, and no more.
COUNTED = 10_000

#: First and longest wait after a model, or PostgreSQL, could not be asked, in seconds.
RETRY_FIRST, RETRY_MAX = 0.5, 30.0


class Embedder:
    """Works the queue off, while this instance leads."""

    def __init__(
        self,
        wanted: Sequence[Wanted],
        database_settings: DatabaseSettings,
        settings: EmbeddingModelSettings,
        models: Models,
        lease: Lease,
        observe: Observe,
    ) -> None:
        self._wanted = wanted
        self._database = database_settings
        self._settings = settings
        self._models = models
        self._lease = lease
        self._observe = observe
        self._connection: asyncpg.Connection | None = None
        self._sources: list[Source] = []
        #: What is wrong with each source that cannot be used, as it was said last.
        self._unusable: dict[str, str] = {}
        self._woken = asyncio.Event()
        #: The tables are to be looked at: they may be others by now.
        self._look = True
        self._count_at = -math.inf

    def notice(self, observation: Observation) -> None:
        """An observer: a change of a table of ours, or of the catalogue, is a reason to look at once."""
        match observation:
            case CatalogueRead():
                self._look = True
                self._woken.set()
            case ChangesHeard(table=table) if any(source.table == table for source in self._sources):
                self._woken.set()
            case _:
                pass

    async def run(self) -> None:
        """Work until cancelled."""
        if not self._wanted:
            return
        failures = 0
        try:
            while True:
                self._woken.clear()
                well = await self._work() if self._lease.term is not None else True
                failures = 0 if well else failures + 1
                if failures:  # whatever is heard meanwhile does not shorten it
                    await asyncio.sleep(backoff(failures, RETRY_FIRST, RETRY_MAX))
                else:
                    await woken(self._woken, loop_time() + PACE)
        finally:
            self._drop_connection()

    async def _work(self) -> bool:
        """Work off what is due; returns whether the model and PostgreSQL could be asked."""
        try:
            connection = await self._connected()
            busy = True
            while (
                busy and self._lease.term is not None
            ):  # in turn: one that has always something keeps no other one back
                if self._look:
                    self._look = False
                    with database.cut_after(connection, LOOK_PATIENCE):
                        await self._look_up(connection)
                busy = False
                for source in self._sources:
                    batch = await self._some(connection, source)
                    if batch.model_down:
                        return False
                    busy = busy or batch.taken > 0
                if loop_time() >= self._count_at:
                    with database.cut_after(connection, LOOK_PATIENCE):
                        await self._count(connection)
                    self._count_at = loop_time() + COUNT_PACE
        except database.TRANSIENT as error:
            self._drop_connection()
            self._look = True
            for wanted in self._wanted:
                self._failed(folded_name(wanted.table), 0, database.said(error)[0], "")
            return False
        return True

    async def _some(self, connection: asyncpg.Connection, source: Source) -> Batch:
        """One batch, for which a server that does not answer is waited for so long, and no longer."""
        with database.cut_after(connection, PATIENCE + self._settings.timeout):
            batch = await embed_some(connection, source, self._models, self._settings)
        if batch.stored or batch.skipped:
            self._observe(Embedded(table=source.table, rows=batch.stored, skipped=batch.skipped, seconds=batch.seconds))
        if batch.failed:
            self._failed(source.table, batch.failed, batch.problem, batch.hint)
        return batch

    async def _look_up(self, connection: asyncpg.Connection) -> None:
        """Find the tables; what is not as the settings say is reported, once, and looked for again with the catalogue."""
        self._sources = []
        unusable = {}
        for wanted in self._wanted:
            try:
                source = await look_up(connection, wanted, most=self._settings.dimensions)
            except SourceUnusable as error:
                unusable[wanted.name] = error.problem
                if self._unusable.get(wanted.name) != error.problem:
                    self._observe(Warned(about=wanted.name, what=error.problem, to_do=error.hint))
                continue
            await codec(connection, source)
            self._sources.append(source)
        self._unusable = unusable

    async def _count(self, connection: asyncpg.Connection) -> None:
        for source in self._sources:
            row = await connection.fetchrow(query("embedding_waiting"), source.members, source.wanted.text, COUNTED)
            assert row is not None  # noqa: S101 - an aggregate without GROUP BY has one row
            self._observe(EmbeddingsWaiting(table=source.table, rows=row["rows"]))

    def _failed(self, table: str, rows: int, problem: str, hint: str) -> None:
        self._observe(EmbeddingFailed(table=table, rows=rows, problem=problem, hint=hint))

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            # A table of texts that somebody has locked does not keep the others waiting.
            self._connection = await database.connect(self._database, name="afresh embedder", lock_timeout="200ms")
            self._look = True
        return self._connection

    def _drop_connection(self) -> None:
        if self._connection is not None:
            database.cut(self._connection)
            self._connection = None
