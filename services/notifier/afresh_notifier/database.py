"""Connections to PostgreSQL: how they are made, what they are checked for, and what is said when that fails.

In: `DatabaseSettings`. Out: a connection, or a pool, whose sessions have what the service relies on: commits that are
durable before they are told, a search path in which nobody can put anything in the way, and time zone and
formats that do not depend on the role.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import asyncpg

from afresh_notifier.errors import AfreshError, DatabaseError, Unreachable, WrongDatabase
from afresh_notifier.resources import query
from afresh_notifier.settings import DatabaseSettings, default_file

#: A connection of its own, or one lent by a pool.
Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

#: What a transaction sees of others; None is what the session says, which for ours is the first.
Isolation = Literal["read_committed", "repeatable_read"]

#: The oldest PostgreSQL that is supported, as `server_version_num` says it.
OLDEST = 140_000

#: How long a connection may take to go back to its pool, or to be closed, in seconds.
RETURN_PATIENCE = 2.0

#: What asyncpg raises where the server or the network refuses. An `InternalClientError` it raises on a connection that the
#: server has just ended, before it has noticed its end.
_REFUSALS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

#: What a connection may raise that is worth another try later.
TRANSIENT = (*_REFUSALS, TimeoutError, DatabaseError)

#: SQLSTATE classes that say nothing of what was asked, but that the server cannot do it now.
_NOT_NOW = ("08", "28", "40", "53", "55", "57", "58", "F0")

_SESSION = {
    # Not `public`: there anybody who may create objects could put an operator or a function in the way of our queries,
    # and have it run with our rights.
    "search_path": "pg_catalog",
    "timezone": "UTC",
    "synchronous_commit": "on",
    "statement_timeout": "30s",
    # What a role or a database sets by default may not hold for us: what we do is argued for this level.
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    # Soon, where we are gone: others wait for what our transactions have locked.
    "idle_in_transaction_session_timeout": "5s",
}


async def _nothing(_connection: object) -> None:
    """What is done to a connection of a pool that is new, unless somebody says otherwise, or that comes back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What the service must know of the server before it starts."""

    version: int
    standby: bool
    installed: bool
    allowed: bool
    role: str
    event_trigger: bool


async def connect(
    settings: DatabaseSettings,
    *,
    name: str = "afresh",
    statement_timeout: str = _SESSION["statement_timeout"],
    search_path: str = _SESSION["search_path"],
    lock_timeout: str = "0",
) -> asyncpg.Connection:
    """A connection; ``name`` is its `application_name`. Raises `Unreachable` or `WrongDatabase`."""
    async with explained(settings):
        return await asyncpg.connect(
            settings.dsn,
            timeout=settings.connect_timeout,
            server_settings={
                **_SESSION,
                "application_name": name,
                "statement_timeout": statement_timeout,
                "search_path": search_path,
                "lock_timeout": lock_timeout,
            },
        )


@asynccontextmanager
async def connection(
    settings: DatabaseSettings, *, within: float = math.inf, **options: str
) -> AsyncIterator[asyncpg.Connection]:
    """A connection, made as by `connect`, for at most ``within`` seconds, as `cut_after` says; it is closed on leaving, and
    cut, where the server does not answer that."""
    opened = await connect(settings, **options)
    try:
        with cut_after(opened, within):
            yield opened
    finally:
        with contextlib.suppress(*TRANSIENT):
            await opened.close(timeout=RETURN_PATIENCE)
        cut(opened)


@asynccontextmanager
async def scripting(settings: DatabaseSettings, *, name: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection for what users write themselves, as migrations and sample data: with `public` as the search path, and
    with all the time it takes."""
    async with connection(settings, name=name, statement_timeout="0", search_path="public") as opened:
        yield opened


@asynccontextmanager
async def pool(
    settings: DatabaseSettings,
    *,
    size: int,
    name: str = "afresh",
    session: Mapping[str, str] | None = None,
    connection_class: type[asyncpg.Connection] = asyncpg.Connection,
    init: Callable[..., Coroutine[Any, Any, None]] = _nothing,
) -> AsyncIterator[asyncpg.Pool]:
    """A pool of at most ``size`` connections, opened as they are needed; dead ones are replaced.

    ``session`` are settings of their sessions that are otherwise than ours are; ``init`` is awaited for each new one, which
    is cut where that fails: asyncpg would close it, and wait for the server without end.

    A connection is given back as it is: whatever we set, we set for a transaction, and a reset would cost every use
    another round trip, and hang where the server does.

    Left by an error or a cancellation it does not wait for connections in use, it cuts them.
    """

    async def begin(connection: asyncpg.Connection) -> None:
        try:
            with cut_after(connection, settings.connect_timeout):
                await init(connection)
        except BaseException:
            cut(connection)
            raise

    async with explained(settings):
        made = asyncpg.create_pool(
            settings.dsn,
            min_size=0,
            max_size=size,
            timeout=settings.connect_timeout,
            reset=_nothing,
            init=begin,
            connection_class=connection_class,
            server_settings={**_SESSION, **(session or {}), "application_name": name},
        )
        await made
    try:
        yield made
        with contextlib.suppress(*TRANSIENT):  # the server may not answer a goodbye; what follows does not ask it
            await asyncio.wait_for(made.close(), settings.connect_timeout)
    finally:
        made.terminate()


