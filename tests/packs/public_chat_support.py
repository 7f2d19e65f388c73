"""What the tests of the pack ``public_chat`` share: the pack in a database, its queries as the service runs them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import asyncpg
import pytest

from afresh_notifier import migrate
from afresh_notifier.migrate import Scope
from afresh_notifier.resources import sql_folder
from conftest import ServerUnderTest

FOLDER = sql_folder() / "packs" / "public_chat"
SCOPE = Scope(name="public_chat", folder=FOLDER / "migrations")

#: The tables, in an order in which they can be filled.
TABLES = (
    "tenant_registry",
    "accommodation_units",
    "guest_reservations",
    "accommodation_units_public",
    "prospective_sessions",
    "accommodation_unit_migrations",
    "prospective_sessions_archive",
    "prospective_sessions_cleanups",
)

WATCHED = (
    "tenant_registry",
    "accommodation_units_public",
    "prospective_sessions",
    "prospective_sessions_archive",
    "guest_reservations",
)

HOUSE = "11111111-1111-1111-1111-111111111111"
OTHER = "22222222-2222-2222-2222-222222222222"


def read(file: str) -> str:
    """One of the pack's files."""
    return (FOLDER / file).read_text(encoding="utf-8")


async def pack_up(connection: asyncpg.Connection) -> list[str]:
    """Apply the pack's migrations; returns the ids of those that were."""
    return [step.migration async for step in migrate.up(connection, [SCOPE])]


async def pack_down(connection: asyncpg.Connection) -> list[str]:
    """Take the pack's migrations back; returns the ids of those that were."""
    return [step.migration async for step in migrate.down(connection, [SCOPE])]


