"""How fast named queries answer, beside a handler for the same SQL that one would write by hand.

The service and the handler run in processes of their own, and so does the load (`bench.http_load`); all share the machine.
A *hit* asks the same again and again; a *miss* never the same, so that each runs the query.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bench import setup
from bench.report import Report, milliseconds

#: Requests under way at a time, and connections to PostgreSQL on either side.
CONNECTIONS, POOL = 16, 8

#: Rows of an answer.
ROWS = 50

ROUNDS = 5

_SQL = """
SELECT client_name, segment, cse, health_score, status, nps_score, compliance_percentage, open_actions, last_meeting_date
FROM client_health_summary
WHERE $2::bigint IS NOT NULL
ORDER BY health_score, client_name
LIMIT $1::int
"""

_SETTINGS = """
packs = ["client_health"]
[database]
dsn = "{dsn}"
[server]
port = 0
[query]
concurrency = {pool}
[[queries]]
name = "asked"
file = "asked.sql"
cache_key = "clients"
[[queries.parameters]]
name = "limit"
[[queries.parameters]]
name = "n"
"""


@asynccontextmanager
async def _plain(dsn: str, file: Path) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.plain_handler", dsn, str(file), str(POOL)), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.terminate()
        await process.wait()


async def _load(url: str, path: str, seconds: float) -> dict[str, float]:
    parts = urlsplit(url)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.http_load", str(parts.hostname), str(parts.port), path),
        *(str(CONNECTIONS), str(seconds)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    result: dict[str, float] = json.loads(out)
    return result


async def measure(scale: float) -> Report:
    """The whole benchmark."""
    seconds = max(0.5, 2.0 * scale)
    with setup.server() as server, tempfile.TemporaryDirectory() as folder:
        dsn = server.dsn()
        await setup.load(dsn, max(100, int(1000 * min(1.0, scale))))
        file = Path(folder) / "asked.sql"
        file.write_text(_SQL, encoding="utf-8")
        settings = Path(folder) / "afresh.toml"
        settings.write_text(_SETTINGS.format(dsn=dsn, pool=POOL), encoding="utf-8")
        async with setup.serving(settings) as ours, _plain(dsn, file) as theirs:
            same, never = f"?limit={ROWS}&n=1", f"?limit={ROWS}&n={{n}}"
            asked = {
                ("the same again", "by hand, no cache"): (theirs, f"/clients{same}"),
                ("the same again", "Afresh: hit"): (ours, f"/api/queries/asked{same}"),
                ("never the same", "by hand"): (theirs, f"/clients{never}"),
                ("never the same", "Afresh: miss"): (ours, f"/api/queries/asked{never}"),
            }
            results: dict[tuple[str, str], list[dict[str, float]]] = {kind: [] for kind in asked}
            for round_ in range(ROUNDS + 1):
                for kind, (url, path) in asked.items():
                    result = await _load(url, path, 0.3 if round_ == 0 else seconds)
                    if round_ > 0:  # the first is to warm up
                        results[kind].append(result)
    rows = []
    for (question, what), found in results.items():
        rate = statistics.median(one["answers"] / one["seconds"] for one in found)
        p50, p99 = (statistics.median(one[name] for one in found) for name in ("p50", "p99"))
        if not what.startswith("Afresh"):
            floor = rate
        rows.append((question, what, f"{rate:,.0f}", f"{rate / floor:.2f}", milliseconds(p50), milliseconds(p99)))
    size = int(found[0]["bytes"])
    return Report(
        title="Named queries",
        columns=("asked", "answered by", "answers a second", "to by hand", "p50", "p99"),
        rows=tuple(rows),
        note=f"{ROWS} rows in {size:,} bytes of JSON, {CONNECTIONS} requests under way, {POOL} connections to PostgreSQL "
        f"on either side; by hand is aiohttp, asyncpg and orjson on uvloop. Medians of {ROUNDS} interleaved rounds of "
        f"{seconds:g} s. Service, handler, PostgreSQL and load share the machine's two cores.",
    )
