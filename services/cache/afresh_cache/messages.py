"""The wire messages of `afresh.v1`: JSON text frames, each an object with a `type`.

What comes from outside is validated once, here, by `read_client_message` and `read_server_message`, and trusted after.
The server takes no field that it does not know; a client lets unknown fields and types pass, so that a newer
server can say more.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, get_args

import orjson
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from afresh_cache.errors import BadMessage

PROTOCOL = "afresh.v1"

#: Bounds on what one client may ask for.
MAX_PATTERNS = 256
MAX_PATTERN_LENGTH = 512
MAX_ID_LENGTH = 64
MAX_NAME_LENGTH = 64
MAX_EPOCH_LENGTH = 128

ResyncReason = Literal["gap", "overflow", "expired", "restart"]

_STRICT = ConfigDict(extra="forbid")
_TOLERANT = ConfigDict(extra="ignore")

SubscriptionId = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]
PatternText = Annotated[str, Field(min_length=1, max_length=MAX_PATTERN_LENGTH)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a client stands in an invalidation log."""

    __pydantic_config__ = _STRICT

    epoch: Annotated[str, Field(min_length=1, max_length=MAX_EPOCH_LENGTH)]
    offset: Annotated[int, Field(ge=0, le=2**63 - 1)]

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """The opposite of ``str``; an event id of the server-sent events. Raises BadMessage."""
        epoch, _, offset = text.rpartition(":")
        try:
            return _POSITION.validate_python({"epoch": epoch, "offset": offset})
        except ValidationError as error:
            raise BadMessage(f"{text!r} is not a position such as epoch:41", parseable=True) from error


_POSITION: TypeAdapter[Position] = TypeAdapter(Position)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """``patterns`` None: all; ``since`` None: from now."""

    __pydantic_config__ = _STRICT

    type: Literal["subscribe"] = "subscribe"
    id: SubscriptionId
    patterns: Annotated[tuple[PatternText, ...], Field(min_length=1, max_length=MAX_PATTERNS)] | None = None
    since: Position | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Asks for the answer of the named query ``name``, now and whenever it has become another one."""

    __pydantic_config__ = _STRICT

    type: Literal["query"] = "query"
    id: SubscriptionId
    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)]
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribe:
    """Ends the subscription, or the query, ``id``."""

    __pydantic_config__ = _STRICT

    type: Literal["unsubscribe"] = "unsubscribe"
    id: SubscriptionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The server's first word: the log's identity and its newest offset."""

    __pydantic_config__ = _TOLERANT

    type: Literal["welcome"] = "welcome"
    epoch: str
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribed:
    """The subscription stands at ``offset``; ``recovered``: everything since `since` was sent before."""

    __pydantic_config__ = _TOLERANT

    type: Literal["subscribed"] = "subscribed"
    id: str
    epoch: str
    offset: int
    recovered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalidate:
    """Whatever matches ``patterns`` is stale, and fresh data can be read now.

    ``at`` is when the oldest change in it was heard (RFC 3339); ``lsn`` the write-ahead log position that a replica
    must have replayed to serve the fresh data, or None where it is not known.
    """

    __pydantic_config__ = _TOLERANT

    type: Literal["invalidate"] = "invalidate"
    offset: int
    patterns: list[str]
    tables: list[str] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    lsn: str | None = None
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionUpdate:
    """Nothing for you lately: resume from here."""

    __pydantic_config__ = _TOLERANT

    type: Literal["position"] = "position"
    epoch: str
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resync:
    """What was missed cannot be told: drop everything."""

    __pydantic_config__ = _TOLERANT

    type: Literal["resync"] = "resync"
    offset: int
    reason: ResyncReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The answer to the query ``id``, in which everything up to ``offset`` is; ``truncated``: there are more rows."""

    __pydantic_config__ = _TOLERANT

    type: Literal["result"] = "result"
    id: str
    offset: int
    truncated: bool = False
    rows: list[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Whether the instance at the other end is ``current``: while it is not, it cannot read the log, and tells nothing."""

    __pydantic_config__ = _TOLERANT

    type: Literal["status"] = "status"
    current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """The answer to a frame that could not be taken."""

    __pydantic_config__ = _TOLERANT

    type: Literal["error"] = "error"
    id: str | None = None
    code: str
    message: str