@asynccontextmanager
async def lent(pool: asyncpg.Pool, seconds: float) -> AsyncIterator[Connection]:
    """A connection of the pool, for at most ``seconds`` from its being lent; then it is cut, and what waits for it fails.

    It is cut from outside, since a cancelled query, a rollback and the return to the pool all wait for the server's answer,
    which a frozen one never gives. Raises TimeoutError where none is to be had within ``seconds``.
    """
    async with asyncio.timeout(seconds):  # asyncpg's own would make a task of it, which costs as much as a statement
        connection = await pool.acquire()
    async with kept(pool, connection, seconds):
        yield connection


@asynccontextmanager
async def kept(pool: asyncpg.Pool, connection: asyncpg.pool.PoolConnectionProxy, seconds: float) -> AsyncIterator[None]:
    """``connection``, which was lent by the pool, goes back to it with the block, or is cut as `lent` says."""
    try:
        with cut_after(connection, seconds):
            yield
    except BaseException as error:
        if is_last_word(error) or not isinstance(error, asyncpg.PostgresError | AfreshError):
            cut(connection)
        raise
    finally:
        await give_back(pool, connection)


@contextlib.contextmanager
def cut_after(connection: Connection, seconds: float) -> Iterator[None]:
    """``connection`` is cut where the block takes longer than ``seconds``, and what waits for it fails: from outside, since
    a server that does not answer answers no rollback either.

    Raises TimeoutError in place of what asyncpg raises on a connection that was cut; which is an AttributeError where the
    answer came in the same turn of the event loop as the cut, as it does to a process that was stopped meanwhile.
    """
    late = False

    def be_late() -> None:
        nonlocal late
        late = True
        cut(connection)

    watch = asyncio.get_running_loop().call_later(seconds, be_late)
    try:
        yield
    except (AttributeError, *_REFUSALS) as error:
        if late:
            raise TimeoutError(f"no answer within {seconds:g} s") from error
        raise
    finally:
        watch.cancel()


@asynccontextmanager
async def transaction(
    connection: Connection, *, isolation: Isolation | None = None, readonly: bool = False
) -> AsyncIterator[None]:
    """A transaction, or a savepoint within one. Left by what PostgreSQL says, or by an error of ours, it is undone, unless
    that was the server's last word; left by anything else it is for whoever owns the connection to cut: nothing is waited
    for that may not come. asyncpg's own would wait for a rollback, and so for ever where the server has frozen: and who
    then cuts the connection has its error raised in the place of the cancellation."""
    begun = connection.transaction(isolation=isolation, readonly=readonly)
    await begun.start()
    try:
        yield
    except (asyncpg.PostgresError, AfreshError) as error:
        if not is_last_word(error):
            await begun.rollback()
        raise
    await begun.commit()


def is_about_statement(error: asyncpg.PostgresError) -> bool:
    """Whether an error is about what was asked, and not about the server or the connection, which may be well later."""
    return not (error.sqlstate or "08").startswith(_NOT_NOW)


def is_last_word(error: BaseException) -> bool:
    """Whether nothing more will be heard on the connection, which may not be closed yet: the server has said this as its
    last word, or has hung up, which asyncpg says. (A user's RAISE may have a connection's SQLSTATE, and ends none.)"""
    severity = getattr(error, "severity", None)
    return severity in ("FATAL", "PANIC") or (isinstance(error, asyncpg.PostgresConnectionError) and severity is None)


async def give_back(pool: asyncpg.Pool, connection: asyncpg.pool.PoolConnectionProxy) -> None:
    """Let the pool have ``connection`` again, within `RETURN_PATIENCE`: one that has expired is closed first, and a server
    that does not answer would be waited for without end. Then it is cut; what was done on it is done."""
    try:
        await pool.release(connection, timeout=RETURN_PATIENCE)
    except TRANSIENT:
        cut(connection)


def cut(connection: Connection) -> None:
    """End the connection without a word to the server; one that is ended already stays so."""
    with contextlib.suppress(asyncpg.InterfaceError):  # the pool has taken back one that died by itself
        connection.terminate()


