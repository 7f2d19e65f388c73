"""`make bench`: runs the benchmarks and prints their tables; `--write` puts them into the documents."""

from __future__ import annotations

import asyncio
import contextlib
import platform
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click

from afresh_notifier import marked, packs
from bench import (
    cache,
    latency,
    log,
    pack_client_health,
    pack_event_sessions,
    pack_learning,
    pack_public_chat,
    pack_shows,
    queries,
    resume,
    views,
    writers,
)
from bench.report import Report

ROOT = Path(__file__).resolve().parent.parent

#: Where tables may stand.
PAGES = (
    "docs/benchmarks.md",
    "docs/cache.md",
    "docs/queries.md",
    "README.md",
    *(f"docs/packs/{name}.md" for name in packs.available()),
)

BENCHMARKS: dict[str, Callable[[float], Awaitable[Report]]] = {
    "cache_access": cache.measure_access,
    "cache_invalidation": cache.measure_invalidation,
    "cache_memory": cache.measure_memory,
    "latency": latency.measure,
    "log": log.measure,
    "compact": log.measure_compact,
    "pack_client_health": pack_client_health.measure,
    "pack_event_sessions": pack_event_sessions.measure,
    "pack_learning": pack_learning.measure,
    "pack_public_chat": pack_public_chat.measure,
    "pack_shows": pack_shows.measure,
    "queries": queries.measure,
    "resume": resume.measure,
    "views": views.measure,
    "writers": writers.measure,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(sorted(BENCHMARKS)))
@click.option("--scale", type=click.FloatRange(0.01, 10), default=1.0, help="How much of each: 0.1 for a quick look.")
@click.option("--quick", is_flag=True, help="The same as --scale 0.1.")
@click.option("--write", is_flag=True, help="Put the tables into the documents that have a place for them.")
def main(names: tuple[str, ...], scale: float, quick: bool, write: bool) -> None:
    """Measure NAMES, or everything."""
    for name in names or BENCHMARKS:
        report = asyncio.run(_run(BENCHMARKS[name], 0.1 if quick else scale))
        click.echo(f"\n{report.markdown()}")
        if write:
            for page in PAGES:
                _write(ROOT / page, name, report)


async def _run(measure: Callable[[float], Awaitable[Report]], scale: float) -> Report:
    return await measure(scale)


def _write(file: Path, name: str, report: Report) -> None:
    """Replace what stands between this benchmark's markers, if the file has them."""
    where = f"Python {platform.python_version()}, Afresh {version('afresh')}"
    block = f"{report.markdown()}\n\nMeasured {datetime.now(UTC):%Y-%m-%d} by `make bench`; {where}."
    with contextlib.suppress(ValueError):
        file.write_text(marked.replaced(file.read_text(encoding="utf-8"), f"bench {name}", block), encoding="utf-8")


if __name__ == "__main__":
    main()
