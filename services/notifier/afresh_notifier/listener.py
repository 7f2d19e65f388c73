"""The listener: PostgreSQL's notifications, as messages (`changes`); and the `Inbox` in which those for the consumer wait.

In: one connection of its own, on the channel `afresh`. Out: what was heard, and a gap before it.

It promises that nothing is missed in silence. `LISTEN` is committed before the gap is passed on: whatever commits later is
heard, whatever committed earlier is covered by the gap, since logs are read and refreshes start after it. Nothing that
a new connection hears is passed on before its gap: where a change has been heard, so have all that were before it.
After every reconnect a gap is assumed, and so at the start. A connection that is closed is noticed at once, one that is
frozen by a probe: it is asked every `probe_interval`, and given up when it does not answer within `probe_timeout`, or
answers as somebody else (a pooler in between) or as one that listens no more.

Concurrency: the notification callback is synchronous and runs in the loop between awaits; it appends to the inbox, or
wakes a task. `run` is one task; cancelling it closes the connection, what is in the inbox stays for the consumer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import asyncpg

from afresh_cache.backoff import backoff
from afresh_notifier import database
from afresh_notifier.changes import Bell, Gap, Heard, read_payload
from afresh_notifier.errors import BadPayload, WrongDatabase
from afresh_notifier.observations import ConnectFailed, Listening, ListeningLost, Observe, PayloadRejected
from afresh_notifier.resources import query
from afresh_notifier.settings import DatabaseSettings

CHANNEL = "afresh"

#: What the inbox holds at most; past that it holds one gap, which says as much as all of it.
INBOX_SIZE = 10_000

#: First and longest wait between two attempts to connect, in seconds.
RETRY_FIRST, RETRY_MAX = 0.1, 5.0


class Inbox:
    """What was heard and not yet consumed: bounded, never blocking; a gap replaces all that came before it."""

    def __init__(self) -> None:
        self._items: list[Heard] = []
        self._filled = asyncio.Event()
        self._closed = False

    def put(self, item: Heard) -> None:
        """Take ``item`` in. A full inbox becomes one gap, which covers what was dropped, and a bell."""
        # A gap takes the place of all before it, so that there is one at most, and it comes first.
        gap = next((one for one in self._items[:1] if isinstance(one, Gap)), None)
        if isinstance(item, Gap):
            self._items = [item.after(gap)]
        elif isinstance(item, Bell) and item in self._items[-1:]:
            pass  # it has been rung, and nobody has come yet
        elif len(self._items) >= INBOX_SIZE:
            reason = f"more than {INBOX_SIZE} changes waited"
            self._items = [Gap(reason=reason, heard_at=datetime.now(UTC)).after(gap), Bell()]
        else:
            self._items.append(item)
        self._filled.set()

    def nudge(self) -> None:
        """Let `take` return, with nothing if there is nothing: whoever takes has something else to see to."""
        self._filled.set()

    @property
    def waiting(self) -> bool:
        """Whether `take` would return at once."""
        return self._filled.is_set()

    def close(self) -> None:
        """Nothing more is put in: `take` gives what there is, then None."""
        self._closed = True
        self._filled.set()

    async def take(self) -> list[Heard] | None:
        """All there is, once there is something; None when the inbox is closed and empty. Cancelling it loses nothing."""
        await self._filled.wait()
        if self._closed and not self._items:
            return None
        if not self._closed:
            self._filled.clear()
        items, self._items = self._items, []
        return items


class Listener:
    """Keeps one listening connection alive and passes on what it hears to ``hear``, which returns at once."""

    def __init__(self, settings: DatabaseSettings, hear: Callable[[Heard], None], observe: Observe) -> None:
        self._settings = settings
        self._hear = hear
        self._observe = observe
        #: Whether the gap before the present connection is in the inbox: nothing that it hears overtakes that.
        self._told_gap = False

    async def run(self) -> None:
        """Listen until cancelled; connections that die are replaced for as long as that takes."""
        reason = "Afresh has just started"
        failures = 0
        while True:
            self._told_gap = False
            try:
                connection = await self._connect()
            except database.TRANSIENT as error:
                failures += 1
                wait = backoff(failures, RETRY_FIRST, RETRY_MAX)
                what, hint = database.said(error)
                self._observe(ConnectFailed(problem=what, hint=hint, retry_in=wait))
                await asyncio.sleep(wait)
                continue
            failures = 0
            try:
                self._hear(Gap(reason=reason, heard_at=datetime.now(UTC)))
                self._told_gap = True
                self._observe(Listening(backend_pid=connection.get_server_pid()))
                reason = await self._until_lost(connection)
                self._observe(ListeningLost(reason=reason))
            finally:
                connection.terminate()

    async def _connect(self) -> asyncpg.Connection:
        """A connection that listens. Raises `DatabaseError`, or what asyncpg raises."""
        connection = await database.connect(self._settings, name="afresh listener")
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                database.require_serving(await database.facts(connection))
                await connection.add_listener(CHANNEL, self._heard)
                if not await connection.fetchval(query("still_listening"), connection.get_server_pid(), CHANNEL):
                    raise WrongDatabase(
                        "the connection does not keep its session: there is a transaction pooler in between",
                        hint="let database.dsn name PostgreSQL itself",
                    )
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        """asyncpg's callback, for each notification; what comes before the gap is told is covered by it."""
        if not self._told_gap:
            return
        try:
            self._hear(read_payload(str(payload), datetime.now(UTC)))
        except BadPayload as error:
            self._observe(PayloadRejected(problem=error.problem, payload=str(payload)[:200]))

    async def _until_lost(self, connection: asyncpg.Connection) -> str:
        """Watch over the connection; returns why it is of no use any more."""
        closed = asyncio.Event()
        connection.add_termination_listener(lambda _connection: closed.set())
        while not connection.is_closed():
            try:
                async with asyncio.timeout(self._settings.probe_interval):
                    await closed.wait()
            except TimeoutError:
                try:
                    async with asyncio.timeout(self._settings.probe_timeout):
                        kept = await connection.fetchval(query("still_listening"), connection.get_server_pid(), CHANNEL)
                except TimeoutError:
                    return f"the listening connection did not answer within {self._settings.probe_timeout:g} s"
                except database.TRANSIENT as error:
                    return f"the listening connection failed: {error}"
                if not kept:
                    return "the listening connection listens no more"
        return "the listening connection was closed"
