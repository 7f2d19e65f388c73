"""The world of a round: a server to break, a database on it, instances of the real command, and proxies in between.

A `Lane` is one server, used by one round after another; each round has a database of its own on it. Every instance reaches
the database through a proxy of its own, and clients reach every instance through another; writers, readers and the test
itself go straight to the server, so that what they know is not broken with what they watch.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import asyncpg

from afresh_notifier import migrate, packs
from afresh_notifier.embedded import EmbeddedServer
from support.proxy import Proxy

#: What a broken connection, or a server that is not there, raises at a client of it.
BROKEN = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

#: How long the test waits for what must happen, in seconds; generous, since it only matters where it does not.
PATIENCE = 60.0

#: The first half of every gate's advisory lock; see `support.scenario`.
GATES = 4711

#: The views, and the gate that a refresh of each must pass; the last stands on the others.
VIEWS = {"latest": 1, "noted": 2, "board": 3}

#: Everything that clients keep copies of: the views, and a table that is told of at once.
PLACES = (*VIEWS, "ledger")

#: What a place holds, as one JSON object; $1 is NULL for all keys.
READ = {
    "latest": "SELECT json_object_agg(id, json_build_array(n)) FROM latest WHERE $1::bigint[] IS NULL OR id = ANY ($1)",
    "noted": "SELECT json_object_agg(id, json_build_array(n)) FROM noted WHERE $1::bigint[] IS NULL OR id = ANY ($1)",
    "board": "SELECT json_object_agg(id, json_build_array(a, b)) FROM board WHERE $1::bigint[] IS NULL OR id = ANY ($1)",
    "ledger": "SELECT json_object_agg(id, json_build_array(n)) FROM ledger WHERE $1::bigint[] IS NULL OR id = ANY ($1)",
}

#: One key of it, as a named query of the service.
QUERIES = {
    "latest": "SELECT n FROM latest WHERE id = $1::bigint",
    "noted": "SELECT n FROM noted WHERE id = $1::bigint",
    "board": "SELECT a, b FROM board WHERE id = $1::bigint",
    "ledger": "SELECT n FROM ledger WHERE id = $1::bigint",
}

#: What it should hold, by its definition and the tables alone.
LIVE = {
    "latest": "SELECT json_object_agg(id, json_build_array(n)) FROM ledger",
    "noted": "SELECT json_object_agg(id, json_build_array(n)) FROM notes",
    "board": "SELECT json_object_agg(id, json_build_array(l.n, o.n)) FROM ledger AS l FULL JOIN notes AS o USING (id)",
    "ledger": "SELECT json_object_agg(id, json_build_array(n)) FROM ledger",
}

#: `ledger` is captured in the log, `notes` by NOTIFY. `shown` is an eye in the database that the service knows nothing of:
#: it sees, from within the very transaction that appends an invalidation, what the views named there show.
SCHEMA = """
CREATE TABLE ledger (id bigint PRIMARY KEY, n int NOT NULL);
CREATE TABLE notes (id bigint PRIMARY KEY, n int NOT NULL);

CREATE FUNCTION gate(which int) RETURNS int LANGUAGE plpgsql SET lock_timeout = 0 AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(4711, which);
    RETURN 0;
END;
$$;

CREATE VIEW latest_live AS SELECT id, n, (SELECT public.gate(1)) AS gate FROM ledger;
CREATE MATERIALIZED VIEW latest AS SELECT * FROM latest_live;
CREATE UNIQUE INDEX ON latest (id);

CREATE VIEW noted_live AS SELECT id, n, (SELECT public.gate(2)) AS gate FROM notes;
CREATE MATERIALIZED VIEW noted AS SELECT * FROM noted_live;
CREATE UNIQUE INDEX ON noted (id);

CREATE VIEW board_live AS
SELECT id, l.n AS a, o.n AS b, (SELECT public.gate(3)) AS gate FROM latest AS l FULL JOIN noted AS o USING (id);
CREATE MATERIALIZED VIEW board AS SELECT * FROM board_live;
CREATE UNIQUE INDEX ON board (id);

SELECT afresh.watch('ledger', '{id}');
SELECT afresh.watch('notes', '{id}', 'notify');

CREATE TABLE shown (n bigint GENERATED ALWAYS AS IDENTITY, epoch text, "offset" bigint, place text, content json);

CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
DECLARE
    incarnation text := (SELECT left(i.incarnation::text, 8) FROM afresh.log_identity AS i);
BEGIN
    IF 'public.latest' = ANY (new.views) THEN
        INSERT INTO shown (epoch, "offset", place, content)
        SELECT incarnation, new.id, 'latest', json_object_agg(id, json_build_array(n)) FROM latest;
    END IF;
    IF 'public.noted' = ANY (new.views) THEN
        INSERT INTO shown (epoch, "offset", place, content)
        SELECT incarnation, new.id, 'noted', json_object_agg(id, json_build_array(n)) FROM noted;
    END IF;
    IF 'public.board' = ANY (new.views) THEN
        INSERT INTO shown (epoch, "offset", place, content)
        SELECT incarnation, new.id, 'board', json_object_agg(id, json_build_array(a, b)) FROM board;
    END IF;
    RETURN NULL;
