"""The library: all named queries, and their answers, of which one is kept for each set of values until it is stale.

In: a query and values; invalidations, from the hub; whether the log is being followed, from the tail. Out: an `Answer`,
encoded once for all who ask for the same; or a `QueryError`.

Promised. *Fresh before told*: the hub calls `invalidate` before any client can hear of the offset, so who asks
because he was told is never given what was kept before. *No stale write-back*: a query that was sent before an
invalidation was read from the log may have seen the old data; `delete_prefix` detaches its load, whose result goes to
those who had asked by then, and is not kept. One that is sent afterwards takes its snapshot afterwards, and the log
is appended to after the data has committed: it sees the new. There is no third case, since `invalidate` and the
beginning of a load are both synchronous. An `Answer` says up to which offset it covers everything: the newest that
was published when it was asked for, before the cache was looked at. What was kept then had survived all that was
published by then; a load that was joined would else have been detached; and a query that is sent later sees more.

*While the log cannot be followed* nothing that is kept is given out: each question is a query (`distrust`), one for all who
ask the same at the same time. It cannot always be known at once that it cannot be followed: what is given is at most
`tail.CURRENT_FOR` seconds older than what has been appended to the log, and commonly milliseconds.

What a change makes stale in the middle of a query's run, where several tables are read: a query is one statement and has
one snapshot, so it never shows half of a transaction.

A query that may write is run for each one who asks, and is not kept; what it changes is told as every change is. An
embedding that a query needs is made when it is run: it depends on nothing but what the client sent.

A query that cannot be prepared is *unusable* until it can be: it is looked at again every `BROKEN_PACE` seconds, when
somebody asks for it, and when the catalogue has changed.

Concurrency: one task, `run`, looks at the queries; answers are given in the tasks of those who ask. Cancelled, whoever
loads hands that over to one of those who wait for the same. Looks at one query are one at a time, and who waits for one
takes its result.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

import asyncpg
import orjson

from afresh_cache.messages import Position
from afresh_cache.store import PatternCache
from afresh_notifier.clock import loop_time, woken
from afresh_notifier.errors import (
    BadParameter,
    ModelError,
    NothingFound,
    QueryError,
    QueryFailed,
    QueryRefused,
    QueryUnusable,
    UnknownQuery,
)
from afresh_notifier.hub import Hub
from afresh_notifier.invalidation import Invalidation
from afresh_notifier.models import Models, shortened
from afresh_notifier.named_queries.execution import Execution, NamesChanged, Rows, refused
from afresh_notifier.named_queries.named_query import NamedQuery
from afresh_notifier.named_queries.parameters import BODY, Values
from afresh_notifier.named_queries.preparation import Prepared
from afresh_notifier.observations import (
    CatalogueRead,
    Observation,
    Observe,
    QueryAnswered,
    QueryBroken,
    QueryNotAnswered,
    QueryReady,
)

#: How often a query that cannot be prepared is tried again, in seconds.
BROKEN_PACE = 5.0

#: For how long nobody's question has a query tried again that could not be prepared, in seconds.
BROKEN_REST = 0.5

#: What an entry of the cache takes beside its body and its key, about, in bytes.
OVERHEAD = 600

#: How an answer came about: it was kept, or another's query brought it; it is this one's query; or it was kept, has
#: expired, and is being asked for anew by somebody else.
How = Literal["hit", "miss", "stale"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is kept of an answer; ``etag`` is of its content, ``size`` what it takes in all."""

    body: bytes
    etag: str
    count: int
    truncated: bool
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to one question: ``body`` is a JSON array of ``count`` objects, ``truncated`` whether there were more.

    Everything that was logged up to ``position`` is in it.
    """

    body: bytes
    etag: str
    count: int
    truncated: bool
    position: Position
    how: How


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """What somebody asks: a query and values, and the key that tells it from all others, which is its answer's in the
    cache: an invalidation means it by a pattern that it begins with."""

    query: NamedQuery
    values: Values
    key: str


@dataclass(slots=True)
class _State:
    """What is known of one query: how it is run, or why it cannot be; neither before the first look."""

    cache: PatternCache[Kept]
    prepared: Prepared | None = None
    problem: QueryUnusable | None = None
    #: `Prepared.form`, when it could last be run.
    form: object = None
    looked_at: float = float("-inf")
    #: The last look has found how it is run; else it is looked at again, and may be another query by now.
    sure: bool = False
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Library:
    """The queries, by name, and what is kept of their answers: at most ``cache_bytes``."""

    def __init__(
        self,
        queries: Iterable[NamedQuery],
        execution: Execution,
        models: Models,
        hub: Hub,
        observe: Observe,
        *,
        cache_bytes: int,
    ) -> None:
        self.queries = {query.name: query for query in queries}
        self._execution = execution
        self._models = models
        self._hub = hub
        self._observe = observe
        # A cache has one time for which what has expired is still given out, so that there is one cache for each such time.
        grace = {query.stale_ttl for query in self.queries.values()}
        self._caches = {
            seconds: PatternCache[Kept](
                max(1024, cache_bytes // len(grace)), stale_ttl=seconds, getsizeof=lambda kept: kept.size
            )
            for seconds in grace
        }
        self._states = {name: _State(self._caches[query.stale_ttl]) for name, query in self.queries.items()}
        self._poked = asyncio.Event()

    # What makes it stale

    def invalidate(self, invalidation: Invalidation | None) -> None:
        """For `Hub.watch`: drop what is stale; everything, where that cannot be told."""
        for cache in self._caches.values():
            if invalidation is None or invalidation.reason is not None:
                cache.clear()
            else:
                for pattern in invalidation.patterns:
                    cache.delete_prefix(pattern)

    def follow(self, following: bool) -> None:
        """For `Tail.watch`: whether what is kept may be given out.

        What was kept goes. It would be true again once the log has been read; but by then somebody may have seen newer
        rows, of a change that is told only later, and nobody shall see older ones after that.
        """
        for cache in self._caches.values():
            if following:
                cache.trust()
            else:
                cache.clear()
                cache.distrust()

    # What is known of the queries

    async def run(self) -> None:
        """Look at the queries, until cancelled: at all of them at first and when the catalogue was read anew, at broken
        ones, and those of which PostgreSQL did not answer, from time to time."""
        self._poked.set()
        while True:
            everything = self._poked.is_set()
            self._poked.clear()  # before they are looked at: what changes meanwhile causes another look
            for name, query in self.queries.items():
                if everything or not self._states[name].sure:
                    with contextlib.suppress(QueryError):
                        await self._look(query)
            await woken(self._poked, loop_time() + BROKEN_PACE)

    def notice(self, observation: Observation) -> None:
        """An observer: where the catalogue was read anew, it is otherwise than before, or may be."""
        if isinstance(observation, CatalogueRead):
            self._poked.set()

    def prepared(self, name: str) -> Prepared | None:
        """How a query is run, as far as is known."""
        return self._states[name].prepared

    def problem(self, name: str) -> QueryUnusable | None:
        """Why a query cannot be run, as far as is known."""
        return self._states[name].problem

    async def prepare(self, query: NamedQuery) -> Prepared:
        """How ``query`` is run. Raises `QueryError`."""
        state = self._states[query.name]
        if state.prepared is not None:
            return state.prepared
        if state.problem is not None and loop_time() - state.looked_at < BROKEN_REST:
            raise self._not_answered(query, state.problem)
        try:
            return await self._look(query)
        except QueryError as error:
            raise self._not_answered(query, error) from error

    # Answers

    async def question(self, name: str, params: Mapping[str, Any]) -> Question:
        """What somebody asks who wants the query ``name`` with ``params``, as JSON has them. Raises `QueryError`."""
        query = self.queries.get(name)
        if query is None:
            known = ", ".join(self.queries) or "none"
            raise UnknownQuery(name, f"there is no named query {name!r}; known here: {known}")
        if query.writes:
            raise QueryRefused(name, f"{name} writes, and is no live query: POST it to {query.path}")
        prepared = await self.prepare(query)
        try:
            body = orjson.dumps(params)
        except orjson.JSONEncodeError as error:
            raise BadParameter(name, BODY, f"expected parameters that can be written as JSON: {error}") from error
        values = prepared.parameters.from_json(body, {})
        return Question(query=query, values=values, key=prepared.parameters.key(values))

    async def ask(self, question: Question) -> Answer:
        """The answer to ``question``. Raises `QueryError`."""
        return await self.answer(question.query, question.values)

    async def answer(self, query: NamedQuery, values: Values, *, trusting: bool = True) -> Answer:
        """The rows for ``values``, which `Prepared.parameters` has made. Raises `QueryError`.

        Not ``trusting``, what is kept is not given out: for who may have heard, elsewhere, of what is not known here yet.
        """
        began, position = time.perf_counter(), self._hub.published
        prepared = await self.prepare(query)
        state, key = self._states[query.name], prepared.parameters.key(values)
        how: How = "miss"
        try:
            if not trusting:
                kept = await self._run(query, prepared, values, key)
            else:
                async with state.cache.load(key, ttl=query.ttl) as load:
                    if load.missed:
                        load.value = await self._run(query, prepared, values, key)
                    else:
                        how = "stale" if load.stale else "hit"
                kept = load.value
        except QueryError as error:
            raise self._not_answered(query, error) from error
        self._observe(QueryAnswered(query=query.name, how=how, seconds=time.perf_counter() - began, rows=kept.count))
        return Answer(
            body=kept.body, etag=kept.etag, count=kept.count, truncated=kept.truncated, position=position, how=how
        )

    async def write(self, query: NamedQuery, values: Values) -> tuple[Rows, bool]:
        """Run ``query``, which may write, and take its turn in a chat, if it has one. Raises `QueryError`.

        Returns its rows, and whether a chat model gave the answer. Cancelled, it was written, or it was not.
        """
        began, modelled = time.perf_counter(), False
        prepared = await self.prepare(query)
        try:
            rows = await self._rows(query, prepared, values)
            if query.chat is not None and rows.count == 1:
                text = rows.body.decode()[1:-1]
                row = orjson.loads(text)
                reply = await self._models.chat(query.name, row[query.chat.messages])
                modelled = reply is not None
                answer = row[query.chat.answer] if reply is None else reply
                session = prepared.parameters.session(values)
                text = await self._execution.conclude(query, session, text, answer or "")
                rows = Rows(body=f"[{text}]".encode(), count=1, truncated=False)
        except QueryError as error:
            raise self._not_answered(query, error) from error
        self._observe(
            QueryAnswered(query=query.name, how="write", seconds=time.perf_counter() - began, rows=rows.count)
        )
        return rows, modelled

    def found_nothing(self, query: NamedQuery) -> QueryError:
        """What is said where a query that answers with one row has none."""
        return self._not_answered(query, NothingFound(query.name, f"{query.name} has nothing for these parameters"))

    async def batches(self, query: NamedQuery, values: Values) -> AsyncGenerator[list[asyncpg.Record], None]:
        """The rows for CSV, in batches, at most `max_rows` in all; they are not kept. Raises `QueryError`.

        Close it to give the connection back.
        """
        began, count = time.perf_counter(), 0
        prepared = await self.prepare(query)
        try:
            source = self._batches(query, prepared, values)
            async with contextlib.aclosing(source):
                async for rows in source:
                    rows = rows[: query.max_rows - count]
                    count += len(rows)
                    if rows:
                        yield rows
        except QueryError as error:
            raise self._not_answered(query, error) from error
        self._observe(QueryAnswered(query=query.name, how="csv", seconds=time.perf_counter() - began, rows=count))

    def _not_answered(self, query: NamedQuery, error: QueryError) -> QueryError:
        self._observe(QueryNotAnswered(query=query.name, code=error.code, problem=error.problem))
        return error

    async def _run(self, query: NamedQuery, prepared: Prepared, values: Values, key: str) -> Kept:
        rows = await self._rows(query, prepared, values)
        return Kept(
            body=rows.body,
            etag=blake2b(rows.body, digest_size=16, salt=b"cut" if rows.truncated else b"").hexdigest(),
            count=rows.count,
            truncated=rows.truncated,
            size=len(rows.body) + 2 * len(key) + OVERHEAD,
        )

    async def _rows(self, query: NamedQuery, prepared: Prepared, values: Values) -> Rows:
        values = await self._made(query, prepared, values)
        try:
            # As it is run now: who has waited for another's load may have been given another one before.
            return await self._execution.rows(query, self._states[query.name].prepared or prepared, values)
        except NamesChanged as error:
            anew = await self._look_anew(query, prepared, error)
        try:
            return await self._execution.rows(query, anew, values)
        except NamesChanged as error:
            raise refused(error) from error

    async def _batches(
        self, query: NamedQuery, prepared: Prepared, values: Values
    ) -> AsyncGenerator[list[asyncpg.Record], None]:
        begun = False
        values = await self._made(query, prepared, values)
        try:
            async with contextlib.aclosing(self._execution.batches(query, prepared, values)) as source:
                async for rows in source:
                    begun = True
                    yield rows
            return
        except NamesChanged as error:
            anew = await self._look_anew(query, prepared, error)
            if begun or anew.columns != prepared.columns:  # the columns' names may have been told
                raise _other(query) from error
        try:
            async with contextlib.aclosing(self._execution.batches(query, anew, values)) as source:
                async for rows in source:
                    yield rows
        except NamesChanged as error:
            raise refused(error) from error

    async def _made(self, query: NamedQuery, prepared: Prepared, values: Values) -> Values:
        """The values with those that are made. Raises `QueryFailed` where the model gives none."""
        complete = list(values)
        for made in prepared.parameters.made:
            text = values[made.source]
            try:
                vectors = await self._models.embed(["" if text is None else str(text)])
            except ModelError as error:
                raise QueryFailed(
                    query.name, f"no embedding can be made now: {error.problem}", hint=error.hint
                ) from error
            complete[made.place] = "[" + ",".join(map(repr, shortened(vectors[0], made.dimensions))) + "]"
        return tuple(complete)

    async def _look_anew(self, query: NamedQuery, prepared: Prepared, error: NamesChanged) -> Prepared:
        """Look at a query of which something is not as it was. Raises `QueryError` where that cannot be run any more, or
        takes other values."""
        anew = await self._look(query)
        if anew.types != prepared.types:
            raise _other(query) from error
        return anew

    async def _look(self, query: NamedQuery) -> Prepared:
        """Ask PostgreSQL about ``query``. Raises `QueryError`."""
        state, asked_at = self._states[query.name], loop_time()
        async with state.looking:
            if state.looked_at > asked_at:  # by one who began later than we asked
                if state.prepared is not None:
                    return state.prepared
                if state.problem is not None:
                    raise state.problem
            began, state.sure = loop_time(), False
            try:
                prepared = await self._prepare_anew(query)
            except QueryUnusable as error:
                if state.problem is None or state.problem.problem != error.problem:
                    self._observe(QueryBroken(query=query.name, problem=error.problem, hint=error.hint))
                state.prepared, state.problem, state.looked_at = None, error, began
                raise
            if state.prepared is None:
                self._observe(QueryReady(query=query.name, after_failure=state.problem is not None))
            old, state.form = state.form, prepared.form
            state.prepared, state.problem, state.looked_at, state.sure = prepared, None, began, True
            if old not in (None, state.form):
                # From here on nobody runs it as it was; what was brought so, or is being brought, is not kept.
                state.cache.delete_prefix(query.cache_key.literal)
                await self._execution.forget()
            return prepared

    async def _prepare_anew(self, query: NamedQuery) -> Prepared:
        try:
            return await self._execution.prepare(query)
        except QueryUnusable:  # it is looked at in steps, between which its tables may have changed
            return await self._execution.prepare(query)


def _other(query: NamedQuery) -> QueryFailed:
    return QueryFailed(
        query.name, f"{query.name} is another query since now: its tables have changed", hint="ask again"
    )
