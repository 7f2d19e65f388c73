"""What a value of each PostgreSQL type looks like to a client, and what becomes of it.

In: a text from a query string, or a value from JSON. Out: what asyncpg takes for the type, or ValueError with what was
expected. A client can write nothing here that PostgreSQL would take for something else than what is said: each text has
the form that `expected` names, is checked for its range, and reaches PostgreSQL as a value, never as part of a statement.

A type that is not in `KINDS` is either an enumeration, a text that the type itself reads (types that extensions bring),
or one that the SQL has to make of a text: `$1::text::point`.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from ipaddress import ip_interface, ip_network
from typing import Annotated, Any, NoReturn
from uuid import UUID

import orjson
from pydantic import AwareDatetime, Field, NaiveDatetime, TypeAdapter, ValidationError

from afresh_cache.patterns import escape, segment

#: A value as JSON has it; numbers with a fraction, and whole ones that are very large, are decimals.
Json = Any

#: Digits that a numeric may have before its point, and after it.
MAX_DIGITS = 1_000

_REAL = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,6})?"
_DAY, _TIME = r"\d{4}-\d\d-\d\d", r"\d\d:\d\d(:\d\d(\.\d{1,6})?)?"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kind:
    """How values of one type are read.

    ``expected`` says what they look like; ``form`` matches such texts; ``json`` are the classes that they have in JSON,
    whose text is read in the same way; ``read`` makes of a text what asyncpg takes, or raises ValueError. ``schema`` is
    theirs in JSON Schema.
    """

    expected: str
    json: tuple[type, ...]
    read: Callable[[str], object]
    schema: dict[str, Any]
    form: re.Pattern[str] | None = None
    many: bool = False

    def from_text(self, text: str) -> object:
        """A value from a query string. Raises ValueError."""
        return self.from_json(parse_json(text)) if self.many else self._item(text)

    def from_texts(self, texts: Sequence[str]) -> object:
        """A value from a query string in which its name stands once or more. Raises ValueError."""
        if not self.many:
            return self.from_text(texts[0])
        if len(texts) == 1 and texts[0].lstrip().startswith("["):
            return self.from_text(texts[0])
        return [self._item(text) for text in texts]

    def from_json(self, value: Json) -> object:
        """A value from JSON. Raises ValueError."""
        if self.many:
            if not isinstance(value, list):
                _refuse()
            return [None if item is None else self._json_item(item) for item in value]
        return self._json_item(value)

    def _json_item(self, value: Json) -> object:
        if self.json == (object,):
            return self._item(_dump(value))
        # Not isinstance: a bool is an int to Python.
        if type(value) not in self.json:
            _refuse()
        return self._item(value if isinstance(value, str) else _dump(value))

    def _item(self, text: str) -> object:
        if self.form is not None and not self.form.fullmatch(text):
            _refuse()
        return self.read(text)

    def array(self) -> Kind:
        """The kind of arrays of these."""
        return replace(
            self,
            many=True,
            expected=f"a list, each item of which is {self.expected}",
            schema={"type": "array", "items": self.schema},
        )


def key_segment(value: object) -> str:
    """A value, as it was read, as it stands in a cache key; two that differ never have the same text."""
    if isinstance(value, list):
        return escape(json.dumps([key_segment(item) for item in value]))
    if isinstance(value, bytes):
        return escape(base64.b64encode(value).decode())
    if value is None or isinstance(value, str | int | float | Decimal | datetime | date | UUID):
        return segment(value)
    return escape(str(value))  # times and addresses


def parse_json(text: str | bytes) -> Json:
    """The value that ``text`` has as JSON, with all digits of its numbers. Raises ValueError."""
    try:
        return json.loads(text, parse_float=Decimal, parse_int=_whole, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("expected JSON that is not nested so deep") from error


def enumeration(labels: Collection[str]) -> Kind:
    """The kind of an enumeration."""
    allowed = frozenset(labels)

    def read(text: str) -> str:
        return text if text in allowed else _refuse()

    return Kind(
        expected=f"one of {', '.join(labels)}", json=(str,), read=read, schema={"type": "string", "enum": list(labels)}
    )


def _refuse(_: object = None) -> NoReturn:
    raise ValueError


def _whole(digits: str) -> int | Decimal:
    return int(digits) if len(digits) < 20 else Decimal(digits)


def _dump(value: Json) -> str:
    """The text of a value from JSON. Raises ValueError where it cannot be one for PostgreSQL."""
    try:
        text = orjson.dumps(value, default=lambda number: orjson.Fragment(str(number))).decode()
    except (TypeError, RecursionError) as error:  # a lone surrogate, or nested too deep
        raise ValueError from error
    return text


def _adapted(annotation: Any) -> tuple[Callable[[str], object], dict[str, Any]]:
    """What reads texts by pydantic, and its schema."""
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)

    def read(text: str) -> object:
        try:
            return adapter.validate_strings(text)
        except ValidationError as error:
            raise ValueError from error

    return read, adapter.json_schema()


def _kind(annotation: Any, expected: str, *classes: type, form: str | None = None) -> Kind:
    read, schema = _adapted(annotation)
    return Kind(
        expected=expected,
        json=classes,
        read=read,
        schema=schema,
        form=None if form is None else re.compile(form, re.ASCII),
    )


def _integer(bits: int) -> Kind:
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return _kind(
        Annotated[int, Field(ge=least, le=most)],
        f"a whole number from {least} to {most}",
        int,
        Decimal,
        form=r"[+-]?\d{1,30}",
    )


def _real(most: float) -> Kind:
    finite = Annotated[float, Field(ge=-most, le=most, allow_inf_nan=False)]
    return _kind(finite, "a number", int, Decimal, form=_REAL)


def _numeric() -> Kind:
    kind = _kind(Annotated[Decimal, Field(allow_inf_nan=False)], "a number", int, Decimal, str, form=_REAL)

    def read(text: str) -> object:
        value = kind.read(text)
        assert isinstance(value, Decimal)  # noqa: S101 - as annotated
        exponent = value.as_tuple().exponent
        if value.adjusted() >= MAX_DIGITS or not isinstance(exponent, int) or exponent < -MAX_DIGITS:
            _refuse()
        return value

    expected = f"a number with at most {MAX_DIGITS} digits before its point and after it"
    return replace(kind, read=read, expected=expected)


def _text(most_bytes: int | None = None) -> Kind:
    def read(text: str) -> str:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            _refuse()
        return _refuse() if "\0" in text or (most_bytes is not None and size > most_bytes) else text

    limit = "" if most_bytes is None else f" of at most {most_bytes} bytes"
    return Kind(expected=f"a text{limit}, without the character NUL", json=(str,), read=read, schema={"type": "string"})


def _moment() -> Kind:
    expected = "a moment with its offset, such as 2026-01-02T03:04:05Z or 2026-01-02T03:04:05+01:00"
    form = rf"{_DAY}[T ]{_TIME}(Z|[+-]\d\d(:?\d\d)?)"
    kind = _kind(AwareDatetime, f"{expected} (in a query string the plus sign is written %2B)", str, form=form)

    def read(text: str) -> object:
        moment = kind.read(text)
        assert isinstance(moment, datetime)  # noqa: S101 - as annotated
        try:
            return moment.astimezone(UTC)  # so that one moment has one key
        except OverflowError as error:
            raise ValueError from error

    return replace(kind, read=read)


def _bytes() -> Kind:
    def read(text: str) -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError from error

    return Kind(
        expected="bytes in base64", json=(str,), read=read, schema={"type": "string", "contentEncoding": "base64"}
    )


def _document() -> Kind:
    """Any JSON, which asyncpg takes as a text."""

    def read(text: str) -> str:
        document = _dump(parse_json(text))
        if re.search(r"(?<!\\)(?:\\\\)*\\u0000", document):
            _refuse()
        return document

    return Kind(expected="JSON, without the character NUL", json=(object,), read=read, schema={})


def _vector() -> Kind:
    def read(text: str) -> str:
        numbers = parse_json(text)
        if not isinstance(numbers, list) or not numbers or any(type(n) not in (int, Decimal) for n in numbers):
            _refuse()
        if any(not math.isfinite(float(number)) for number in numbers):
            _refuse()
        return _dump([float(number) for number in numbers])

    schema = {"type": "array", "items": {"type": "number"}, "minItems": 1}
    return Kind(expected="a list of numbers, such as [0.1,0.2]", json=(list,), read=read, schema=schema)


def _address(make: Callable[[str], object], expected: str) -> Kind:
    return Kind(
        expected=expected, json=(str,), read=make, schema={"type": "string"}, form=re.compile(r"[0-9A-Fa-f.:/]{1,60}")
    )


def _interval() -> Kind:
    form = r"P(?=.)(\d{1,6}Y)?(\d{1,6}M)?(\d{1,6}W)?(\d{1,6}D)?(T(?=.)(\d{1,6}H)?(\d{1,6}M)?(\d{1,6}(\.\d{1,6})?S)?)?"
    return Kind(
        expected="a length of time as ISO 8601 writes it, such as P1DT2H or PT90S",
        json=(str,),
        read=str,
        schema={"type": "string", "format": "duration"},
        form=re.compile(form, re.ASCII),
    )


#: The kinds of the types of pg_catalog, by name.
KINDS: dict[str, Kind] = {
    "int2": _integer(16),
    "int4": _integer(32),
    "int8": _integer(64),
    "float4": _real(3.4028234663852886e38),
    "float8": _real(1.7976931348623157e308),
    "numeric": _numeric(),
    "bool": replace(_kind(bool, "true or false", bool, form="true|false|1|0"), schema={"type": "boolean"}),
    "text": _text(),
    "varchar": _text(),
    "bpchar": _text(),
    "name": _text(63),
    "uuid": _kind(UUID, "a UUID", str, form=r"[0-9A-Fa-f-]{32,36}"),
    "date": _kind(date, "a date such as 2026-01-02", str, form=_DAY),
    "time": _kind(time, "a time of day such as 03:04:05", str, form=_TIME),
    "timestamp": _kind(
        NaiveDatetime, "a date and time without an offset, such as 2026-01-02T03:04:05", str, form=rf"{_DAY}[T ]{_TIME}"
    ),
    "timestamptz": _moment(),
    "interval": _interval(),
    "json": _document(),
    "jsonb": _document(),
    "inet": _address(ip_interface, "an address, such as 10.0.0.1, ::1 or 10.0.0.1/8"),
    "cidr": _address(ip_network, "a network, such as 10.0.0.0/8"),
    "bytea": _bytes(),
}

#: The kinds of types that an extension brings, by name; any other is a text that the type itself reads.
OF_EXTENSIONS: dict[str, Kind] = {"vector": _vector(), "halfvec": _vector()}

TEXT = KINDS["text"]

#: What people call some types, and PostgreSQL itself where it shows them to people.
NAMES = {
    "smallint": "int2",
    "integer": "int4",
    "int": "int4",
    "bigint": "int8",
    "real": "float4",
    "float": "float8",
    "double precision": "float8",
    "decimal": "numeric",
    "boolean": "bool",
    "character varying": "varchar",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "time without time zone": "time",
}


def by_name(name: str) -> Kind | None:
    """The kind of a type as people write it, as far as that can be said without asking PostgreSQL."""
    plain = name.strip().lower()
    if plain.endswith("[]"):
        items = by_name(plain.removesuffix("[]"))
        return None if items is None else items.array()
    plain = NAMES.get(plain, plain)
    return KINDS.get(plain) or OF_EXTENSIONS.get(plain)
