"""What the listener hears: the messages that flow into the pipeline, and how a payload becomes one.

A `Change` is one committed statement on a watched table (or several, folded, where it was taken out of the change log), a
`CatalogueChange` one that altered tables or views, a `Gap` a stretch in which anything may have been notified, a `Bell`
says that there is something in the change log. `LogGrown` and `LeaseFree` are what instances tell one another. Payloads
come from a channel that anybody may write to, so each is checked here, once; what is no payload of ours is a
`BadPayload`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from afresh_cache.patterns import KeyValue
from afresh_notifier.errors import BadPayload

#: Keys longer than this, in characters, are as good as unknown; no trigger of ours writes such.
MAX_KEYS_LENGTH = 65_536

#: The version of the payload that `notify_event_refresh` writes.
PAYLOAD_VERSION = 1

Operation = Literal["INSERT", "UPDATE", "DELETE", "TRUNCATE"]
#: One row's key: pairs of column and value.
Key = tuple[tuple[str, KeyValue], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something was done to ``table``, and committed. ``keys`` None: unknown, treat as all."""

    table: str
    keys: frozenset[Key] | None
    heard_at: datetime
    #: How many statements this stands for.
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueChange:
    """Tables, views or functions were made, altered or dropped."""

    heard_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Changes that are only notified may have been missed up to now: ``reason`` says why, for people. ``total``: others
    too."""

    reason: str
    heard_at: datetime
    total: bool = False

    def after(self, earlier: Gap | None) -> Gap:
        """This gap, and what an ``earlier`` one, which has not been dealt with, says beyond it."""
        return self if earlier is None or self.total else replace(self, total=earlier.total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bell:
    """Somebody put something into the change log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogGrown:
    """The invalidation log goes up to ``offset`` now."""

    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseFree:
    """The leader has resigned."""


Heard = Change | CatalogueChange | Gap | Bell | LogGrown | LeaseFree


@dataclass(frozen=True, slots=True, kw_only=True)
class _Payload:
    """The channel's JSON, as it is written by the triggers."""

    __pydantic_config__ = ConfigDict(extra="ignore")

    table: str
    op: Operation
    keys: list[dict[str, KeyValue]] | None = None
    rows: Annotated[int, Field(ge=0)] | None = None
    xid: Annotated[int, Field(ge=0)]


_PAYLOAD: TypeAdapter[_Payload] = TypeAdapter(_Payload)
_KEYS: TypeAdapter[list[dict[str, KeyValue]]] = TypeAdapter(list[dict[str, KeyValue]])


def read_payload(text: str, heard_at: datetime) -> Heard:
    """What a notification says. Raises `BadPayload` where it is none of ours.

    A payload of another version is a `Gap`: the database was upgraded before this process, and says something of
    which we know only that it happened.
    """
    if not text:
        return Bell()
    try:
        value = _loads(text)
    except (ValueError, RecursionError) as error:
        raise BadPayload(f"not JSON: {error}") from error
    if not isinstance(value, dict) or type(value.get("v")) is not int or not 0 <= value["v"] < 2**15:
        raise BadPayload('not an object with a version "v"')
    if value["v"] != PAYLOAD_VERSION:
        return Gap(reason=f"a payload of version {value['v']} was heard", heard_at=heard_at, total=True)
    match value:
        case {"op": "DDL"}:
            return CatalogueChange(heard_at=heard_at)
        case {"op": "LOG", "offset": int(offset)}:
            return LogGrown(offset=offset)
        case {"op": "LEASE"}:
            return LeaseFree()
    try:
        payload = _PAYLOAD.validate_python(value)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise BadPayload(f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}") from error
    return Change(table=payload.table, keys=_keys(payload.keys) if payload.keys else None, heard_at=heard_at)


def read_keys(text: str) -> frozenset[Key] | None:
    """Keys as the change log and the marks have them: a JSON array of objects. What is none, or could not be handed on,
    leaves them unknown: anybody may write there."""
    if len(text) > MAX_KEYS_LENGTH:
        return None
    try:
        return _keys(_KEYS.validate_python(_loads(text)))
    except (ValueError, RecursionError):
        return None


def write_keys(keys: frozenset[Key]) -> list[dict[str, KeyValue]]:
    """What `read_keys` reads, before it is encoded."""
    return [dict(key) for key in keys]


def _keys(keys: list[dict[str, KeyValue]]) -> frozenset[Key] | None:
    """None where one of them holds what PostgreSQL would not take or nobody could send: no trigger of ours writes that."""
    if any(not _storable(part) for key in keys for pair in key.items() for part in pair):
        return None
    return frozenset(tuple(sorted(key.items())) for key in keys)


def _storable(value: KeyValue) -> bool:
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
    # Numbers are read as they are written: only NaN and the infinities come as floats.
    return not isinstance(value, float)


def _loads(text: str) -> Any:
    # Numbers with a fraction stay as PostgreSQL wrote them: as floats, keys would be called otherwise, or be infinite.
    return json.loads(text, parse_float=str)
