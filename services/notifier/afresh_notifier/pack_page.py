"""The page of a pack, made from its `pack.toml` and from the comments in a database that has it.

`python -m afresh_notifier.pack_page docs/packs` writes one for each pack that comes with Afresh, into its page between
markers; what stands outside of them, a person has written. It starts the embedded server for that.

In: a pack, and a connection to a database in which it is installed, and nothing else but what it requires. Out: Markdown:
what there is, what makes which cache entries stale, as tables and as a diagram (Mermaid), and how it is asked.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import asyncpg

from afresh_notifier import database, marked, migrate, packs, planning
from afresh_notifier.embedded import EmbeddedServer
from afresh_notifier.packs import InstalledPack
from afresh_notifier.planning import name_pattern
from afresh_notifier.refresher import Plan
from afresh_notifier.resources import query
from afresh_notifier.settings import DatabaseSettings, Settings
from afresh_notifier.settings_queries import QuerySettings

Row = Sequence[str]


async def page(connection: asyncpg.Connection, pack: InstalledPack) -> str:
    """The generated part of the page. Raises what asyncpg raises."""
    reading = await planning.read(connection, Settings(), [pack])
    objects: dict[str, list[asyncpg.Record]] = {}
    for row in await connection.fetch(query("pack_objects")):
        objects.setdefault(row["kind"], []).append(row)
    parts = [
        _tables(pack, objects.get("table", ())),
        _views(pack, objects.get("materialized view", ())),
        _section("Plain views", ("view", "what it is"), _described(objects.get("view", ()))),
        _diagram(pack, reading.plan),
        _endpoints(pack.settings.queries),
        _section("Jobs", ("job", "when", "what it does"), _jobs(pack)),
        _section("Embeddings", ("column", "of", "dimensions"), _embeddings(pack)),
        _section("Functions", ("function", "gives", "what it does"), _detailed(objects.get("function", ()))),
        _section("Trigger functions", ("function", "what it does"), _described(objects.get("trigger function", ()))),
        _section("Row-level security", ("policy", "for", "who may what"), _detailed(objects.get("policy", ()))),
    ]
    return "\n\n".join(part for part in parts if part)


def written(text: str, generated: str) -> str:
    """``text`` with what is generated between its markers. Raises ValueError where it has none."""
    return marked.replaced(text, "pack", generated)


def _tables(pack: InstalledPack, rows: Iterable[asyncpg.Record]) -> str:
    said = {name_pattern(table.name): table for table in pack.settings.tables}
    listed = []
    for row in rows:
        table = said.get(row["name"])
        keys = ", ".join(f"`{key}`" for key in table.keys) if table is not None else ""
        patterns = _codes(table.patterns or (row["name"],)) if table is not None else ""
        listed.append((f"`{row['name']}`", row["comment"], keys, patterns))
    return _section("Tables", ("table", "what it holds", "keys", "a change makes stale"), listed)


def _views(pack: InstalledPack, rows: Iterable[asyncpg.Record]) -> str:
    said = {name_pattern(view.name): view for view in pack.settings.views}
    listed = []
    for row in rows:
        view = said.get(row["name"])
        when = ["when a table that it reads changes"]
        if view is not None and view.every is not None:
            when.append(f"every {view.every:g} s")
        if view is not None and view.next_change is not None:
            when.append("at the instant at which its content changes by itself")
        patterns = _codes((view.patterns if view is not None else None) or (row["name"],))
        listed.append((f"`{row['name']}`", row["comment"], "; ".join(when), patterns))
    return _section("Materialized views", ("view", "what it shows", "refreshed", "a refresh makes stale"), listed)


def _diagram(pack: InstalledPack, plan: Plan) -> str:
    """What invalidates what: tables, the views that hang on them, patterns, and the queries that these make stale.

    Views come in the order of their names: the catalogue's is another one from process to process.
    """
    known, drawing = plan.patterns, _Drawing()
    for table, templates in known.tables.items():
        for view in sorted(known.catalogue.reading(table)):
            drawing.arrow(("table", name_pattern(table)), ("view", name_pattern(view)))
        sent = {one.text for view in known.catalogue.hanging_on(table) for one in known.views.get(view, ())}
        for template in templates:
            if template.text not in sent:
                drawing.arrow(("table", name_pattern(table)), ("pattern", template.text))
    for view, templates in sorted(known.views.items()):
        for child in sorted(known.catalogue.children(view)):
            drawing.arrow(("view", name_pattern(view)), ("view", name_pattern(child)))
        for template in templates:
            drawing.arrow(("view", name_pattern(view)), ("pattern", template.text))
    every = {one.text: one.literal for many in (*known.tables.values(), *known.views.values()) for one in many}
    for text, literal in sorted(every.items()):
        for asked in pack.settings.queries:
            if not asked.writes and asked.template.literal.startswith(literal):
                drawing.arrow(("pattern", text), ("query", asked.name))
    return drawing.text()


class _Drawing:
    """A Mermaid flowchart: each thing is a node of its own, in the shape of its kind."""

    _SHAPES: Mapping[str, tuple[str, str]] = {
        "table": ("[(", ")]"),
        "view": ("[[", "]]"),
        "pattern": ("{{", "}}"),
        "query": ("([", "])"),
    }

    def __init__(self) -> None:
        self._nodes: dict[tuple[str, str], str] = {}
        self._arrows: dict[str, None] = {}

    def arrow(self, one: tuple[str, str], other: tuple[str, str]) -> None:
        """Draw an arrow, once."""
        self._arrows[f"    {self._node(one)} --> {self._node(other)}"] = None

    def text(self) -> str:
        """The drawing, or nothing where there is nothing on it."""
        if not self._arrows:
            return ""
        nodes = []
        for (kind, text), name in self._nodes.items():
            left, right = self._SHAPES[kind]
            nodes.append(f'    {name}{left}"{text}"{right}')
        heading = "### What makes what stale"
        legend = "Cylinders are tables, double boxes materialized views, hexagons patterns, rounded boxes queries."
        return "\n".join([heading, "", legend, "", "```mermaid", "flowchart LR", *nodes, *self._arrows, "```"])

    def _node(self, thing: tuple[str, str]) -> str:
        return self._nodes.setdefault(thing, f"n{len(self._nodes) + 1}")


def _endpoints(queries: Sequence[QuerySettings]) -> str:
    rows = [
        (
            f"`{one.method} {one.url_path}`",
            one.description,
            ", ".join(f"`{parameter.name}`" for parameter in one.parameters if parameter.embed is None),
            "writes" if one.writes else f"`{one.template.text}`",
        )
        for one in queries
    ]
    return _section("Endpoints", ("endpoint", "what it answers", "parameters", "kept under"), rows)


def _jobs(pack: InstalledPack) -> Iterator[Row]:
    for job in pack.settings.jobs:
        yield f"`{job.name}`", f"`{job.schedule}` {job.timezone}", job.description


def _embeddings(pack: InstalledPack) -> Iterator[Row]:
    for one in pack.settings.embeddings:
        yield f"`{one.table}.{one.column}`", f"`{one.text}`", str(one.dimensions)


def _described(rows: Iterable[asyncpg.Record]) -> Iterator[Row]:
    for row in rows:
        yield f"`{row['name']}`", row["comment"]


def _detailed(rows: Iterable[asyncpg.Record]) -> Iterator[Row]:
    for row in rows:
        yield f"`{row['name']}`", f"`{row['detail']}`", row["comment"]


def _codes(texts: Iterable[str]) -> str:
    return ", ".join(f"`{text}`" for text in texts)


def _section(title: str, head: Row, rows: Iterable[Row]) -> str:
    """A heading and a table, or nothing where there is nothing in it."""
    lines = [f"| {' | '.join(' '.join(cell.split()).replace('|', '&#124;') for cell in row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"### {title}", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines])


async def _generated(dsn: str, name: str) -> str:
    """The same for the pack ``name``, installed in the empty database at ``dsn``."""
    async with database.scripting(DatabaseSettings(dsn=dsn), name="afresh pages") as connection:
        async for _ in migrate.up(connection, packs.installable(packs.find_all([name]))):
            pass
        return await page(connection, packs.find(name))


def main() -> None:
    """Write the pages in the folder named."""
    for name in packs.available():
        file = Path(sys.argv[1]) / f"{name}.md"
        with EmbeddedServer() as server:
            text = asyncio.run(_generated(server.dsn(), name))
        file.write_text(written(file.read_text(encoding="utf-8"), text), encoding="utf-8")


if __name__ == "__main__":
    main()
