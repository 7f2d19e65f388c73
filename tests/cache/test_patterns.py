"""Patterns: what matches what, and that no value from data can widen one."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from afresh_cache.patterns import Template, escape, hears, matches

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.one_of(TEXT, st.integers(), st.booleans(), st.floats(allow_nan=False))
COLUMNS = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: bool(name.strip())
)


def test_a_pattern_matches_what_begins_with_it() -> None:
    assert matches("clients", "clients")
    assert matches("clients", "clients:7")
    assert matches("clients", "clients-page-1")
    assert not matches("clients", "client")
    assert not matches("clients:7", "clients")


@given(TEXT, TEXT)
@example("clients", "clients:7")
def test_hearing_is_symmetric(one: str, other: str) -> None:
    assert hears(one, other) == hears(other, one)


@given(TEXT, TEXT)
def test_a_subscriber_hears_whatever_concerns_a_key_that_he_holds(key: str, pattern: str) -> None:
    """Whoever holds entries under a prefix must hear every pattern that makes one of them stale."""
    assume(matches(pattern, key))
    for end in range(len(key) + 1):
        assert hears(key[:end], pattern)


@given(TEXT, TEXT)
def test_hears_only_what_can_share_a_key(one: str, other: str) -> None:
    shared = one if len(one) >= len(other) else other
    assert hears(one, other) == (matches(one, shared) and matches(other, shared))


@given(VALUES)
@example("a:b")
@example("")
@example("{x}")
@example("*")
def test_an_escaped_value_holds_no_separator_and_is_never_empty(value: str | float | bool) -> None:
    escaped = escape(value)
    assert escaped
    assert set(escaped) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%")


@given(TEXT.filter(lambda text: "\0" not in text))
def test_escaping_text_loses_nothing(value: str) -> None:
    assert unquote(escape(value)).rstrip("\0") == value


@given(st.tuples(TEXT, TEXT).filter(lambda pair: pair[0] != pair[1] and "\0" not in pair[0] + pair[1]))
def test_different_values_make_different_patterns(pair: tuple[str, str]) -> None:
    template = Template.parse("clients:{name}:")
    one, other = (template.fill({"name": value}) for value in pair)
    assert one is not None
    assert other is not None
    assert not hears(one, other)


@given(st.lists(COLUMNS, max_size=4, unique=True), st.data())
def test_a_filled_template_keeps_its_segments(columns: list[str], data: st.DataObject) -> None:
    text = "t" + "".join(f":{{{column}}}" for column in columns)
    template = Template.parse(text)
    assert template.columns == tuple(columns)
    filled = template.fill({column: data.draw(VALUES) for column in columns})
    assert filled is not None
    assert filled.count(":") == text.count(":") - sum(column.count(":") for column in columns)
    assert matches(template.literal, filled)


@given(COLUMNS)
def test_an_unknown_key_leaves_only_the_literal_part(column: str) -> None:
    template = Template.parse(f"clients:{{{column}}}:page")
    assert template.fill({}) is None
    assert template.fill({column: None}) is None
    assert template.literal == "clients:"


def test_braces_in_a_value_are_not_places() -> None:
    assert Template.parse("a:{x}:{y}").fill({"x": "{y}", "y": "1"}) == "a:%7By%7D:1"


def test_booleans_are_written_as_json_has_them() -> None:
    assert (escape(True), escape(False), escape(1), escape(0)) == ("true", "false", "1", "0")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:{", "closed"),
        ("a:}", "closed"),
        ("a:{x}}", "closed"),
        ("a:{{x}}", "closed"),
        ("a:{}", "between the braces"),
        ("a:{ }", "between the braces"),
        ("{x}:a", "before the first brace"),
        ("", "before the first brace"),
    ],
)
def test_a_malformed_template_is_refused(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        Template.parse(text)
