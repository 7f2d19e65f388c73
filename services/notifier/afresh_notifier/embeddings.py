"""Embeddings that follow their texts: what is done for one table and its column of texts.

In: `[[embeddings]]`, a connection, the models, and the queue of rows whose text has changed, into which triggers put them.
Out: the columns hold the embeddings of the texts that the rows have.

Promised: a row whose text has changed stays in the queue until the embedding of that text is stored; what is stored is
never that of another text, since the row is changed only where its text still is the one that was embedded. A crash between
two steps leaves the row in the queue, where it is due again when it has been in hand for long enough. What the model, or
PostgreSQL, refuses is tried by itself, so that one bad row keeps no other one back. Until then a row keeps the embedding
that it has.

A text without a word (NULL, or blanks) has no embedding: the columns are NULL.

Where several columns hold embeddings of one text, in different lengths, the model is asked once.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from random import choice

import asyncpg
from pgvector.asyncpg import register_vector

from afresh_cache.backoff import backoff
from afresh_notifier import database, watching
from afresh_notifier.database import Connection
from afresh_notifier.errors import ModelError, ModelRefused, SourceUnusable
from afresh_notifier.models import Models, Vector, shortened
from afresh_notifier.packs import InstalledPack
from afresh_notifier.resources import query
from afresh_notifier.settings import Settings
from afresh_notifier.settings_work import EmbeddingModelSettings, EmbeddingSettings

#: For how long rows that are in somebody's hand are left alone by others, and a batch may take, in seconds; beside what the
#: model may take for an answer.
PATIENCE = 120.0

#: First wait, in seconds, before a row that failed is tried again; the longest is `embedding.retry_max`.
RETRY_FIRST = 2.0

#: How long the storing of one row may take, and how much of that it may wait for a lock, in seconds: less than PostgreSQL's
#: `deadlock_timeout`, so that where a writer and we wait for each other it is we who give up.
STORE_LIMITS = 5.0, 0.2

#: After so many failures in a row a model that has answered before is held to be down.
SUSPICIONS = 8

#: What pgvector's types are called that can hold embeddings.
VECTORS = ("vector", "halfvec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A column of texts, and the columns with its embeddings, each with its dimensions, as the settings say."""

    table: str
    text: str
    columns: tuple[tuple[str, int], ...]

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.table}.{self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The same as the database has it, with the statements for it; ``members`` are the table and its partitions."""

    wanted: Wanted
    table: str
    members: list[int]
    vector_schema: str
    read: str
    store: str
    enqueue: str
    lacking: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What became of some rows: so many have embeddings; so many are gone, or have changed again and wait anew."""

    taken: int = 0
    stored: int = 0
    skipped: int = 0
    #: Rows of which there is none now, and why, in the words of the last one.
    failed: int = 0
    problem: str = ""
    hint: str = ""
    #: The model cannot be asked at all now.
    model_down: bool = False
    seconds: float = 0.0


def collect(settings: Settings, packs: Sequence[InstalledPack]) -> list[Wanted]:
    """What the packs and the settings ask for, by table and column of texts."""
    columns: dict[tuple[str, str], list[EmbeddingSettings]] = defaultdict(list)
    for section in [one for pack in packs for one in pack.settings.embeddings] + list(settings.embeddings):
        columns[section.source].append(section)
    return [
        Wanted(
            table=sections[0].table,
            text=sections[0].text,
            columns=tuple({section.column: section.dimensions for section in sections}.items()),
        )
        for sections in columns.values()
    ]


async def look_up(connection: Connection, wanted: Wanted, *, most: int) -> Source:
    """How ``wanted`` is found in the database; embeddings are made with ``most`` dimensions.

    Raises `SourceUnusable` where it is not as the settings say.
    """
    found = (await watching.look_up(connection, {wanted.table})).get(wanted.table)
    columns = [name for name, _ in wanted.columns]
    row = (
        None if found is None else await connection.fetchrow(query("embedding_source"), found.oid, wanted.text, columns)
    )
    if row is None:
        raise SourceUnusable(
            f"there is no table {wanted.table}", hint="correct [[embeddings]], or run `afresh migrate up`"
        )
    if not row["has_text"]:
        raise SourceUnusable(
            f"{row['name']} has no column {wanted.text} that holds texts", hint="correct [[embeddings]]"
        )
    if not row["has_key"]:
        raise SourceUnusable(f"{row['name']} has no primary key", hint="give it one: ALTER TABLE … ADD PRIMARY KEY")
    present = dict(zip(row["columns"], zip(row["types"], row["sizes"], strict=True), strict=True))
    for name, dimensions in wanted.columns:
        kind, size = present.get(name, ("", -1))
        if kind not in VECTORS:
            what = "there is no such column" if not kind else f"it is of type {kind}"
            raise SourceUnusable(
                f"{row['name']}.{name} cannot hold embeddings: {what}", hint="pgvector's type is vector"
            )
        if size not in (-1, dimensions):
            raise SourceUnusable(
                f"{row['name']}.{name} has {size} dimensions, and [[embeddings]] says {dimensions}",
                hint=f"set dimensions = {size}",
            )
        if dimensions > most:
            raise SourceUnusable(
                f"{row['name']}.{name} has {dimensions} dimensions, and embeddings are made with {most}",
                hint=f"set embedding.dimensions = {dimensions} or more",
            )
    if not row["watched"]:
        raise SourceUnusable(
            f"{row['name']}.{wanted.text} is not watched: nobody hears that a text has changed",
            hint=f"run SELECT afresh.watch_embedding('{wanted.table}', '{wanted.text}'); and then `afresh embed`",
        )
    return Source(
        wanted=wanted,
        table=row["name"],
        members=row["members"],
        vector_schema=row["vector_schema"],
        read=row["read"],
        store=row["store"],
        enqueue=row["enqueue"],
        lacking=row["lacking"],
    )


async def codec(connection: asyncpg.Connection, source: Source) -> None:
    """Let ``connection`` take vectors as what they are, in their binary form."""
    await register_vector(connection, schema=source.vector_schema)


async def embed_some(connection: Connection, source: Source, models: Models, settings: EmbeddingModelSettings) -> Batch:
    """Take a batch of rows out of the queue, and give them their embeddings.

    ``connection`` has the `codec`. Raises what asyncpg raises where it is the connection, or the server, that fails; the
    rows are due again later. Cancelled, the same.
    """
    began, in_hand = time.perf_counter(), PATIENCE + settings.timeout
    rows = await connection.fetch(query("embedding_claim"), source.members, source.wanted.text, settings.batch, in_hand)
    if not rows:
        return Batch()
    ids: dict[str, list[int]] = defaultdict(list)
    failures: dict[str, int] = {}
    for row in rows:
        ids[row["key"]].append(row["id"])
        failures[row["key"]] = max(row["failures"], failures.get(row["key"], 0))
    work = _Work(connection, source, models, ids, failures, settings.retry_max)
    await work.embed(list(ids))
    return Batch(
        taken=len(rows),
        stored=work.stored,
        skipped=len(ids) - work.stored - work.failed,
        failed=work.failed,
        problem=work.problem,
        hint=work.hint,
        model_down=work.down is not None,
        seconds=time.perf_counter() - began,
    )


class _Work:
    """One batch: the rows in hand, by their keys, and what became of them."""

    def __init__(
        self,
        connection: Connection,
        source: Source,
        models: Models,
        ids: dict[str, list[int]],
        failures: dict[str, int],
        retry_max: float,
    ) -> None:
        self._connection = connection
        self._source = source
        self._models = models
        self._ids = ids
        self._failures = failures
        self._retry_max = retry_max
        self.stored = self.failed = 0
        self.problem = self.hint = ""
        #: Why the model cannot be asked at all.
        self.down: ModelError | None = None
        #: Whether it has answered by now, and how often it has not since.
        self._answered = False
        self._errors = 0

    async def embed(self, keys: list[str]) -> None:
        """Embed these rows; where one of them cannot be, the others."""
        if self.down is not None:
            await self._fail(keys, self.down, 0.0)  # whoever asks waits until the model can be asked again
            return
        try:
            try:
                texts = await self._texts(keys)
            except asyncpg.LockNotAvailableError as error:  # of the table as a whole: a row needs none to be read
                failures = min(self._failures[key] for key in keys)
                await self._fail(keys, error, backoff(1 + failures, RETRY_FIRST, self._retry_max))
                return
            vectors = await self._vectors({key: text for key, text in texts.items() if text and text.strip()})
            await self._store(keys, texts, vectors)
        except (ModelRefused, asyncpg.PostgresError) as error:
            if isinstance(error, asyncpg.PostgresError) and _is_about_server(error):
                raise
            if isinstance(error, ModelRefused):
                self._answered, self._errors = True, 0
            await self._part(keys, error)
        except ModelError as error:
            await self._suspect(keys, error)

    async def _suspect(self, keys: list[str], error: ModelError) -> None:
        """The model has not answered: it is down, or one of these texts is too much for it, and it says so by failing."""
        self._errors += 1
        if not self._answered and len(keys) > 1:  # one of them tells
            probe = choice(keys)  # noqa: S311
            keys = [key for key in keys if key != probe]
            await self.embed([probe])
            if self.down is None:
                await self._part(keys, error)
                return
        if not self._answered or self._errors > SUSPICIONS:
            self.down = self.down or error
            await self._fail(keys, self.down, 0.0)
        else:
            await self._part(keys, error)

    async def _part(self, keys: list[str], error: Exception) -> None:
        """Embed these rows in two halves, since one of them cannot be; a single one is it."""
        if len(keys) > 1:
            await self.embed(keys[: len(keys) // 2])
            await self.embed(keys[len(keys) // 2 :])
        else:
            for key in keys:
                await self._fail([key], error, backoff(1 + self._failures[key], RETRY_FIRST, self._retry_max))

    async def _texts(self, keys: list[str]) -> dict[str, str | None]:
        """The texts of the rows that are there."""
        rows = await self._connection.fetch(self._source.read, f"[{','.join(keys)}]")
        return {row["key"]: row["text"] for row in rows}

    async def _vectors(self, texts: dict[str, str]) -> dict[str, list[Vector]]:
        """The embeddings of these texts, one for each column."""
        whole = await self._models.embed(list(texts.values()))
        if texts:
            self._answered, self._errors = True, 0
        columns = self._source.wanted.columns
        return {
            key: [shortened(vector, dimensions) for _, dimensions in columns]
            for key, vector in zip(texts, whole, strict=True)
        }

    async def _store(self, keys: list[str], texts: dict[str, str | None], vectors: dict[str, list[Vector]]) -> None:
        """Between the reading of a text and this the row may have changed, or gone: then it waits anew, or for nothing."""
        stored, nothing = 0, [None] * len(self._source.wanted.columns)
        async with database.transaction(self._connection):
            # The table's own triggers are a user's, and know no names but those; and a writer of one of the rows who takes
            # long, or who waits for another one of them, is not waited for by all.
            await self._connection.execute(query("set_search_path"), "public")
            await self._connection.execute(query("embedding_limits"), *map(database.milliseconds, STORE_LIMITS))
            statement = await self._connection.prepare(self._source.store)
            for key in sorted(texts):  # in one order, so that two who store the same rows wait, and do not deadlock
                stored += await statement.fetchval(key, texts[key], *vectors.get(key, nothing)) is not None
            await self._connection.execute(query("embedding_done"), [id_ for key in keys for id_ in self._ids[key]])
        self.stored += stored

    async def _fail(self, keys: list[str], error: Exception, wait: float) -> None:
        """These rows wait on; a failure of theirs, and not of the model, is counted."""
        self.failed += len(keys)
        self.problem, self.hint = database.said(error)
        ids = [id_ for key in keys for id_ in self._ids[key]]
        await self._connection.execute(query("embedding_failed"), ids, wait, self.problem, int(self.down is None))


def _is_about_server(error: asyncpg.PostgresError) -> bool:
    """Whether no row could be stored now: the connection has ended, or the server has no room.

    Whatever else the server says is of one row: a user's trigger may raise any error, and somebody may have it locked.
    """
    return getattr(error, "severity_en", None) != "ERROR" or (error.sqlstate or "").startswith("53")
