"""Runs named queries, on connections of their own.

In: a query that was prepared, and values. Out: its rows as JSON, written by PostgreSQL, or one batch of rows after the
other; or a `QueryError` that says whose fault it is.

JSON is written where the rows are (`row_to_json`). Measured against asyncpg's records and orjson, twelve columns of mixed
types: for 10 rows the same time and half the processor's here, for 1,000 rows three quarters of the time (5.9 ms for 8.0)
and a tenth of the processor's here (0.5 ms for 4.5), which is what an event loop has too little of. And PostgreSQL knows
all its types: no digit, offset or infinity is lost on the way.

CSV is read with a cursor. COPY would be quicker, but takes no parameters: asyncpg puts them into the statement's text, also
where `$1` stands in a comment, which a value with a line break in it would end.

Sessions are read-only, `public` is their search path, as for other things that users write, and a statement that takes
longer than its query may is stopped by PostgreSQL; a server that does not answer even that is cut off `GRACE` seconds
later. A query that may write, or is run as somebody else, has a transaction of its own, in which it may; where the answer
to its commit is lost nobody knows whether it was written, and the client is told so.

Concurrency: at most `concurrency` queries run; who waits for a connection longer than his query may take is told
so. Cancelled, a query's connection is cut, and PostgreSQL stops it within about a second. Readers of CSV hold a
connection for as long as they read: at most half of them, at least one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self, cast

import asyncpg

from afresh_notifier import database
from afresh_notifier.database import Connection
from afresh_notifier.errors import (
    NothingFound,
    QueryBusy,
    QueryConflict,
    QueryError,
    QueryFailed,
    QueryForbidden,
    QueryRefused,
    QueryTimedOut,
)
from afresh_notifier.named_queries.named_query import NamedQuery
from afresh_notifier.named_queries.parameters import Values
from afresh_notifier.named_queries.preparation import Prepared, prepare, unusable
from afresh_notifier.resources import query as statement
from afresh_notifier.settings import DatabaseSettings
from afresh_notifier.settings_queries import QueryDefaults

#: How much longer than its time a query's connection is waited for before it is cut, in seconds.
GRACE = 2.0

#: How long the reader of a CSV may hold a connection in all, in seconds.
STREAM_LIMIT = 300.0

#: How long he may leave one batch unread, in seconds.
STALL_LIMIT = 10.0

#: Rows of CSV that are in memory at a time.
BATCH = 500

#: What stands between two rows as the statement gives them: no JSON holds it as it is.
_BETWEEN = "\x1e"

#: Errors of the values, as PostgreSQL's classes of SQLSTATEs have them: data, integrity, and what a RAISE says.
_OF_VALUES = ("22", "23", "P0")

#: Classes that may come of the query or of what a client sent: a table that is gone, or a text that is no `tsquery`.
_OF_NAMES = "42"


class _Session(asyncpg.Connection):
    """A connection that remembers how long its statements may take."""

    limit = ""

    async def limit_to(self, limit: str) -> None:
        """Let statements take so long from now on: a round trip, and only where it was otherwise."""
        if limit != self.limit:
            self.limit = ""
            await self.execute(statement("query_timeout"), limit)
            self.limit = limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """All rows of an answer: ``body`` is a JSON array of objects; ``truncated``: there were more than may be told."""

    body: bytes
    count: int
    truncated: bool


class Execution:
    """The connections for named queries. Make it with `opened`."""

    def __init__(self, pool: asyncpg.Pool, concurrency: int) -> None:
        self._pool = pool
        self._streams = asyncio.Semaphore(max(1, concurrency // 2))

    @classmethod
    @asynccontextmanager
    async def opened(cls, database_settings: DatabaseSettings, settings: QueryDefaults) -> AsyncIterator[Self]:
        """For the block; connections are made as they are needed, and cut where it is left by an error."""
        session = {
            "search_path": "public",
            "default_transaction_read_only": "on",
            "statement_timeout": database.milliseconds(settings.timeout),
            "idle_in_transaction_session_timeout": database.milliseconds(STALL_LIMIT + GRACE),
            "datestyle": "ISO, YMD",
            "intervalstyle": "iso_8601",
            "bytea_output": "hex",
            "extra_float_digits": "1",
        }
        async with database.pool(
            database_settings,
            size=settings.concurrency,
            name="afresh queries",
            session=session,
            connection_class=_Session,
            init=_open_session,
        ) as pool:
            yield cls(pool, settings.concurrency)

    async def prepare(self, query: NamedQuery) -> Prepared:
        """Ask PostgreSQL about ``query``. Raises `QueryUnusable`, or another `QueryError` where it cannot be asked now."""
        async with self._explained(query), self._lent(query, query.timeout + GRACE) as connection:
            if query.role is not None:
                await _try_role(connection, query)
            try:
                prepared = await prepare(connection, query)
            except (QueryError, asyncpg.PostgresError):
                await connection.execute(statement("query_sync"))
                raise  # and whatever else it is, the connection is cut: a server that does not answer is not asked again
            await connection.execute(statement("query_sync"))
            return prepared

    async def forget(self) -> None:
        """Types have changed: connections are made anew, one after the other, since what they have prepared has the old."""
        await self._pool.expire_connections()

    async def rows(self, query: NamedQuery, prepared: Prepared, values: Values) -> Rows:
        """Run ``query``. Raises `QueryError`. Cancelled, what it writes is written or not."""
        async with (
            self._explained(query),
            self._lent(query, query.timeout + GRACE) as connection,
            _in_character(connection, query, prepared.parameters.session(values)),
        ):
            text = await connection.fetchval(prepared.rows_statement, *values)
        return _rows(text, query.max_rows)

    async def conclude(self, query: NamedQuery, session: Mapping[str, str], row: str, answer: str) -> str:
        """The end of a turn in a chat: ``row`` with ``answer``, and `then` run with that. Raises `QueryError`."""
        assert query.chat is not None  # noqa: S101 - only such queries are concluded
        async with (
            self._explained(query),
            self._lent(query, query.timeout + GRACE) as connection,
            _in_character(connection, query, session),
        ):
            chat = query.chat
            text: str = await connection.fetchval(statement("query_conclude"), row, chat.messages, chat.answer, answer)
            if query.then:
                await connection.executemany(query.then, [(text,)])  # and nothing of what it gives is read
        return text

    async def batches(
        self, query: NamedQuery, prepared: Prepared, values: Values
    ) -> AsyncGenerator[list[asyncpg.Record], None]:
        """The rows for CSV, `BATCH` at a time, with one more than `max_rows` at most. Raises `QueryError`, also between two
        batches. Close it to give the connection back."""
        async with self._explained(query):
            try:
                async with asyncio.timeout(query.timeout):
                    await self._streams.acquire()
            except TimeoutError as error:
                raise _busy(query) from error
            try:
                async with (
                    self._lent(query, STREAM_LIMIT) as connection,
                    database.transaction(connection, readonly=True),
                ):
                    await _take_on(connection, query, prepared.parameters.session(values))
                    cursor = await connection.cursor(prepared.csv_statement, *values)
                    while rows := await cursor.fetch(BATCH):
                        yield rows  # where this is closed or cancelled, the connection is cut
            finally:
                self._streams.release()

    @asynccontextmanager
    async def _lent(self, query: NamedQuery, seconds: float) -> AsyncIterator[Connection]:
        """A connection, for at most so many seconds, on which statements take no longer than ``query`` may."""
        try:
            connection = await self._pool.acquire(timeout=query.timeout)
        except TimeoutError as error:
            if self._pool.get_size() - self._pool.get_idle_size() >= self._pool.get_max_size():
                raise _busy(query) from error
            raise
        async with database.kept(self._pool, connection, seconds):
            await cast("_Session", connection).limit_to(database.milliseconds(query.timeout))
            try:
                yield connection
            except asyncpg.DataError as error:
                if _is_asyncpgs_own(error):  # it came between the preparation and the Sync: locks may be held
                    database.cut(connection)
                raise

    @asynccontextmanager
    async def _explained(self, query: NamedQuery) -> AsyncIterator[None]:
        """Turns what asyncpg raises into a `QueryError`."""
        try:
            yield
        except QueryError:
            raise
        except database.TRANSIENT as error:
            if isinstance(error, asyncpg.PostgresError) and not database.is_last_word(error):
                raise _explain(query, error) from error
            what, hint = f"PostgreSQL does not answer: {database.said(error)[0]}", "ask again"
            if query.writes:  # the end of the connection may be all that is heard of a commit
                what, hint = (
                    f"{what}; it may have been written all the same",
                    "see whether it was before you send it again",
                )
            raise QueryFailed(query.name, what, hint=f"{hint}; /readyz says whether the service is well") from error


class NamesChanged(QueryError):
    """PostgreSQL does not know what the query names, or not as it was: look at it anew, and see whether it was that."""


def _explain(query: NamedQuery, error: asyncpg.PostgresError) -> QueryError:
    what, hint = database.said(error)
    state = error.sqlstate or ""
    if isinstance(error, asyncpg.QueryCanceledError):
        return QueryTimedOut(
            query.name,
            f"{query.name} took longer than {query.timeout:g} s",
            hint="ask for less, or raise its timeout in [[queries]]",
        )
    if isinstance(error, asyncpg.DataError) and _is_asyncpgs_own(error):
        return NamesChanged(
            query.name, what, hint=hint
        )  # asyncpg's own: the value is of a type that it was, and is not
    if isinstance(error, asyncpg.UniqueViolationError | asyncpg.ExclusionViolationError):
        return QueryConflict(query.name, what, hint=hint)
    if isinstance(error, asyncpg.NoDataFoundError):
        return NothingFound(query.name, what, hint=hint)
    if isinstance(error, asyncpg.InsufficientPrivilegeError) and (query.in_character or database.raised_by_us(error)):
        return QueryForbidden(query.name, what, hint=hint)
    if state.startswith(_OF_VALUES) or database.raised_by_us(error):
        return QueryRefused(query.name, what, hint=hint)
    if state.startswith(_OF_NAMES) or isinstance(error, asyncpg.InvalidCachedStatementError):
        return NamesChanged(query.name, what, hint=hint)
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return unusable(query, error)
    if database.is_about_statement(error):
        return QueryFailed(query.name, what, hint=hint)
    return QueryFailed(query.name, f"PostgreSQL cannot answer now: {what}", hint="ask again")


@asynccontextmanager
async def _in_character(connection: Connection, query: NamedQuery, session: Mapping[str, str]) -> AsyncIterator[None]:
    """The transaction in which ``query`` is what its settings say; none, where they say nothing of the kind."""
    if not query.in_character:
        yield
        return
    async with database.transaction(connection):
        await _take_on(connection, query, session)
        yield


async def _take_on(connection: Connection, query: NamedQuery, session: Mapping[str, str]) -> None:
    """Give the transaction that has just begun the rights, the settings and the role of ``query``."""
    if query.writes:
        await connection.execute(statement("query_may_write"))
    settings = dict(session) if query.role is None else {**session, "role": query.role}
    if settings:
        await connection.execute(statement("query_character"), list(settings), list(settings.values()))


async def _try_role(connection: Connection, query: NamedQuery) -> None:
    """Whether we may be the role as which ``query`` is run. Raises `QueryUnusable`."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await _take_on(connection, query, {})
    except asyncpg.PostgresError as error:
        await transaction.rollback()
        raise unusable(
            query, error, hint=f"make the role {query.role}, and GRANT it to the role of database.dsn"
        ) from error
    await transaction.rollback()