END;
$$;

CREATE TRIGGER see AFTER INSERT ON afresh.invalidation_log FOR EACH ROW EXECUTE FUNCTION see();
"""

#: The settings of a round's instances but for their addresses and lease. Nothing waits long: a round has no time to.
SETTINGS = """
[refresh]
debounce = 0.02
max_wait = 0.3
max_load = 0.5
retry_first = 0.05
retry_max = 0.5
timeout = 20

[[tables]]
name = "ledger"
patterns = ["ledger:{id}:"]

[[tables]]
name = "notes"
patterns = ["notes:{id}:"]

[[views]]
name = "latest"
patterns = ["latest:{id}:"]

[[views]]
name = "noted"
patterns = ["noted:{id}:"]

[[views]]
name = "board"
patterns = ["board:{id}:"]
""" + "".join(
    f"""
[[queries]]
name = "{place}"
file = "{place}.sql"
cache_key = "{place}:{{id}}:"
[[queries.parameters]]
name = "id"
"""
    for place in QUERIES
)


#: Below those that systems give to connections going out, any of which could have ours while its owner is down.
_PORTS = range(12_000, 32_000)

_given: set[int] = set()


def free_port() -> int:
    """A port that nobody has now, and that is given once."""
    while True:
        port = random.choice(_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port not in _given:
                _given.add(port)
                return port


class Lane:
    """One server, on a port of loopback, and, where we may mount one, a disk small enough to be filled."""

    def __init__(self) -> None:
        self.port = free_port()
        self._server = EmbeddedServer(
            options={
                "fsync": "off",
                "full_page_writes": "off",
                "listen_addresses": "127.0.0.1",
                "port": str(self.port),
                "max_connections": "300",
                "autovacuum_naptime": "5s",
            }
        )
        #: A small disk; None where nobody lets us mount one.
        self.disk: Path | None = None
        self._numbers = 0

    def dsn(self, database: str, port: int | None = None) -> str:
        """The address of a database on it, at another port where a proxy stands in front."""
        return f"postgresql://postgres@127.0.0.1:{port or self.port}/{database}"

    def __enter__(self) -> Self:
        self._server.__enter__()
        self._mount()
        try:
            asyncio.run(self._template())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.disk is not None:
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                self._server.stop("immediate")
            subprocess.run(["umount", "--lazy", str(self.disk)], check=False, capture_output=True)
            shutil.rmtree(self.disk, ignore_errors=True)
        self._server.__exit__(kind, error, trace)

    def _mount(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="afresh-disk-"))
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0777", "tmpfs", str(folder)], check=False, capture_output=True
        )
        if mounted.returncode != 0:
            folder.rmdir()
            return
        self.disk = folder
        place = folder / "space"
        place.mkdir(mode=0o777)
        owner = Path(asyncio.run(self._fetchval("SHOW data_directory"))).stat()
        os.chown(place, owner.st_uid, owner.st_gid)
        asyncio.run(self._execute(f"CREATE TABLESPACE small LOCATION '{place}'"))

    async def _template(self) -> None:
        await self._execute("CREATE DATABASE template_round")
        connection = await asyncpg.connect(self.dsn("template_round"))
        try:
            async for _ in migrate.up(connection, packs.installable(packs.find_all(()))):
                pass
            await connection.execute(SCHEMA)
        finally:
            await connection.close()

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.dsn("postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def _fetchval(self, statement: str) -> str:
        connection = await asyncpg.connect(self.dsn("postgres"))
        try:
            return str(await connection.fetchval(statement))
        finally:
            await connection.close()

    @asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """The name of a new database with `SCHEMA` in it, dropped on leaving."""
        self._numbers += 1
        name = f"round_{self._numbers}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE template_round")
        try:
            yield name
        finally:
            await self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    async def execute(self, statement: str) -> None:
        """One statement in the database `postgres`."""
        await self._execute(statement)

    async def restart(self, mode: str) -> None:
        """Stop it in this mode, and start it."""
        await asyncio.to_thread(self._server.restart, mode)  # type: ignore[arg-type]


class Instance:
    """One `afresh serve`, that can be killed, stopped and started again at the same addresses."""

    def __init__(self, name: str, folder: Path, lane: Lane, database: str, settings: str) -> None:
        self.name = name
        self._folder = folder / name
        self._port = free_port()
        self._lane = lane
        self._database = database
        self._settings = settings
        self._log = self._folder / "log"
        self.process: asyncio.subprocess.Process | None = None
        #: Between it and the server; between clients and it.
        self.to_server = Proxy("127.0.0.1", lane.port)
        self.to_clients = Proxy("127.0.0.1", self._port)
        #: How often it has ended by itself.
        self.fell = 0
        self.wanted = False
        self._keeping: asyncio.Task[None] | None = None
        self._up = asyncio.Event()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.to_clients.port}"

    @property
    def pid(self) -> int:
        """Its process; 0 while there is none."""
        return self.process.pid if self.process is not None and self.process.returncode is None else 0

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    async def open(self) -> None:
        """Its addresses."""
        self._folder.mkdir(parents=True)
        await self.to_server.start()
        await self.to_clients.start()
        for place, sql in QUERIES.items():
            (self._folder / f"{place}.sql").write_text(sql)
        (self._folder / "afresh.toml").write_text(
            f'[database]\ndsn = "{self._lane.dsn(self._database, self.to_server.port)}"\n'
            f"[server]\nport = {self._port}\nheartbeat = 1\nposition_interval = 0.5\nshutdown_timeout = 10\n"
            f"{self._settings}"
        )

    def start(self) -> None:
        """Have it run from now on, as whoever keeps services running does: if it ends, it is started again."""
        self.wanted = True
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.create_task(self._keep(), name=f"keeper of {self.name}")

    async def _keep(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AFRESH_")}
        kept.pop("DATABASE_URL", None)
        while self.wanted:
            with self._log.open("ab") as log:
                self.process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "afresh_notifier", "serve"),
                    cwd=self._folder,
                    env=kept,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            await self.process.wait()
            self._up.clear()
            if self.wanted:
                self.fell += 1
                await asyncio.sleep(0.3)

    async def ready(self) -> None:
        """Wait until it says that it is."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:

            async def answers() -> bool:
                try:
                    async with session.get(f"http://127.0.0.1:{self._port}/readyz") as response:
                        return response.status == 200
                except (aiohttp.ClientError, TimeoutError):
                    return False

            await until(answers, f"{self.name} is ready")

    async def stop(self, number: signal.Signals) -> None:
        """End it by this signal, and wait for that; nobody starts it again."""
        self.wanted = False
        if self.pid:
            os.kill(self.pid, number)
        if self._keeping is not None:
            async with asyncio.timeout(PATIENCE):
                await self._keeping

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.pid:
            os.kill(self.pid, number)

    async def close(self) -> None:
        """Kill it, and close its addresses."""
        self.wanted = False
        if self.pid:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
        if self._keeping is not None:
            await asyncio.wait([self._keeping])
        await self.to_server.close()
        await self.to_clients.close()


