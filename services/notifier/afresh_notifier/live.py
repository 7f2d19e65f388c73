"""Live queries: the answer at once, and again whenever it has become another one.

In: who wants to know the answer to which question (`open`); invalidations, from the hub. Out: encoded results, on the
transports of those who asked.

Promises. All who ask the same question share one execution and, where they call it by the same id, one encoded frame. After
an invalidation that concerns a question it is asked once more, however many there were meanwhile; whoever wants to know is
told if the answer differs from what he was told last, and only then. What could not be answered is asked again, with
growing pauses, for as long as anybody wants to know; what the query itself refuses, after the next invalidation. Who does
not read harms nobody: nothing waits for him but the knowledge that he has not been told, and when he reads he gets the
newest answer, and none of those between.

Concurrency. `open`, `close`, `leave` and `invalidate` are synchronous. `run` is one task, with one more for each question
that is being asked, never two for one. While such a task waits for the answer, invalidations may come (the question is
asked once more), others may open (they are told with the rest) or leave (when nobody is left the answer is thrown away);
the same while it yields between writes, so that each is looked up again before he is written to. Cancelling `run` ends all
of them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import orjson

from afresh_cache.backoff import backoff
from afresh_cache.key_index import KeyIndex
from afresh_cache.messages import Error, Position, Result, ServerMessage
from afresh_notifier.clock import loop_time, woken
from afresh_notifier.errors import BadParameter, NothingFound, QueryError, QueryRefused
from afresh_notifier.hub import BURST, LAG_PACE
from afresh_notifier.invalidation import Invalidation
from afresh_notifier.subscriber import Subscriber

#: First and longest wait before a question that could not be answered is asked again, in seconds.
RETRY_FIRST, RETRY_MAX = 0.1, 5.0

#: A result carries no position to resume from: who comes back asks again.
_NOWHERE = Position(epoch="-", offset=0)


class Question(Protocol):
    """What is asked. ``key`` is its own, and its answer's in the cache, by which invalidations name it."""

    @property
    def key(self) -> str: ...


class Answer(Protocol):
    """The rows, as a JSON array; what tells them from others; and up to where in the log everything is in them."""

    @property
    def body(self) -> bytes: ...
    @property
    def etag(self) -> str: ...
    @property
    def position(self) -> Position: ...
    @property
    def truncated(self) -> bool: ...


#: One who wants to know, and what he calls it.
Asker = tuple[Subscriber, str]


@dataclass(slots=True, eq=False)
class _Watched:
    """One question, and who wants to know: each with the etag of what he was told last, None for nothing, or an error."""

    question: Question
    askers: dict[Asker, str | None] = field(default_factory=dict)
    #: The answer, or why there is none; None while neither is known.
    known: Answer | QueryError | None = None
    #: It is to be asked: for the first time, or since the answer may be another one by now.
    stale: bool = True
    #: There is a task that asks it; and whether that waits for the answer just now.
    asking: bool = False
    waiting: bool = False
    #: Who has been told why there is no answer now.
    warned: set[Asker] = field(default_factory=set)


class Source(Protocol):
    """Where answers come from. Both raise `QueryError`."""

    async def question(self, name: str, params: Mapping[str, Any]) -> Question:
        """What somebody asks who wants the named query ``name`` with these parameters, as JSON has them."""

    async def ask(self, question: Any) -> Answer:
        """The answer, as it is now."""


