"""Named queries that a test writes, served by the service in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import orjson

from afresh_notifier.openapi import document
from conftest import PATIENCE, eventually
from support.scenario import Running, afresh


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its JSON."""
        return orjson.loads(self.body)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of an answer that has some."""
        assert self.status == 200, self.body
        rows: list[dict[str, Any]] = self.json["rows"]
        return rows

    @property
    def how(self) -> str:
        """`hit`, `miss` or `stale`."""
        return self.headers["X-Cache"]

    @property
    def code(self) -> str:
        """The code of a problem, whose form is held to what is documented."""
        assert self.headers["Content-Type"] == "application/problem+json", self.body
        jsonschema.validate(self.json, document()["components"]["schemas"]["Problem"])
        assert self.json["status"] == self.status
        code: str = self.json["code"]
        return code


class Asking:
    """A service with named queries, and a client of it."""

    def __init__(self, running: Running, session: aiohttp.ClientSession) -> None:
        self.running = running
        self.session = session

    async def __call__(self, path: str, method: str = "GET", **arguments: Any) -> Reply:
        """Ask, and read the answer; a name without a slash is a query's."""
        path = path if path.startswith("/") else f"/api/queries/{path}"
        async with self.session.request(method, self.running.url + path, **arguments) as response:
            return Reply(status=response.status, headers=response.headers, body=await response.read())

    async def usable(self, name: str) -> None:
        """Wait until the query can be run."""

        async def is_usable() -> bool:
            listed = (await self("/api/queries")).json["queries"]
            return any(query["name"] == name and query["usable"] for query in listed)

        await eventually(is_usable)


def query(folder: Path, name: str, sql: str, *parameters: dict[str, Any] | str, **more: Any) -> dict[str, Any]:
    """The section of a query; a parameter that is a text has that name, and nothing else is said of it."""
    file = folder / f"{name}.sql"
    file.write_text(sql, encoding="utf-8")
    listed = [{"name": one} if isinstance(one, str) else one for one in parameters]
    return {"name": name, "file": str(file), "parameters": listed, **more}


@asynccontextmanager
async def asking(dsn: str, *queries: dict[str, Any], **settings: Any) -> AsyncIterator[Asking]:
    """The service with these queries, and a client."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        afresh(dsn, queries=list(queries), **settings) as running,
        aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
    ):
        yield Asking(running, session)
        await asyncio.sleep(0)
