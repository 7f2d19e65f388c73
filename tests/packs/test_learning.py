"""The pack ``learning``: feedback and corrections become items of the queue, approved items become knowledge."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from conftest import eventually
from packs.learning_support import (
    VIEWS,
    alike,
    approved,
    axis,
    insert,
    item,
    known,
    process,
    refresh,
    similar,
    statuses,
    talk,
    vector,
)

REVIEWER = UUID("00000000-0000-0000-0000-00000000000a")


async def only_item(db: asyncpg.Connection) -> asyncpg.Record:
    """The one item of the queue."""
    (row,) = await db.fetch("SELECT * FROM learning_queue")
    return row


async def log(db: asyncpg.Connection, action: str | None = None) -> list[tuple[Any, ...]]:
    """The audit log: action, table, record, old values, new values, who; the oldest first."""
    rows = await db.fetch("SELECT * FROM learning_audit_log ORDER BY performed_at, ctid")
    return [
        (
            row["action"],
            row["table_name"],
            row["record_id"],
            json.loads(row["old_values"] or "null"),
            json.loads(row["new_values"] or "null"),
            row["performed_by"],
        )
        for row in rows
        if action is None or row["action"] == action
    ]


# Feedback and corrections


@pytest.mark.parametrize(
    ("kind", "rating", "queued"),
    [
        ("thumbs_down", None, True),
        ("thumbs_down", 5, True),
        ("thumbs_down", 2, True),
        ("rating", 1, True),
        ("rating", 2, True),
        ("rating", 3, False),
        ("rating", 5, False),
        ("thumbs_up", None, False),
        ("thumbs_up", 2, True),
        ("comment", None, False),
        ("comment", 1, True),
    ],
)
async def test_negative_feedback_becomes_an_item_and_other_feedback_does_not(
    db: asyncpg.Connection, kind: str, rating: int | None, queued: bool
) -> None:
    feedback = await insert(
        db, "conversation_feedback", conversation_id=await talk(db), feedback_type=kind, rating=rating
    )
    rows = await db.fetch("SELECT * FROM learning_queue")
    assert [(row["source_type"], row["source_id"], row["status"]) for row in rows] == (
        [("feedback", feedback, "pending")] if queued else []
    )


async def test_the_item_of_a_feedback_holds_what_was_said(db: asyncpg.Connection) -> None:
    conversation, moment = await talk(db), datetime(2026, 3, 1, 9, tzinfo=UTC)
    await insert(
        db,
        "conversation_feedback",
        conversation_id=conversation,
        feedback_type="rating",
        rating=2,
        reason=" Not on Sundays. ",
        response_text="We are always open.",
        created_at=moment,
    )
    row = await only_item(db)
    assert row["proposed_content"] == "Not on Sundays.\nResponse: We are always open."
    assert (row["category"], row["confidence_score"], row["shop_id"]) == ("feedback", 60, 3)
    assert row["created_at"] == moment
    assert row["embedding"] is None
    assert json.loads(row["metadata"]) == {
        "conversation_id": str(conversation),
        "feedback_type": "rating",
        "rating": 2,
    }


@pytest.mark.parametrize("reason", [None, "", "  "])
async def test_feedback_without_a_reason_is_an_item_of_less_confidence(
    db: asyncpg.Connection, reason: str | None
) -> None:
    await insert(
        db,
        "conversation_feedback",
        conversation_id=await talk(db, None),
        feedback_type="thumbs_down",
        reason=reason,
        metadata='{"category": "hours"}',
    )
    row = await only_item(db)
    assert (row["proposed_content"], row["confidence_score"]) == ("Negative feedback without a reason", 40)
    assert (row["category"], row["shop_id"]) == ("hours", None)


async def test_feedback_that_names_a_shop_is_for_that_shop(db: asyncpg.Connection) -> None:
    await insert(db, "conversation_feedback", conversation_id=await talk(db, 3), feedback_type="thumbs_down", shop_id=7)
    assert (await only_item(db))["shop_id"] == 7


@pytest.mark.parametrize(("priority", "confidence"), [("low", 60), ("normal", 75), ("high", 90), ("urgent", 95)])
async def test_a_correction_s_priority_is_its_item_s_confidence(
    db: asyncpg.Connection, priority: str, confidence: int
) -> None:
    conversation = await talk(db)
    correction = await insert(
        db,
        "owner_corrections",
        conversation_id=conversation,
        original_response="At ten.",
        corrected_answer="At nine.",
        priority=priority,
        correction_context="holidays",
    )
    row = await only_item(db)
    assert (row["source_type"], row["source_id"], row["shop_id"]) == ("correction", correction, 3)
    assert (row["proposed_content"], row["category"]) == ("At nine.", "correction")
    assert row["confidence_score"] == confidence
    assert json.loads(row["metadata"]) == {
        "conversation_id": str(conversation),
        "priority": priority,
        "original_response": "At ten.",
        "correction_context": "holidays",
    }


async def test_a_correction_is_of_normal_priority_unless_said_otherwise(db: asyncpg.Connection) -> None:
    await insert(db, "owner_corrections", conversation_id=await talk(db), original_response="a", corrected_answer="b")
    assert (await only_item(db))["confidence_score"] == 75


async def test_what_the_triggers_queue_is_in_the_audit_log(db: asyncpg.Connection) -> None:
    conversation, owner = await talk(db), uuid4()
    await insert(db, "conversation_feedback", conversation_id=conversation, feedback_type="thumbs_down")
    await insert(
        db,
        "owner_corrections",
        conversation_id=conversation,
        original_response="a",
        corrected_answer="b",
        corrected_by=owner,
    )
    (_, table, _, old, new, who), (_, _, _, _, newer, whom) = await log(db, "queued")
    assert (table, old, who) == ("learning_queue", None, "postgres")
    assert (new["source_type"], new["status"], new["confidence_score"]) == ("feedback", "pending", 40)
    assert (newer["source_type"], whom) == ("correction", str(owner))


async def test_nothing_is_learnt_twice_from_one_source(db: asyncpg.Connection) -> None:
    feedback = await insert(db, "conversation_feedback", conversation_id=await talk(db), feedback_type="thumbs_down")
    with pytest.raises(asyncpg.UniqueViolationError):
        await insert(db, "learning_queue", source_type="feedback", source_id=feedback, proposed_content="again")
    # The trigger passes over what is queued already, such as by an import.
    other = uuid4()
    await insert(db, "learning_queue", source_type="feedback", source_id=other, proposed_content="imported")
    await insert(db, "conversation_feedback", id=other, conversation_id=await talk(db), feedback_type="thumbs_down")
    assert await db.fetchval("SELECT count(*) FROM learning_queue WHERE source_id = $1", other) == 1
    for _ in range(2):
        await insert(db, "learning_queue", source_type="manual", proposed_content="the same by hand")


BAD = [
    ("conversation_feedback", {"feedback_type": "shrug"}, asyncpg.CheckViolationError),
    ("conversation_feedback", {"feedback_type": "thumbs_up", "rating": 0}, asyncpg.CheckViolationError),
    ("conversation_feedback", {"feedback_type": "thumbs_up", "rating": 6}, asyncpg.CheckViolationError),
    ("conversation_feedback", {"feedback_type": "rating"}, asyncpg.CheckViolationError),
    ("conversation_feedback", {"feedback_type": None}, asyncpg.NotNullViolationError),
    ("conversation_feedback", {"feedback_type": "thumbs_down", "metadata": "[]"}, asyncpg.CheckViolationError),
    ("conversation_feedback", {"feedback_type": "thumbs_up", "shop_id": -1}, asyncpg.CheckViolationError),
    ("owner_corrections", {"original_response": "a", "corrected_answer": " "}, asyncpg.CheckViolationError),
    ("owner_corrections", {"original_response": "a", "corrected_answer": None}, asyncpg.NotNullViolationError),
    (
        "owner_corrections",
        {"original_response": "a", "corrected_answer": "b", "priority": "utmost"},
        asyncpg.CheckViolationError,
    ),
    ("response_analytics", {"response_text": "a", "response_type": "song"}, asyncpg.CheckViolationError),
    (
        "response_analytics",
        {"response_text": "a", "response_type": "answer", "user_engagement_score": Decimal("100.01")},
        asyncpg.CheckViolationError,
    ),
    (
        "response_analytics",
        {"response_text": "a", "response_type": "answer", "response_time_ms": -1},
        asyncpg.CheckViolationError,
    ),
    ("voice_transcripts", {"transcript": "a", "sentiment": "furious"}, asyncpg.CheckViolationError),
    ("voice_transcripts", {"transcript": "a", "entities": '"text"'}, asyncpg.CheckViolationError),
    ("voice_transcripts", {"transcript": "a", "embedding": "[1,2,3]"}, asyncpg.DataError),
]


@pytest.mark.parametrize(("table", "columns", "error"), BAD, ids=[f"{t} {c}"[:70] for t, c, _ in BAD])
async def test_what_is_no_sense_is_refused(
    db: asyncpg.Connection, table: str, columns: dict[str, Any], error: type[Exception]
) -> None:
    conversation = await talk(db)
    with pytest.raises(error):
        await insert(db, table, conversation_id=conversation, **columns)
    assert await db.fetchval("SELECT count(*) FROM learning_queue") == 0


@pytest.mark.parametrize(
    "columns",
    [
        {"source_type": "gossip"},
        {"source_type": "manual", "status": "perhaps"},
        {"source_type": "manual", "confidence_score": 101},
        {"source_type": "manual", "confidence_score": -1},
        {"source_type": "manual", "proposed_content": "\t "[1:]},
        {"source_type": "manual", "metadata": "[]"},
    ],
)
async def test_an_item_that_is_none_is_refused(db: asyncpg.Connection, columns: dict[str, Any]) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await insert(db, "learning_queue", **{"proposed_content": "a", **columns})


async def test_an_action_that_is_none_is_refused_in_the_audit_log(db: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await insert(db, "learning_audit_log", action="guessed", table_name="learning_queue", record_id=uuid4())


@pytest.mark.parametrize("table", ["conversation_feedback", "owner_corrections", "response_analytics"])
async def test_an_unknown_conversation_is_refused(db: asyncpg.Connection, table: str) -> None:
    columns = {
        "conversation_feedback": {"feedback_type": "thumbs_down"},
        "owner_corrections": {"original_response": "a", "corrected_answer": "b"},
        "response_analytics": {"response_text": "a", "response_type": "answer"},
    }[table]
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await insert(db, table, conversation_id=uuid4(), **columns)


async def test_a_conversation_takes_its_records_along_but_not_its_transcripts_nor_what_was_learnt(
    db: asyncpg.Connection,
) -> None:
    conversation = await talk(db)
    await insert(db, "conversation_feedback", conversation_id=conversation, feedback_type="thumbs_down")
    await insert(db, "owner_corrections", conversation_id=conversation, original_response="a", corrected_answer="b")
    await insert(db, "response_analytics", conversation_id=conversation, response_text="a", response_type="answer")
    await insert(db, "voice_transcripts", conversation_id=conversation, transcript="a")
    await db.execute("DELETE FROM conversations")
    for table in ("conversation_feedback", "owner_corrections", "response_analytics"):
        assert await db.fetchval(f"SELECT count(*) FROM {table}") == 0, table
    assert [row["conversation_id"] for row in await db.fetch("SELECT * FROM voice_transcripts")] == [None]
    assert await db.fetchval("SELECT count(*) FROM learning_queue") == 2


# The queue's own rules


async def test_updated_at_moves_with_every_update_even_inside_a_transaction(db: asyncpg.Connection) -> None:
    async with db.transaction():
        made = await insert(db, "learning_queue", source_type="manual", proposed_content="a")
        moments = [(await item(db, made))["updated_at"]]
        for _ in range(2):
            await db.execute("UPDATE learning_queue SET category = category")
            moments.append((await item(db, made))["updated_at"])
    assert moments[0] < moments[1] < moments[2]


@pytest.mark.parametrize("status", ["approved", "rejected"])
async def test_a_decision_brings_its_date(db: asyncpg.Connection, status: str) -> None:
    made = await insert(db, "learning_queue", source_type="manual", proposed_content="a")
    await db.execute("UPDATE learning_queue SET status = $1, reviewed_by = $2", status, REVIEWER)
    row = await item(db, made)
    assert row["reviewed_at"] == row["updated_at"]
    assert row["applied_at"] is None
    ((action, table, record, old, new, who),) = await log(db)
    assert (action, table, record, who) == (status, "learning_queue", made, str(REVIEWER))
    assert old == {"status": "pending", "reviewed_at": None, "reviewed_by": None}
    assert new["status"] == status
    assert datetime.fromisoformat(new["reviewed_at"]) == row["reviewed_at"]


async def test_an_item_that_is_taken_up_again_loses_its_review(db: asyncpg.Connection) -> None:
    made = await insert(db, "learning_queue", source_type="manual", proposed_content="a")
    await db.execute("UPDATE learning_queue SET status = 'rejected', reviewed_by = $1", REVIEWER)
    await db.execute("UPDATE learning_queue SET status = 'pending'")
    row = await item(db, made)
    assert (row["reviewed_at"], row["reviewed_by"]) == (None, None)
    assert [entry[0] for entry in await log(db)] == ["rejected", "reopened"]
    assert (await log(db))[1][5] == "postgres"


@pytest.mark.parametrize("final", ["applied", "duplicate"])
@pytest.mark.parametrize("after", ["pending", "approved", "rejected", "failed"])
async def test_what_is_applied_or_a_duplicate_stays_so(db: asyncpg.Connection, final: str, after: str) -> None:
    await insert(db, "learning_queue", source_type="manual", proposed_content="a", status=final)
    with pytest.raises(asyncpg.CheckViolationError, match=f"is {final} and cannot become {after}") as raised:
        await db.execute("UPDATE learning_queue SET status = $1", after)
    assert "knowledge base" in (raised.value.hint or "")
    await db.execute("UPDATE learning_queue SET category = 'other'")


@pytest.mark.parametrize("status", ["approved", "rejected", "applied", "duplicate"])
async def test_only_pending_and_failed_items_are_reviewed(db: asyncpg.Connection, status: str) -> None:
    await insert(db, "learning_queue", source_type="manual", proposed_content="a", status=status)
    with pytest.raises(asyncpg.CheckViolationError, match=f"is {status} already and cannot be reviewed"):
        await db.execute("UPDATE learning_queue SET reviewed_at = clock_timestamp()")
    await db.execute("TRUNCATE learning_queue")
    for other in ("pending", "failed"):
        await insert(db, "learning_queue", source_type="manual", proposed_content="a", status=other)
    await db.execute("UPDATE learning_queue SET status = 'approved', reviewed_at = clock_timestamp()")


async def test_a_text_that_changed_makes_its_embedding_void(db: asyncpg.Connection) -> None:
    made = await approved(db, "a", vector(1))
    await db.execute("UPDATE learning_queue SET category = 'x'")
    assert (await item(db, made))["embedding"] is not None
    await db.execute("UPDATE learning_queue SET proposed_content = 'b', embedding = $1::text::vector", axis(4))
    assert (await item(db, made))["embedding"] is not None
    await db.execute("UPDATE learning_queue SET proposed_content = 'c'")
    assert (await item(db, made))["embedding"] is None


async def test_the_audit_log_says_what_changed_and_by_whom(db: asyncpg.Connection) -> None:
    made = await insert(db, "learning_queue", source_type="manual", proposed_content="a")
    await db.execute("UPDATE learning_queue SET embedding = $1::text::vector", vector(1))
    await db.execute("UPDATE learning_queue SET category = category")
    assert await log(db) == []
    async with db.transaction():
        await db.execute("SET LOCAL learning.performed_by = 'import'")
        await db.execute("UPDATE learning_queue SET category = 'x', confidence_score = 80")
    await db.execute("UPDATE learning_queue SET category = 'y'")
    assert await log(db) == [
        (
            "updated",
            "learning_queue",
            made,
            {"category": None, "confidence_score": 50},
            {"category": "x", "confidence_score": 80},
            "import",
        ),
        ("updated", "learning_queue", made, {"category": "x"}, {"category": "y"}, "postgres"),
    ]


# What is known already


@pytest.mark.parametrize(
    ("cosine", "found"), [(1.0, True), (0.9, True), (0.85, True), (0.8499, False), (0.5, False), (-1.0, False)]
)
async def test_similar_is_what_has_a_cosine_of_at_least_the_threshold(
    db: asyncpg.Connection, cosine: float, found: bool
) -> None:
    await known(db, "near", alike(cosine))
    answer = await similar(db, vector(1))
    assert [text for text, _ in answer] == (["near"] if found else [])
    assert all(similarity == pytest.approx(cosine, abs=1e-6) for _, similarity in answer)
    # A vector's length plays no part.
    assert bool(await similar(db, vector(7.5))) is found


async def test_the_threshold_is_0_85_unless_said_otherwise(db: asyncpg.Connection) -> None:
    await known(db, "near", alike(0.86))
    await known(db, "far", alike(0.84))
    for call in (
        "check_similar_knowledge(0, 'x', $1::text::vector)",
        "check_similar_knowledge(0, 'x', $1::text::vector, NULL)",
    ):
        assert [row["content"] for row in await db.fetch(f"SELECT * FROM {call}", vector(1))] == ["near"]
    assert [text for text, _ in await similar(db, vector(1), threshold=0.8)] == ["near", "far"]
    assert len(await similar(db, vector(1), threshold=-1)) == 2


async def test_the_most_similar_come_first_and_no_more_than_ten(db: asyncpg.Connection) -> None:
    for number in range(15):
        await known(db, f"entry {number}", alike(0.99 - number / 100))
    found = await similar(db, vector(1))
    assert [text for text, _ in found] == [f"entry {number}" for number in range(10)]


@pytest.mark.parametrize("everybody", [None, 0])
async def test_a_shop_sees_its_own_knowledge_and_everybody_s(db: asyncpg.Connection, everybody: int | None) -> None:
    await known(db, "all", alike(0.99), everybody)
    await known(db, "three", alike(0.98), 3)
    await known(db, "four", alike(0.97), 4)
    for shop, expected in ((3, ["all", "three"]), (4, ["all", "four"]), (5, ["all"]), (0, ["all"]), (None, ["all"])):
        assert [text for text, _ in await similar(db, vector(1), shop=shop)] == expected


async def test_the_same_text_is_similar_even_without_embeddings(db: asyncpg.Connection) -> None:
    await known(db, "Open at NINE. ", None)
    await known(db, "shop's", None, 3)
    assert await similar(db, None, content=" open at nine.") == [("Open at NINE. ", 1.0)]
    assert await similar(db, axis(5), content="open at nine.") == [("Open at NINE. ", 1.0)]
    assert await similar(db, None, content="shop's") == []
    assert await similar(db, None, content="shop's", shop=3) == [("shop's", 1.0)]
    # Found both ways it is one entry.
    await known(db, "both", alike(0.9))
    assert await similar(db, vector(1), content="both") == [("both", 1.0)]


async def test_an_embedding_of_zeros_is_similar_to_nothing(db: asyncpg.Connection) -> None:
    await known(db, "zeros", vector())
    await known(db, "one", vector(1))
    assert await similar(db, vector()) == []
    assert await similar(db, vector(1)) == [("one", 1.0)]


@pytest.mark.parametrize("threshold", [1.01, -1.01, float("nan")])
async def test_a_threshold_that_is_none_is_refused(db: asyncpg.Connection, threshold: float) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="cannot be"):
        await similar(db, vector(1), threshold=threshold)


async def test_an_embedding_of_another_length_is_refused(db: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="has 3 dimensions"):
        await similar(db, "[1,2,3]")


async def fill_knowledge(db: asyncpg.Connection, entries: int, shop: int) -> None:
    """So many entries in random directions, all of one shop."""
    await db.execute(
        "INSERT INTO knowledge_base (shop_id, content, embedding)"
        " SELECT $2, 'noise ' || n, ("
        "  SELECT array_agg(((hashint8extended(n * 1000 + place, 1) & 65535) - 32768)::float8)"
        "  FROM generate_series(1, 768) AS place"
        " )::vector"
        " FROM generate_series(1, $1::int) AS n",
        entries,
        shop,
    )
    await db.execute("ANALYZE knowledge_base")


async def test_the_search_goes_through_the_hnsw_index(db: asyncpg.Connection) -> None:
    await fill_knowledge(db, 1500, 3)
    await known(db, "needle", alike(0.95), 3)
    scans = "SELECT pg_stat_get_xact_numscans('idx_knowledge_embedding'::regclass)"
    async with db.transaction():
        before = await db.fetchval(scans)
        assert await similar(db, vector(1), shop=3) == [("needle", 0.95)]
        assert await db.fetchval(scans) == before + 1


@pytest.mark.parametrize("others", [200, 1100])
async def test_a_shop_s_entry_is_found_behind_many_of_other_shops(db: asyncpg.Connection, others: int) -> None:
    # The index's first candidates are a hundred, and it is asked for a thousand: both are all of another shop.
    await db.executemany(
        "INSERT INTO knowledge_base (shop_id, content, embedding) VALUES (4, $1, $2::text::vector)",
        [(f"other {number}", vector(1, number / 10_000)) for number in range(others)],
    )
    await fill_knowledge(db, 600, 3)
    await known(db, "needle", alike(0.9), 3)
    await known(db, "nothing", vector(), 3)
    assert await similar(db, vector(1), shop=3) == [("needle", 0.9)]
    assert len(await similar(db, vector(1), shop=3, threshold=-1)) == 10
    assert len(await similar(db, vector(1), shop=4)) == 10


# What is approved becomes knowledge


async def test_approved_items_become_knowledge(db: asyncpg.Connection) -> None:
    made = await approved(
        db, "At nine.", vector(1), shop_id=3, category="hours", confidence_score=90, metadata='{"a": 1}'
    )
    assert await process(db) == 1
    row = await item(db, made)
    (entry,) = await db.fetch("SELECT * FROM knowledge_base")
    assert (row["status"], json.loads(row["metadata"])) == ("applied", {"a": 1, "knowledge_id": str(entry["id"])})
    assert row["applied_at"] is not None
    assert (entry["shop_id"], entry["content"], entry["category"]) == (3, "At nine.", "hours")
    assert (entry["source"], entry["source_id"], entry["embedding"]) == ("learning", made, row["embedding"])
    assert json.loads(entry["metadata"]) == {"source_type": "manual", "confidence_score": 90}
    ((action, _, record, old, new, who),) = await log(db)
    assert (action, record, who) == ("applied", made, "batch_process_learning")
    assert (old["status"], new["status"], old["applied_at"]) == ("approved", "applied", None)
    assert datetime.fromisoformat(new["applied_at"]) == row["applied_at"]
    assert await process(db) == 0


@pytest.mark.parametrize("status", ["pending", "rejected", "failed", "duplicate", "applied"])
async def test_items_that_are_not_approved_stay_as_they_are(db: asyncpg.Connection, status: str) -> None:
    await approved(db, "a", vector(1), status=status)
    assert await process(db) == 0
    assert await statuses(db) == {"a": status}
    assert await db.fetchval("SELECT count(*) FROM knowledge_base") == 0


async def test_an_item_without_an_embedding_waits_for_it(db: asyncpg.Connection) -> None:
    made = await approved(db, "a", None)
    await approved(db, "b", axis(1))
    assert await process(db) == 1
    assert await statuses(db) == {"a": "approved", "b": "applied"}
    await db.execute("UPDATE learning_queue SET embedding = $2::text::vector WHERE id = $1", made, axis(2))
    assert await process(db) == 1
    assert await statuses(db) == {"a": "applied", "b": "applied"}


@pytest.mark.parametrize(("cosine", "status"), [(1.0, "duplicate"), (0.85, "duplicate"), (0.84, "applied")])
async def test_what_is_known_already_is_a_duplicate(db: asyncpg.Connection, cosine: float, status: str) -> None:
    entry = await known(db, "known", alike(cosine))
    made = await approved(db, "new", vector(1))
    assert await process(db) == 1
    row = await item(db, made)
    assert row["status"] == status
    if status == "duplicate":
        assert json.loads(row["metadata"]) == {"duplicate_of": str(entry), "similarity": pytest.approx(cosine)}
        assert row["applied_at"] is None
        assert [entry[0] for entry in await log(db)] == ["duplicate"]
    assert await db.fetchval("SELECT count(*) FROM knowledge_base") == (1 if status == "duplicate" else 2)


@pytest.mark.parametrize(
    ("knows", "asks", "status"),
    [(3, 3, "duplicate"), (None, 3, "duplicate"), (0, 3, "duplicate"), (4, 3, "applied"), (3, None, "applied")],
)
async def test_a_duplicate_is_one_for_those_who_know(
    db: asyncpg.Connection, knows: int | None, asks: int | None, status: str
) -> None:
    await known(db, "known", vector(1), knows)
    await approved(db, "new", vector(1), shop_id=asks)
    assert await process(db) == 1
    assert await statuses(db) == {"new": status}


async def test_items_of_one_batch_are_compared_with_each_other(db: asyncpg.Connection) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    for number, text in enumerate(("first", "second", "other")):
        await approved(
            db, text, axis(9) if text == "other" else alike(1 - number / 100), created_at=moment + timedelta(number)
        )
    assert await process(db) == 3
    assert await statuses(db) == {"first": "applied", "second": "duplicate", "other": "applied"}


async def test_a_batch_takes_the_oldest_and_no_more_than_asked_for(db: asyncpg.Connection) -> None:
    for number in (3, 1, 2):
        await approved(db, str(number), axis(number), created_at=datetime(2026, 1, number, tzinfo=UTC))
    assert await process(db, 2) == 2
    assert await statuses(db) == {"1": "applied", "2": "applied", "3": "approved"}


async def test_a_batch_is_of_a_hundred_unless_said_otherwise(db: asyncpg.Connection) -> None:
    for number in range(101):
        await approved(db, str(number), axis(number))
    assert await db.fetchval("SELECT batch_process_learning()") == 100
    assert await process(db) == 1


@pytest.mark.parametrize("size", [0, -1, None])
async def test_a_batch_of_nothing_is_refused(db: asyncpg.Connection, size: int | None) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="cannot be"):
        await db.fetchval("SELECT batch_process_learning($1)", size)


REFUSING = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'not this one' USING ERRCODE = '{state}', DETAIL = 'since it is bad';
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON knowledge_base
    FOR EACH ROW WHEN (NEW.content LIKE 'bad%') EXECUTE FUNCTION refuse();
"""


