"""The faults: each breaks something at a moment of its own choosing (`inject`), and lets it be mended (`heal`).

The stages of a change's way through the leader are reached from outside: by a gate in a view's definition, by a lock that
the test holds where the leader needs it, or by a proxy that stops its connection when it says a certain thing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar, Literal

import asyncpg

from faults.world import BROKEN, GATES, VIEWS, Instance, World, until
from support.proxy import Proxy

#: How long a stage may take to be reached, in seconds; the fault counts as not tried then.
STAGE = 15.0

#: By what a transaction of the leader's is known on the wire: statements are prepared, but what is marked is a parameter.
TAKES: Mapping[str, bytes] = {"after": b'"view_name"', "without": b"REFRESH MATERIALIZED"}
REFRESHES: Mapping[str, bytes] = {"after": b"REFRESH MATERIALIZED"}


class NotReached(Exception):
    """The moment at which the fault was to come did not come."""


class Fault(ABC):
    """One thing that breaks. ``what`` and ``promise`` are for people: what is done, and what must hold all the same."""

    what: ClassVar[str]
    promise: ClassVar[str] = "nothing lost, stale or silent"
    #: Whether it can lie under another that comes while it lasts.
    lingers: ClassVar[bool] = False
    #: Whether it waits for another instance to lead, which must be there then.
    needs_another: ClassVar[bool] = False
    #: How long it lasts between `inject` and `heal`, in seconds: at least and at most.
    lasts: ClassVar[tuple[float, float]] = (0.0, 0.0)

    def __init__(self, world: World, seed: random.Random) -> None:
        self.world = world
        self.random = random.Random(seed.random())
        #: How long it took until another instance led, where one had to.
        self.handed_over: float | None = None

    @classmethod
    def possible(cls, world: World) -> bool:
        """Whether this can be done here at all."""
        del world
        return True

    @abstractmethod
    async def inject(self) -> None:
        """Break it. Raises `NotReached`, or TimeoutError where what must happen does not."""

    async def heal(self) -> None:  # noqa: B027 - most mend themselves
        """Mend it."""

    async def measure_hand_over(self, term: int) -> None:
        """Wait for a term later than ``term``, and write down how long that took."""
        began = asyncio.get_running_loop().time()
        await self.world.led_by_another(term)
        self.handed_over = asyncio.get_running_loop().time() - began


@asynccontextmanager
async def reaching() -> AsyncIterator[None]:
    """A stage that is not reached in time is `NotReached`."""
    try:
        async with asyncio.timeout(STAGE):
            yield
    except TimeoutError:
        raise NotReached from None


async def waits_for(connection: asyncpg.Connection, first: int, second: int) -> int:
    """Wait until somebody waits for this advisory lock; returns the process."""
    while True:
        pid: int | None = await connection.fetchval(
            """
            SELECT l.pid FROM pg_locks AS l
            JOIN pg_database AS d ON d.oid = l.database AND d.datname = current_database()
            WHERE l.locktype = 'advisory' AND NOT l.granted AND l.classid::int8::bit(32)::int = $1
                AND l.objid::int8::bit(32)::int = $2
            """,
            first,
            second,
        )
        if pid is not None:
            return pid
        await asyncio.sleep(0.01)


@asynccontextmanager
async def at_the_gate(world: World, view: str) -> AsyncIterator[int]:
    """A refresh of ``view`` hangs, with its snapshot taken, for as long as the block; yields its process."""
    async with world.session() as holder:
        async with reaching():
            await holder.execute("SELECT pg_advisory_lock($1, $2)", GATES, VIEWS[view])
            pid = await waits_for(holder, GATES, VIEWS[view])
        yield pid


async def _marked(connection: asyncpg.Connection, view: str) -> bool:
    return bool(
        await connection.fetchval("SELECT EXISTS (SELECT FROM afresh.dirty WHERE view_name = $1)", f"public.{view}")
    )


# The leader is killed, at each step of a change's way.


class Killed(Fault):
    """kill -9 of the leader; it is started again after a while."""

    lingers = needs_another = True
    promise = "another leads within 5 s; nothing lost, stale or silent"
    lasts = (0.0, 1.0)
    killed: Instance | None = None

    async def inject(self) -> None:
        leader = await self.world.leader()
        term, _, _ = await self.world.lease()
        self.killed = leader
        async with self.stage(leader):
            await leader.stop(signal.SIGKILL)
        await self.measure_hand_over(term)

    @abstractmethod
    def stage(self, leader: Instance) -> contextlib.AbstractAsyncContextManager[None]:
        """Holds the leader at a moment for as long as the block."""

    async def heal(self) -> None:
        if self.killed is not None:
            self.killed.to_server.thaw()
            self.killed.start()


class KilledBeforeReading(Killed):
    """Its connections are frozen while changes are committed, so that it cannot have read these."""

    what = "leader killed before it reads the changes"

    @asynccontextmanager
    async def stage(self, leader: Instance) -> AsyncIterator[None]:
        leader.to_server.freeze()
        await self.world.writes(5)
        yield
        leader.to_server.cut()


class KilledBeforeMarking(Killed):
    """The commit that takes changes out of the log does not arrive."""

    what = "leader killed while it takes changes out of the log"

    @asynccontextmanager
    async def stage(self, leader: Instance) -> AsyncIterator[None]:
        hold = leader.to_server.hold(b"COMMIT", **TAKES, deliver=False)
        try:
            async with reaching():
                await hold.reached(STAGE)
            yield
        finally:
            leader.to_server.release(hold)


class KilledAfterMarking(Killed):
    """It has marked a view as dirty and cannot refresh it, since the test has the turn."""

    what = "leader killed between reading and refreshing"

    @asynccontextmanager
    async def stage(self, leader: Instance) -> AsyncIterator[None]:
        del leader
        view = self.random.choice(("latest", "noted"))
        async with self.world.session() as holder:
            async with reaching():
                await holder.execute(
                    "SELECT pg_advisory_lock(hashtext('afresh refresh'), $1::text::regclass::oid::int8::bit(32)::int)",
                    view,
                )
                await until(lambda: _marked(holder, view), f"{view} is marked")
            yield


class KilledRefreshing(Killed):
    """The refresh hangs at its gate."""

    what = "leader killed during a refresh"

    @asynccontextmanager
    async def stage(self, leader: Instance) -> AsyncIterator[None]:
        del leader
        async with at_the_gate(self.world, self.random.choice(tuple(VIEWS))):
            yield


class KilledAppending(Killed):
    """The view is refreshed, and the transaction waits for the lock of the invalidation log."""

    what = "leader killed between refresh and commit"

    @asynccontextmanager
    async def stage(self, leader: Instance) -> AsyncIterator[None]:
        del leader
        async with self.world.session() as holder:
            async with reaching():
                first = await holder.fetchval("SELECT hashtext('afresh.invalidation_log')")
                await holder.execute("SELECT pg_advisory_lock($1, 0)", first)
                await waits_for(holder, first, 0)
            yield


class KilledBeforeTelling(Killed):
    """The refresh's commit arrives, its answer does not: the leader never gets to tell of it."""

    what = "leader killed between commit and sending"

    @asynccontextmanager
    async def stage(self, leader: Instance) -> AsyncIterator[None]:
        hold = leader.to_server.hold(b"COMMIT", **REFRESHES, deliver=True)
        try:
            async with reaching():
                await hold.reached(STAGE)
            await asyncio.sleep(0.1)
            yield
        finally:
            leader.to_server.release(hold)


