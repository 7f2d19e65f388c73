"""The same SQL behind a handler as one writes it by hand: aiohttp, an asyncpg pool, orjson; run by `bench.queries`.

`python -m bench.plain_handler DSN FILE`: answers `GET /rows?first=…&tag=…` with the rows of the SQL in FILE, and says its
address on standard output.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import asyncpg
import orjson
import uvloop
from aiohttp import web

#: As many connections as the service has for its queries.
_CONNECTIONS = 8


async def _serve(dsn: str, sql: str) -> None:
    async with asyncpg.create_pool(dsn, min_size=_CONNECTIONS, max_size=_CONNECTIONS) as pool:

        async def rows(request: web.Request) -> web.Response:
            try:
                first, tag = int(request.query["first"]), request.query["tag"]
            except (KeyError, ValueError) as error:
                raise web.HTTPBadRequest from error
            found = await pool.fetch(sql, first, tag)
            body = orjson.dumps({"rows": [dict(row) for row in found]}, default=float)
            return web.Response(body=body, content_type="application/json")

        application = web.Application()
        application.router.add_get("/rows", rows)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        sys.stdout.write(f"http://127.0.0.1:{runner.addresses[0][1]}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], Path(sys.argv[2]).read_text(encoding="utf-8")))
