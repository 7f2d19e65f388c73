"""An ear for tests: listens to the channel ``afresh``, reads the log, and knows when it has heard everything.

    async with hearing(dsn) as ear:
        await db.execute("UPDATE …")
        assert await ear.changes() == [...]

A change is the same to it whether it was captured in the log or in a notification, so that one test can be run on both
(`each_capture` in conftest.py). Nothing here sleeps. PostgreSQL delivers notifications in the order of their commits,
over all channels of a database: so a notification sent on a second channel after the commit in question, a fence,
arrives after all that it told.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

CHANNEL = "afresh"
FENCE = "afresh_test_fence"

#: Takes what has been committed out of the log, each row as the notification that it would have been.
TAKE = r"""
    WITH taken AS (DELETE FROM afresh.change_log RETURNING *)
    SELECT
        format(
            '{"v":1,"table":%s,"op":"%s","keys":%s,"rows":%s,"xid":"%s"}',
            to_json(CASE WHEN c.oid IS NULL THEN t.target::oid::text ELSE format('%I.%I', n.nspname, c.relname) END),
            t.operation, coalesce(t.keys, 'null'), coalesce(t.rows::text, 'null'), t.xid
        ) AS payload
    FROM taken AS t
    LEFT JOIN pg_catalog.pg_class AS c ON c.oid = t.target
    LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    ORDER BY t.id
"""

#: How long a fence may take, in seconds; generous, since it only matters where the server has gone.
PATIENCE = 60.0


class Hearing:
    """What came over the channel, in order, and what is in the log. Made by `hearing`."""

    def __init__(self, ear: asyncpg.Connection, mouth: asyncpg.Connection) -> None:
        self._ear = ear
        self._mouth = mouth
        self._payloads: list[str] = []
        self._fences: dict[str, asyncio.Event] = {}
        self._numbers = itertools.count(1)

    async def start(self) -> None:
        """Begin to listen: what is committed after this returns is heard."""
        await self._ear.add_listener(CHANNEL, self._heard)
        await self._ear.add_listener(FENCE, self._fenced)

    def _heard(self, _connection: object, _process: int, _channel: str, payload: object) -> None:
        self._payloads.append(str(payload))

    def _fenced(self, _connection: object, _process: int, _channel: str, payload: object) -> None:
        fence = self._fences.get(str(payload))
        if fence is not None:
            fence.set()

    async def notifications(self) -> list[str]:
        """The payloads of all that was committed before this call and after the last one, as they came."""
        name = f"{id(self)}-{next(self._numbers)}"
        self._fences[name] = asyncio.Event()
        await self._mouth.execute("SELECT pg_catalog.pg_notify($1, $2)", FENCE, name)
        async with asyncio.timeout(PATIENCE):
            await self._fences[name].wait()
        del self._fences[name]
        payloads, self._payloads = self._payloads, []
        return payloads

    async def logged(self) -> list[str]:
        """What has been committed into the log, taken out of it: spelled as payloads, in the order of writing."""
        return [row["payload"] for row in await self._mouth.fetch(TAKE)]

    async def raw(self) -> list[str]:
        """All that was told in either way: what came over the channel first, then what is in the log."""
        return [*await self.notifications(), *await self.logged()]

    async def messages(self) -> list[dict[str, Any]]:
        """The same, parsed, without the bell."""
        return [json.loads(payload) for payload in await self.raw() if payload]

    async def changes(self) -> list[tuple[str, str, Any, int | None]]:
        """The same, of changes to tables only: table, operation, keys, rows."""
        return [
            (message["table"], message["op"], message["keys"], message["rows"])
            for message in await self.messages()
            if message["op"] != "DDL"
        ]

    async def catalogue_changes(self) -> int:
        """How many changes to the catalogue were told, with all other messages forgotten."""
        return sum(message["op"] == "DDL" for message in await self.messages())


async def capture_by_default(db: asyncpg.Connection, capture: str) -> None:
    """Let `afresh.watch` capture in this way, in this database, where the call does not say."""
    definition = await db.fetchval(
        "SELECT pg_catalog.pg_get_functiondef('afresh.watch(regclass, text[], text)'::regprocedure)"
    )
    changed = definition.replace("DEFAULT 'log'", f"DEFAULT '{capture}'")
    assert capture == "log" or changed != definition
    await db.execute(changed)


@asynccontextmanager
async def hearing(dsn: str) -> AsyncIterator[Hearing]:
    """Listen to the database at ``dsn`` for the length of the block."""
    ear = await asyncpg.connect(dsn)
    try:
        mouth = await asyncpg.connect(dsn)
        try:
            it = Hearing(ear, mouth)
            await it.start()
            yield it
        finally:
            await mouth.close()
    finally:
        await ear.close()
