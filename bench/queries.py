"""A named query's endpoint beside a plain handler that answers the same SQL: requests in a second, and how long each takes.

Three processes: the service or the plain handler, PostgreSQL, and the load, which is this one: so many connections kept
alive, each of which asks again as soon as it is answered. A hit asks what was asked before; a miss what nobody has asked
yet, so that both, the service and the plain handler, query PostgreSQL. All take turns, round after round.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.report import Report, milliseconds, quantile
from bench.setup import load, progress, server, serving

_CLIENTS, _CONNECTIONS = 1_000, 16

#: Fifty rows of the pack's summary. The tag makes one question another one.
_SQL = """
SELECT client_name, health_score, status, last_meeting_date
FROM client_health_summary
WHERE $2::text <> ''
ORDER BY client_name
OFFSET $1::int
LIMIT 50
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """What one round brought: requests in a second, and how long each took, in seconds."""

    rate: float
    latencies: list[float]


async def measure(scale: float) -> Report:
    """Run it: ``scale`` 1 is five rounds of two seconds for each."""
    rounds, seconds = max(2, round(5 * scale)), 2.0 if scale >= 1 else 0.5
    with server() as running, tempfile.TemporaryDirectory() as folder:
        dsn = running.dsn()
        await load(dsn, _CLIENTS)
        file = Path(folder) / "rows.sql"
        file.write_text(_SQL, encoding="utf-8")
        settings = Path(folder) / "afresh.toml"
        settings.write_text(
            f'packs = ["client_health"]\n[database]\ndsn = "{dsn}"\n[server]\nport = 0\n[[queries]]\nname = "rows"\n'
            'path = "/rows"\nfile = "rows.sql"\ncache_key = "clients:{first}:{tag}"\n'
            '[[queries.parameters]]\nname = "first"\n[[queries.parameters]]\nname = "tag"\n',
            encoding="utf-8",
        )
        async with serving(settings) as ours, _plain(dsn, file) as plain:
            tags = (f"{number}" for number in itertools.count())
            kinds: dict[str, tuple[str, Callable[[], str], str]] = {
                "plain aiohttp and asyncpg handler": (plain, lambda: next(tags), ""),
                "Afresh, miss": (ours, lambda: next(tags), ""),
                "Afresh, hit": (ours, lambda: "hit", ""),
                "Afresh, hit, not modified": (ours, lambda: "hit", f"If-None-Match: {await _etag(ours)}\r\n"),
            }
            found: dict[str, list[_Load]] = {name: [] for name in kinds}
            with progress() as bar:
                task = bar.add_task("", total=rounds * len(kinds))
                for number in range(rounds):
                    for name in kinds if number % 2 == 0 else reversed(kinds):
                        bar.update(task, description=f"round {number + 1}: {name}")
                        url, tag, headers = kinds[name]
                        found[name].append(await _round(url, tag, headers, seconds))
                        bar.advance(task)
    base = next(iter(found.values()))
    return Report(
        title="A named query's endpoint",
        columns=("what", "requests a second", "to the plain handler", "p50", "p99", "p99 to the plain handler's"),
        rows=tuple(_row(name, loads, base) for name, loads in found.items()),
        note=(
            f"Fifty rows of four columns; {_CONNECTIONS} connections, medians over {rounds} interleaved rounds of "
            f"{seconds:g} s. The load and what is measured share the processors."
        ),
    )


def _row(name: str, loads: list[_Load], base: list[_Load]) -> tuple[str, ...]:
    def p(one: _Load, share: float) -> float:
        return quantile(one.latencies, share)

    pairs = list(zip(loads, base, strict=True))
    return (
        name,
        f"{statistics.median(one.rate for one in loads):,.0f}",
        f"{statistics.median(one.rate / other.rate for one, other in pairs):.2f}",
        milliseconds(statistics.median(p(one, 0.5) for one in loads)),
        milliseconds(statistics.median(p(one, 0.99) for one in loads)),
        f"{statistics.median(p(one, 0.99) / p(other, 0.99) for one, other in pairs):.2f}",
    )


async def _round(url: str, tag: Callable[[], str], headers: str, seconds: float) -> _Load:
    host, port = urlsplit(url).hostname, urlsplit(url).port
    latencies: list[float] = []
    until = time.perf_counter() + seconds

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        while (began := time.perf_counter()) < until:
            writer.write(f"GET /rows?first=10&tag={tag()} HTTP/1.1\r\nHost: {host}:{port}\r\n{headers}\r\n".encode())
            await _answer(reader)
            latencies.append(time.perf_counter() - began)
        writer.close()
        await writer.wait_closed()

    began = time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(_CONNECTIONS)))
    return _Load(rate=len(latencies) / (time.perf_counter() - began), latencies=latencies)


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """One answer's head, once its body has been read too. Raises RuntimeError for one that is no success."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    if status not in (200, 304):
        raise RuntimeError(head.decode())
    length = next((line[15:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), b"0")
    if status == 200:
        await reader.readexactly(int(length))
    return head


async def _etag(url: str) -> str:
    host, port = urlsplit(url).hostname, urlsplit(url).port
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET /rows?first=10&tag=hit HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    head = await _answer(reader)
    writer.close()
    await writer.wait_closed()
    lines: Iterator[bytes] = (line for line in head.split(b"\r\n") if line.lower().startswith(b"etag:"))
    return next(lines)[5:].strip().decode()


@asynccontextmanager
async def _plain(dsn: str, file: Path) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.plain_handler", dsn, str(file), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.terminate()
        await process.wait()