async def test_an_item_that_fails_says_why_and_stops_no_other(db: asyncpg.Connection) -> None:
    await db.execute(REFUSING.format(state="23514"))
    made = {text: await approved(db, text, axis(n)) for n, text in enumerate(("a", "bad 1", "b", "bad 2", "c"))}
    assert await process(db) == 3
    assert await statuses(db) == {"a": "applied", "bad 1": "failed", "b": "applied", "bad 2": "failed", "c": "applied"}
    error = json.loads((await item(db, made["bad 1"]))["metadata"])["error"]
    assert (error["sqlstate"], error["message"], error["detail"]) == ("23514", "not this one", "since it is bad")
    assert datetime.fromisoformat(error["at"]).tzinfo is not None
    assert [entry[5] for entry in await log(db, "failed")] == ["batch_process_learning"] * 2
    assert await process(db) == 0

    # It can be approved again, and what was wrong is forgotten once it is right.
    await db.execute("DROP TRIGGER refuse ON knowledge_base")
    await db.execute(
        "UPDATE learning_queue SET status = 'approved', reviewed_at = clock_timestamp() WHERE id = $1", made["bad 1"]
    )
    assert await process(db) == 1
    row = await item(db, made["bad 1"])
    assert row["status"] == "applied"
    assert set(json.loads(row["metadata"])) == {"knowledge_id"}


