"""Patterns: prefixes of cache keys, and the templates from which they are made.

A pattern matches every key that begins with it: `clients` matches `clients`, `clients:7` and `clients-page-1`.
A template such as `clients:{client_name}` is a pattern once the values are known; where they are not, its literal part
up to the first brace stands for all of them. Values are escaped so that they cannot widen a pattern: segments are
separated by `:`, which a value may therefore not hold as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote

#: What a key column may hold, as JSON has it.
KeyValue = str | int | float | bool | None

_BRACE = re.compile(r"\{([^{}]*)\}")


def matches(pattern: str, key: str) -> bool:
    """Whether an invalidation of ``pattern`` makes ``key`` stale."""
    return key.startswith(pattern)


def hears(subscription: str, pattern: str) -> bool:
    """Whether a subscriber to ``subscription`` must be told of ``pattern``: when one is a prefix of the other."""
    return pattern.startswith(subscription) or subscription.startswith(pattern)


def escape(value: str | int | float | bool) -> str:
    """A key's value as it stands in a pattern and in a cache key.

    Everything but letters, digits and ``-._~`` is percent-encoded as UTF-8 (RFC 3986), so that neither the separator
    nor a wildcard can come from data. The empty string becomes ``%00``, which no PostgreSQL text can hold; left empty it
    would match every key.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    return quote(str(value), safe="") or "%00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A pattern with places for key values: ``text`` as it was written, ``literal`` its part before the first brace."""

    text: str
    literal: str
    columns: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a template. Raises ValueError where braces are unbalanced, empty, or come first."""
        columns = tuple(_BRACE.findall(text))
        if any(not column.strip() for column in columns):
            raise ValueError("expected a column's name between the braces")
        if re.search(r"[{}]", _BRACE.sub("", text)):
            raise ValueError("expected every brace to be closed, as in clients:{client_name}")
        literal = text.split("{", 1)[0]
        if not literal:
            raise ValueError("expected some text before the first brace, since an unknown key widens the pattern to it")
        return cls(text=text, literal=literal, columns=columns)

    def fill(self, values: Mapping[str, KeyValue]) -> str | None:
        """The pattern for these values; None where one is missing or null, so that only `literal` is sure."""
        filled = {}
        for column in self.columns:
            value = values.get(column)
            if value is None:
                return None
            filled[column] = escape(value)
        return _BRACE.sub(lambda place: filled[place[1]], self.text)
