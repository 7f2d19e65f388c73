"""Invalidations: which patterns a change or a refresh makes stale.

In: changes and finished refreshes. Out: `Invalidation`s, which the log numbers (`invalidation_log`) and the hub remembers
(`replay`) and tells. Everything here is pure.

The rule, for a table's own pattern: while healthy views that hang on the table name it too, it goes out after the
refresh of each of them (an entry cached between two would else stay stale); where no view names it, or none that does is
healthy, it goes out at once. A view's patterns go out after each of its refreshes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from afresh_cache.messages import ResyncReason
from afresh_cache.patterns import Template
from afresh_notifier.changes import Key
from afresh_notifier.dependencies import Catalogue

#: Keyed patterns that one template may grow to in one invalidation; past that its literal part says it all.
MAX_KEYED = 200

#: Keys of a change: None means unknown, so all.
Keys = Collection[Key] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalidation:
    """Whatever matches ``patterns`` is stale from now on, and fresh data can be read.

    ``offset`` is its number in the log, 0 before it has one; ``lsn`` a write-ahead log position that covers it; ``at``
    when the oldest change in it was heard. With a ``reason`` it is a resync: it cannot be said what else is stale, so
    whoever hears one of the patterns drops everything.
    """

    offset: int = 0
    patterns: tuple[str, ...]
    tables: frozenset[str] = frozenset()
    views: frozenset[str] = frozenset()
    lsn: int | None = None
    reason: ResyncReason | None = None
    at: datetime


def merge_all(merged: Sequence[Invalidation], most: int) -> Invalidation:
    """All of them in one; there is one at least, and none is a resync.

    Raises OverflowError where that would hold over ``most`` patterns.
    """
    patterns: dict[str, None] = {}
    for invalidation in merged:
        patterns.update(dict.fromkeys(invalidation.patterns))
        if len(patterns) > most:
            raise OverflowError(len(patterns))
    positions = [invalidation.lsn for invalidation in merged if invalidation.lsn is not None]
    return Invalidation(
        offset=max(invalidation.offset for invalidation in merged),
        patterns=tuple(patterns),
        tables=frozenset[str]().union(*(invalidation.tables for invalidation in merged)),
        views=frozenset[str]().union(*(invalidation.views for invalidation in merged)),
        lsn=max(positions) if len(positions) == len(merged) else None,
        at=min(invalidation.at for invalidation in merged),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternMap:
    """Which table and which view names which patterns, held against which views hang on which tables."""

    catalogue: Catalogue = field(default_factory=Catalogue)
    tables: Mapping[str, tuple[Template, ...]] = field(default_factory=dict)
    views: Mapping[str, tuple[Template, ...]] = field(default_factory=dict)

    def at_once(self, table: str, keys: Keys, healthy: Collection[str]) -> list[str]:
        """The patterns of ``table`` that wait for no view's refresh, when just the ``healthy`` views are refreshed."""
        awaited = self._awaited(table, healthy)
        return fill_all((t for t in self.tables.get(table, ()) if t.text not in awaited), keys)

    def owed(self, named: Collection[str], tables: Iterable[str], keys: Keys, healthy: Collection[str]) -> list[str]:
        """The patterns of ``tables`` that waited for views which ``named`` them, and that no ``healthy`` view will send."""
        patterns: dict[str, None] = {}
        for table in tables:
            awaited = self._awaited(table, healthy)
            waiting = (t for t in self.tables.get(table, ()) if t.text in named and t.text not in awaited)
            patterns.update(dict.fromkeys(fill_all(waiting, keys)))
        return list(patterns)

    def _awaited(self, table: str, healthy: Collection[str]) -> set[str]:
        """What the healthy views that hang on ``table`` will send after their refreshes."""
        return {
            template.text
            for view in self.catalogue.hanging_on(table)
            if view in healthy
            for template in self.views.get(view, ())
        }

    def after_refresh(self, view: str, keys: Keys) -> list[str]:
        """The patterns that a refresh of ``view`` makes stale, when changes with ``keys`` were why."""
        return fill_all(self.views.get(view, ()), keys)


def fill_all(templates: Iterable[Template], keys: Keys) -> list[str]:
    """The patterns that ``templates`` become with ``keys``; a template's literal part where a key is unknown."""
    patterns: dict[str, None] = {}
    for template in templates:
        filled = {template.fill(dict(key)) for key in keys} if keys is not None and template.columns else {None}
        if None in filled or len(filled) > MAX_KEYED:
            patterns[template.literal] = None
        else:
            patterns.update(dict.fromkeys(sorted(pattern for pattern in filled if pattern is not None)))
    return list(patterns)
