"""Which tables are to be watched, and with which keys: the settings and the packs, held against the catalogue.

In: names as people write them. Out: relations that exist, with their full names; or `NotThere`, which says what was
probably meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from afresh_notifier.database import Connection
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
    """A relation that exists: its full name as `format('%I.%I')` writes it, its kind and its oid as `pg_class` has them."""

    name: str
    kind: str
    oid: int


def declared_names(settings: Settings, packs: Sequence[InstalledPack]) -> list[str]:
    """The tables that the packs and the settings name, as they name them."""
    declared = [*(table for pack in packs for table in pack.settings.tables), *settings.tables]
    return list(dict.fromkeys(table.name for table in declared))


async def declared_keys(
    connection: Connection, settings: Settings, packs: Sequence[InstalledPack]
) -> dict[str, tuple[str, ...]]:
    """The keys of those of these tables that exist, by their full names.

    Packs add up; what the user's own file says of a table's keys goes before what packs say.
    """
    found = await look_up(connection, declared_names(settings, packs))
    full = {asked: relation.name for asked, relation in found.items()}
    keys: dict[str, tuple[str, ...]] = {}
    for table in (table for pack in packs for table in pack.settings.tables if table.name in full):
        name = full[table.name]
        keys[name] = tuple(dict.fromkeys((*keys.get(name, ()), *table.keys)))
    for table in (table for table in settings.tables if table.name in full):
        keys[full[table.name]] = table.keys or keys.get(full[table.name], ())
    return keys


async def resolve(connection: Connection, names: Iterable[str], kinds: frozenset[str] = TABLES) -> dict[str, Relation]:
    """The relations called ``names``, whatever their kind. Raises `NotThere`, with those of ``kinds`` that are meant."""
    asked = list(dict.fromkeys(names))
    for name in asked:
        try:
            _NAME.validate_python(name)
        except ValidationError as error:
            said = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
            raise NotThere(name, f"{name!r} is no name of a relation: {said}") from error
    found = await look_up(connection, asked)
    for name in asked:
        if name not in found:
            hint = meant(name, await names_of(connection, kinds))
            raise NotThere(name, f"there is no {_what(kinds)} {name}", hint=hint)
    return found


async def look_up(connection: Connection, names: Iterable[str]) -> dict[str, Relation]:
    """Those of ``names`` that mean a relation, whatever its kind; all must be written as SQL writes names."""
    return {
        row["asked"]: Relation(name=row["name"], kind=row["kind"], oid=row["oid"])
        for row in await connection.fetch(query("resolve_relations"), list(names))
        if row["name"] is not None
    }


async def names_of(connection: Connection, kinds: frozenset[str]) -> list[str]:
    """The full names of all the users' relations of these kinds."""
    return [row["name"] for row in await connection.fetch(query("relation_names"), sorted(kinds))]


def _what(kinds: frozenset[str]) -> str:
    return "materialized view" if kinds == VIEWS else "table"


def meant(name: str, there: Sequence[str]) -> str:
    """What to do about ``name``, which is not ``there``."""
    return did_you_mean(name, there) or (
        "a name without a schema means the schema public; names with capital letters are written in quotes"
    )


def did_you_mean(name: str, there: Sequence[str]) -> str:
    """Those of ``there`` that come close to ``name``, as people read names, without quotes and case; empty for none."""
    plain = {_plain(candidate): candidate for candidate in reversed(there)}
    plain |= {_plain(candidate.partition(".")[2]): candidate for candidate in reversed(there)}
    close = dict.fromkeys(plain[match] for match in difflib.get_close_matches(_plain(name), plain, n=3))
    return f"did you mean {' or '.join(candidate.removeprefix('public.') for candidate in close)}?" if close else ""


def _plain(name: str) -> str:
    return name.removeprefix("public.").replace('"', "").lower()
