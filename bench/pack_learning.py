"""What the pack `learning` costs: a feedback's trigger, a search for similar knowledge, a batch, a refresh.

What its requirements ask for is named in the column beside: batches of 100 to 1,000 items, a search that stays fast as the
knowledge grows, views that can be refreshed every hour. Vectors are made up: 768 numbers around one of a thousand middles,
so that each has neighbours, as texts have.
"""

from __future__ import annotations

import time

import asyncpg

from afresh_notifier import migrate, packs
from bench.report import Report, milliseconds, quantile
from bench.setup import progress, server


async def measure(scale: float) -> Report:
    """Run it: ``scale`` 1 is 100,000 entries of knowledge and a million responses."""
    rows: list[tuple[str, ...]] = []
    with server() as running:
        connection = await asyncpg.connect(running.dsn())
        pack = packs.find("learning")
        async for _ in migrate.up(connection, packs.installable([pack])):
            pass
        await connection.execute(_HELPERS)
        await connection.execute("SET maintenance_work_mem = '512MB'")
        with progress() as shown:
            doing = shown.add_task("feedback", total=None)
            rows += await _feedback(connection, max(50, round(1000 * scale)))
            before = 0
            for entries in (max(500, round(10_000 * scale)), max(1000, round(100_000 * scale))):
                shown.update(doing, description=f"{entries:,} entries of knowledge")
                # A graph is built faster than it grows.
                await connection.execute("DROP INDEX idx_knowledge_embedding")
                await connection.execute(_KNOWLEDGE, before, entries)
                await connection.execute(_INDEX)
                await connection.execute("VACUUM ANALYZE knowledge_base")
                before = entries
                rows += await _search(connection, entries, max(50, round(500 * scale)))
            for size in (100, 1000):
                shown.update(doing, description=f"a batch of {size:,}")
                rows.append(await _batch(connection, size, before))
            responses = max(10_000, round(1_000_000 * scale))
            shown.update(doing, description=f"{responses:,} responses")
            rows += await _refreshes(connection, responses)
        await connection.close()
    return Report(
        title="The learning pipeline",
        columns=("what", "asked for", "p50", "p95"),
        rows=tuple(rows),
        note="Feedback: synchronous_commit off, in turns with the trigger off. Searches: for one of 50 shops, after "
        "ten unmeasured ones. A batch is one call; half of its items are known. Refreshes: CONCURRENTLY, five times.",
    )


async def _timed(connection: asyncpg.Connection, statement: str, *arguments: object) -> float:
    began = time.perf_counter()
    await connection.execute(statement, *arguments)
    return time.perf_counter() - began


def _row(what: str, asked: str, times: list[float]) -> tuple[str, ...]:
    return (what, asked, milliseconds(quantile(times, 0.5)), milliseconds(quantile(times, 0.95)))


