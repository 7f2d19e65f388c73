"""Rows as CSV (RFC 4180), as PostgreSQL's COPY writes it: NULL is nothing, the empty text is two quotes.

That difference is why it is not the standard library's writer, which makes nothing of both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: What cannot stand as it is: what separates, and the empty text.
_QUOTED = re.compile(r'[",\r\n]|^$').search


def lines(rows: Iterable[Iterable[str | None]]) -> bytes:
    """The rows, a line for each."""
    return "".join([",".join(map(_field, row)) + "\r\n" for row in rows]).encode()


def _field(value: str | None) -> str:
    if value is None:
        return ""
    return '"' + value.replace('"', '""') + '"' if _QUOTED(value) else value