ClientMessage = Subscribe | Query | Unsubscribe
ServerMessage = Welcome | Subscribed | Invalidate | PositionUpdate | Resync | Result | Status | Error

_CLIENT: TypeAdapter[ClientMessage] = TypeAdapter(Annotated[ClientMessage, Field(discriminator="type")])
_SERVER: TypeAdapter[ServerMessage] = TypeAdapter(Annotated[ServerMessage, Field(discriminator="type")])
#: What clients say, with the fields of each, and what each field takes.
_FIELDS = {
    "subscribe": tuple(one.name for one in fields(Subscribe)),
    "query": tuple(one.name for one in fields(Query)),
    "unsubscribe": tuple(one.name for one in fields(Unsubscribe)),
}
_EXPECTED: dict[tuple[str | int, ...], str] = {
    ("id",): f"a text of 1 to {MAX_ID_LENGTH} characters",
    ("patterns",): f"a list of 1 to {MAX_PATTERNS} prefixes; left out, it means all",
    ("patterns", "…"): f"a text of 1 to {MAX_PATTERN_LENGTH} characters",
    ("name",): f"a query's name, a text of 1 to {MAX_NAME_LENGTH} characters",
    ("params",): "an object with the query's parameters",
    ("since",): "a position, which has epoch and offset; left out, it means from now on",
    ("since", "epoch"): f"a text of 1 to {MAX_EPOCH_LENGTH} characters",
    ("since", "offset"): "a whole number, 0 or greater",
}
_SERVER_TYPES = [one.default for kind in get_args(ServerMessage) for one in fields(kind) if one.name == "type"]


def encode(message: ClientMessage | ServerMessage) -> bytes:
    """The frame's text, as UTF-8."""
    return orjson.dumps(message)


def _object(frame: str | bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(frame)
    except orjson.JSONDecodeError as error:
        raise BadMessage(f"not JSON: {error}", parseable=False) from error
    if not isinstance(value, dict):
        raise BadMessage("expected a JSON object with a type", parseable=False)
    return value


def _expectation(value: dict[str, Any], error: ValidationError) -> str:
    """What is wrong with a client's message, in our own words: the first field that is not right, and what it takes."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = first["loc"][1:]  # the first part is the message's type
    if not place:
        return "type: expected subscribe, query or unsubscribe"
    written = ".".join(map(str, place))
    if first["type"] == "unexpected_keyword_argument":
        takes = ("epoch", "offset") if place[0] == "since" else _FIELDS[value["type"]]
        return f"{written}: there is no such field here; expected {', '.join(takes)}"
    return f"{written}: expected {_EXPECTED[tuple('…' if isinstance(part, int) else part for part in place)]}"


def read_client_message(frame: str | bytes) -> ClientMessage:
    """What a client said. Raises BadMessage, with the id that it gave, if any."""
    value = _object(frame)
    try:
        return _CLIENT.validate_python(value)
    except ValidationError as error:
        given = value.get("id")
        said = given if isinstance(given, str) else None
        raise BadMessage(_expectation(value, error), parseable=True, message_id=said) from error


def read_server_message(frame: str | bytes) -> ServerMessage | None:
    """What a server said; None where it is of a type that this version does not know. Raises BadMessage."""
    value = _object(frame)
    if value.get("type") not in _SERVER_TYPES:
        return None
    try:
        return _SERVER.validate_python(value)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"][1:]))
        text = f"{place} of a message {value['type']} is missing or of another kind"
        raise BadMessage(text, parseable=True) from error
