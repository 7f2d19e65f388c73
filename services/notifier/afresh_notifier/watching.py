"""Which tables are to be watched, and with which keys: the settings and the packs, held against the catalogue.

In: names as people write them. Out: relations that exist, with their full names; or `NotThere`, which says what was
probably meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import asyncpg
from pydantic import TypeAdapter, ValidationError

from afresh_notifier.errors import NotThere
from afresh_notifier.packs import InstalledPack
from afresh_notifier.resources import query
from afresh_notifier.settings import Settings
from afresh_notifier.settings_values import RelationName

#: The kinds of relation, as the catalogue has them, that can be watched, and that can be refreshed.
TABLES, VIEWS = frozenset("rp"), frozenset("m")

_NAME: TypeAdapter[str] = TypeAdapter(RelationName)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A relation that exists: its full name as `format('%I.%I')` writes it, and its kind as `pg_class` has it."""

    name: str
    kind: str


def declared_names(settings: Settings, packs: Sequence[InstalledPack]) -> list[str]:
    """The tables that the packs and the settings name, as they name them."""
    declared = [*(table for pack in packs for table in pack.settings.tables), *settings.tables]
    return list(dict.fromkeys(table.name for table in declared))


async def declared_keys(
    connection: asyncpg.Connection, settings: Settings, packs: Sequence[InstalledPack]
) -> dict[str, tuple[str, ...]]:
    """The keys of those of these tables that exist, by their full names.

    Packs add up; what the user's own file says of a table's keys goes before what packs say.
    """
    rows = await connection.fetch(query("resolve_relations"), declared_names(settings, packs))
    full = {row["asked"]: row["name"] for row in rows if row["name"] is not None}
    keys: dict[str, tuple[str, ...]] = {}
    for table in (table for pack in packs for table in pack.settings.tables if table.name in full):
        name = full[table.name]
        keys[name] = tuple(dict.fromkeys((*keys.get(name, ()), *table.keys)))
    for table in (table for table in settings.tables if table.name in full):
        keys[full[table.name]] = table.keys or keys.get(full[table.name], ())
    return keys


async def resolve(
    connection: asyncpg.Connection, names: Iterable[str], kinds: frozenset[str] = TABLES
) -> dict[str, Relation]:
    """The relations called ``names``, whatever their kind. Raises `NotThere`, with those of ``kinds`` that are meant."""
    asked = list(dict.fromkeys(names))
    for name in asked:
        try:
            _NAME.validate_python(name)
        except ValidationError as error:
            said = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
            raise NotThere(name, f"{name!r} is no name of a relation: {said}") from error
    found = {row["asked"]: row for row in await connection.fetch(query("resolve_relations"), asked)}
    for name in asked:
        if found[name]["name"] is None:
            there = [row["name"] for row in await connection.fetch(query("relation_names"), sorted(kinds))]
            raise NotThere(name, f"there is no {_what(kinds)} {name}", hint=meant(name, there))
    return {name: Relation(name=found[name]["name"], kind=found[name]["kind"]) for name in asked}


def _what(kinds: frozenset[str]) -> str:
    return "materialized view" if kinds == VIEWS else "table"


def meant(name: str, there: Sequence[str]) -> str:
    """What to do about ``name``, which is not ``there``: compared as people read names, without quotes and case."""
    plain = {_plain(candidate): candidate for candidate in reversed(there)}
    plain |= {_plain(candidate.partition(".")[2]): candidate for candidate in reversed(there)}
    close = dict.fromkeys(plain[match] for match in difflib.get_close_matches(_plain(name), plain, n=3))
    if close:
        return f"did you mean {' or '.join(candidate.removeprefix('public.') for candidate in close)}?"
    return "a name without a schema means the schema public; names with capital letters are written in quotes"


def _plain(name: str) -> str:
    return name.removeprefix("public.").replace('"', "").lower()