class Live:
    """The live queries of all connections; ``buffer`` bounds, in bytes, what may wait in a client's socket."""

    def __init__(self, source: Source, *, buffer: int) -> None:
        self.source = source
        self._buffer = buffer
        self._watched: dict[str, _Watched] = {}
        self._keys = KeyIndex()
        self._opened: dict[Subscriber, dict[str, _Watched]] = {}
        #: What is to be asked, and who has not been told, since he did not read.
        self._due: set[str] = set()
        self._owed: set[Asker] = set()
        self._woken = asyncio.Event()
        self._following = True

    @property
    def questions(self) -> int:
        """How many different ones somebody wants to know the answer to."""
        return len(self._watched)

    def open(self, subscriber: Subscriber, id: str, question: Question) -> None:  # noqa: A002 - the protocol's word
        """From now on ``subscriber`` is told the answer to ``question`` as ``id``, in place of what he called so before."""
        self.close(subscriber, id)
        watched = self._watched.get(question.key)
        if watched is None:
            watched = self._watched[question.key] = _Watched(question)
            self._keys.add(question.key)
        watched.askers[subscriber, id] = None
        subscriber.queries += 1
        self._opened.setdefault(subscriber, {})[id] = watched
        if watched.waiting and not watched.stale:
            return  # he is told with the rest
        if watched.stale or not self._following or watched.known is None or isinstance(watched.known, QueryError):
            self._doubt(watched)
        else:
            self._bring(watched, (subscriber, id), {})
            self._try_again()

    def close(self, subscriber: Subscriber, id: str) -> bool:  # noqa: A002
        """He does not want to know ``id`` any more; returns whether he did."""
        watched = self._opened.get(subscriber, {}).pop(id, None)
        if watched is None:
            return False
        if not self._opened[subscriber]:
            del self._opened[subscriber]
        del watched.askers[subscriber, id]
        subscriber.queries -= 1
        watched.warned.discard((subscriber, id))
        self._owed.discard((subscriber, id))
        self._forget(watched)
        return True

    def ids(self, subscriber: Subscriber) -> Collection[str]:
        """What he calls those that he wants to know."""
        return self._opened.get(subscriber, {}).keys()

    def leave(self, subscriber: Subscriber) -> None:
        """He is gone."""
        for id in list(self.ids(subscriber)):  # noqa: A001
            self.close(subscriber, id)

    def invalidate(self, invalidation: Invalidation | None) -> None:
        """For `Hub.watch`, after the source: what is stale is asked again; everything, where that cannot be told."""
        if invalidation is None or invalidation.reason is not None:
            for watched in self._watched.values():
                self._doubt(watched)
        else:
            for pattern in invalidation.patterns:
                for key in self._keys.beginning_with(pattern):
                    self._doubt(self._watched[key])

    def follow(self, following: bool) -> None:
        """For `Tail.watch`: while the log cannot be followed, an answer is asked for anew for each who opens."""
        self._following = following

    async def run(self) -> None:
        """Ask what is to be asked, and tell who has not been told, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await woken(self._woken, loop_time() + LAG_PACE if self._owed else math.inf)
                self._woken.clear()
                due, self._due = self._due, set()
                for key in due:
                    watched = self._watched.get(key)
                    if watched is not None and not watched.asking:
                        watched.asking = True
                        group.create_task(self._answer(watched), name=f"live query {key}")
                for subscriber, id in list(self._owed):  # noqa: A001
                    self._bring(self._opened[subscriber][id], (subscriber, id), {})

    def _doubt(self, watched: _Watched) -> None:
        watched.stale = True
        self._due.add(watched.question.key)
        self._woken.set()

    def _try_again(self) -> None:
        """Who does not read is told later: `run` may be waiting as if there were nobody of the kind."""
        if self._owed:
            self._woken.set()

    def _forget(self, watched: _Watched) -> None:
        """Nobody wants to know, and nobody is asking."""
        if not watched.askers and not watched.asking:
            self._watched.pop(watched.question.key, None)
            self._keys.discard((watched.question.key,))

    async def _answer(self, watched: _Watched) -> None:
        """Ask until the answer is known and nothing has made it stale meanwhile, or nobody wants to know any more."""
        failures = 0
        try:
            while watched.askers and watched.stale:
                watched.stale, watched.waiting = False, True
                try:
                    watched.known = await self.source.ask(watched.question)
                except QueryError as error:
                    watched.known, watched.waiting = error, False
                    await self._spread(watched)
                    if isinstance(error, QueryRefused | NothingFound | BadParameter):
                        continue
                    watched.stale = True
                    failures += 1
                    await asyncio.sleep(backoff(failures, RETRY_FIRST, RETRY_MAX))
                else:
                    failures, watched.waiting = 0, False
                    watched.warned.clear()
                    await self._spread(watched)
        finally:
            watched.asking = False
            self._forget(watched)

    async def _spread(self, watched: _Watched) -> None:
        frames: dict[str, bytes] = {}
        for number, asker in enumerate(list(watched.askers), 1):
            if asker in watched.askers:
                self._bring(watched, asker, frames)
            self._try_again()
            if number % BURST == 0:
                await asyncio.sleep(0)

    def _bring(self, watched: _Watched, asker: Asker, frames: dict[str, bytes]) -> None:
        """Tell ``asker`` the answer if he has not been told it; ``frames`` are what was encoded of it already, by id.

        Why there is none he is told once; the next answer then whatever it is.
        """
        known, (subscriber, id) = watched.known, asker  # noqa: A001
        self._owed.discard(asker)
        if known is None or subscriber.transport.is_closing():
            return
        if asker in watched.warned if isinstance(known, QueryError) else watched.askers[asker] == known.etag:
            return  # he has been told
        if not subscriber.reads(self._buffer):
            self._owed.add(asker)
            return
        if id not in frames:
            frames[id] = subscriber.frame(_message(id, known), _NOWHERE)
        subscriber.transport.write(frames[id])
        if isinstance(known, QueryError):
            watched.warned.add(asker)
            watched.askers[asker] = None
        else:
            watched.askers[asker] = known.etag


def _message(id: str, known: Answer | QueryError) -> ServerMessage:  # noqa: A002
    if isinstance(known, QueryError):
        return Error(id=id, code=known.code, message=known.problem)
    rows = cast("list[Any]", orjson.Fragment(known.body))
    return Result(id=id, offset=known.position.offset, rows=rows, truncated=known.truncated)
