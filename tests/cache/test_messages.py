"""The wire messages: what is written can be read, and what is malformed is refused with its reason."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afresh_cache.errors import BadMessage
from afresh_cache.messages import (
    MAX_PATTERN_LENGTH,
    MAX_PATTERNS,
    ClientMessage,
    Error,
    Invalidate,
    Position,
    PositionUpdate,
    Resync,
    ServerMessage,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
    encode,
    read_client_message,
    read_server_message,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
OFFSETS = st.integers(0, 2**63 - 1)
POSITIONS = st.builds(Position, epoch=NAMES, offset=OFFSETS)
CLIENT = st.one_of(
    st.builds(
        Subscribe,
        id=NAMES,
        patterns=st.none() | st.lists(NAMES, min_size=1, max_size=5).map(tuple),
        since=st.none() | POSITIONS,
    ),
    st.builds(Unsubscribe, id=NAMES),
)
SERVER = st.one_of(
    st.builds(Welcome, epoch=TEXT, offset=OFFSETS),
    st.builds(Subscribed, id=TEXT, epoch=TEXT, offset=OFFSETS, recovered=st.booleans()),
    st.builds(
        Invalidate,
        offset=OFFSETS,
        patterns=st.lists(TEXT),
        tables=st.lists(TEXT),
        views=st.lists(TEXT),
        lsn=st.none() | TEXT,
        at=TEXT,
    ),
    st.builds(PositionUpdate, epoch=TEXT, offset=OFFSETS),
    st.builds(Resync, offset=OFFSETS, reason=st.sampled_from(["gap", "overflow", "expired", "restart"])),
    st.builds(Error, id=st.none() | TEXT, code=TEXT, message=TEXT),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(CLIENT)
def test_what_a_client_says_is_read_back_the_same(message: ClientMessage) -> None:
    assert read_client_message(encode(message)) == message
    assert read_client_message(encode(message).decode()) == message


@given(SERVER)
def test_what_a_server_says_is_read_back_the_same(message: ServerMessage) -> None:
    assert read_server_message(encode(message)) == message


@given(POSITIONS)
def test_a_position_is_read_back_from_its_text(position: Position) -> None:
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize("text", ["", "41", ":41", "epoch:", "epoch:-1", "epoch:x", "epoch:1.5", f"epoch:{2**63}"])
def test_a_malformed_position_is_refused(text: str) -> None:
    with pytest.raises(BadMessage, match="is not a position"):
        Position.parse(text)


def refusal(read: Callable[[bytes], object], frame: bytes) -> BadMessage | None:
    try:
        read(frame)
    except BadMessage as error:
        return error
    return None


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_refused(frame: bytes) -> None:
    for read in (read_client_message, read_server_message):
        refused = refusal(read, frame)
        assert refused is None or str(refused)


@given(
    st.dictionaries(st.sampled_from(["type", "id", "patterns", "since", "x"]), JSON | st.just("subscribe"), max_size=5)
)
def test_any_object_is_a_message_or_refused_with_its_id(value: dict[str, object]) -> None:
    refused = refusal(read_client_message, orjson.dumps(value))
    if refused is not None:
        assert refused.parseable
        assert refused.message_id == (value.get("id") if isinstance(value.get("id"), str) else None)


@pytest.mark.parametrize("frame", ["", "x", "{", "[]", "1", "null", '"subscribe"', b"\xff\xfe"])
def test_what_is_no_json_object_is_not_parseable(frame: str | bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        read_client_message(frame)
    assert not caught.value.parseable


TYPE = "type: expected subscribe, query or unsubscribe"
ID = "id: expected a text of 1 to 64 characters"
PATTERNS = "patterns: expected a list of 1 to 256 prefixes; left out, it means all"
PATTERN = "expected a text of 1 to 512 characters"
SINCE = "since: expected a position, which has epoch and offset; left out, it means from now on"
OFFSET = "since.offset: expected a whole number, 0 or greater"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"id": "1"}, TYPE),
        ({"type": "publish", "id": "1"}, TYPE),
        ({"type": ["subscribe"], "id": "1"}, TYPE),
        ({"type": "subscribe"}, ID),
        ({"type": "subscribe", "id": ""}, ID),
        ({"type": "subscribe", "id": 1}, ID),
        ({"type": "subscribe", "id": "x" * 65}, ID),
        ({"type": "subscribe", "id": "1", "patterns": []}, PATTERNS),
        ({"type": "subscribe", "id": "1", "patterns": "clients"}, PATTERNS),
        ({"type": "subscribe", "id": "1", "patterns": ["a"] * (MAX_PATTERNS + 1)}, PATTERNS),
        ({"type": "subscribe", "id": "1", "patterns": ["a", ""]}, f"patterns.1: {PATTERN}"),
        ({"type": "subscribe", "id": "1", "patterns": ["x" * (MAX_PATTERN_LENGTH + 1)]}, f"patterns.0: {PATTERN}"),
        ({"type": "subscribe", "id": "1", "since": "e:1"}, SINCE),
        (
            {"type": "subscribe", "id": "1", "since": {"offset": 1}},
            "since.epoch: expected a text of 1 to 128 characters",
        ),
        ({"type": "subscribe", "id": "1", "since": {"epoch": "e"}}, OFFSET),
        ({"type": "subscribe", "id": "1", "since": {"epoch": "e", "offset": -1}}, OFFSET),
        ({"type": "subscribe", "id": "1", "since": {"epoch": "e", "offset": 2**63}}, OFFSET),
        (
            {"type": "subscribe", "id": "1", "since": {"epoch": "e", "offset": 1, "at": 2}},
            "since.at: there is no such field here; expected epoch, offset",
        ),
        (
            {"type": "subscribe", "id": "1", "pattern": ["a"]},
            "pattern: there is no such field here; expected type, id, patterns, since",
        ),
        ({"type": "query", "id": "1"}, "name: expected a query's name, a text of 1 to 64 characters"),
        (
            {"type": "query", "id": "1", "name": "q", "params": []},
            "params: expected an object with the query's parameters",
        ),
        (
            {"type": "unsubscribe", "id": "1", "patterns": ["a"]},
            "patterns: there is no such field here; expected type, id",
        ),
    ],
)
def test_a_malformed_message_is_refused_with_the_field_and_what_it_takes(
    value: dict[str, object], expected: str
) -> None:
    with pytest.raises(BadMessage) as caught:
        read_client_message(orjson.dumps(value))
    assert str(caught.value) == expected
    assert caught.value.parseable


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["epoch", "offset", "x"]), inner),
    max_leaves=5,
)


@given(
    kind=st.sampled_from(["subscribe", "unsubscribe", "invalidate", "resync"]) | JSON,
    rest=st.dictionaries(st.sampled_from(["id", "patterns", "since", "offset", "at", "reason", "y"]), JSON),
)
def test_whatever_is_in_the_fields_is_a_message_or_refused(kind: object, rest: dict[str, object]) -> None:
    frame = orjson.dumps({"type": kind, **rest})
    for read in (read_client_message, read_server_message):
        refused = refusal(read, frame)
        assert refused is None or refused.parseable


def test_a_client_lets_the_unknown_pass() -> None:
    assert read_server_message(b'{"type":"weather","sun":true}') is None
    assert read_server_message(b'{"type":"welcome","epoch":"e","offset":1,"sun":true}') == Welcome(epoch="e", offset=1)


def test_a_client_refuses_a_known_type_that_is_malformed() -> None:
    with pytest.raises(BadMessage, match=r"^offset of a message welcome is missing or of another kind$"):
        read_server_message(b'{"type":"welcome","epoch":"e"}')
    with pytest.raises(BadMessage):
        read_server_message(b'{"type":"resync","offset":1,"reason":"whim"}')
