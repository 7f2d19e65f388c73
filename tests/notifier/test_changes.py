"""Payloads: what the triggers write becomes a change, what anybody else writes on the channel is refused or is a gap."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afresh_notifier.changes import (
    Bell,
    CatalogueChange,
    Change,
    Gap,
    Heard,
    Key,
    LeaseFree,
    LogGrown,
    read_keys,
    read_payload,
    write_keys,
)
from afresh_notifier.errors import BadPayload

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

GOOD: dict[str, Any] = {
    "v": 1,
    "table": "public.nps_responses",
    "op": "UPDATE",
    "keys": [{"client_name": "Acme"}],
    "rows": 1,
    "xid": "7341",
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def payload(**changes: Any) -> str:
    """A good payload but for ``changes``."""
    return orjson.dumps({**GOOD, **changes}).decode()


def change(**changes: Any) -> Change:
    """What a payload becomes that is good but for ``changes``."""
    read = read_payload(payload(**changes), NOW)
    assert isinstance(read, Change)
    return read


def test_a_payload_becomes_a_change() -> None:
    assert change() == Change(
        table="public.nps_responses", keys=frozenset({(("client_name", "Acme"),)}), heard_at=NOW, count=1
    )


@pytest.mark.parametrize("operation", ["INSERT", "UPDATE", "DELETE", "TRUNCATE"])
def test_every_operation_is_known(operation: str) -> None:
    assert change(op=operation) == change()


@pytest.mark.parametrize("keys", [None, []])
def test_keys_that_are_not_named_are_unknown(keys: object) -> None:
    assert change(keys=keys).keys is None
    assert change(keys=keys, rows=None).keys is None


def test_keys_and_rows_may_be_left_out() -> None:
    read = read_payload('{"v":1,"table":"public.t","op":"DELETE","xid":"1"}', NOW)
    assert isinstance(read, Change)
    assert read == Change(table="public.t", keys=None, heard_at=NOW)


def test_the_order_of_a_keys_columns_does_not_matter() -> None:
    one = change(keys=[{"a": 1, "b": None}, {"b": None, "a": 1}])
    assert one.keys == frozenset({(("a", 1), ("b", None))})


def test_a_key_keeps_its_type() -> None:
    keys = change(keys=[{"text": "1", "number": 1, "part": 1.5, "truth": True, "nothing": None}]).keys
    assert keys is not None
    [key] = keys
    assert {column: (type(value), value) for column, value in key} == {
        "text": (str, "1"),
        "number": (int, 1),
        "part": (str, "1.5"),
        "truth": (bool, True),
        "nothing": (type(None), None),
    }


def test_what_a_later_trigger_adds_is_let_pass() -> None:
    assert change(weight=7) == change()


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("", Bell()),
        ('{"v":1,"op":"LOG","offset":41}', LogGrown(offset=41)),
        ('{"v":1,"op":"LEASE"}', LeaseFree()),
        ('{"v":1,"op":"LEASE","more":true}', LeaseFree()),
    ],
)
def test_what_instances_and_writers_tell_is_understood(text: str, meaning: Heard) -> None:
    assert read_payload(text, NOW) == meaning


#: What PostgreSQL takes as text.
letters = st.characters(codec="utf-8", exclude_characters="\0")
keys = st.frozensets(
    st.dictionaries(
        st.text(letters, max_size=3),
        st.none() | st.booleans() | st.integers() | st.text(letters, max_size=5),
        min_size=1,
        max_size=3,
    ).map(lambda key: tuple(sorted(key.items()))),
    max_size=5,
)


@given(keys)
def test_keys_are_read_as_they_were_written(written: frozenset[Key]) -> None:
    assert read_keys(json.dumps(write_keys(written))) == written


@pytest.mark.parametrize("text", ["", "null", "{}", '["a"]', '[{"a":["b"]}]', "[" * 100_000])
def test_keys_that_cannot_be_read_are_unknown(text: str) -> None:
    assert read_keys(text) is None


def test_a_change_of_the_catalogue_names_nothing() -> None:
    assert read_payload('{"v":1,"op":"DDL","xid":"7341"}', NOW) == CatalogueChange(heard_at=NOW)


@pytest.mark.parametrize("version", [0, 2, 17])
def test_a_payload_of_another_version_is_a_gap(version: int) -> None:
    read = read_payload(payload(v=version), NOW)
    assert isinstance(read, Gap)
    assert str(version) in read.reason
    assert read.heard_at == NOW


@pytest.mark.parametrize(
    "text",
    [
        " ",
        "hello",
        "{",
        "[]",
        "1",
        "null",
        "{}",
        '{"v":"1","table":"t","op":"UPDATE","xid":"1"}',
        '{"v":null}',
        "\x00",
        payload(table=7),
        payload(op="MERGE"),
        payload(op=None),
        payload(keys="all"),
        payload(keys=["Acme"]),
        payload(keys=[{"client": ["Acme"]}]),
        payload(rows=-1),
        payload(rows="many"),
        payload(xid=-1),
        payload(xid="abc"),
        payload(xid=None),
        '{"v":1,"op":"LOG"}',
        '{"v":1,"op":"LOG","offset":"41"}',
    ],
)
def test_what_is_none_of_ours_is_refused_and_says_why(text: str) -> None:
    with pytest.raises(BadPayload) as caught:
        read_payload(text, NOW)
    assert caught.value.problem


@pytest.mark.parametrize(("field", "value"), [("table", 7), ("op", "MERGE"), ("rows", -1), ("xid", "abc")])
def test_a_refusal_names_the_field(field: str, value: object) -> None:
    with pytest.raises(BadPayload, match=rf"^{field}: "):
        read_payload(payload(**{field: value}), NOW)


@given(st.one_of(st.text(), json_values.map(lambda value: orjson.dumps(value).decode())))
def test_nothing_on_the_channel_does_more_than_be_refused(text: str) -> None:
    try:
        read = read_payload(text, NOW)
    except BadPayload:
        return
    assert isinstance(read, Heard)


@given(st.dictionaries(st.sampled_from([*GOOD, "other"]), json_values, max_size=4))
def test_no_field_can_do_more_than_be_refused(changes: dict[str, Any]) -> None:
    try:
        read = read_payload(payload(**changes), NOW)
    except BadPayload:
        return
    if isinstance(read, Change):
        hash(read)  # its keys are a set's members


@pytest.mark.parametrize("written", ["0.00001", "12345678901234567890.123", "1e400", "-0.0", "1" + 400 * "0"])
def test_a_number_stays_as_it_was_written(written: str) -> None:
    text = '{"v":1,"table":"public.t","op":"INSERT","keys":[{"n":' + written + '}],"rows":1,"xid":"1"}'
    read = read_payload(text, NOW)
    assert isinstance(read, Change)
    assert read.keys is not None
    [[(column, value)]] = read.keys
    assert (column, str(value)) == ("n", written)


@pytest.mark.parametrize("value", ['"\\u0000"', '"a\\u0000b"', '"\\ud800"', "NaN", "Infinity", "-Infinity"])
def test_keys_that_nobody_could_hand_on_are_unknown(value: str) -> None:
    """Anybody may write to the channel and into the log; PostgreSQL takes no such text, and UTF-8 none."""
    assert read_keys(f'[{{"id": {value}}}]') is None
    heard = read_payload(
        f'{{"v":1,"table":"public.t","op":"UPDATE","keys":[{{"id":{value}}}],"rows":1,"xid":"1"}}', NOW
    )
    assert isinstance(heard, Change)
    assert heard.keys is None


def test_keys_named_as_nobody_can_name_a_column_are_unknown() -> None:
    assert read_keys('[{"\\u0000": 1}]') is None
    assert read_keys('[{"id": "' + "x" * 70_000 + '"}]') is None
    assert read_keys('[{"id": 1.50}]') == frozenset({(("id", "1.50"),)})
