"""What the listener hears: the messages that flow into the pipeline, and how a payload becomes one.

A `Change` is one committed statement on a watched table, a `CatalogueChange` one that altered tables or views, a `Gap` a
stretch in which anything may have happened. Payloads come from a channel that anybody may write to, so each is
checked here, once; what is no payload of ours is a `BadPayload`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from afresh_cache.patterns import KeyValue
from afresh_notifier.errors import BadPayload

#: The version of the payload that `notify_event_refresh` writes.
PAYLOAD_VERSION = 1

Operation = Literal["INSERT", "UPDATE", "DELETE", "TRUNCATE"]
#: One row's key: pairs of column and value.
Key = tuple[tuple[str, KeyValue], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One committed statement on ``table``. ``keys`` None: unknown, treat as all."""

    table: str
    operation: Operation
    keys: frozenset[Key] | None
    rows: int | None
    xid: int
    heard_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueChange:
    """Tables, views or functions were made, altered or dropped."""

    heard_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Changes may have been missed up to now: ``reason`` says why, for people."""

    reason: str
    heard_at: datetime


Heard = Change | CatalogueChange | Gap


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


def read_payload(text: str, heard_at: datetime) -> Heard:
    """What a notification says. Raises `BadPayload` where it is none of ours.

    A payload of another version is a `Gap`: the database was upgraded before this process, and says something of
    which we know only that it happened.
    """
    try:
        # Numbers with a fraction stay as PostgreSQL wrote them: as floats, keys would be called otherwise, or be infinite.
        value = json.loads(text, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise BadPayload(f"not JSON: {error}") from error
    if not isinstance(value, dict) or type(value.get("v")) is not int or not 0 <= value["v"] < 2**15:
        raise BadPayload('not an object with a version "v"')
    if value["v"] != PAYLOAD_VERSION:
        return Gap(reason=f"a payload of version {value['v']} was heard", heard_at=heard_at)
    if value.get("op") == "DDL":
        return CatalogueChange(heard_at=heard_at)
    try:
        payload = _PAYLOAD.validate_python(value)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise BadPayload(f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}") from error
    keys = frozenset(tuple(sorted(key.items())) for key in payload.keys) if payload.keys else None
    return Change(
        table=payload.table, operation=payload.op, keys=keys, rows=payload.rows, xid=payload.xid, heard_at=heard_at
    )
