"""Dependencies: which materialized views hang on which tables, asked of PostgreSQL's catalogue.

In: a connection. Out: a `Catalogue`, a frozen picture of one moment, from which everything is answered in memory:
which views a change of a table dirties, which views stand on other views, in what order they are refreshed, and,
beside an earlier picture, which views became suspect because something was redefined in between.
Nobody lists by hand which view depends on which table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter

from afresh_notifier import database
from afresh_notifier.database import Connection
from afresh_notifier.resources import query


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One materialized view as the catalogue has it; all names are as `format('%I.%I')` writes them.

    ``tables`` are the ones it reads without passing through another materialized view, each with its ancestors and
    descendants in a partition or inheritance tree; ``parents`` the materialized views it reads. What the catalogue cannot
    see through is in ``foreign_tables`` and ``opaque_functions``; ``unwatched`` are tables whose changes nobody tells, and
    ``circular`` are parents that cannot be followed, since they stand on this view.
    """

    oid: int
    name: str
    populated: bool
    usable_index: bool
    tables: frozenset[str]
    foreign_tables: frozenset[str]
    unwatched: frozenset[str]
    parents: frozenset[str]
    opaque_functions: frozenset[str]
    fingerprint: str
    circular: frozenset[str] = frozenset()

    @property
    def blind_spots(self) -> list[str]:
        """What may change this view without a word to us, for people to read; such a view needs `every`."""
        return [
            *(f"table {name} is not watched" for name in sorted(self.unwatched)),
            *(f"foreign table {name} cannot be watched" for name in sorted(self.foreign_tables)),
            *(f"function {name} hides what it reads" for name in sorted(self.opaque_functions)),
            *(f"materialized view {name} reads this one too, in a circle" for name in sorted(self.circular)),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A watched table's place among its partitions or inheritance children: the topmost table, and all ancestors and
    descendants of this one. A change of one is a change of each, or may be. ``notified``: changes are not in the log, or
    not all of them are. ``triggers`` differs from what it was when one of ours was made, dropped, disabled or enabled."""

    root: str
    kin: frozenset[str] = frozenset()
    notified: bool = False
    triggers: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """All materialized views, parents before children, and the tables that are watched."""

    views: Mapping[str, View] = field(default_factory=dict)
    watched: Mapping[str, Tree] = field(default_factory=dict)
    _by_table: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _children: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, views: Iterable[View], watched: Mapping[str, Tree] | None = None) -> Catalogue:
        """A catalogue of these views, put into topological order.

        Views can stand on one another in a circle (a plain view between them was replaced). There is no order then: the
        parent that closes the circle is left out, and is a blind spot of the view that reads it.
        """
        found = {view.name: view for view in views}
        parents = {name: view.parents & found.keys() for name, view in found.items()}
        while True:
            try:
                order = list(TopologicalSorter({name: sorted(parents[name]) for name in found}).static_order())
                break
            except CycleError as error:
                parent, child = error.args[1][:2]
                parents[child] -= {parent}
                found[child] = replace(found[child], circular=found[child].circular | {parent})
        ordered = {name: replace(found[name], parents=parents[name]) for name in order}
        by_table: dict[str, list[str]] = {}
        children: dict[str, list[str]] = {}
        for name, view in ordered.items():
            for table in view.tables:
                by_table.setdefault(table, []).append(name)
            for parent in view.parents:
                children.setdefault(parent, []).append(name)
        return cls(
            views=ordered,
            watched=watched or {},
            _by_table={table: tuple(names) for table, names in by_table.items()},
            _children={parent: tuple(names) for parent, names in children.items()},
        )

    def reading(self, table: str) -> tuple[str, ...]:
        """The views that read ``table`` itself, not through another materialized view: a change of it dirties these."""
        return self._by_table.get(table, ())

    def children(self, view: str) -> tuple[str, ...]:
        """The views that read the materialized view ``view``: its refresh dirties these."""
        return self._children.get(view, ())

    def knows(self, table: str) -> bool:
        """Whether ``table`` was there, watched or read by a view, when this picture was taken."""
        return table in self.watched or table in self._by_table

    @property
    def notified(self) -> frozenset[str]:
        """The tables of whose changes some can be missed: they are notified, and not written into the log."""
        return frozenset(name for name, tree in self.watched.items() if tree.notified)

    def suspects(self, earlier: Catalogue) -> frozenset[str]:
        """The views that are new or defined otherwise since ``earlier``, or that stand on something that is."""
        return frozenset(
            name
            for name, view in self.views.items()
            if name not in earlier.views or earlier.views[name].fingerprint != view.fingerprint
        )

    def hanging_on(self, table: str) -> frozenset[str]:
        """Every view whose content a change of ``table`` can change, through other materialized views too."""
        return _reached(self.reading(table), self.children)

    def ancestors(self, view: str) -> frozenset[str]:
        """Every materialized view on which ``view`` stands, at any distance."""
        return _reached(self.views[view].parents, lambda name: self.views[name].parents)


def _reached(first: Iterable[str], onward: Callable[[str], Iterable[str]]) -> frozenset[str]:
    """``first``, and whatever is reached from there, at any distance."""
    found: set[str] = set()
    waiting = list(first)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += onward(name)
    return frozenset(found)


async def load(connection: Connection) -> Catalogue:
    """The catalogue as it is now. Raises what asyncpg raises; cancelling it is safe, it only reads."""
    async with database.transaction(connection, isolation="repeatable_read", readonly=True):
        rows = await connection.fetch(query("catalogue"))
        watched = await connection.fetch(query("watched_tables"))
    views = (
        View(
            oid=row["oid"],
            name=row["name"],
            populated=row["populated"],
            usable_index=row["usable_index"],
            tables=frozenset(row["tables"]),
            foreign_tables=frozenset(row["foreign_tables"]),
            unwatched=frozenset(row["unwatched"]),
            parents=frozenset(row["parents"]),
            opaque_functions=frozenset(row["opaque_functions"]),
            fingerprint=row["fingerprint"],
        )
        for row in rows
    )
    trees = {
        row["name"]: Tree(
            root=row["root"], kin=frozenset(row["kin"]), notified=row["notified"], triggers=row["triggers"]
        )
        for row in watched
    }
    return Catalogue.of(views, trees)
