"""The parameters of one query: what a client may send, and the values that it becomes.

In: what the settings say of the parameters, and what PostgreSQL says of their types. Out: for a query string with a path's
segments, or for a JSON object, the values in the order of `$1, $2, …`, and the cache key; or `BadParameter`, which
names the parameter and what was expected.

The rule for what may be left out: a parameter with a `default` has that; a `nullable` one is NULL; any other must be
given. `null` in JSON is NULL where the parameter is nullable, and refused elsewhere. In a query string there is no NULL:
an empty value is the empty text.

What is made (`embed`) no client knows of: its place in the values is empty until the query is run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from afresh_notifier.errors import BadParameter
from afresh_notifier.named_queries.kinds import Json, Kind, key_segment, parse_json
from afresh_notifier.named_queries.named_query import NamedQuery
from afresh_notifier.settings_queries import ParameterSettings, filled

#: Values as asyncpg takes them, in the order of the parameters.
Values = tuple[object, ...]

#: A body that is no JSON object concerns no parameter in particular.
BODY = "body"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The value at ``place`` is the embedding, in so many ``dimensions``, of the text at ``source``."""

    place: int
    source: int
    dimensions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter. ``allowed``: the values that its `enum` lists, None for all."""

    settings: ParameterSettings
    type: str
    kind: Kind
    default: object
    allowed: tuple[object, ...] | None

    @property
    def name(self) -> str:
        """What clients call it."""
        return self.settings.name


class Parameters:
    """The parameters of ``query``, whose types are known."""

    def __init__(self, query: NamedQuery, parameters: Sequence[Parameter]) -> None:
        self._query = query
        self._all = tuple(parameters)
        #: Those that clients send.
        self.listed = tuple(parameter for parameter in parameters if parameter.settings.embed is None)
        self._by_name = {parameter.name: parameter for parameter in self.listed}
        template = query.cache_key
        numbers = {parameter.name: number for number, parameter in enumerate(parameters)}
        self.made = tuple(
            Made(place=numbers[one.name], source=numbers[one.settings.embed], dimensions=one.settings.dimensions)
            for one in parameters
            if one.settings.embed is not None and one.settings.dimensions is not None
        )
        self._pieces = template.pieces
        self._places = [numbers[column] for column in template.columns]
        #: What is not in the cache key tells answers apart all the same.
        told = template.columns if template.tells_apart else ()
        self._others = [number for name, number in numbers.items() if name not in told and name in self._by_name]

    def from_strings(self, given: Iterable[tuple[str, str]]) -> Values:
        """The values for the names and texts of a query string. Raises `BadParameter`."""
        texts: dict[str, list[str]] = defaultdict(list)
        for name, text in given:
            texts[name].append(text)
        values: dict[str, object] = {}
        for name, all_texts in texts.items():
            parameter = self._find(name)
            if len(all_texts) > 1 and not parameter.kind.many:
                raise BadParameter(self._query.name, name, f"it is there {len(all_texts)} times; write it once")
            try:
                values[name] = parameter.kind.from_texts(all_texts)
            except ValueError as error:
                raise self._bad(parameter, all_texts[0] if len(all_texts) == 1 else all_texts) from error
        return self._complete(values)

    def from_json(self, body: bytes, path: Mapping[str, str]) -> Values:
        """The values for a JSON object, which may be left out, and for the segments of a path. Raises `BadParameter`."""
        try:
            given = parse_json(body) if body.strip() else {}
        except ValueError as error:
            raise BadParameter(self._query.name, BODY, f"expected a JSON object; it is no JSON: {error}") from error
        if not isinstance(given, dict):
            raise BadParameter(self._query.name, BODY, 'expected a JSON object, such as {"limit":10}')
        values: dict[str, object] = {}
        for name, value in given.items():
            parameter = self._find(name)
            if name in path:
                raise BadParameter(self._query.name, name, "it is in the path already; leave it out of the body")
            if value is None and parameter.settings.nullable:
                values[name] = None
                continue
            try:
                values[name] = parameter.kind.from_json(value)
            except ValueError as error:
                raise self._bad(parameter, value) from error
        for name, text in path.items():
            parameter = self._find(name)
            try:
                values[name] = parameter.kind.from_text(text)
            except ValueError as error:
                raise self._bad(parameter, text) from error
        return self._complete(values)

    def key(self, values: Values) -> str:
        """The cache key of these values.

        It begins with the key that the settings name, so that a pattern means it; after that, what it takes for two
        queries, or two sets of values, never to share an answer.
        """
        segments = [key_segment(value) for value in values]
        text = self._pieces[0]
        for place, piece in zip(self._places, self._pieces[1:], strict=True):
            text += segments[place] + piece
        return " ".join([text, self._query.name, *(segments[number] for number in self._others)])

    def session(self, values: Values) -> dict[str, str]:
        """The settings of the query's transaction; NULL is the empty text there."""
        if not self._query.session:
            return {}
        given = {one.name: "" if value is None else str(value) for one, value in zip(self._all, values, strict=True)}
        return {name: filled(text, given) for name, text in self._query.session.items()}

    def _find(self, name: str) -> Parameter:
        parameter = self._by_name.get(name)
        if parameter is None:
            takes = ", ".join(self._by_name) or "none"
            raise BadParameter(
                self._query.name, name[:100], f"there is no such parameter; {self._query.name} takes {takes}"
            )
        return parameter

    def _complete(self, values: Mapping[str, object]) -> Values:
        complete = []
        for parameter in self._all:
            if parameter.name in values:
                value = values[parameter.name]
                self._check_allowed(parameter, value)
                complete.append(value)
            elif parameter.settings.required:
                text = f"it is missing; expected {parameter.kind.expected}"
                raise BadParameter(self._query.name, parameter.name, text)
            else:
                complete.append(parameter.default)
        return tuple(complete)

    def _check_allowed(self, parameter: Parameter, value: object) -> None:
        if parameter.allowed is None or value is None:
            return
        for one in value if isinstance(value, list) else (value,):
            if one not in parameter.allowed:
                listed = ", ".join(map(str, parameter.settings.enum or ()))
                raise BadParameter(self._query.name, parameter.name, f"expected one of {listed}, got {_short(one)}")

    def _bad(self, parameter: Parameter, given: object) -> BadParameter:
        expected = f"expected {parameter.kind.expected}"
        if given is None:
            return BadParameter(self._query.name, parameter.name, f"{expected}; it may not be null")
        return BadParameter(self._query.name, parameter.name, f"{expected}, got {_short(given)}")