@pytest.mark.parametrize("state", ["40P01", "40001", "53100", "55P03"])
async def test_what_is_not_the_item_s_fault_leaves_it_approved(db: asyncpg.Connection, state: str) -> None:
    await db.execute(REFUSING.format(state=state))
    await approved(db, "bad", axis(1))
    await approved(db, "good", axis(2))
    assert await process(db) == 1
    assert await statuses(db) == {"bad": "approved", "good": "applied"}


async def test_an_embedding_of_zeros_fails(db: asyncpg.Connection) -> None:
    made = await approved(db, "empty", vector())
    assert await process(db) == 0
    error = json.loads((await item(db, made))["metadata"])["error"]
    assert "all zeros" in error["message"]


async def approve_all(db: asyncpg.Connection, embedding: str) -> None:
    await db.execute(
        "UPDATE learning_queue SET status = 'approved', embedding = $1::text::vector WHERE status = 'pending'",
        embedding,
    )


async def test_a_correction_is_applied_with_its_item(db: asyncpg.Connection) -> None:
    correction = await insert(
        db, "owner_corrections", conversation_id=await talk(db), original_response="a", corrected_answer="b"
    )
    await approve_all(db, vector(1))
    assert await process(db) == 1
    moment = await db.fetchval("SELECT applied_at FROM owner_corrections")
    assert moment is not None
    ((_, table, record, old, new, who),) = await log(db, "correction_applied")
    assert (table, record, old, who) == (
        "owner_corrections",
        correction,
        {"applied_at": None},
        "batch_process_learning",
    )
    assert datetime.fromisoformat(new["applied_at"]) == moment
    assert new["knowledge_id"] == str(await db.fetchval("SELECT id FROM knowledge_base"))


