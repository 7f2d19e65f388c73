"""One load of one key that is under way: who waits for it, and whether its result may still be stored.

In: what became of the load, as its leader says: `land`, `fail` or `give_up`; and `detach`, when the key was invalidated
meanwhile. Out: the same for each of those who wait.

Promised: whoever waits is woken exactly once, whatever becomes of the leader. A failure reaches them all. A leader that
leaves without a result, for example because it was cancelled, hands the lead to the one who has waited the longest, so that
a thousand such leaders cost a thousand steps. Nobody's cancellation reaches another. There is no task here, and no
future that holds an exception.

A flight is *detached* when what it reads may be older than what is known by now: it is no longer in the table of flights,
so that nobody finds it who comes later, and what it brings is not stored. Those who waited before still get it: they
asked before the invalidation. Where the leader of a detached flight gives up, they come as if anew.
"""

from __future__ import annotations

import asyncio
import weakref
from enum import Enum, auto
from typing import Any, Generic, TypeVar

V = TypeVar("V")


class Turn(Enum):
    """What a waiter is to do that gets no result."""

    LEAD = auto()  #: load it yourself: the flight is yours
    RETRY = auto()  #: look again as if you came now


class Landed(Generic[V]):
    """The result."""

    __slots__ = ("value",)

    def __init__(self, value: V) -> None:
        self.value = value


class _Failed:
    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


#: The flight that each task waits for, in whatever cache.
_awaited: weakref.WeakKeyDictionary[asyncio.Task[Any], weakref.ref[Flight[Any]]] = weakref.WeakKeyDictionary()


class Flight(Generic[V]):
    """A load of ``key``, entered in ``table`` until it ends or is detached.

    It begins without a leader. ``storable`` is False where the result must not be stored although nothing is known to
    have changed.
    """

    __slots__ = ("__weakref__", "_key", "_leader", "_loop", "_table", "_waiters", "detached", "storable")

    def __init__(self, key: str, table: dict[str, Flight[V]], *, storable: bool) -> None:
        self._loop = asyncio.get_running_loop()  # raises, before anything is done, where there is none
        self._key = key
        self._table = table
        # In the order in which they came. A future here is pending, or its waiter was cancelled and has yet to take it out.
        self._waiters: dict[asyncio.Future[Landed[V] | _Failed | Turn], None] = {}
        self.detached = False
        self._leader: asyncio.Task[Any] | None = None
        self.storable = storable
        table[key] = self

    def take_lead(self) -> None:
        """This task loads it."""
        self._leader = asyncio.current_task()

    def is_left_behind(self) -> bool:
        """Whether it belongs to another loop than this one, and may never end."""
        return self._loop is not asyncio.get_running_loop()

    def waits_for_us(self) -> bool:
        """Whether this task must not wait for it: it loads it itself, or something that the leader waits for, be it by way
        of others. Whoever waits looks before, and waits at once, so that no ring ever closes."""
        here = asyncio.current_task()
        flight: Flight[Any] | None = self
        while flight is not None and flight._leader is not None:
            if flight._leader is here:
                return True
            awaited = _awaited.get(flight._leader)
            flight = None if awaited is None else awaited()
        return False

    async def wait(self) -> Landed[V] | Turn:
        """What becomes of it: the result, or one's turn. Raises what the leader's load raised.

        Cancelling it leaves the flight as it is; where the lead had just been handed over, it goes to the next.

        While this waits anything may happen: the flight may be detached, end, and change its leader several times; the
        entry may be set, dropped or evicted. Only what is returned counts, and whoever gets `Turn.LEAD` must look at
        ``detached``, since an invalidation may have come between the handing over and the waking.
        """
        future: asyncio.Future[Landed[V] | _Failed | Turn] = asyncio.get_running_loop().create_future()
        self._waiters[future] = None
        task = asyncio.current_task()
        if task is not None:
            _awaited[task] = weakref.ref(self)
        try:
            outcome = await future
        except BaseException:  # cancelled, or closed by a loop that ends
            self._waiters.pop(future, None)
            # A task that is cancelled after its future was answered, and before it ran, never sees the answer.
            if future.done() and not future.cancelled() and future.result() is Turn.LEAD:
                self.give_up()
            raise
        finally:
            if task is not None:
                _awaited.pop(task, None)
        if isinstance(outcome, _Failed):
            try:
                raise outcome.error
            finally:
                del outcome, future  # or the exception would hold this frame, and this frame the exception
        return outcome

    def land(self, value: V) -> None:
        """The load has a result: everybody who waits gets it."""
        self._end()
        self._wake(Landed(value))

    def fail(self, error: Exception) -> None:
        """The load has failed: everybody who waits gets the same exception."""
        self._end()
        self._wake(_Failed(error))

    def give_up(self) -> None:
        """The leader leaves with nothing: the first who waits takes over; of a detached flight, all come anew."""
        self._leader = None
        if self.detached:
            self._wake(Turn.RETRY)
            return
        while self._waiters:
            first = next(iter(self._waiters))
            del self._waiters[first]
            if not first.done():
                first.set_result(Turn.LEAD)
                return
        self._end()

    def detach(self) -> None:
        """What is being loaded may be stale: nobody finds this flight from now on, and its result is not stored."""
        self._end()
        self.detached = True

    def _end(self) -> None:
        if not self.detached:
            del self._table[self._key]

    def _wake(self, outcome: Landed[V] | _Failed | Turn) -> None:
        self._leader = None  # those who are woken wait for nobody any more, though they have yet to run
        for future in self._waiters:
            if not future.done():
                future.set_result(outcome)
        self._waiters.clear()
