"""What one would write by hand for one query: an aiohttp handler that asks asyncpg and writes JSON with orjson, no cache;
run by `bench.queries` in a process of its own.

In, on the command line: the address of the database, the file with the SQL, the connections of its pool. Out: its address,
in one line.
"""

from __future__ import annotations

import asyncio
import decimal
import sys
from pathlib import Path

import asyncpg
import orjson
import uvloop
from aiohttp import web


def _plain(value: object) -> object:
    if isinstance(value, decimal.Decimal):
        return orjson.Fragment(str(value))
    raise TypeError(type(value))


async def _main(dsn: str, file: str, size: int) -> None:
    sql = Path(file).read_text(encoding="utf-8")  # noqa: ASYNC240 - nobody waits
    pool = await asyncpg.create_pool(dsn, min_size=size, max_size=size)

    async def handle(request: web.Request) -> web.Response:
        limit, number = int(request.query["limit"]), int(request.query["n"])
        async with pool.acquire() as connection:
            rows = await connection.fetch(sql, limit, number)
        body = orjson.dumps({"rows": [dict(row) for row in rows], "truncated": False}, default=_plain)
        return web.Response(body=body, content_type="application/json")

    application = web.Application()
    application.add_routes([web.get("/clients", handle)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