async def test_a_correction_that_is_a_duplicate_stays_to_be_looked_at(db: asyncpg.Connection) -> None:
    await known(db, "We open at ten.", alike(0.95))
    await insert(
        db,
        "owner_corrections",
        conversation_id=await talk(db),
        original_response="At ten.",
        corrected_answer="At nine.",
    )
    await approve_all(db, vector(1))
    assert await process(db) == 1
    assert await db.fetchval("SELECT count(*) FROM owner_corrections WHERE applied_at IS NULL") == 1


async def test_a_batch_leaves_the_session_s_settings_as_they_were(db: asyncpg.Connection) -> None:
    await approved(db, "a", axis(1))
    async with db.transaction():
        await db.execute("SET LOCAL learning.performed_by = 'somebody'")
        await process(db)
        assert await db.fetchval("SHOW learning.performed_by") == "somebody"


async def test_two_sessions_process_different_items_and_none_waits(db: asyncpg.Connection, pack_dsn: str) -> None:
    for number in range(6):
        await approved(db, str(number), axis(number), created_at=datetime(2026, 1, 1 + number, tzinfo=UTC))
    other = await asyncpg.connect(pack_dsn)
    try:
        async with db.transaction():
            assert await process(db, 4) == 4
            async with other.transaction():
                await other.execute("SET LOCAL lock_timeout = '1ms'")
                assert await process(other, 4) == 2
    finally:
        await other.close()
    assert set((await statuses(db)).values()) == {"applied"}
    assert await db.fetchval("SELECT count(*) FROM knowledge_base") == 6


