"""The named queries of the pack ``client_health``: what they answer, and that a row that changes changes the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from conftest import ServerUnderTest, eventually
from packs.client_health_support import PACK, load_sample, refresh
from support.named_queries import Asking, asking


@pytest.fixture
async def pack_dsn(server: ServerUnderTest, pack_template: str) -> AsyncIterator[str]:
    """The address of a database of this test's own, with the pack and twenty clients in it."""
    name = await server.create(pack_template)
    connection = await asyncpg.connect(server.dsn(name))
    await load_sample(connection, 20)
    await refresh(connection)
    await connection.close()
    yield server.dsn(name)
    await server.drop(name)


async def names(ask: Asking, path: str) -> list[str]:
    return [row["client_name"] for row in (await ask(path)).rows]


async def test_clients_come_a_page_at_a_time_and_by_status(pack_dsn: str) -> None:
    async with asking(pack_dsn, packs=[PACK.name]) as ask:
        everybody = await names(ask, "/api/clients")
        assert len(everybody) == 20
        assert everybody == sorted(everybody)
        assert await names(ask, "/api/clients?limit=5&offset=5") == everybody[5:10]
        by_status = [await names(ask, f"/api/clients?status={one}") for one in ("healthy", "at-risk", "critical")]
        assert sorted(name for some in by_status for name in some) == everybody
        reply = await ask("/api/clients?status=fine")
        assert (reply.status, reply.json["parameter"]) == (400, "status")


async def test_a_row_that_changes_changes_the_answer(pack_dsn: str) -> None:
    async with asking(pack_dsn, packs=[PACK.name]) as ask:
        first = (await ask("/api/clients")).rows[0]
        connection = await asyncpg.connect(pack_dsn)
        try:
            await connection.execute("UPDATE nps_clients SET cse = 'Somebody Else' WHERE id = $1", first["client_id"])
        finally:
            await connection.close()

        async def changed() -> bool:
            return bool((await ask("/api/clients")).rows[0]["cse"] == "Somebody Else")

        await eventually(changed)
        await eventually(lambda: not any(ask.running.service.refresher.pending(view) for view in ask.running.views))


async def test_the_compliance_of_one_client(pack_dsn: str) -> None:
    async with asking(pack_dsn, packs=[PACK.name]) as ask:
        (client, *_) = await names(ask, "/api/clients")
        years = (await ask(f"/api/clients/{client}/compliance")).rows
        assert years
        assert {row["client_name"] for row in years} == {client}
        year = years[0]["year"]
        assert (await ask(f"/api/clients/{client}/compliance?year={year}")).rows == years[:1]
        assert (await ask("/api/clients/nobody/compliance")).rows == []
        assert isinstance(years[0]["event_compliance"], list)
