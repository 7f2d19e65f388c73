"""Checks of what is watched: whether it is there, told completely, and with the keys that the settings want."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from afresh_notifier import watching
from afresh_notifier.doctor.finding import Finding, ok, problem, warning
from afresh_notifier.observations import SettingIgnored
from afresh_notifier.packs import InstalledPack
from afresh_notifier.refresher import Plan
from afresh_notifier.resources import query
from afresh_notifier.settings import Settings


def check_names(ignored: Sequence[SettingIgnored]) -> list[Finding]:
    """What the settings and packs name and the database does not bear out."""
    return [problem(ignore.name, ignore.problem, ignore.hint) for ignore in ignored]


async def check_watches(connection: asyncpg.Connection) -> list[Finding]:
    """Whether every watch has all its triggers, and enabled."""
    findings = []
    for row in await connection.fetch(query("doctor_watches")):
        if row["complete"]:
            findings.append(ok(row["name"], "its changes are told"))
        elif row["by_watch"]:
            what = f"its watch is not complete, so changes are missed: {'; '.join(row['lacks'])}"
            findings.append(problem(row["name"], what, row["mend"]))
        else:
            what = "its triggers, made by hand, do not tell of every INSERT, UPDATE and DELETE, or are disabled"
            findings.append(problem(row["name"], what, f"enable them, or let Afresh make its own:\n{row['mend']}"))
    return findings


async def check_keys(
    connection: asyncpg.Connection, settings: Settings, packs: Sequence[InstalledPack], plan: Plan
) -> list[Finding]:
    """Whether changes carry the keys that the settings declare, and those that the patterns have places for."""
    declared = await watching.declared_keys(connection, settings, packs)
    wanted = {name: keys for name, keys in declared.items() if keys}
    rows = await connection.fetch(query("doctor_keys"), list(wanted), [_array(keys) for keys in wanted.values()])
    findings = [
        warning(
            row["name"],
            f"the settings want the keys {', '.join(wanted[row['name']])}; its changes carry "
            + (
                ", ".join(row["keys"])
                or ("none, as its triggers were made by hand" if row["level"] == "row" else "none")
            ),
            row["mend"],
        )
        for row in rows
    ]
    for name, templates in plan.patterns.tables.items():
        # A watch covers a whole tree of partitions, and its patterns are those of all.
        tree = plan.patterns.catalogue.watched.get(name)
        carried = {key for relative in (name, *(tree.kin if tree else ())) for key in wanted.get(relative, ())}
        for template in templates:
            lacking = [column for column in template.columns if column not in carried]
            if lacking:
                findings.append(
                    warning(
                        name,
                        f"its pattern {template.text} has places for {', '.join(lacking)}, which are none of its keys: "
                        f"every change makes all of {template.literal}… stale",
                        f"add {', '.join(lacking)} to its keys in [[tables]], then run:\nafresh watch",
                    )
                )
    return findings


def _array(names: Sequence[str]) -> str:
    """The names as PostgreSQL writes an array of text."""
    quoted = ('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names)
    return "{" + ",".join(quoted) + "}"