# The leader's process, otherwise.


class Stopped(Fault):
    """SIGTERM under load: it hands over by itself."""

    lingers = needs_another = True
    what = "leader stopped by SIGTERM under load"
    promise = "another leads at once; nothing lost, stale or silent"
    lasts = (0.0, 1.0)
    stopped: Instance | None = None

    async def inject(self) -> None:
        self.stopped = await self.world.leader()
        term, _, _ = await self.world.lease()
        await asyncio.gather(self.stopped.stop(signal.SIGTERM), self.measure_hand_over(term))

    async def heal(self) -> None:
        if self.stopped is not None:
            self.stopped.start()


class AllDown(Fault):
    """Nobody is there while changes go on."""

    needs_another = True
    what = "all instances down for a while"
    lasts = (0.5, 2.0)

    async def inject(self) -> None:
        await asyncio.gather(*(instance.stop(signal.SIGKILL) for instance in self.world.instances))
        await self.world.writes(5)

    async def heal(self) -> None:
        for instance in self.world.instances:
            instance.start()


class Asleep(Fault):
    """SIGSTOP in the middle of a refresh, for longer than its lease; then it wakes and goes on with what it was about."""

    needs_another = True
    what = "leader asleep for longer than its lease, woken in the middle of a refresh"
    promise = "two who believe that they lead do no harm"
    sleeper: Instance | None = None

    async def inject(self) -> None:
        self.sleeper = await self.world.leader()
        term, _, _ = await self.world.lease()
        wakes_first = self.random.random() < 0.5
        async with at_the_gate(self.world, self.random.choice(tuple(VIEWS))):
            self.sleeper.signal(signal.SIGSTOP)
            await self.measure_hand_over(term)
            await asyncio.sleep(self.random.uniform(0, 0.5))
            if wakes_first:
                self.sleeper.signal(signal.SIGCONT)
                await asyncio.sleep(self.random.uniform(0, 0.5))
        await asyncio.sleep(self.random.uniform(0, 0.5))

    async def heal(self) -> None:
        if self.sleeper is not None:
            self.sleeper.signal(signal.SIGCONT)


