"""What the tests of the pack ``learning`` share: rows with sensible defaults, and vectors."""

from __future__ import annotations

import math
from typing import Any
from uuid import UUID

import asyncpg

from packs.every_pack import Expected, PackUnderTest

LEARNING = PackUnderTest("learning")
PACK = LEARNING.pack
pack_up, pack_down, load_sample, refresh = LEARNING.up, LEARNING.down, LEARNING.load_sample, LEARNING.refresh
failed_checks = LEARNING.failed_checks

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

EXPECTED = Expected(
    checks=201,
    no_view_reads=frozenset({"public.knowledge_base"}),
    sizes=(1, 50, 300),
    sized={"public.conversations": int},
    stale=lambda failed: "response_performance_metrics equals response_performance_metrics_live" in failed,
    sample_of="conversations",
    digests=(
        "SELECT concat(id, shop_id, channel, status) FROM conversations",
        "SELECT concat(shop_id, content, category, source, left(embedding::text, 200)) FROM knowledge_base",
        "SELECT concat(id, feedback_type, rating, reason) FROM conversation_feedback",
        "SELECT concat(id, priority, corrected_answer, applied_at IS NULL) FROM owner_corrections",
        "SELECT concat(source_type, source_id, shop_id, status, proposed_content) FROM learning_queue",
        "SELECT concat(confidence_score, left(embedding::text, 200)) FROM learning_queue",
        "SELECT concat(id, response_type, user_engagement_score, led_to_conversion) FROM response_analytics",
        "SELECT concat(id, sentiment, transcript, entities) FROM voice_transcripts",
        "SELECT concat(action, count(*)) FROM learning_audit_log GROUP BY action",
    ),
    shown=lambda _, before, after: (
        (after["pending"], after["rejected"]) != (before["pending"], before["rejected"])
        and (after["date"], after["other"]) == (before["date"], before["other"])
    ),
    rounds=600,
    rests=True,
    busy=frozenset(f"public.{table}" for table in TABLES if table != "voice_transcripts"),
    bounds={
        "SELECT count(*) FROM conversation_feedback": 25,
        "SELECT count(*) FROM owner_corrections": 15,
        "SELECT count(*) FROM response_analytics": 50,
        "SELECT count(*) FROM learning_queue": 60,
        "SELECT count(*) FROM learning_audit_log": 200,
    },
)


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
