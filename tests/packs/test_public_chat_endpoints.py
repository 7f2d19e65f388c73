"""The endpoints of the pack ``public_chat``, asked over HTTP of the real service, with embeddings that it makes itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from afresh_notifier import embedder
from conftest import eventually
from packs.public_chat_support import load_sample, refresh
from support.named_queries import asking
from support.openai_api import openai_api

CHAT = "/api/public-chat"


@pytest.fixture
async def sample(pack_dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncpg.Connection]:
    """The sample data of fifty units, without embeddings."""
    monkeypatch.setattr(embedder, "PACE", 0.03)
    connection = await asyncpg.connect(pack_dsn)
    await load_sample(connection, 50)
    await refresh(connection)
    yield connection
    await connection.close()


async def house(db: asyncpg.Connection) -> str:
    return str(await db.fetchval("SELECT tenant_id FROM tenant_registry WHERE slug = 'casa-del-faro'"))


async def embedded(db: asyncpg.Connection) -> bool:
    """Whether every unit has both embeddings."""
    return bool(
        await db.fetchval(
            "SELECT count(*) = count(embedding_fast) AND count(*) = count(embedding_full) FROM accommodation_units_public"
        )
    )


async def fast(db: asyncpg.Connection) -> dict[UUID, str]:
    rows = await db.fetch("SELECT id, embedding_fast::text FROM accommodation_units_public")
    return {row["id"]: row["embedding_fast"] for row in rows}


async def test_the_service_makes_both_embeddings_and_remakes_those_of_changed_texts(
    sample: asyncpg.Connection, pack_dsn: str
) -> None:
    async with asking(pack_dsn, packs=["public_chat"]):
        await eventually(lambda: embedded(sample))
        # The fast one is the beginning of the full one.
        assert await sample.fetchval(
            "SELECT bool_and(l2_normalize(subvector(embedding_full, 1, 1024)) <=> embedding_fast <"
            " 1e-5) FROM accommodation_units_public"
        )
        before = await fast(sample)
        changed = await sample.fetchval(
            "UPDATE accommodation_units_public SET highlights = '{Trampoline}' WHERE name = 'Pool House' RETURNING id"
        )
        await sample.execute("UPDATE accommodation_units_public SET is_bookable = true")

        async def followed() -> bool:
            return bool(
                before[changed]
                != await sample.fetchval(
                    "SELECT embedding_fast::text FROM accommodation_units_public WHERE id = $1", changed
                )
            )

        await eventually(followed)
        after = await fast(sample)
        assert {unit for unit in after if after[unit] != before[unit]} == {changed}


async def test_a_conversation_over_http(sample: asyncpg.Connection, pack_dsn: str) -> None:
    tenant = await house(sample)
    async with asking(pack_dsn, packs=["public_chat"]) as ask:
        await eventually(lambda: embedded(sample))
        body = {"message": "room with sea view for four", "tenantId": tenant, "utm": {"utm_source": "newsletter"}}
        reply = await ask(CHAT, "POST", json=body)
        assert reply.status == 200, reply.body
        first = reply.json
        assert first["units"][0]["name"] == "Atlantic Family Room"
        assert first["matchedBy"] == "search"
        assert "messages" not in first
        assert reply.headers["Afresh-Answered-By"] == "query"
        cookie = first["cookieId"]
        reply = await ask(
            CHAT, "POST", json={"message": "2090-03-12 to 2090-03-15", "tenantId": tenant, "cookieId": cookie}
        )
        assert reply.json["created"] is False
        assert reply.json["travelIntent"]["check_out"] == "2090-03-15"

        reply = await ask(f"{CHAT}/session/{cookie}")
        assert reply.status == 200, reply.body
        assert [said["role"] for said in reply.json["conversation"]] == ["user", "assistant"] * 2
        assert reply.json["conversation"][1]["content"] == first["answer"]
        assert reply.json["utm"] == {"utm_source": "newsletter"}

        # What is kept of a session's answer goes with the next message.
        await ask(CHAT, "POST", json={"message": "and a pool", "tenantId": tenant, "cookieId": cookie})

        async def told() -> bool:
            return len((await ask(f"{CHAT}/session/{cookie}")).json["conversation"]) == 6

        await eventually(told)

        reply = await ask(f"{CHAT}/convert", "POST", json={"cookieId": cookie, "unitId": first["units"][0]["id"]})
        assert reply.status == 200, reply.body
        assert (reply.json["checkIn"], reply.json["status"]) == ("2090-03-12", "pending")
        reply = await ask(f"{CHAT}/convert", "POST", json={"cookieId": cookie})
        assert (reply.status, reply.code) == (409, "query_conflict")
        assert "has become a reservation already" in reply.json["detail"]


async def test_what_is_refused_over_http(sample: asyncpg.Connection, pack_dsn: str) -> None:
    tenant = await house(sample)
    async with asking(pack_dsn, packs=["public_chat"]) as ask:
        refused: list[tuple[dict[str, Any], int]] = [
            ({"message": "", "tenantId": tenant}, 422),
            ({"message": " ", "tenantId": tenant}, 422),
            ({"message": "x" * 2001, "tenantId": tenant}, 422),
            ({"message": "hello", "tenantId": tenant, "cookieId": "short"}, 422),
            ({"message": "hello", "tenantId": tenant, "utm": []}, 422),
            ({"message": "hello", "tenantId": "33333333-3333-3333-3333-333333333333"}, 422),
            ({"message": "hello", "tenantId": "nowhere"}, 400),
            ({"message": None, "tenantId": tenant}, 400),
            ({"message": 7, "tenantId": tenant}, 400),
            ({"tenantId": tenant}, 400),
            ({"message": "hello"}, 400),
            ({"message": "hello", "tenantId": tenant, "embedding": [1, 2]}, 400),
        ]
        before = await sample.fetchval("SELECT count(*) FROM prospective_sessions")
        for body, status in refused:
            reply = await ask(CHAT, "POST", json=body)
            assert (reply.status, bool(reply.code)) == (status, True), (body, reply.body)
        assert await sample.fetchval("SELECT count(*) FROM prospective_sessions") == before
        reply = await ask(CHAT, "POST", json={"message": "hello", "tenantId": tenant})
        cookie = reply.json["cookieId"]
        for path in (f"{CHAT}/session/nobody-0123456789", f"{CHAT}/session/%25"):
            reply = await ask(path)
            assert (reply.status, reply.code) == (404, "nothing_found")
        for given, status in (
            ({"cookieId": "nobody-0123456789"}, 404),
            ({"cookieId": cookie}, 422),
            ({"cookieId": cookie, "checkIn": "2090-03-15", "checkOut": "2090-03-12"}, 422),
            ({"cookieId": cookie, "checkIn": "soon"}, 400),
            ({}, 400),
        ):
            reply = await ask(f"{CHAT}/convert", "POST", json=given)
            assert reply.status == status, (given, reply.body)
        reply = await ask(f"{CHAT}/convert", "POST", json={"cookieId": cookie})
        assert reply.json["detail"].startswith("the dates are missing")


async def test_an_expired_session_is_not_found_over_http(sample: asyncpg.Connection, pack_dsn: str) -> None:
    tenant = await house(sample)
    async with asking(pack_dsn, packs=["public_chat"]) as ask:
        cookie = (await ask(CHAT, "POST", json={"message": "hello", "tenantId": tenant})).json["cookieId"]
        await sample.execute("UPDATE prospective_sessions SET expires_at = now() WHERE cookie_id = $1", cookie)

        async def gone() -> bool:
            return (await ask(f"{CHAT}/session/{cookie}")).status == 404

        await eventually(gone)


async def test_a_chat_model_is_given_the_units_and_its_answer_is_remembered(
    sample: asyncpg.Connection, pack_dsn: str
) -> None:
    tenant = await house(sample)
    async with (
        openai_api() as api,
        asking(pack_dsn, packs=["public_chat"], chat={"url": api.url, "model": "m"}) as ask,
    ):
        reply = await ask(CHAT, "POST", json={"message": "something with a pool for eight", "tenantId": tenant})
        assert reply.status == 200, reply.body
        assert reply.headers["Afresh-Answered-By"] == "model"
        said = (await ask(f"{CHAT}/session/{reply.json['cookieId']}")).json["conversation"]
        assert said[-1]["content"] == reply.json["answer"]
