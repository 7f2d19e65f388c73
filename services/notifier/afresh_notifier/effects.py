"""Effects: what follows from changes, and from a gap, by the plan that stands. Pure.

In: changes, the gap before them if there was one, the plan's patterns, the views that can be counted on. Out: which views
are dirty, and which invalidations wait for none of them; and what was left to a view that cannot be counted on any more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from afresh_cache.messages import ResyncReason
from afresh_notifier.changes import Change, Gap
from afresh_notifier.debounce import Dirt
from afresh_notifier.dependencies import Catalogue
from afresh_notifier.invalidation import Invalidation, PatternMap, fill_all


def dirtied(catalogue: Catalogue, changes: Sequence[Change], gap: Gap | None) -> dict[str, Dirt]:
    """The views that read the tables of these changes, or what may have changed in the gap; parents first."""
    causes = [(change.table, change.keys, change.heard_at) for change in changes]
    if gap is not None:
        causes += [(table, None, gap.heard_at) for table in sorted(_doubtful(catalogue, gap))]
    found: dict[str, Dirt] = {}
    for table, keys, heard_at in causes:
        for view in catalogue.reading(table):
            dirt = Dirt(tables={table}, keys=None if keys is None else set(keys), heard_at=heard_at)
            if view in found:
                found[view].merge(dirt)
            else:
                found[view] = dirt
    return {view: found[view] for view in catalogue.views if view in found}


def stale(
    plan: PatternMap, changes: Sequence[Change], gap: Gap | None, healthy: Collection[str], reason: ResyncReason
) -> list[Invalidation]:
    """What is told at once: after a gap a resync, for ``reason``, of whoever hears of what may have changed in it; and the
    patterns of these changes that wait for the refresh of no ``healthy`` view."""
    told = []
    doubtful = frozenset[str]() if gap is None else _doubtful(plan.catalogue, gap)
    if gap is not None and doubtful:
        views = {view for table in doubtful for view in plan.catalogue.hanging_on(table)}
        templates = [template for table in sorted(doubtful) for template in plan.tables.get(table, ())]
        templates += [template for view in sorted(views) for template in plan.views.get(view, ())]
        patterns = tuple(fill_all(templates, None))
        told.append(Invalidation(patterns=patterns, tables=doubtful, reason=reason, at=gap.heard_at))
    at_once: dict[str, None] = {}
    tables: set[str] = set()
    for change in changes:
        found = plan.at_once(change.table, change.keys, healthy)
        if found:
            at_once.update(dict.fromkeys(found))
            tables.add(change.table)
    if at_once:
        at = min(change.heard_at for change in changes)
        told.append(Invalidation(patterns=tuple(at_once), tables=frozenset(tables), at=at))
    return told


def left(plan: PatternMap, waited: Iterable[Dirt], healthy: Collection[str]) -> list[Invalidation]:
    """What ``waited`` for a view that is gone or given up, and that waits for no ``healthy`` one either."""
    told = []
    for dirt in waited:
        patterns = {pattern for table in dirt.tables for pattern in plan.at_once(table, dirt.keys, healthy)}
        if patterns:
            told.append(Invalidation(patterns=tuple(sorted(patterns)), tables=frozenset(dirt.tables), at=dirt.heard_at))
    return told


def _doubtful(catalogue: Catalogue, gap: Gap) -> frozenset[str]:
    """The tables that may have changed in the gap without our knowing."""
    return frozenset(catalogue.watched) if gap.total else catalogue.notified
