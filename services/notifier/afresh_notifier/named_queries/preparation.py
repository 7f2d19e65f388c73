"""What PostgreSQL says of a named query: its parameters' types, its columns, and the statements that run it.

In: a connection and a `NamedQuery`. Out: a `Prepared`; or `QueryUnusable`, which says what a person has to change. Nothing
of the query is run. The SQL must be one SELECT (or VALUES, TABLE, WITH … SELECT) that can stand in parentheses, so that
rows can be limited and written as JSON where they are; that it writes nothing the session's being read-only sees to. One
that may write can be an INSERT, UPDATE or DELETE with RETURNING, too.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import asyncpg

from afresh_notifier import database
from afresh_notifier.database import Connection
from afresh_notifier.errors import QueryUnusable
from afresh_notifier.named_queries import kinds
from afresh_notifier.named_queries.kinds import Kind
from afresh_notifier.named_queries.named_query import NamedQuery
from afresh_notifier.named_queries.parameters import Parameter, Parameters, parameter
from afresh_notifier.resources import query as statement

#: How a column is written: bytes as base64, a vector as a list of numbers, what is made of other values as JSON, also in a
#: CSV, and some as the text that they are in JSON, where PostgreSQL would write another; whatever else is plain.
_FORMS = {
    "timestamp": "json_text",
    "timestamptz": "json_text",
    "inet": "json_text",
    "bytea": "bytes",
    "vector": "vector",
    "halfvec": "vector",
}
_NESTED = ("array", "composite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A query that can be run. ``rows_statement`` gives all rows as one text, ``csv_statement`` each column as a text."""

    parameters: Parameters
    types: tuple[int, ...]
    columns: tuple[str, ...]
    rows_statement: str
    csv_statement: str

    @property
    def form(self) -> object:
        """What is otherwise where answers are, or what is asked."""
        return self.types, self.columns, self.rows_statement


async def prepare(connection: Connection, query: NamedQuery) -> Prepared:
    """Ask PostgreSQL about ``query``. Raises `QueryUnusable`, and what asyncpg raises where it cannot be asked now.

    Cancelling it is safe: it only reads.
    """
    try:
        bare = await connection.prepare(query.sql)
        columns = bare.get_attributes()
        types = bare.get_parameters()
        names = [column.name for column in columns]
        if not names:
            raise QueryUnusable(
                query.name,
                f"{query.file} gives no columns",
                hint="a named query is one SELECT, which gives at least one",
            )
        for name, count in Counter(names).items():
            if count > 1:
                what = f"{count} columns of {query.file} are called {name}"
                raise QueryUnusable(query.name, what, hint="give each a name of its own, with AS")
        parameters = await _parameters(connection, query, [one.oid for one in types])
        forms = ["json" if one.type.kind in _NESTED else _FORMS.get(one.type.name, "plain") for one in columns]
        row = await connection.fetchrow(statement("query_statements"), query.sql, names, forms, query.max_rows)
        assert row is not None  # noqa: S101 - an aggregate without GROUP BY has one row
        if query.then:
            await _check_then(connection, query)
    except asyncpg.PostgresError as error:
        raise unusable(query, error) from error
    _check_chat(query, names)
    try:
        for text in (row["writing"],) if query.writes else (row["rows"], row["csv"]):
            await connection.prepare(text)
    except asyncpg.PostgresError as error:
        if not database.is_about_statement(error):
            raise
        raise QueryUnusable(
            query.name,
            f"{query.file} is not one {'statement' if query.writes else 'SELECT'} that can stand in parentheses: "
            f"{database.said(error)[0]}",
            hint="one that writes is an INSERT, UPDATE or DELETE with RETURNING, or a SELECT of a function; "
            "several of these behind a WITH belong into a function"
            if query.writes
            else "a named query reads, and is one SELECT, VALUES or TABLE, with no semicolon in it; "
            "WITH may stand before it, if it only reads; writes = true lets it write",
        ) from error
    return Prepared(
        parameters=Parameters(query, parameters),
        types=tuple(one.oid for one in types),
        columns=tuple(names),
        rows_statement=row["writing" if query.writes else "rows"],
        csv_statement=row["csv"],
    )


