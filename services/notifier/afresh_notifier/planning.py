"""The plan: what the settings and the packs say, applied to what the catalogue has.

In: a connection, `Settings`, packs. Out: a `Plan` for the refresher, and a list of what the settings name that is not as
they say (a missing table, an unwatched one, a view that is none), which is reported and stops nothing else.

A view is refreshed if it hangs, through whatever is in between, on a table that is watched, or if the settings name it;
`enabled = false` leaves it out. Where several sources name one table or view, patterns add up, and what the user's own file
says of the rest goes before what packs say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from afresh_cache.patterns import Template
from afresh_notifier import dependencies, watching
from afresh_notifier.database import Connection
from afresh_notifier.debounce import Timing
from afresh_notifier.dependencies import Catalogue, Tree
from afresh_notifier.invalidation import PatternMap
from afresh_notifier.observations import SettingIgnored
from afresh_notifier.packs import InstalledPack
from afresh_notifier.refresh import Limits
from afresh_notifier.refresher import Plan
from afresh_notifier.settings import Settings, TableSettings, ViewSettings
from afresh_notifier.watching import Relation


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at the database: the plan it gives, and what in the settings it does not bear out."""

    plan: Plan
    ignored: tuple[SettingIgnored, ...]
    #: Views that are in the plan for the last time: nothing that they hang on is watched any more.
    leaving: frozenset[str] = frozenset()


async def read(
    connection: Connection, settings: Settings, packs: Sequence[InstalledPack], stale: Collection[str] = ()
) -> Reading:
    """Look at the database. Raises what asyncpg raises; cancelling it is safe, it only reads.

    ``stale`` are views that lack a change, or may: they stay in the plan, if they are still there, although nothing that
    they hang on may be watched any more.
    """
    catalogue = await dependencies.load(connection)
    tables = [table for pack in packs for table in pack.settings.tables] + list(settings.tables)
    views = [view for pack in packs for view in pack.settings.views] + list(settings.views)
    named = (([table.name for table in tables], watching.TABLES), ([view.name for view in views], watching.VIEWS))
    found = await watching.look_up(connection, {name for names, _ in named for name in names})
    hints: dict[str, str] = {}
    for names, kinds in named:
        missing = [name for name in names if name not in found]
        there = await watching.names_of(connection, kinds) if missing else []
        hints |= {name: watching.did_you_mean(name, there) for name in missing}
    return make(catalogue, settings, tables, views, found, hints, stale)