class BackendAsleep(Fault):
    """One of the leader's sessions is stopped, in the middle of a refresh or anywhere, and keeps the locks that it has."""

    what = "one of the leader's backends asleep"
    promise = "other views go on; nothing lost, stale or silent once it wakes"
    lasts = (1.0, 5.0)
    pid = 0

    async def inject(self) -> None:
        name = self.random.choice(("afresh", "afresh", "afresh listener", "afresh lease"))
        if name == "afresh":
            async with at_the_gate(self.world, self.random.choice(tuple(VIEWS))) as pid:
                self._stop(pid)
            return
        found = await self.world.fetchval(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1 "
            "ORDER BY random() LIMIT 1",
            name,
        )
        if not isinstance(found, int):
            raise NotReached
        self._stop(found)

    def _stop(self, pid: int) -> None:
        """Only what is a PostgreSQL backend of this machine."""
        try:
            if b"postgres" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                raise NotReached
            os.kill(pid, signal.SIGSTOP)
        except OSError:
            raise NotReached from None
        self.pid = pid

    async def heal(self) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)


# The sessions, and the server.


class Terminated(Fault):
    """The sessions of one kind, of all instances, several times in a row."""

    name: ClassVar[str]

    async def inject(self) -> None:
        for _ in range(self.random.randint(1, 4)):
            await self.world.terminate(self.name)
            await asyncio.sleep(self.random.uniform(0, 0.3))


class TerminatedPool(Terminated):
    """Those that take changes, refresh and follow the log."""

    what, name = "sessions terminated: `afresh`", "afresh"


class TerminatedListeners(Terminated):
    """Those that listen."""

    what, name = "sessions terminated: `afresh listener`", "afresh listener"


class TerminatedLeases(Terminated):
    """Those that renew the lease."""

    what, name = "sessions terminated: `afresh lease`", "afresh lease"