def said(error: BaseException) -> tuple[str, str]:
    """What an error says, and its hint, apart: PostgreSQL's own text puts the hint, and a user's command, into one."""
    if isinstance(error, asyncpg.PostgresError):
        detail, hint = getattr(error, "detail", None), getattr(error, "hint", None)
        return f"{error.args[0]}\n{detail}" if detail else str(error.args[0]), hint or ""
    if isinstance(error, AfreshError):
        return error.problem, error.hint
    if isinstance(error, TimeoutError):
        return str(error) or "no answer in time", ""
    return str(error) or type(error).__name__, ""


def milliseconds(seconds: float) -> str:
    """A limit as PostgreSQL's settings take it; at least a millisecond, since none at all means no limit."""
    return f"{max(1, round(seconds * 1000))}ms"


def raised_by_us(message: asyncpg.PostgresError | asyncpg.PostgresLogMessage) -> bool:
    """Whether a RAISE in PL/pgSQL says it, as our functions and migrations do, and not PostgreSQL of its own accord."""
    return getattr(message, "server_source_function", None) == "exec_stmt_raise"


def address(dsn: str) -> str:
    """Where ``dsn`` leads, as `host:port/database`: without the user and the password, so that it may be shown."""
    parts = urlsplit(dsn)
    query = dict(parse_qsl(parts.query))
    host = parts.netloc.rpartition("@")[2] or query.get("host") or os.environ.get("PGHOST") or "localhost"
    if not re.search(r":\d+$", host):
        host += f":{query.get('port') or os.environ.get('PGPORT') or 5432}"
    name = parts.path.strip("/") or query.get("database") or query.get("dbname") or os.environ.get("PGDATABASE", "")
    return f"{host}/{name}"


async def facts(connection: Connection) -> ServerFacts:
    """What there is to know of the server at the other end."""
    row = await connection.fetchrow(query("server_facts"))
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return ServerFacts(**dict(row))


def require_primary(facts: ServerFacts) -> None:
    """Raises `WrongDatabase` where Afresh can do nothing on a server with these facts."""
    if facts.version < OLDEST:
        raise WrongDatabase(
            f"PostgreSQL {facts.version // 10_000} is too old", hint="Afresh needs PostgreSQL 14 or later"
        )
    if facts.standby:
        raise WrongDatabase(
            "the server is a standby: it cannot refresh views, and takes no LISTEN", hint="name the primary"
        )


def require_installed(facts: ServerFacts) -> None:
    """Raises `WrongDatabase` where there is no engine on a server with these facts."""
    require_primary(facts)
    if not facts.installed:
        raise WrongDatabase("Afresh is not installed in this database", hint="run `afresh migrate up`")


def require_serving(facts: ServerFacts) -> None:
    """Raises `WrongDatabase` where a server with these facts cannot be served from."""
    require_installed(facts)
    if not facts.allowed:
        raise WrongDatabase(
            f"the role {facts.role} may not use the tables of the schema afresh",
            hint=f"let the role that installed Afresh run what `afresh sql --role {facts.role}` prints",
        )


@asynccontextmanager
async def explained(settings: DatabaseSettings) -> AsyncIterator[None]:
    """Turns what a failed connection raises into what to do about it."""
    if not settings.dsn:
        raise WrongDatabase(
            "no database is named",
            hint=f"set database.dsn in {default_file()}, or AFRESH_DATABASE__DSN, or DATABASE_URL; "
            "`afresh demo` needs none of them",
        )
    try:
        yield
    except asyncpg.InvalidCatalogNameError as error:
        raise WrongDatabase(
            f"{error}, at {address(settings.dsn)}", hint="create it, or correct the name at the end of database.dsn"
        ) from error
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise Unreachable(
            f"PostgreSQL refuses us at {address(settings.dsn)}: {error}", hint="correct the user or the password"
        ) from error
    except asyncpg.ProtocolViolationError as error:
        raise WrongDatabase(
            f"what answers at {address(settings.dsn)} is not PostgreSQL itself, a pooler perhaps: {error}",
            hint="let database.dsn name PostgreSQL itself; the application may go on using the pooler",
        ) from error
    except (asyncpg.ClientConfigurationError, ValueError) as error:
        raise WrongDatabase(
            f"database.dsn cannot be read: {error}",
            hint="write postgresql://user:password@host:5432/name; in the password %40 for @, %2F for /, %23 for #",
        ) from error
    except TimeoutError as error:
        raise Unreachable(
            f"PostgreSQL at {address(settings.dsn)} did not answer within {settings.connect_timeout:g} s",
            hint="check the address and the firewall, or raise database.connect_timeout",
        ) from error
    except _REFUSALS as error:
        raise Unreachable(
            f"PostgreSQL cannot be reached at {address(settings.dsn)}: {error}",
            hint="check that it runs, and the address in database.dsn",
        ) from error