def _is_asyncpgs_own(error: asyncpg.DataError) -> bool:
    return getattr(error, "severity", None) is None


def refused(error: NamesChanged) -> QueryRefused:
    """The same, once the query has been looked at and is as it was: then it is the values that are refused."""
    return QueryRefused(error.name, error.problem, hint=error.hint)


def _busy(query: NamedQuery) -> QueryBusy:
    return QueryBusy(
        query.name,
        f"all connections for queries were in use for {query.timeout:g} s",
        hint="ask again later, or raise query.concurrency",
    )


def _rows(text: str | None, most: int) -> Rows:
    if text is None:
        return Rows(body=b"[]", count=0, truncated=False)
    count = text.count(_BETWEEN) + 1
    truncated = count > most
    if truncated:
        text, count = text[: text.rindex(_BETWEEN)], most
    return Rows(body=f"[{text.replace(_BETWEEN, ',')}]".encode(), count=count, truncated=truncated)


async def _open_session(connection: asyncpg.Connection) -> None:
    """What a new connection has to know beside its settings: intervals are texts, or months would be lost."""
    with contextlib.suppress(asyncpg.PostgresError):
        await connection.execute(statement("query_session"))
    await connection.set_type_codec("interval", schema="pg_catalog", encoder=str, decoder=str, format="text")
