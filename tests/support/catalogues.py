"""Pictures of a catalogue, made by hand."""

from __future__ import annotations

from collections.abc import Iterable

from afresh_notifier.dependencies import Tree, View


def view(
    name: str,
    tables: Iterable[str] = (),
    parents: Iterable[str] = (),
    *,
    oid: int = 1,
    fingerprint: str = "",
    unwatched: Iterable[str] = (),
    foreign_tables: Iterable[str] = (),
    opaque_functions: Iterable[str] = (),
) -> View:
    """A view that reads ``tables`` and the materialized views ``parents``."""
    return View(
        oid=oid,
        name=name,
        populated=True,
        usable_index=True,
        tables=frozenset(tables),
        foreign_tables=frozenset(foreign_tables),
        unwatched=frozenset(unwatched),
        parents=frozenset(parents),
        opaque_functions=frozenset(opaque_functions),
        fingerprint=fingerprint,
    )


def watched(*names: str) -> dict[str, Tree]:
    """Watched tables that have no partitions and are none."""
    return {name: Tree(root=name) for name in names}