class TerminatedRefresh(Fault):
    """One refresh, in its middle."""

    what = "session terminated in the middle of a refresh"

    async def inject(self) -> None:
        async with at_the_gate(self.world, self.random.choice(tuple(VIEWS))) as pid:
            await self.world.fetchval("SELECT pg_terminate_backend($1)", pid)


class Restarted(Fault):
    """The server goes down and comes back."""

    mode: ClassVar[Literal["fast", "immediate"]]

    async def inject(self) -> None:
        if self.random.random() < 0.5:
            with contextlib.suppress(NotReached, *BROKEN):
                async with at_the_gate(self.world, self.random.choice(tuple(VIEWS))):
                    await self.world.lane.restart(self.mode)
                return
        await self.world.lane.restart(self.mode)


class RestartedFast(Restarted):
    """Sessions are ended in order."""

    what, mode = "server restarted, fast", "fast"


class RestartedImmediate(Restarted):
    """As in a crash."""

    what, mode = "server restarted, immediate (a crash)", "immediate"


class ReadOnly(Fault):
    """Whatever writes is refused, as on a server that was made a standby or is about to be moved."""

    what = "server refuses: read-only"
    lasts = (0.5, 2.5)

    async def inject(self) -> None:
        await self._set("on")

    async def heal(self) -> None:
        await self._set("off")

    async def _set(self, value: str) -> None:
        name = self.world.database
        await self.world.lane.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
        await self.world.terminate("afresh%")


class NoConnections(Fault):
    """New sessions are refused, and those that there are end."""

    what = "server refuses: no new sessions"
    lasts = (0.5, 2.5)

    async def inject(self) -> None:
        await self.world.lane.execute(f"ALTER DATABASE {self.world.database} ALLOW_CONNECTIONS false")
        await self._terminate()

    async def heal(self) -> None:
        await self.world.lane.execute(f"ALTER DATABASE {self.world.database} ALLOW_CONNECTIONS true")

    async def _terminate(self) -> None:
        await self.world.lane.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{self.world.database}' AND application_name LIKE 'afresh%'"
        )


class FullDisk(Fault):
    """The views, and the temporary tables of a refresh, are on a disk that is full."""

    lingers = True
    what = "server refuses: the disk is full"
    lasts = (0.5, 2.5)

    @classmethod
    def possible(cls, world: World) -> bool:
        return world.lane.disk is not None

    async def inject(self) -> None:
        name, disk = self.world.database, self.world.lane.disk
        assert disk is not None
        await self.world.lane.execute(f"ALTER DATABASE {name} SET temp_tablespaces = small")
        with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
        await self.world.terminate("afresh")

    async def heal(self) -> None:
        disk = self.world.lane.disk
        assert disk is not None
        (disk / "filler").unlink(missing_ok=True)
        await self.world.lane.execute(f"ALTER DATABASE {self.world.database} RESET temp_tablespaces")
        await self.world.terminate("afresh")


class ClockForward(Fault):
    """The server's clock jumps: what was to expire in seconds has, an hour ago."""

    what = "clock jumps forwards: the lease has expired at once"
    promise = "two who believe that they lead do no harm"

    async def inject(self) -> None:
        for _ in range(self.random.randint(1, 3)):
            await self.world.fetchval("UPDATE afresh.lease SET expires = expires - interval '1 hour'")
            await asyncio.sleep(self.random.uniform(0, 1))


class ClockBack(Killed):
    """The server's clock jumps back, so that the lease seems to hold for another hour; and then the leader dies."""

    what = "clock jumps backwards, and the leader is killed"

    @asynccontextmanager
    async def stage(self, leader: Instance) -> AsyncIterator[None]:
        # Frozen, so that it does not mend this by renewing.
        leader.to_server.freeze()
        await self.world.fetchval("UPDATE afresh.lease SET expires = expires + interval '1 hour' WHERE expires > now()")
        yield
        leader.to_server.cut()


# The network.


