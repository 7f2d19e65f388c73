"""How values are written in settings: sections, lengths of time, relations, patterns, origins, lists in a variable.

In: what TOML or a variable holds. Out: types for the fields of `settings`, which check it and make one form of it.
"""

from __future__ import annotations

import json
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from afresh_cache.patterns import Template

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Section(BaseModel):
    """A part of the settings: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def seconds(value: object) -> object:
    """``"100ms"``, ``"30s"``, ``"5m"``, ``"1h"``, ``"1d"`` or a plain number of seconds, as seconds.

    Text without a unit is refused: whoever writes ``"5"`` may mean minutes or milliseconds.
    """
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", value)
        if found and found[2] is None:
            raise ValueError(f'expected a duration with its unit: write "{found[1]}s" for seconds')
        if found:
            return float(found[1]) * _UNITS[found[2]]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise ValueError('expected a duration such as "100ms", "30s", "5m" or "1h"')


def names(value: object) -> object:
    """A list written in one environment variable: `a,b`, or JSON."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f"is not valid JSON ({error}); write a,b") from error
    return [name for part in value.split(",") if (name := part.strip())]


def _template(value: str) -> str:
    Template.parse(value)
    if "*" in value:
        raise ValueError(f"expected a prefix, in which * is nothing special: write {value.split('*')[0]!r}")
    return value


def _relation_name(value: str) -> str:
    part = r'(?:[^\W\d][\w$]*|"(?:[^"]|"")+")'
    if not re.fullmatch(rf"{part}(?:\.{part})?", value):
        raise ValueError('expected a name as SQL writes it: orders, sales.orders or sales."Odd Name"')
    return value


def read_origin(text: str) -> tuple[str, str, int] | None:
    """The scheme, host and port of an origin as browsers and people write it, with or without a slash at its end; None for
    what is none, such as `null`, which a page without an origin sends."""
    try:
        parts = urlsplit(text)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        return None
    if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        return None
    return parts.scheme, parts.hostname.removesuffix("."), port


def _origin(value: str) -> str:
    if value != "*" and read_origin(value) is None:
        raise ValueError("expected an origin such as https://app.example.com, without a path")
    return value


def folded_name(name: str) -> str:
    """A relation's name with its schema, as PostgreSQL reads it: `orders` and `public."orders"` are one."""
    parts = re.findall(r'"((?:[^"]|"")+)"|([^."]+)', name)
    read = [quoted.replace('""', '"') if quoted else plain.lower() for quoted, plain in parts]
    return ".".join(read if len(read) > 1 else ["public", *read])


#: A length of time, in seconds.
Duration = Annotated[float, BeforeValidator(seconds), Field(ge=0, allow_inf_nan=False)]
#: A length of time that cannot be nothing, in seconds.
Period = Annotated[float, BeforeValidator(seconds), Field(gt=0, allow_inf_nan=False)]
#: A prefix of cache keys, with `{column}` where a change's key goes.
Pattern = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_template)]
#: A table or view as SQL writes it: `orders`, `sales.orders`, `"Odd Name"."Table"`.
RelationName = Annotated[str, AfterValidator(_relation_name)]
#: A web origin, of which `read_origin` tells what it is; or `*` for all.
Origin = Annotated[str, AfterValidator(_origin)]

#: Several words, in an environment variable separated by commas.
Names = Annotated[tuple[str, ...], BeforeValidator(names)]
