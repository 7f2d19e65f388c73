"""The endpoints of the pack ``learning``, asked of a running service."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from conftest import ServerUnderTest, eventually
from packs.learning_support import approved, axis, insert, known, load_sample, refresh, talk
from support.named_queries import Asking, Reply

REVIEWER = "00000000-0000-0000-0000-00000000000a"


async def post(ask: Asking, path: str, **body: Any) -> Reply:
    return await ask(f"/api/learning/{path}", "POST", json=body)


async def test_negative_feedback_is_taken_and_queued(db: asyncpg.Connection, ask: Asking) -> None:
    conversation = str(await talk(db))
    reply = await post(
        ask, "feedback", conversationId=conversation, feedbackType="thumbs_down", reason="No.", response="Yes."
    )
    assert reply.status == 200, reply.body
    assert (reply.json["conversation_id"], reply.json["queued"]) == (conversation, True)
    (queued,) = (await ask("/api/learning/queue")).rows
    assert (queued["source_id"], queued["proposed_content"]) == (reply.json["id"], "No.\nResponse: Yes.")

    reply = await post(ask, "feedback", conversationId=conversation, feedbackType="rating", rating=5)
    assert (reply.status, reply.json["queued"]) == (200, False)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"feedbackType": "thumbs_down"}, 400, "bad_parameter"),
        ({"conversationId": "nobody", "feedbackType": "thumbs_down"}, 400, "bad_parameter"),
        ({"conversationId": str(uuid4()), "feedbackType": "shrug"}, 400, "bad_parameter"),
        ({"conversationId": str(uuid4()), "feedbackType": "rating", "rating": "good"}, 400, "bad_parameter"),
        ({"conversationId": str(uuid4()), "feedbackType": "thumbs_down"}, 422, "query_refused"),
        ({"conversationId": None, "feedbackType": "rating", "rating": 9}, 422, "query_refused"),
        ({"conversationId": None, "feedbackType": "rating"}, 422, "query_refused"),
    ],
)
async def test_feedback_that_is_no_sense_is_refused(
    db: asyncpg.Connection, ask: Asking, body: dict[str, Any], status: int, code: str
) -> None:
    if "conversationId" in body and body["conversationId"] is None:
        body = {**body, "conversationId": str(await talk(db))}
    reply = await post(ask, "feedback", **body)
    assert (reply.status, reply.code) == (status, code)
    assert await db.fetchval("SELECT count(*) FROM conversation_feedback") == 0


async def test_a_correction_is_taken_and_queued(db: asyncpg.Connection, ask: Asking) -> None:
    reply = await post(
        ask,
        "corrections",
        conversationId=str(await talk(db)),
        originalResponse="At ten.",
        correctedAnswer="At nine.",
        priority="urgent",
    )
    assert (reply.status, reply.json["applied_at"]) == (200, None)
    (queued,) = (await ask("/api/learning/queue?status=pending")).rows
    assert (queued["source_id"], queued["confidence_score"]) == (reply.json["id"], 95)
    reply = await post(
        ask, "corrections", conversationId=str(await talk(db)), originalResponse="a", correctedAnswer=" "
    )
    assert (reply.status, reply.code) == (422, "query_refused")


async def test_the_queue_comes_by_status_and_shop_and_a_page_at_a_time(db: asyncpg.Connection, ask: Asking) -> None:
    for number, (status, shop) in enumerate(
        [("pending", 3), ("pending", 4), ("approved", 3), ("pending", None), ("rejected", 0)]
    ):
        await insert(
            db,
            "learning_queue",
            source_type="manual",
            proposed_content=str(number),
            status=status,
            shop_id=shop,
            created_at=datetime(2026, 1, 1 + number, tzinfo=UTC),
        )

    async def texts(arguments: str) -> list[str]:
        rows = (await ask(f"/api/learning/queue?{arguments}")).rows
        assert all("embedding" not in row for row in rows)
        return [row["proposed_content"] for row in rows]

    async def all_there() -> bool:
        return len(await texts("")) == 5

    await eventually(all_there)
    assert await texts("") == ["4", "3", "2", "1", "0"]
    assert await texts("status=pending") == ["3", "1", "0"]
    assert await texts("shop=3") == ["2", "0"]
    assert await texts("shop=0") == ["4", "3"]
    assert await texts("shop=3&status=pending") == ["0"]
    assert await texts("pageSize=2") == ["4", "3"]
    assert await texts("pageSize=2&page=2") == ["2", "1"]
    assert await texts("pageSize=2&page=4") == []
    assert await texts("pageSize=0&page=-3") == ["4"]
    rows = (await ask("/api/learning/queue?pageSize=2&status=pending")).rows
    assert [row["total"] for row in rows] == [3, 3]
    assert (await ask("/api/learning/queue?status=perhaps")).code == "bad_parameter"


async def test_a_review_decides_and_says_by_whom(db: asyncpg.Connection, ask: Asking) -> None:
    for decision, status in (("approve", "approved"), ("reject", "rejected")):
        made = await insert(db, "learning_queue", source_type="manual", proposed_content="a", embedding=axis(1))
        reply = await post(ask, f"queue/{made}/review", decision=decision, reviewer=REVIEWER)
        assert reply.status == 200, reply.body
        assert (reply.json["id"], reply.json["status"], reply.json["reviewed_by"]) == (str(made), status, REVIEWER)
        assert await db.fetchval("SELECT embedding IS NOT NULL FROM learning_queue WHERE id = $1", made)
        logged = await db.fetchrow("SELECT * FROM learning_audit_log WHERE record_id = $1", made)
        assert logged is not None
        assert (logged["action"], logged["performed_by"]) == (status, REVIEWER)


async def test_a_reviewer_may_write_a_better_text(db: asyncpg.Connection, ask: Asking) -> None:
    made = await insert(db, "learning_queue", source_type="manual", proposed_content="a", embedding=axis(1))
    reply = await post(
        ask, f"queue/{made}/review", decision="approve", reviewer=REVIEWER, content="b", category="hours"
    )
    assert (reply.json["proposed_content"], reply.json["category"]) == ("b", "hours")

    async def embedded_anew() -> bool:
        same: bool | None = await db.fetchval(
            "SELECT embedding = $2::text::vector FROM learning_queue WHERE id = $1", made, axis(1)
        )
        return same is False

    await eventually(embedded_anew)


async def test_a_review_of_an_item_that_is_not_there_is_not_found(ask: Asking) -> None:
    reply = await post(ask, f"queue/{uuid4()}/review", decision="approve", reviewer=REVIEWER)
    assert (reply.status, reply.code) == (404, "nothing_found")
    reply = await post(ask, "queue/7/review", decision="approve", reviewer=REVIEWER)
    assert (reply.status, reply.code) == (400, "bad_parameter")


@pytest.mark.parametrize("status", ["approved", "rejected", "applied", "duplicate"])
async def test_a_review_of_an_item_that_is_decided_is_refused(db: asyncpg.Connection, ask: Asking, status: str) -> None:
    made = await insert(db, "learning_queue", source_type="manual", proposed_content="a", status=status)
    reply = await post(ask, f"queue/{made}/review", decision="approve", reviewer=REVIEWER)
    assert (reply.status, reply.code) == (422, "query_refused")
    assert status in reply.body.decode()
    assert await db.fetchval("SELECT status FROM learning_queue") == status


async def test_processing_makes_approved_items_knowledge(db: asyncpg.Connection, ask: Asking) -> None:
    for number, text in enumerate(("opening hours", "winter tyres", "gift vouchers", "parking", "batteries")):
        await approved(db, text, axis(number))
    # The service makes their embeddings anew meanwhile; an item that it has just locked is left for the next batch.
    done = [(await post(ask, "process", batch=2)).json["processed"]]
    assert done[0] <= 2

    async def all_processed() -> bool:
        done.append((await post(ask, "process")).json["processed"])
        return bool(sum(done) == 5)

    await eventually(all_processed)
    assert (await post(ask, "process")).json == {"processed": 0}
    reply = await post(ask, "process", batch=0)
    assert (reply.status, reply.code) == (422, "query_refused")
    assert await db.fetchval("SELECT count(*) FROM knowledge_base") == 5


async def test_similar_knowledge_is_found_by_text(db: asyncpg.Connection, ask: Asking) -> None:
    # The text's own embedding is made by the service, as are those of the table; here the text itself is the same.
    await known(db, "We open at nine on Saturdays.", None, 3)
    await known(db, "Winter tyres are changed from October on.", None)

    async def found() -> bool:
        reply = await post(ask, "similar", text="we open at nine on saturdays.", shop=3)
        return [row["content"] for row in reply.rows if row["similarity"] == 1] == ["We open at nine on Saturdays."]

    await eventually(found)
    assert (await post(ask, "similar", text="we open at nine on saturdays.")).rows == []
    assert (await post(ask, "similar")).code == "bad_parameter"
    reply = await post(ask, "similar", text="a", threshold=2)
    assert (reply.status, reply.code) == (422, "query_refused")


async def test_what_is_approved_gets_its_embedding_and_is_known_then(db: asyncpg.Connection, ask: Asking) -> None:
    conversation = str(await talk(db, 3))
    for answer in ("On Saturdays we open at nine.", "on saturdays we open at nine"):
        await post(ask, "corrections", conversationId=conversation, originalResponse="At ten.", correctedAnswer=answer)
    made = [row["id"] for row in (await ask("/api/learning/queue")).rows]
    for identity in made:
        await post(ask, f"queue/{identity}/review", decision="approve", reviewer=REVIEWER)

    async def all_embedded() -> bool:
        missing: int = await db.fetchval("SELECT count(*) FROM learning_queue WHERE embedding IS NULL")
        return missing == 0

    await eventually(all_embedded)
    assert (await post(ask, "process")).json == {"processed": 2}
    outcome = await db.fetch("SELECT status FROM learning_queue ORDER BY created_at")
    assert [row["status"] for row in outcome] == ["applied", "duplicate"]
    (entry,) = (await post(ask, "similar", text="Saturdays, we open at nine!", shop=3)).rows
    assert entry["content"] == "On Saturdays we open at nine."
    assert 0.85 <= entry["similarity"] < 1


async def test_a_transcript_gets_its_embedding(db: asyncpg.Connection, ask: Asking) -> None:
    await insert(db, "voice_transcripts", transcript="Good morning, have you got winter tyres?")

    async def embedded() -> bool:
        there: bool = await db.fetchval("SELECT embedding IS NOT NULL FROM voice_transcripts")
        return there

    await eventually(embedded)


async def test_the_metrics_come_by_day_and_change_with_their_rows(
    server: ServerUnderTest, db: asyncpg.Connection, ask: Asking
) -> None:
    await load_sample(db, 20)
    await refresh(db)
    expected = await db.fetchval("SELECT count(*) FROM daily_learning_metrics_live")

    async def arrived() -> bool:
        return bool(len((await ask("/api/learning/metrics/daily")).rows) == expected)

    await eventually(arrived)
    rows = (await ask("/api/learning/metrics/daily")).rows
    assert [row["date"] for row in rows] == sorted((row["date"] for row in rows), reverse=True)
    assert set(rows[0]) == {
        "date",
        "shop_id",
        "source_type",
        "status",
        "count",
        "avg_confidence",
        "first_item",
        "last_item",
    }
    day, shop = rows[3]["date"], rows[3]["shop_id"]
    assert (await ask(f"/api/learning/metrics/daily?from={day}&to={day}")).rows == [
        row for row in rows if row["date"] == day
    ]
    assert (await ask(f"/api/learning/metrics/daily?shop={shop}")).rows == [
        row for row in rows if row["shop_id"] == shop
    ]
    responses = (await ask("/api/learning/metrics/responses")).rows
    answers = (await ask("/api/learning/metrics/responses?responseType=answer")).rows
    assert answers == [row for row in responses if row["response_type"] == "answer"]
    first = answers[0]["date"]
    assert (await ask(f"/api/learning/metrics/responses?from={first}&responseType=answer")).rows == answers[:1]
    assert (await ask("/api/learning/metrics/daily?from=yesterday")).code == "bad_parameter"

    await db.execute("UPDATE learning_queue SET confidence_score = 77")

    async def changed() -> bool:
        rows = (await ask("/api/learning/metrics/daily")).rows
        return {float(row["avg_confidence"]) for row in rows} == {77.0}

    await eventually(changed)