async def test_an_item_waits_for_an_older_one_like_it_in_another_session(db: asyncpg.Connection, pack_dsn: str) -> None:
    for number, (text, shop) in enumerate((("older", None), ("younger", 3), ("unlike", 3))):
        await approved(
            db,
            text,
            axis(9) if text == "unlike" else alike(1 - number / 100),
            shop_id=shop,
            created_at=datetime(2026, 1, 1 + number, tzinfo=UTC),
        )
    other = await asyncpg.connect(pack_dsn)
    try:
        async with db.transaction():
            assert await process(db, 1) == 1
            assert await process(other, 10) == 1
            assert (await statuses(other))["younger"] == "approved"
        assert await process(other, 10) == 1
    finally:
        await other.close()
    assert await statuses(db) == {"older": "applied", "younger": "duplicate", "unlike": "applied"}


async def test_what_holds_for_one_shop_does_not_wait_for_another_s(db: asyncpg.Connection, pack_dsn: str) -> None:
    for number, shop in enumerate((3, 4, None)):
        await approved(db, str(shop), vector(1), shop_id=shop, created_at=datetime(2026, 1, 1 + number, tzinfo=UTC))
    other = await asyncpg.connect(pack_dsn)
    try:
        async with db.transaction():
            assert await process(db, 1) == 1
            assert await process(other, 10) == 2
    finally:
        await other.close()
    assert set((await statuses(db)).values()) == {"applied"}