async def _install(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        async for _ in migrate.up(connection, [migrate.engine_scope(), SCOPE]):
            pass
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def pack_template(server: ServerUnderTest) -> Iterator[str]:
    """A database that holds the engine and the pack; cloned, never changed."""
    name = asyncio.run(server.create())
    asyncio.run(_install(server.dsn(name)))
    yield name
    asyncio.run(server.drop(name))


@pytest.fixture
async def pack_dsn(server: ServerUnderTest, pack_template: str) -> AsyncIterator[str]:
    """The address of this test's own database, with the pack in it."""
    name = await server.create(pack_template)
    yield server.dsn(name)
    await server.drop(name)


@pytest.fixture
async def db(pack_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's connection to it."""
    connection = await asyncpg.connect(pack_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def houses(db: asyncpg.Connection) -> asyncpg.Connection:
    """The same, with two houses that have no units yet."""
    await db.execute(
        f"INSERT INTO tenant_registry (tenant_id, slug, name) VALUES ('{HOUSE}', 'ours', 'Ours'),"
        f" ('{OTHER}', 'other', 'Other')"
    )
    return db


@pytest.fixture
async def filled(db: asyncpg.Connection) -> asyncpg.Connection:
    """The same, with the sample data of fifty units, their embeddings, and a fresh view."""
    await load_sample(db, None)
    await embed(db)
    await refresh(db)
    return db


async def load_sample(connection: asyncpg.Connection, size: int | None) -> None:
    """The sample data for ``size`` units, as its callers load it."""
    async with connection.transaction():
        if size is not None:
            await connection.execute(f"SET LOCAL afresh.sample_size = '{size}'")
        await connection.execute(read("sample.sql"))


async def refresh(connection: asyncpg.Connection) -> None:
    """Refresh the view as the service does."""
    await connection.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY public_chat_funnel")


def lexical(text: str, dimensions: int = 1024) -> str:
    """An embedding made of a text's words alone, as pgvector reads it: each word has a place and a sign of its own."""
    values = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()):
        number = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
        values[number % dimensions] += 1.0 if number >> 63 else -1.0
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return "[" + ",".join(f"{value / length:.6f}" for value in values) + "]"


async def embed(connection: asyncpg.Connection) -> None:
    """An embedding for each unit, as the service makes them."""
    for row in await connection.fetch("SELECT id, content FROM accommodation_units_public"):
        await connection.execute(
            "UPDATE accommodation_units_public SET embedding_fast = $2::text::vector WHERE id = $1",
            row["id"],
            lexical(row["content"]),
        )


async def add_unit(
    connection: asyncpg.Connection,
    name: str,
    description: str = "A room.",
    *,
    house: str = HOUSE,
    capacity: int | None = None,
    embedded: bool = True,
    **columns: Any,
) -> str:
    """A unit in its public form, written by hand; returns its id."""
    amenities = {} if capacity is None else {"capacity": capacity}
    pricing = columns.pop("pricing", {"currency": "EUR", "base_price_night": 100})
    values = {
        "tenant_id": house,
        "name": name,
        "unit_type": "room",
        "description": description,
        "short_description": description[:150],
        "amenities": json.dumps(amenities),
        "pricing": json.dumps(pricing),
        **columns,
    }
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    row = await connection.fetchrow(
        f"INSERT INTO accommodation_units_public ({', '.join(values)}) VALUES ({places}) RETURNING id, content",
        *values.values(),
    )
    assert row is not None
    if embedded:
        await connection.execute(
            "UPDATE accommodation_units_public SET embedding_fast = $2::text::vector WHERE id = $1",
            row["id"],
            lexical(row["content"]),
        )
    return str(row["id"])


async def as_role(
    connection: asyncpg.Connection,
    role: str,
    statement: str,
    *arguments: Any,
    cookie: str | None = None,
    claims: str | None = None,
) -> list[asyncpg.Record]:
    """What a request of this role gets: one transaction, its role and its settings local to it."""
    async with connection.transaction():
        await connection.execute(
            "SELECT set_config('request.cookie_id', coalesce($1, ''), true),"
            " set_config('request.jwt.claims', coalesce($2, ''), true)",
            cookie,
            claims,
        )
        await connection.execute(f"SET LOCAL ROLE {role}")
        rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
        return rows


def staff_of(house: str) -> str:
    """The claims of a house's staff."""
    return json.dumps({"role": "authenticated", "tenant_id": house})


def _plain(row: asyncpg.Record, documents: Sequence[str]) -> dict[str, Any]:
    return {key: json.loads(value) if key in documents and value else value for key, value in row.items()}


async def chat(
    connection: asyncpg.Connection,
    message: str | None,
    cookie: str | None = None,
    house: str = HOUSE,
    utm: Any = None,
    *,
    embedding: str | None = None,
) -> dict[str, Any]:
    """`POST /api/public-chat` without a chat model: the statement, and the one that follows it."""
    arguments = (message, cookie, house, None if utm is None else json.dumps(utm), embedding or lexical(message or ""))
    statement = read("queries/public_chat.sql").replace("$5", "$5::text::vector")
    (row,) = await as_role(connection, "anon", statement, *arguments, cookie=cookie)
    answer = _plain(row, ("travelIntent", "units", "messages"))
    told = json.dumps({key: value for key, value in answer.items() if key != "messages"}, default=str)
    await as_role(connection, "anon", read("queries/public_chat_answered.sql"), told, cookie=cookie)
    return answer


async def session(connection: asyncpg.Connection, cookie: str, setting: str | None = None) -> dict[str, Any] | None:
    """`GET /api/public-chat/session/{cookieId}`; None: not found."""
    rows = await as_role(
        connection,
        "anon",
        read("queries/public_chat_session.sql"),
        cookie,
        cookie=cookie if setting is None else setting,
    )
    assert len(rows) <= 1
    return _plain(rows[0], ("conversation", "travelIntent", "utm")) if rows else None


async def convert(connection: asyncpg.Connection, cookie: str | None, **given: Any) -> dict[str, Any]:
    """`POST /api/public-chat/convert`."""
    names = ("guestName", "guestEmail", "guestPhone", "unitId", "checkIn", "checkOut", "adults", "children")
    assert set(given) <= set(names)
    (row,) = await as_role(
        connection,
        "anon",
        read("queries/public_chat_convert.sql"),
        cookie,
        *(given.get(name) for name in names),
        cookie=cookie,
    )
    return _plain(row, ("guests",))