class Network(Fault):
    """Something happens between one instance, or all, and the server."""

    def proxies(self) -> list[Proxy]:
        """One instance's, mostly, or all."""
        instances = self.world.instances
        if self.random.random() < 0.7:
            instances = [self.random.choice(instances)]
        return [instance.to_server for instance in instances]


class DatabaseFrozen(Network):
    """No packet passes, and no connection ends."""

    lingers = True
    what = "network to the server frozen"
    lasts = (0.5, 6.0)
    frozen: list[Proxy] = []  # noqa: RUF012

    async def inject(self) -> None:
        leader = await self.world.leader()
        self.frozen = [leader.to_server] if self.random.random() < 0.5 else self.proxies()
        for proxy in self.frozen:
            proxy.freeze()

    async def heal(self) -> None:
        for proxy in self.frozen:
            if self.random.random() < 0.3:
                proxy.cut()
            proxy.thaw()


class DatabaseSlow(Network):
    """Every packet is late."""

    lingers = True
    what = "network to the server slow"
    lasts = (0.5, 3.0)

    async def inject(self) -> None:
        for proxy in self.proxies():
            proxy.delay = self.random.uniform(0.02, 0.15)

    async def heal(self) -> None:
        for instance in self.world.instances:
            instance.to_server.delay = 0.0


class DatabaseCut(Network):
    """A connection ends in the middle of a message, several times."""

    what = "connection to the server cut in the middle of a message"

    async def inject(self) -> None:
        for _ in range(self.random.randint(1, 5)):
            proxy = self.random.choice(self.world.instances).to_server
            proxy.cut_within(self.random.choice(("up", "down")))
            await asyncio.sleep(self.random.uniform(0, 0.3))


class CommitCut(Fault):
    """The connection ends when a commit has been sent: it arrives, or it does not, and nobody can know."""

    what = "connection to the server cut at a commit"

    async def inject(self) -> None:
        for _ in range(self.random.randint(1, 3)):
            proxy = (await self.world.leader()).to_server
            which = self.random.choice((TAKES, REFRESHES))
            hold = proxy.hold(b"COMMIT", **which, deliver=self.random.random() < 0.6)
            try:
                async with reaching():
                    await hold.reached(STAGE)
                await asyncio.sleep(0.05)
                hold.cut()
            finally:
                proxy.release(hold)


class ClientsFrozen(Fault):
    """No packet passes between clients and one instance."""

    lingers = True
    what = "network to clients frozen"
    lasts = (0.5, 5.0)
    proxy: Proxy | None = None

    async def inject(self) -> None:
        self.proxy = self.random.choice(self.world.instances).to_clients
        self.proxy.freeze()

    async def heal(self) -> None:
        if self.proxy is not None:
            if self.random.random() < 0.3:
                self.proxy.cut()
            self.proxy.thaw()


class ClientsCut(Fault):
    """Clients' connections end in the middle of a frame, several times."""

    what = "connections to clients cut in the middle of a frame"

    async def inject(self) -> None:
        for _ in range(self.random.randint(2, 6)):
            for instance in self.world.instances:
                instance.to_clients.cut_within(self.random.choice(("up", "down", "down")))
            await asyncio.sleep(self.random.uniform(0.05, 0.4))


#: All of them, in the order of the table.
FAULTS: tuple[type[Fault], ...] = (
    KilledBeforeReading,
    KilledBeforeMarking,
    KilledAfterMarking,
    KilledRefreshing,
    KilledAppending,
    KilledBeforeTelling,
    Stopped,
    AllDown,
    Asleep,
    BackendAsleep,
    TerminatedPool,
    TerminatedListeners,
    TerminatedLeases,
    TerminatedRefresh,
    RestartedFast,
    RestartedImmediate,
    ReadOnly,
    NoConnections,
    FullDisk,
    ClockForward,
    ClockBack,
    DatabaseFrozen,
    DatabaseSlow,
    DatabaseCut,
    CommitCut,
    ClientsFrozen,
    ClientsCut,
)
