"""What the end-to-end tests stand on: the service in this process, what it observed, a client, and views that a test can
hold, fail and let go.

A *gate* makes a refresh as slow as a test wants and no slower: a view's definition takes a shared advisory lock, so that a
refresh which has its snapshot already hangs, visibly in pg_locks, until the test gives up the exclusive one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import asyncpg

from afresh_cache import client
from afresh_cache.messages import Invalidate, Resync
from afresh_notifier import app
from afresh_notifier.observations import (
    ChangesHeard,
    Invalidated,
    Listening,
    Observation,
    RefreshDone,
    RefreshNotDone,
    RefreshStarted,
)
from afresh_notifier.settings import Settings
from conftest import PATIENCE, eventually

T = TypeVar("T", bound=Observation)

#: The first half of every gate's advisory lock.
GATES = 4711

#: Paces under which nothing waits for the clock: each test slows down what it is about.
AT_ONCE: Mapping[str, Any] = {
    "debounce": 0,
    "max_wait": 60,
    "max_load": 1,
    "retry_first": 0.002,
    "retry_max": 0.02,
    "timeout": 120,
}

#: A table that nothing hangs on: to hear of a tick is to have heard of all that was committed before it.
TICK = """
CREATE TABLE tick (n int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
SELECT afresh.watch('tick', '{n}');
"""

#: Three views over `entries`, each behind a gate: `totals` (1) and `counts` (2) read the table, `overview` (3) reads both.
DIAMOND = (
    TICK
    + """
CREATE TABLE entries (id int PRIMARY KEY, writer int NOT NULL, amount int NOT NULL DEFAULT 0);
INSERT INTO entries SELECT n, n, 0 FROM generate_series(0, 3) AS n;
CREATE TABLE switches (gate int PRIMARY KEY, fails boolean NOT NULL DEFAULT false);
INSERT INTO switches (gate) SELECT generate_series(1, 3);

CREATE FUNCTION gate(which int) RETURNS int LANGUAGE plpgsql SET lock_timeout = 0 AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(4711, which);
    IF (SELECT s.fails FROM public.switches AS s WHERE s.gate = which) THEN
        RAISE EXCEPTION 'gate % was told to fail', which;
    END IF;
    RETURN 0;
END;
$$;

CREATE VIEW totals_live AS
SELECT e.writer, sum(e.amount)::int AS total, (SELECT public.gate(1)) AS gate FROM entries AS e GROUP BY e.writer;
CREATE MATERIALIZED VIEW totals AS SELECT * FROM totals_live;
CREATE UNIQUE INDEX ON totals (writer);

CREATE VIEW counts_live AS
SELECT e.writer, count(*)::int AS n, (SELECT public.gate(2)) AS gate FROM entries AS e GROUP BY e.writer;
CREATE MATERIALIZED VIEW counts AS SELECT * FROM counts_live;
CREATE UNIQUE INDEX ON counts (writer);

CREATE VIEW overview_live AS
SELECT t.writer, t.total, c.n, (SELECT public.gate(3)) AS gate FROM totals AS t JOIN counts AS c USING (writer);
CREATE MATERIALIZED VIEW overview AS SELECT * FROM overview_live;
CREATE UNIQUE INDEX ON overview (writer);

SELECT afresh.watch('entries', '{writer}');
"""
)

#: What has to be added to `DIAMOND` for each way of capture. A gap in the listening can hide what is only notified.
CAPTURES = {
    capture: f"SELECT afresh.watch('entries', '{{writer}}', capture => '{capture}');" for capture in ("log", "notify")
}

TOTALS, COUNTS, OVERVIEW = "public.totals", "public.counts", "public.overview"

#: Whether all three views show what their definitions say, in one snapshot.
_DIAMOND_FRESH = """
SELECT NOT EXISTS ((TABLE totals EXCEPT ALL TABLE totals_live) UNION ALL (TABLE totals_live EXCEPT ALL TABLE totals))
    AND NOT EXISTS ((TABLE counts EXCEPT ALL TABLE counts_live) UNION ALL (TABLE counts_live EXCEPT ALL TABLE counts))
    AND NOT EXISTS (
        (TABLE overview EXCEPT ALL TABLE overview_live) UNION ALL (TABLE overview_live EXCEPT ALL TABLE overview)
    )
"""


class Recorder:
    """An observer that keeps everything, with the event loop's time at which it came."""

    def __init__(self) -> None:
        self.all: list[tuple[float, Observation]] = []
        #: How many changes were heard, by table.
        self.changes: Counter[str] = Counter()
        #: The newest tick that was heard.
        self.tick = 0

    def __call__(self, observation: Observation) -> None:
        if isinstance(observation, ChangesHeard):
            self.changes[observation.table] += observation.count
        elif isinstance(observation, Invalidated):
            ticks = (pattern[5:] for pattern in observation.patterns if pattern.startswith("tick:"))
            self.tick = max(self.tick, *map(int, filter(None, ticks)), 0)
        self.all.append((asyncio.get_running_loop().time(), observation))

    def of(self, kind: type[T], *, since: int = 0, **fields: object) -> list[T]:
        """The observations of ``kind``, from number ``since`` on, whose fields have these values."""
        return [
            seen
            for _, seen in self.all[since:]
            if isinstance(seen, kind) and all(getattr(seen, name) == value for name, value in fields.items())
        ]

    def changed(self, table: str) -> int:
        """How many changes of ``table`` were heard."""
        return self.changes[table]

    def timed(self, kind: type[T], **fields: object) -> list[tuple[float, T]]:
        """The same, each with its time."""
        return [
            (at, seen)
            for at, seen in self.all
            if isinstance(seen, kind) and all(getattr(seen, name) == value for name, value in fields.items())
        ]

    @property
    def mark(self) -> int:
        """How much there is up to now."""
        return len(self.all)

    def refreshes(self, view: str, *, since: int = 0) -> int:
        """How many refreshes of ``view`` have committed."""
        return len(self.of(RefreshDone, since=since, view=view))

    def failures(self, view: str, *, since: int = 0) -> list[RefreshNotDone]:
        """The refreshes of ``view`` that did not happen."""
        return self.of(RefreshNotDone, since=since, view=view)

    def starts(self, view: str, *, since: int = 0) -> int:
        """How many refreshes of ``view`` have begun."""
        return len(self.of(RefreshStarted, since=since, view=view))

    @property
    def listener_pid(self) -> int:
        """The backend of the newest listening connection."""
        return self.of(Listening)[-1].backend_pid

    async def until(self, kind: type[T], *, since: int = 0, **fields: object) -> T:
        """The first such observation; waits for it."""
        await eventually(lambda: bool(self.of(kind, since=since, **fields)))
        return self.of(kind, since=since, **fields)[0]


class Running:
    """A service that runs in this process, and what it observed."""

    def __init__(self, service: app.Service, recorder: Recorder) -> None:
        self.service = service
        self.seen = recorder
        self.url = service.url

    @property
    def views(self) -> list[str]:
        """The views that it keeps fresh."""
        return list(self.service.refresher.plan.timings)

    def stale(self, view: str) -> bool:
        """Whether it knows of a change that ``view`` does not show."""
        return self.service.refresher.stale_for(view) > 0

    def quiet(self) -> bool:
        """Whether it believes every view to be fresh."""
        refresher = self.service.refresher
        return all(refresher.stale_for(view) == 0 and not refresher.pending(view) for view in self.views)

    async def ready(self) -> None:
        """Wait until every view has been refreshed, as it is after a first start, and that has come to the hub."""

        def told(view: str) -> int:
            return sum(view in seen.views for seen in self.seen.of(Invalidated))

        await eventually(
            lambda: self.quiet() and all(told(view) >= self.seen.refreshes(view) > 0 for view in self.views)
        )

    async def heard_all(self, db: asyncpg.Connection) -> None:
        """Wait until everything that is committed by now was heard, or is covered by a gap: until a tick that was
        committed after it is heard. A tick that is lost with the listening connection is followed by another."""
        loop = asyncio.get_running_loop()
        first = None
        async with asyncio.timeout(PATIENCE):
            while True:
                tick = await db.fetchval("INSERT INTO tick DEFAULT VALUES RETURNING n")
                first = tick if first is None else first
                again_at = loop.time() + 0.03
                while loop.time() < again_at:
                    if self.seen.tick >= first:
                        return
                    await asyncio.sleep(0.001)

    async def settled(self, db: asyncpg.Connection) -> None:
        """Wait until everything that is committed by now was heard, every view is believed to be fresh, and what that made
        stale has come to the hub."""
        await self.heard_all(db)

        async def fresh() -> bool:
            # What was told may be heard before the service knows that its commit went through: so the marks count too.
            return self.quiet() and not await db.fetchval("SELECT EXISTS (SELECT FROM afresh.dirty)")

        await eventually(fresh)
        newest = await db.fetchval("SELECT coalesce(max(id), 0) FROM afresh.invalidation_log")
        await eventually(lambda: self.service.hub.newest >= newest)


@asynccontextmanager
async def afresh(dsn: str, **settings: Any) -> AsyncIterator[Running]:
    """The service on the database at ``dsn``, listening; ``settings`` are sections and lists as in `afresh.toml`.

    Refreshes wait for no clock unless `refresh` says so.
    """
    recorder = Recorder()
    document = {
        **settings,
        "database": {"dsn": dsn, **settings.get("database", {})},
        "server": {"port": 0, "flush": 0, **settings.get("server", {})},
        "tables": [{"name": "tick", "patterns": ["tick:{n}"]}, *settings.get("tables", ())],
        "refresh": {**AT_ONCE, **settings.get("refresh", {})},
    }
    async with app.running(Settings(**document), recorder) as service:
        running = Running(service, recorder)
        await service.board.planned.wait()
        yield running


class Listener:
    """A client, and what it heard."""

    def __init__(self) -> None:
        self.events: list[client.Event] = []

    @property
    def mark(self) -> int:
        """How much it has heard up to now."""
        return len(self.events)

    def invalidations(self, *, since: int = 0, view: str | None = None) -> list[Invalidate]:
        """The invalidations, of ``view`` alone where one is named."""
        return [
            event
            for event in self.events[since:]
            if isinstance(event, Invalidate) and (view is None or view in event.views)
        ]

    def patterns(self, *, since: int = 0) -> set[str]:
        """Every pattern heard."""
        return {pattern for event in self.invalidations(since=since) for pattern in event.patterns}

    def resyncs(self, *, since: int = 0) -> list[str]:
        """The reasons of the resyncs heard."""
        return [event.reason for event in self.events[since:] if isinstance(event, Resync)]

    async def told(self, pattern: str, *, since: int = 0) -> None:
        """Wait until ``pattern`` is heard."""
        await eventually(lambda: pattern in self.patterns(since=since))


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[Listener]:
    """A client of everything, that has subscribed; it hears until the block is left."""
    heard = Listener()

    async def hear() -> None:
        async for event in client.listen(url):
            heard.events.append(event)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(hear(), name="client")
        await eventually(lambda: any(isinstance(event, client.Connected) for event in heard.events))
        yield heard
        task.cancel()


async def resynced(heard: Listener, capture: str, *, since: int) -> None:
    """Wait until the client was told to drop everything, if something may have been missed; else it must not have been."""
    if capture == "notify":
        await eventually(lambda: "gap" in heard.resyncs(since=since))
    else:
        assert heard.resyncs(since=since) == []


class Gates:
    """The gates of `DIAMOND`, all open at first; the locks are held on a connection of their own."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.closed: set[int] = set()

    async def close(self, gate: int) -> None:
        """Whatever refresh comes to ``gate`` hangs there. Waits for one that is just passing it."""
        if gate not in self.closed:
            await self._connection.execute("SELECT pg_advisory_lock($1, $2)", GATES, gate)
            self.closed.add(gate)

    async def open(self, gate: int) -> None:
        """Let them go."""
        if gate in self.closed:
            await self._connection.execute("SELECT pg_advisory_unlock($1, $2)", GATES, gate)
            self.closed.discard(gate)

    async def open_all(self) -> None:
        """Let everybody go."""
        await self._connection.execute("SELECT pg_advisory_unlock_all()")
        self.closed.clear()

    async def hanging(self, gate: int) -> int | None:
        """The process of a refresh that hangs at ``gate``; its snapshot is taken."""
        pid: int | None = await self._connection.fetchval(
            """
            SELECT l.pid FROM pg_locks AS l
            JOIN pg_database AS d ON d.oid = l.database AND d.datname = current_database()
            WHERE l.locktype = 'advisory' AND NOT l.granted AND l.classid = $1::int::oid AND l.objid = $2::int::oid
            LIMIT 1
            """,
            GATES,
            gate,
        )
        return pid

    async def reached(self, gate: int) -> int:
        """Wait until a refresh hangs at ``gate``; returns its process."""
        found: list[int] = []

        async def hangs() -> bool:
            pid = await self.hanging(gate)
            if pid is not None:
                found.append(pid)
            return pid is not None

        await eventually(hangs)
        return found[0]

    async def fail(self, gate: int, *, fails: bool = True) -> None:
        """Whatever refresh passes ``gate`` from now on fails, or does so no longer."""
        await self._connection.execute("UPDATE switches SET fails = $2 WHERE gate = $1", gate, fails)


@asynccontextmanager
async def gates(dsn: str) -> AsyncIterator[Gates]:
    """The gates of the database at ``dsn``, opened on leaving."""
    async with connected(dsn) as connection:
        yield Gates(connection)


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection for the block."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        connection.terminate()


async def diamond_fresh(db: asyncpg.Connection) -> bool:
    """Whether the three views of `DIAMOND` show what their definitions say."""
    return bool(await db.fetchval(_DIAMOND_FRESH))


async def gone(db: asyncpg.Connection, pid: int) -> None:
    """Wait until the backend ``pid`` has ended."""

    async def ended() -> bool:
        return not await db.fetchval("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)", pid)

    await eventually(ended)