def parameter(settings: ParameterSettings, type_name: str, kind: Kind) -> Parameter:
    """A parameter of a type. Raises ValueError where its default or its enum are no values of that."""
    default = None if settings.default is None else _from_toml(kind, settings.default, "default")
    allowed: tuple[object, ...] | None = None
    if settings.enum is not None and kind.many:
        allowed = tuple(value for one in settings.enum for value in _as_list(_from_toml(kind, [one], "enum")))
    elif settings.enum is not None:
        allowed = tuple(_from_toml(kind, one, "enum") for one in settings.enum)
    return Parameter(settings=settings, type=type_name, kind=kind, default=default, allowed=allowed)


def schema(settings: ParameterSettings, kind: Kind | None) -> dict[str, Any]:
    """JSON Schema of a parameter, of whose kind None is known."""
    made = dict(kind.schema) if kind is not None else {}
    if settings.enum is not None:
        listed = [_shown(one) for one in settings.enum]
        made = {**made, "items": {**made["items"], "enum": listed}} if "items" in made else {**made, "enum": listed}
    if settings.nullable and made:
        made = {"anyOf": [made, {"type": "null"}]}
    if settings.default is not None:
        made["default"] = _shown(settings.default)
    return made


def _as_list(value: object) -> list[object]:
    assert isinstance(value, list)  # noqa: S101 - the kind of an array reads lists
    return value


def _from_toml(kind: Kind, value: Any, key: str) -> object:
    """A value that the settings name. Dates and times are written in TOML as they are, or in quotes."""
    try:
        return kind.from_json(_plain(value))
    except ValueError as error:
        raise ValueError(f"{key}: expected {kind.expected}, got {_short(value)}") from error


def _plain(value: Any) -> Json:
    """A value of TOML as JSON has it."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, float):
        return parse_json(repr(value)) if value == value and abs(value) != float("inf") else repr(value)
    return value if isinstance(value, str | int | bool) or value is None else value.isoformat()


def _shown(value: Any) -> Json:
    """The same for people and machines to read, who do not reckon with its last digit."""
    return value if isinstance(value, float) else _plain(value)


def _short(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