def make(
    catalogue: Catalogue,
    settings: Settings,
    tables: Sequence[TableSettings],
    views: Sequence[ViewSettings],
    found: Mapping[str, Relation],
    hints: Mapping[str, str],
    stale: Collection[str] = (),
) -> Reading:
    """The plan, from facts alone: ``found`` has the relation for each name in the settings that means one, ``hints``
    what may be meant by the others."""
    ignored: list[SettingIgnored] = []
    named_tables: dict[str, list[TableSettings]] = {}
    for table in tables:
        relation = found.get(table.name)
        if relation is None:
            ignored.append(_missing(table.name, "table", hints.get(table.name)))
            continue
        name = relation.name
        if relation.kind not in watching.TABLES:
            ignored.append(SettingIgnored(name=name, problem=f"{name} is not a table", hint="only tables are watched"))
        else:
            if name not in catalogue.watched:
                ignored.append(
                    SettingIgnored(
                        name=name,
                        problem=f"{name} is not watched: its changes are not heard",
                        hint=f"run `afresh watch {table.name}`",
                    )
                )
            named_tables.setdefault(name, []).append(table)
    named: dict[str, list[ViewSettings]] = {}
    for view in views:
        relation = found.get(view.name)
        if relation is None:
            ignored.append(_missing(view.name, "materialized view", hints.get(view.name)))
        elif relation.kind not in watching.VIEWS:
            ignored.append(
                SettingIgnored(
                    name=relation.name,
                    problem=f"{relation.name} is not a materialized view",
                    hint="make it one, or name its table under [[tables]]",
                )
            )
        else:
            named.setdefault(relation.name, []).append(view)
    wanted = set(named).union(*map(catalogue.hanging_on, catalogue.watched))
    staying = wanted.union(stale)
    kept = {name for name in catalogue.views if name in staying and all(said.enabled for said in named.get(name, ()))}
    catalogue = Catalogue.of((catalogue.views[name] for name in kept), catalogue.watched)
    trees = {name: Tree(root=name) for name in named_tables} | dict(catalogue.watched)
    table_patterns = {name: _table_patterns(tree, name, named_tables) for name, tree in trees.items()}
    view_patterns = {name: _patterns(name, named.get(name, ())) for name in kept}
    return Reading(
        plan=Plan(
            patterns=PatternMap(
                catalogue=catalogue,
                tables={name: tuple(map(Template.parse, patterns)) for name, patterns in table_patterns.items()},
                views={name: tuple(map(Template.parse, patterns)) for name, patterns in view_patterns.items()},
            ),
            timings={
                name: _timing(settings, named.get(name, ()), catalogue.ancestors(name)) for name in catalogue.views
            },
            limits={name: _limits(settings, named.get(name, ())) for name in kept},
            next_changes={
                name: view.next_change for name in kept for view in named.get(name, ()) if view.next_change is not None
            },
        ),
        ignored=tuple(ignored),
        leaving=frozenset(kept - wanted),
    )


def name_pattern(name: str) -> str:
    """The pattern of a table or view that names none: its own name, without the schema if that is `public`."""
    return name.removeprefix("public.").replace('"', "").replace("{", "").replace("}", "")


def _missing(name: str, what: str, hint: str | None) -> SettingIgnored:
    return SettingIgnored(
        name=name,
        problem=f"there is no {what} {name}",
        hint=hint or "correct the name, create it, or run `afresh migrate up` if a pack brings it",
    )


def _table_patterns(tree: Tree, name: str, named: Mapping[str, Sequence[TableSettings]]) -> tuple[str, ...]:
    """The patterns of a watched table: its own and those of its kin, since what changes one changes the others, or may;
    the root's name where nobody names any."""
    family = [relative for relative in (name, *sorted(tree.kin)) if relative in named]
    if not family:
        return (name_pattern(tree.root),)
    return tuple(dict.fromkeys(pattern for relative in family for pattern in _patterns(relative, named[relative])))


def _patterns(name: str, said: Sequence[TableSettings | ViewSettings]) -> tuple[str, ...]:
    """What the settings and the packs say of one table or view, together; its own name where they say nothing."""
    chosen = [section.patterns for section in said if section.patterns is not None]
    if not chosen:
        return (name_pattern(name),)
    return tuple(dict.fromkeys(pattern for patterns in chosen for pattern in patterns))


def _timing(settings: Settings, said: Sequence[ViewSettings], parents: frozenset[str]) -> Timing:
    general = settings.refresh
    debounce, max_wait, max_load, every = general.debounce, general.max_wait, general.max_load, None
    for view in said:
        debounce = debounce if view.debounce is None else view.debounce
        max_wait = max_wait if view.max_wait is None else view.max_wait
        max_load = max_load if view.max_load is None else view.max_load
        every = every if view.every is None else view.every
    return Timing(
        debounce=debounce,
        max_wait=max_wait,
        max_load=max_load,
        every=every,
        retry_first=general.retry_first,
        retry_max=general.retry_max,
        parents=parents,
    )


def _limits(settings: Settings, said: Sequence[ViewSettings]) -> Limits:
    timeout, blocking = settings.refresh.timeout, False
    for view in said:
        timeout = timeout if view.timeout is None else view.timeout
        blocking = blocking or view.blocking
    return Limits(timeout=timeout, lock_timeout=settings.refresh.lock_timeout, blocking=blocking)