async def _feedback(connection: asyncpg.Connection, rounds: int) -> list[tuple[str, ...]]:
    """A negative feedback with its trigger and without, in turns."""
    conversation = await connection.fetchval("INSERT INTO conversations (shop_id) VALUES (1) RETURNING id")
    times: dict[str, list[float]] = {"ENABLE": [], "DISABLE": []}
    await connection.execute("SET synchronous_commit = off")
    for _ in range(rounds // 25):
        for state, taken in times.items():
            await connection.execute(f"ALTER TABLE conversation_feedback {state} TRIGGER trg_feedback_learning")
            await connection.execute(_FEEDBACK, conversation)
            taken += [await _timed(connection, _FEEDBACK, conversation) for _ in range(25)]
    await connection.execute("RESET synchronous_commit")
    await connection.execute("ALTER TABLE conversation_feedback ENABLE TRIGGER trg_feedback_learning")
    await connection.execute("DELETE FROM learning_queue")
    return [
        _row("a negative feedback, without the trigger", "", times["DISABLE"]),
        _row("a negative feedback, queued and logged", "automatic", times["ENABLE"]),
    ]


async def _search(connection: asyncpg.Connection, entries: int, rounds: int) -> list[tuple[str, ...]]:
    """Searches for what is near to an entry, and for what is near to nothing."""
    known: list[float] = []
    unknown: list[float] = []
    for number in range(-10, rounds):
        for times, center in ((known, number % 1000), (unknown, 5000 + number)):
            embedding = await connection.fetchval("SELECT made_up($1, $2)::text", center, -1 - number)
            began = time.perf_counter()
            await connection.fetch(
                "SELECT * FROM check_similar_knowledge($1, 'asked', $2::text::vector)", number % 50, embedding
            )
            if number >= 0:
                times.append(time.perf_counter() - began)
    return [
        _row(f"similar knowledge among {entries:,}, there is some", "fast (HNSW)", known),
        _row(f"similar knowledge among {entries:,}, there is none", "fast (HNSW)", unknown),
    ]


async def _batch(connection: asyncpg.Connection, size: int, entries: int) -> tuple[str, ...]:
    """Batches of so many, half of which are known."""
    times = []
    for number in range(3):
        await connection.execute(_ITEMS, number * size, (number + 1) * size)
        times.append(await _timed(connection, "SELECT batch_process_learning($1)", size))
        await connection.execute("DELETE FROM learning_queue")
    return _row(f"a batch of {size:,}, knowledge of {entries:,}", "100 to 1,000 items", times)


async def _refreshes(connection: asyncpg.Connection, responses: int) -> list[tuple[str, ...]]:
    """Both views; the queue has a tenth as many items as there are responses."""
    await connection.execute("ALTER TABLE learning_queue DISABLE TRIGGER USER")
    await connection.execute(_RESPONSES, responses)
    await connection.execute(_QUEUE, responses // 10)
    await connection.execute("VACUUM ANALYZE response_analytics")
    await connection.execute("VACUUM ANALYZE learning_queue")
    rows = []
    for view, what in (
        ("response_performance_metrics", f"{responses:,} responses"),
        ("daily_learning_metrics", f"{responses // 10:,} items"),
    ):
        statement = f"REFRESH MATERIALIZED VIEW CONCURRENTLY {view}"
        await connection.execute(statement)
        times = [await _timed(connection, statement) for _ in range(5)]
        rows.append(_row(f"refresh of {view}, {what}", "hourly", times))
    return rows


_HELPERS = """
CREATE FUNCTION made_up(center bigint, item bigint) RETURNS vector LANGUAGE sql IMMUTABLE AS $$
    SELECT array_agg(
        ((hashint8extended(center * 1000 + place, 1) & 65535) - 32768)::float8
        + 0.35 * ((hashint8extended(item * 1000 + place, 2) & 65535) - 32768)
    )::vector
    FROM generate_series(1, 768) AS place
$$
"""

_KNOWLEDGE = """
INSERT INTO knowledge_base (shop_id, content, embedding)
SELECT n % 50, 'entry ' || n, made_up(n % 1000, n)
FROM generate_series($1::bigint + 1, $2::bigint) AS n
"""

_INDEX = "CREATE INDEX idx_knowledge_embedding ON knowledge_base USING hnsw (embedding vector_cosine_ops)"

_FEEDBACK = """
INSERT INTO conversation_feedback (conversation_id, feedback_type, reason)
VALUES ($1, 'thumbs_down', 'The opening hours are others on public holidays.')
"""

_ITEMS = """
INSERT INTO learning_queue (source_type, status, shop_id, proposed_content, embedding)
SELECT
    'manual', 'approved', n % 50, 'item ' || n,
    made_up(CASE WHEN n % 2 = 0 THEN n % 1000 ELSE 10000 + n END, 1000000 + n)
FROM generate_series($1::bigint + 1, $2::bigint) AS n
"""

_RESPONSES = """
INSERT INTO response_analytics (
    conversation_id, response_text, response_type, user_engagement_score, led_to_conversion, response_time_ms,
    ab_test_variant, created_at
)
SELECT
    (SELECT id FROM conversations LIMIT 1), 'We open at nine.',
    (ARRAY['answer', 'recommendation', 'clarification', 'handoff', 'fallback'])[n % 5 + 1], n % 101, n % 7 = 0,
    n % 3000, (ARRAY['A', 'B'])[n % 2 + 1], now() - make_interval(secs => 31536000.0 * n / $1::float8)
FROM generate_series(1, $1::bigint) AS n
"""

_QUEUE = """
INSERT INTO learning_queue (source_type, status, shop_id, proposed_content, confidence_score, created_at)
SELECT
    (ARRAY['feedback', 'correction', 'manual'])[n % 3 + 1],
    (ARRAY['pending', 'approved', 'rejected', 'applied'])[n % 4 + 1],
    n % 50, 'item ' || n, n % 101, now() - make_interval(secs => 31536000.0 * n / $1::float8)
FROM generate_series(1, $1::bigint) AS n
"""
