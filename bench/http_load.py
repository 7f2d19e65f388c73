"""A load of GET requests over HTTP/1.1, from a process of its own; run by `bench.queries`.

In, on the command line: host, port, path, connections, seconds. `{n}` in the path is a number that is never the same. Out,
on standard output, a JSON object: how many answers came, of how many bytes, in how many seconds, and the times in which
half of them and ninety-nine in a hundred came.

Each connection asks again as soon as it has its answer, so that there are as many requests under way as connections.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time

import uvloop

from bench.report import quantile


async def _ask(host: str, port: int, path: str, until: float, times: list[float], numbers: itertools.count[int]) -> int:
    reader, writer = await asyncio.open_connection(host, port)
    size = 0
    try:
        while (began := time.perf_counter()) < until:
            target = path.replace("{n}", str(next(numbers)))
            writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            size = length
            times.append(time.perf_counter() - began)
    finally:
        writer.close()
    return size


async def _main(host: str, port: int, path: str, connections: int, seconds: float) -> None:
    times: list[float] = []
    numbers = itertools.count(time.time_ns() // 1000)
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_ask(host, port, path, began + seconds, times, numbers)) for _ in range(connections)]
    report = {
        "answers": len(times),
        "bytes": tasks[0].result(),
        "seconds": time.perf_counter() - began,
        "p50": quantile(times, 0.5),
        "p99": quantile(times, 0.99),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    host, port, path, connections, seconds = sys.argv[1:]
    uvloop.run(_main(host, int(port), path, int(connections), float(seconds)))
