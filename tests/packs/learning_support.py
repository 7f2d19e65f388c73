"""What the tests of the pack ``learning`` share: rows with sensible defaults, vectors, sample data, the pack taken down."""

from __future__ import annotations

import math
from typing import Any
from uuid import UUID

import asyncpg

from afresh_notifier import migrate, packs

PACK = packs.find("learning")

#: The six tables of the pack, in an order in which they can be emptied.
TABLES = (
    "conversation_feedback",
    "owner_corrections",
    "learning_queue",
    "response_analytics",
    "voice_transcripts",
    "learning_audit_log",
)

#: What the pack stands on.
PREREQUISITES = ("conversations", "knowledge_base")

VIEWS = ("daily_learning_metrics", "response_performance_metrics")


async def pack_up(connection: asyncpg.Connection) -> list[str]:
    """Apply the pack's migrations; returns the ids of those that were."""
    return [step.migration async for step in migrate.up(connection, [PACK.scope])]


async def pack_down(connection: asyncpg.Connection) -> list[str]:
    """Take the pack's migrations back; returns the ids of those that were."""
    return [step.migration async for step in migrate.down(connection, [PACK.scope])]


async def load_sample(connection: asyncpg.Connection, size: int | None) -> None:
    """The sample data of ``size`` conversations, as its callers load it."""
    async with connection.transaction():
        if size is not None:
            await connection.execute(f"SET LOCAL afresh.sample_size = '{size}'")
        await connection.execute(PACK.read("sample.sql"))


async def refresh(connection: asyncpg.Connection) -> None:
    """Refresh both views as the service does."""
    for view in VIEWS:
        await connection.execute(f"REFRESH MATERIALIZED VIEW CONCURRENTLY {view}")


def vector(*first: float) -> str:
    """768 numbers, as pgvector reads them: these, and then zeros."""
    return "[" + ",".join(repr(number) for number in (*first, *[0.0] * (768 - len(first)))) + "]"


def alike(cosine: float) -> str:
    """A vector whose cosine with ``vector(1)`` is this."""
    return vector(cosine, math.sqrt(1 - cosine * cosine))


def axis(number: int) -> str:
    """A vector that is like no other of these."""
    return vector(*[0.0] * number, 1.0)


async def talk(connection: asyncpg.Connection, shop: int | None = 3) -> UUID:
    """A conversation with this shop."""
    identity: UUID = await connection.fetchval("INSERT INTO conversations (shop_id) VALUES ($1) RETURNING id", shop)
    return identity


async def insert(connection: asyncpg.Connection, table: str, **columns: Any) -> UUID:
    """A row of ``table``; a text for an ``embedding`` is a vector."""
    values = [f"${n}::text::vector" if name == "embedding" else f"${n}" for n, name in enumerate(columns, start=1)]
    identity: UUID = await connection.fetchval(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(values)}) RETURNING id", *columns.values()
    )
    return identity


async def approved(connection: asyncpg.Connection, content: str, embedding: str | None, **columns: Any) -> UUID:
    """An approved item of the queue."""
    given = {"source_type": "manual", "status": "approved", **columns}
    return await insert(connection, "learning_queue", proposed_content=content, embedding=embedding, **given)


async def known(connection: asyncpg.Connection, content: str, embedding: str | None, shop: int | None = None) -> UUID:
    """An entry of the knowledge base."""
    return await insert(connection, "knowledge_base", content=content, embedding=embedding, shop_id=shop)


async def process(connection: asyncpg.Connection, batch: int = 100) -> int:
    """Process a batch; how many were."""
    processed: int = await connection.fetchval("SELECT batch_process_learning($1)", batch)
    return processed


async def similar(
    connection: asyncpg.Connection,
    embedding: str | None,
    *,
    shop: int | None = None,
    content: str = "something else",
    threshold: float | None = 0.85,
) -> list[tuple[str, float]]:
    """What ``check_similar_knowledge`` finds: texts and their similarities."""
    rows = await connection.fetch(
        "SELECT content, similarity FROM check_similar_knowledge($1, $2, $3::text::vector, $4::float8::numeric)",
        shop,
        content,
        embedding,
        threshold,
    )
    return [(row["content"], float(row["similarity"])) for row in rows]


async def item(connection: asyncpg.Connection, identity: UUID) -> asyncpg.Record:
    """One item of the queue."""
    row = await connection.fetchrow("SELECT * FROM learning_queue WHERE id = $1", identity)
    assert row is not None
    return row


async def statuses(connection: asyncpg.Connection) -> dict[str, str]:
    """The status of each item, by its text."""
    rows = await connection.fetch("SELECT proposed_content, status FROM learning_queue")
    return {row["proposed_content"]: row["status"] for row in rows}