async def _check_then(connection: Connection, query: NamedQuery) -> None:
    """Whether the statement after the query's takes one row as jsonb. Raises `QueryUnusable`."""
    types = [one.name for one in (await connection.prepare(query.then)).get_parameters()]
    if types != ["jsonb"]:
        raise QueryUnusable(
            query.name,
            f"the statement of chat.then has {_counted(len(types))} ({', '.join(types) or 'none'}), and is run with one",
            hint="write $1::jsonb for the row",
        )


def _check_chat(query: NamedQuery, names: list[str]) -> None:
    """Whether the query's row has what its `chat` step needs. Raises `QueryUnusable`."""
    for name in (query.chat.messages, query.chat.answer) if query.chat is not None else ():
        if name not in names:
            raise QueryUnusable(
                query.name,
                f"{query.file} gives no column {name}, which chat names",
                hint=f"it gives {', '.join(names)}",
            )


def unusable(query: NamedQuery, error: asyncpg.PostgresError, *, hint: str = "") -> QueryUnusable:
    """What is wrong with ``query``, from what PostgreSQL said. Raises ``error`` again where that is not about the query."""
    if not database.is_about_statement(error):
        raise error
    what, said = database.said(error)
    hint = said or hint
    if isinstance(error, asyncpg.IndeterminateDatatypeError):
        hint = hint or "say which type it has, as in $1::text"
    elif isinstance(error, asyncpg.InsufficientPrivilegeError):
        hint = hint or "let the role of database.dsn read it, with GRANT SELECT"
    elif isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        hint = "a named query only reads, unless writes = true is set for it"
    return QueryUnusable(
        query.name,
        f"{query.file}: {what}",
        hint=hint or "create what it names, which takes no new start; or correct the SQL, and start the service anew",
    )


async def _parameters(connection: Connection, query: NamedQuery, types: list[int]) -> list[Parameter]:
    """The parameters with their kinds."""
    declared = query.parameters
    if len(declared) != len(types):
        raise QueryUnusable(
            query.name,
            f"{query.file} has {_counted(len(types))}, and the settings name {_counted(len(declared))}",
            hint="write one [[queries.parameters]] for each of $1, $2 and so on, in that order",
        )
    rows = {row["asked"]: row for row in await connection.fetch(statement("query_types"), types)}
    made = []
    for number, (settings, oid) in enumerate(zip(declared, types, strict=True), 1):
        row = rows[oid]
        where = f"{settings.name} (${number} in {query.file})"
        if settings.type is not None:
            said = await _type_of(connection, settings.type)
            if said != oid:
                what = (
                    f"the settings give {where} the type {settings.type}, "
                    + ("which there is not" if said is None else f"and PostgreSQL takes it for {row['shown']}")
                )  # fmt: skip
                hint = f'write type = "{row["shown"]}", or ${number}::{settings.type} in the SQL'
                raise QueryUnusable(query.name, what, hint=hint)
        if settings.embed is not None and row["name"] not in ("vector", "halfvec"):
            raise QueryUnusable(
                query.name,
                f"{where} is made by embed, and PostgreSQL takes it for {row['shown']}",
                hint=f"write ${number}::vector({settings.dimensions}) in the SQL",
            )
        kind = _kind_of(row)
        if kind is None:
            raise QueryUnusable(
                query.name,
                f"{where} has the type {row['shown']}, which no client can send",
                hint=f"send a text, and let PostgreSQL make it of that: ${number}::text::{row['shown']}",
            )
        try:
            made.append(parameter(settings, row["shown"], kind))
        except ValueError as error:
            raise QueryUnusable(query.name, f"{where}: {error}", hint="correct it in the settings") from error
    return made


async def _type_of(connection: Connection, name: str) -> int | None:
    try:
        oid: int | None = await connection.fetchval(statement("query_type_of_name"), name)
    except asyncpg.PostgresError as error:
        if database.is_about_statement(error):  # a name that is none
            return None
        raise
    return oid


def _kind_of(row: asyncpg.Record) -> Kind | None:
    """The kind of a type, None where texts would not do for it."""
    if row["kind"] == "e":
        kind: Kind | None = kinds.enumeration(row["labels"])
    elif row["schema"] == "pg_catalog":
        kind = kinds.KINDS.get(row["name"])
    else:
        kind = kinds.OF_EXTENSIONS.get(row["name"], kinds.TEXT) if row["kind"] == "b" else None
    return kind.array() if kind is not None and row["many"] else kind


def _counted(count: int) -> str:
    return f"{count} parameter" if count == 1 else f"{count} parameters"