async def test_eight_sessions_process_each_item_exactly_once(db: asyncpg.Connection, pack_dsn: str) -> None:
    # 400 items of 200 texts in four shops, in an order that chance has made: each text becomes one entry.
    order = [(text, shop) for text in range(50) for shop in range(1, 5) for _ in range(2)]
    random.Random(7).shuffle(order)
    await db.executemany(
        "INSERT INTO learning_queue (source_type, status, shop_id, proposed_content, embedding, created_at)"
        " VALUES ('manual', 'approved', $1, $2, $3::text::vector, $4)",
        [
            (shop, f"text {text}", axis(text), datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number))
            for number, (text, shop) in enumerate(order)
        ],
    )
    counts: list[int] = []

    async def work() -> None:
        connection = await asyncpg.connect(pack_dsn)
        try:

            async def nothing_left() -> bool:
                counts.append(await process(connection, 7))
                left: int = await connection.fetchval("SELECT count(*) FROM learning_queue WHERE status = 'approved'")
                return left == 0

            await eventually(nothing_left)
        finally:
            await connection.close()

    await asyncio.gather(*(work() for _ in range(8)))
    assert sum(counts) == 400
    outcome = await db.fetch("SELECT status, count(*) AS items FROM learning_queue GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in outcome] == [("applied", 200), ("duplicate", 200)]
    entries = await db.fetchrow(
        "SELECT count(*) AS all, count(DISTINCT (shop_id, content)) AS distinct, count(DISTINCT source_id) AS sources"
        " FROM knowledge_base"
    )
    assert entries is not None
    assert tuple(entries) == (200, 200, 200)
    logged = await db.fetch("SELECT record_id, count(*) AS lines FROM learning_audit_log GROUP BY 1")
    assert len(logged) == 400
    assert {row["lines"] for row in logged} == {1}


# The metrics


async def rows_of(db: asyncpg.Connection, view: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await db.fetch(f"SELECT * FROM {view} ORDER BY 1, 2, 3, 4")]


async def test_items_are_counted_by_day_shop_source_and_status(db: asyncpg.Connection) -> None:
    early, late, next_day = (
        datetime(2026, 5, 1, 0, 0, tzinfo=UTC),
        datetime(2026, 5, 1, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2026, 5, 2, tzinfo=UTC),
    )
    for moment, shop, source, status, confidence in (
        (late, None, "feedback", "pending", 41),
        (early, 0, "feedback", "pending", 60),
        (early, None, "feedback", "pending", 40),
        (early, 3, "feedback", "pending", 90),
        (early, 3, "correction", "pending", 95),
        (early, 3, "correction", "rejected", 10),
        (next_day, 0, "feedback", "pending", 1),
    ):
        await insert(
            db,
            "learning_queue",
            created_at=moment,
            shop_id=shop,
            source_type=source,
            status=status,
            confidence_score=confidence,
            proposed_content="a",
        )
    await db.execute("SET TimeZone = 'Pacific/Kiritimati'")
    await refresh(db)
    assert await rows_of(db, "daily_learning_metrics") == [
        (date(2026, 5, 1), 0, "feedback", "pending", 3, Decimal("47.00"), early, late),
        (date(2026, 5, 1), 3, "correction", "pending", 1, Decimal("95.00"), early, early),
        (date(2026, 5, 1), 3, "correction", "rejected", 1, Decimal("10.00"), early, early),
        (date(2026, 5, 1), 3, "feedback", "pending", 1, Decimal("90.00"), early, early),
        (date(2026, 5, 2), 0, "feedback", "pending", 1, Decimal("1.00"), next_day, next_day),
    ]


async def test_responses_are_measured_by_day_and_type(db: asyncpg.Connection) -> None:
    conversation = await talk(db)
    for kind, engagement, converted, took, hour in (
        ("answer", 50, True, 100, 0),
        ("answer", 75, False, 201, 23),
        ("answer", None, False, None, 12),
        ("fallback", None, False, None, 12),
        ("answer", 10, True, 5, 24),
    ):
        await insert(
            db,
            "response_analytics",
            conversation_id=conversation,
            response_text="a",
            response_type=kind,
            user_engagement_score=engagement,
            led_to_conversion=converted,
            response_time_ms=took,
            created_at=datetime(2026, 5, 1, tzinfo=UTC) + timedelta(hours=hour),
        )
    await db.execute("SET TimeZone = 'America/Los_Angeles'")
    await refresh(db)
    assert await rows_of(db, "response_performance_metrics") == [
        (date(2026, 5, 1), "answer", 3, Decimal("62.50"), Decimal("33.33"), Decimal("150.50")),
        (date(2026, 5, 1), "fallback", 1, None, Decimal("0.00"), None),
        (date(2026, 5, 2), "answer", 1, Decimal("10.00"), Decimal("100.00"), Decimal("5.00")),
    ]


@pytest.mark.parametrize("view", VIEWS)
async def test_a_condition_on_the_type_or_the_shop_reaches_the_base_table(db: asyncpg.Connection, view: str) -> None:
    condition = "response_type = 'answer'" if view.startswith("response") else "status = 'failed'"
    await db.execute("SET enable_seqscan = off")
    plan = "\n".join(row[0] for row in await db.fetch(f"EXPLAIN SELECT * FROM {view}_live WHERE {condition}"))
    assert "Index Cond" in plan