async def until(condition: Callable[[], Awaitable[bool]], what: str, *, patience: float = PATIENCE) -> None:
    """Wait until ``condition`` holds, whatever it raises while the server is broken. Raises TimeoutError, with ``what``."""
    try:
        async with asyncio.timeout(patience):
            while True:
                try:
                    if await condition():
                        return
                except BROKEN:
                    pass
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise TimeoutError(f"not within {patience:g} s: {what}") from None


class World:
    """What faults are done to."""

    def __init__(self, lane: Lane, database: str, instances: list[Instance]) -> None:
        self.lane = lane
        self.database = database
        self.instances = instances
        #: How many transactions the writers have certainly committed.
        self.committed = 0
        #: Set while writers are to rest.
        self.quiet = asyncio.Event()

    @property
    def dsn(self) -> str:
        """The database, without a proxy."""
        return self.lane.dsn(self.database)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of the test's own; waits for the server to be there."""
        connection: asyncpg.Connection | None = None
        async with asyncio.timeout(PATIENCE):
            while connection is None:
                try:
                    connection = await asyncpg.connect(self.dsn, server_settings={"application_name": "test"})
                except BROKEN:
                    await asyncio.sleep(0.05)
        try:
            yield connection
        finally:
            connection.terminate()

    async def fetchval(self, statement: str, *arguments: object) -> object:
        """One value, over a connection of its own."""
        async with self.session() as connection:
            return await connection.fetchval(statement, *arguments)

    async def lease(self) -> tuple[int, int, bool]:
        """The newest term, its holder's process, and whether it holds now; zeros where nobody has ever led."""
        async with self.session() as connection:
            row = await connection.fetchrow(
                "SELECT term, holder, expires > clock_timestamp() AS holds FROM afresh.lease ORDER BY term DESC LIMIT 1"
            )
        return (0, 0, False) if row is None else (row["term"], int(row["holder"].split(":")[1]), row["holds"])

    async def leader(self) -> Instance:
        """The instance that leads; waits until there is one."""
        found: list[Instance] = []

        async def leads() -> bool:
            _, pid, holds = await self.lease()
            found[:] = [one for one in self.instances if holds and one.pid == pid]
            return bool(found)

        await until(leads, "somebody leads")
        return found[0]

    async def led_by_another(self, than: int) -> None:
        """Wait until a term later than ``than`` has begun."""

        async def leads() -> bool:
            term, _, _ = await self.lease()
            return term > than

        await until(leads, "another term begins")

    async def writes(self, count: int) -> None:
        """Wait until the writers have committed ``count`` more transactions."""
        goal = self.committed + count

        async def written() -> bool:
            return self.committed >= goal

        await until(written, "the writers go on")

    async def terminate(self, name: str) -> int:
        """End the service's sessions that are called ``name`` (a pattern as for LIKE); returns how many."""
        return int(
            str(
                await self.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND application_name LIKE $1",
                    name,
                )
            )
        )
