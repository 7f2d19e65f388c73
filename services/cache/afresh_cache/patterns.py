"""Patterns: prefixes of cache keys, and the templates from which they are made.

A pattern matches every key that begins with it: `clients` matches `clients`, `clients:7` and `clients-page-1`.
A template such as `clients:{client_name}` is a pattern once the values are known; where they are not, its literal part
up to the first brace stands for all of them. Values are escaped so that they cannot widen a pattern: segments are
separated by `:`, which a value may therefore not hold as it is.

What comes over the wire is always such a prefix. In an application's own code a *glob* may stand for one: `*` for any
characters, `?` for one, matched against the whole key. No escaped value holds either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Self
from urllib.parse import quote
from uuid import UUID

#: What a key column may hold, as JSON has it.
KeyValue = str | int | float | bool | None

#: What may stand in a cache key that an application makes: for the same value, the same text as from the wire.
SegmentValue = KeyValue | UUID | date | datetime | Decimal | Enum

_WILDCARD = re.compile(r"[*?]")
#: What cannot stand in any value, as `escape` and `segment` write it, and so tells where one ends.
_SEPARATOR = re.compile(r"[^A-Za-z0-9._~%-]")
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
    would match every key. Half a surrogate pair is encoded as if it were a character: an application's text may hold one.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    return quote(str(value), safe="", errors="surrogatepass") or "%00"


def segment(value: SegmentValue) -> str:
    """An argument as it stands in a cache key: as `escape` writes it, or, for dates, UUIDs, decimals and the values of
    enumerations, as PostgreSQL's JSON has them.

    None is ``%none``, which no text can become: a percent sign is always followed by two capital hexadecimal digits. So
    is the character that PostgreSQL's texts cannot hold, which would else look like the empty string. As on the wire, 7
    and "7" are the same. Raises TypeError for anything else, since two different things could have the same text.
    """
    if value is None:
        return "%none"
    if isinstance(value, Enum):
        return segment(value.value)
    if isinstance(value, str):
        return escape(value).replace("%00", "%nul") if "\0" in value else escape(value)
    if isinstance(value, bool | int | float):
        return escape(value)
    if isinstance(value, datetime | date):
        return escape(value.isoformat())
    if isinstance(value, Decimal):
        return escape(f"{value:f}")
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(
        f"a {type(value).__name__} cannot stand in a cache key, only text, numbers, dates, UUIDs and None: "
        "pass what identifies it, such as its id"
    )


def literal_part(pattern: str) -> str:
    """What stands before the first ``*`` or ``?``: every key that ``pattern`` matches begins with it."""
    return _WILDCARD.split(pattern, maxsplit=1)[0]


@lru_cache(maxsize=512)
def glob(pattern: str) -> re.Pattern[str]:
    """What `fullmatch`es the keys that the glob ``pattern`` means. Nothing but ``*`` and ``?`` is special, not even ``[``.

    However many stars there are, none is tried a second time once what follows it was found, so that matching a key
    takes no more than its length times the pattern's.
    """
    first, *middle = ("".join("." if sign == "?" else re.escape(sign) for sign in part) for part in pattern.split("*"))
    if not middle:
        return re.compile(first, re.DOTALL)
    *middle, last = middle
    between = "".join(f"(?>.*?{part})" for part in middle if part)
    return re.compile(f"{first}{between}.*{last}", re.DOTALL)


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

    @property
    def pieces(self) -> tuple[str, ...]:
        """The text before, between and after the places, so that there is one more than there are places."""
        return tuple(_BRACE.split(self.text)[::2])

    @property
    def tells_apart(self) -> bool:
        """Whether different values always make different texts: something that no value can hold stands between any two
        places. Of ``{a}-{b}``, filled as ``1-2-3``, nobody knows where ``a`` ends."""
        return all(_SEPARATOR.search(piece) for piece in self.pieces[1:-1])

    def fill(self, values: Mapping[str, KeyValue]) -> str | None:
        """The pattern for these values; None where one is missing or null, so that only `literal` is sure."""
        filled = {}
        for column in self.columns:
            value = values.get(column)
            if value is None:
                return None
            filled[column] = escape(value)
        return _BRACE.sub(lambda place: filled[place[1]], self.text)
