"""The survey: reads the plan from the catalogue, and, for the leader, acts upon what is otherwise than it was.

In: a connection, the settings, the packs. Out: the new plan, with its suspects: views that are new, or were redefined,
or whose tables are watched otherwise, since somebody last looked. That is compared with what is written down in
`afresh.known`, not with what this process remembers: so it does not matter whether anything was running meanwhile.

`adopt` is one transaction: the suspects are marked, what the change of plan makes stale is appended to the invalidation
log, the marks of views that are no longer kept are removed, and what is known now is written down. Whatever fails, it is
done again, whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg

from afresh_cache.patterns import Template
from afresh_notifier import database, effects, invalidation_log, marks, planning
from afresh_notifier.database import Connection
from afresh_notifier.debounce import Dirt
from afresh_notifier.invalidation import Invalidation, fill_all
from afresh_notifier.invalidation_log import Reading
from afresh_notifier.marks import Mark
from afresh_notifier.observations import SettingIgnored
from afresh_notifier.packs import InstalledPack
from afresh_notifier.refresher import Plan, Refresher
from afresh_notifier.resources import query
from afresh_notifier.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The plan, which of its views are in it for the last time, what the settings say in vain, and whether no event trigger
    tells of changes to the catalogue."""

    plan: Plan
    leaving: frozenset[str]
    ignored: tuple[SettingIgnored, ...]
    must_poll: bool


async def read(connection: Connection, settings: Settings, packs: Sequence[InstalledPack], *, leading: bool) -> Survey:
    """Look at the catalogue; a leader extends watches first. Raises what asyncpg raises."""
    facts = await database.facts(connection)
    incomplete = await _extend_watches(connection) if leading else []
    # A view that lacks a change stays in the plan until it has been refreshed, although nothing that it hangs on may be
    # watched any more; and one that is known is refreshed once more before it leaves: its tables' last changes may still be
    # in the log, under a name that this plan does not connect with it.
    stale = {mark.view for mark in await marks.read(connection)} if leading else set()
    if leading:
        stale |= {row["name"] for row in await connection.fetch(query("known")) if row["kind"] == "view"}
    reading = await planning.read(connection, settings, packs, stale)
    return Survey(
        plan=reading.plan,
        leaving=reading.leaving,
        ignored=(*reading.ignored, *incomplete),
        must_poll=not facts.event_trigger or bool(incomplete),
    )


async def adopt(
    connection: Connection, survey: Survey, refresher: Refresher
) -> tuple[frozenset[str], list[Mark], Reading | None]:
    """Act upon what is otherwise than it was known to be.

    Returns the suspects, all marks that there are now, and what was appended.
    Raises what asyncpg raises.
    """
    now, plan = datetime.now(UTC), survey.plan
    async with database.transaction(connection):
        known = {(row["kind"], row["name"]): row["state"] for row in await connection.fetch(query("known"))}
        state = dict(_state(plan))
        suspects = frozenset(
            name for (kind, name), told in state.items() if kind == "view" and known.get((kind, name)) != told
        )
        suspects |= {name for name in survey.leaving if ("view", name) in known}
        state = {key: told for key, told in state.items() if key[0] != "view" or key[1] not in survey.leaving}
        old = await marks.read(connection)
        # What waited for a view that is gone, itself dirty or not yet, is told, unless another one will tell it.
        orphans = [mark for mark in old if mark.view not in plan.timings]
        gone = {name for kind, name in known if kind == "view"} - plan.timings.keys()
        healthy = refresher.healthy() & plan.timings.keys() | suspects
        stale = effects.left(plan.patterns, (mark.dirt() for mark in (old if gone else orphans)), healthy)
        await marks.clear(connection, orphans)
        views = plan.patterns.catalogue.views
        await marks.put(
            connection,
            [
                refresher.mark(name, Dirt(tables=set(view.tables), keys=None, heard_at=now))
                for name, view in views.items()
                if name in suspects
            ],
        )
        present = await marks.read(connection)
        stale += _renamed(known, state, now)
        if known != state:
            kinds, names = [kind for kind, _ in state], [name for _, name in state]
            await connection.execute(query("remember"), kinds, names, list(state.values()))
        told = await invalidation_log.append_all(connection, stale)
    return suspects, present, told


def _state(plan: Plan) -> Iterable[tuple[tuple[str, str], str]]:
    """What is written down of a plan: of a view, what its content and its patterns hang on; of a table, its patterns, and
    how it is watched."""
    watched = plan.patterns.catalogue.watched
    for name, view in plan.patterns.catalogue.views.items():
        patterns = [template.text for template in plan.patterns.views.get(name, ())]
        facts = json.dumps([view.fingerprint, sorted(view.unwatched), patterns])
        yield ("view", name), hashlib.sha256(facts.encode()).hexdigest()
    for name, templates in plan.patterns.tables.items():
        triggers = watched[name].triggers if name in watched else ""
        yield ("table", name), json.dumps([triggers, [template.text for template in templates]])


def _renamed(known: dict[tuple[str, str], str], state: dict[tuple[str, str], str], now: datetime) -> list[Invalidation]:
    """Tell the patterns of tables that came into the plan, left it, or have others now, and of those that are watched
    otherwise than they were: what happened to them in between may not have been told."""
    if not known:
        return []  # nobody has told anything yet
    changed = sorted(
        {key for key in known.keys() | state.keys() if key[0] == "table" and known.get(key) != state.get(key)}
    )
    told = [told for key in changed for told in (known.get(key), state.get(key)) if told is not None]
    templates = [Template.parse(text) for one in told for text in json.loads(one)[1]]
    if not templates:
        return []
    return [
        Invalidation(patterns=tuple(fill_all(templates, None)), tables=frozenset(name for _, name in changed), at=now)
    ]


async def _extend_watches(connection: database.Connection) -> list[SettingIgnored]:
    """Watch the partitions that came without a trigger's having seen it, before the plan is read: what was written to
    them so far is covered by the refresh that their being new causes. Each watch is a transaction of its own, so that none
    holds another's locks, or fails with it. Returns what could not be done, which is tried again at the next poll."""
    failed = []
    for row in await connection.fetch(query("incomplete_watches")):
        try:
            async with database.transaction(connection):
                await connection.execute(query("transaction_limits"), "10s", "500ms")
                await connection.execute(query("extend_watch"), row["root"], row["keys"], row["capture"])
        except asyncpg.PostgresError as error:
            failed.append(
                SettingIgnored(
                    name=row["name"],
                    problem=f"the watch on {row['name']} does not cover all its partitions: {database.said(error)[0]}",
                    hint=f"let the table's owner run `afresh watch {row['name']}`",
                )
            )
    return failed
