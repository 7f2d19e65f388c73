"""What the tests of the pack ``public_chat`` share: houses and units, and its queries as the service runs them."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from packs.every_pack import Expected, PackUnderTest

PUBLIC_CHAT = PackUnderTest("public_chat")
PACK = PUBLIC_CHAT.pack
pack_up, pack_down, load_sample, refresh = (
    PUBLIC_CHAT.up,
    PUBLIC_CHAT.down,
    PUBLIC_CHAT.load_sample,
    PUBLIC_CHAT.refresh,
)
failed_checks = PUBLIC_CHAT.failed_checks
read = PACK.read

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

EXPECTED = Expected(
    checks=169,
    ok_without=frozenset({"role anon", "role authenticated", "role service_role"}),
    no_view_reads=frozenset({"public.guest_reservations"}),
    sizes=(1, 7, 50, 1000),
    sized={"public.accommodation_units": int, "public.prospective_sessions": lambda size: 4 * size},
    unfilled=frozenset({"public.prospective_sessions_archive", "public.prospective_sessions_cleanups"}),
    stale={"count rows of public_chat_funnel that differ from public_chat_funnel_live"}.__eq__,
    sample_of="units",
    digests=(
        "SELECT concat(tenant_id, slug, name, is_active) FROM tenant_registry",
        "SELECT concat(id, tenant_id, name, description, amenities, capacity) FROM accommodation_units",
        "SELECT concat(id, source_unit_id, content, highlights, pricing, photos) FROM accommodation_units_public",
        "SELECT concat(session_id, cookie_id, status, utm_tracking) FROM prospective_sessions",
        "SELECT concat(id, reservation_code, guest_name, current_date - check_in_date) FROM guest_reservations",
    ),
    shown=lambda _, before, after: (
        after["sessions"] == before["sessions"] + 1
        and after["sessions_with_guests"] == before["sessions_with_guests"] + 1
    ),
    traffic_over=10,
    rounds=300,
    busy=frozenset({"public.prospective_sessions", "public.accommodation_units_public", "public.guest_reservations"}),
)


@pytest.fixture
async def houses(db: asyncpg.Connection) -> asyncpg.Connection:
    """The same, with two houses that have no units yet."""
    await db.execute(
        f"INSERT INTO tenant_registry (tenant_id, slug, name) VALUES ('{HOUSE}', 'ours', 'Ours'),"
        f" ('{OTHER}', 'other', 'Other')"
    )
    return db


@pytest.fixture
async def embedded(filled: asyncpg.Connection) -> asyncpg.Connection:
    """A database of this test's own, with the sample data of fifty units, their embeddings, and a fresh view."""
    await embed(filled)
    await refresh(filled)
    return filled


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
