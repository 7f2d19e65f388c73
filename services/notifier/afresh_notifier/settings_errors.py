"""What is said of settings that cannot be taken: pydantic's errors in a user's words.

In: pydantic's `ValidationError`, the model that it is about, the environment. Out: a line for each problem: the file or
the variable, the key, what was expected, and, where it can be guessed, what was meant.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

#: The type of our own errors about sections of one file that name the same thing, or that do not fit together: their text
#: says of what was given all that matters.
NAMED_TWICE, AT_ODDS = "named_twice", "at_odds"

#: What pydantic says in words of its own.
_EXPECTED = {
    "model_type": "expected a section with keys of its own",
    "tuple_type": "expected a list",
    "string_type": "expected text in quotes",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
}

Place = tuple[int | str, ...]


def complaints(
    error: ValidationError, file: str, model: type[BaseModel], environment: Mapping[str, str] | None = None
) -> list[str]:
    """A line for each problem; one that comes from a variable of ``environment`` names that in place of the file."""
    lines = []
    for problem in error.errors(include_url=False):
        variable = _variable(problem["loc"], environment or {})
        where = variable or f"{file}: {_dotted(problem['loc'])}"
        lines.append(f"{where}: {_said(problem, model, written_in_file=variable is None)}")
    return lines


def unknown_variables(environment: Mapping[str, str], model: type[BaseModel]) -> list[str]:
    """A line for each `AFRESH_…` variable that names no setting; `AFRESH_TEST_…` is the test suite's own.

    What a variable says inside a section is checked with the section.
    """
    lines = []
    known = list(_variables(model))
    for variable in sorted(environment):
        name = variable.upper()
        if name.startswith("AFRESH_") and not name.startswith("AFRESH_TEST_"):
            asked = name.removeprefix("AFRESH_")
            if asked.split("__")[0].lower() not in model.model_fields:
                inside = [setting for setting in known if setting.endswith(f"__{asked}")]
                close = difflib.get_close_matches(asked, known, n=1) or inside[:1]
                advice = f"did you mean AFRESH_{close[0]}?" if close else _known(model.model_fields)
                lines.append(f"{variable}: unknown setting; {advice}")
    return lines


def refuse_twice(names: Iterable[tuple[str, ...]], advice: str) -> None:
    """Raises where one of these, the names of the sections of one file, is there twice; ``advice`` is what to do."""
    for name, count in Counter(names).items():
        if count > 1:
            raise PydanticCustomError(
                NAMED_TWICE,
                "{name} is named {count} times; {advice}",
                {"name": ".".join(name), "count": count, "advice": advice},
            )


def did_you_mean(unknown: str, known: Collection[str]) -> str:
    """What was probably meant; empty where nothing comes close."""
    close = difflib.get_close_matches(unknown, known, n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def _said(problem: ErrorDetails, model: type[BaseModel], *, written_in_file: bool) -> str:
    place, given = problem["loc"], problem["input"]
    last = str(place[-1]) if place else ""
    match problem["type"]:
        case "extra_forbidden":
            return f"unknown key; {_advice(place, model)}"
        case "missing":
            return "is missing"
        case "tuple_type" if isinstance(given, dict) and written_in_file and len(place) == 1:
            return f"expected a list of sections: write [[{last}]], with two brackets, before each"
        case "model_type" if isinstance(given, list) and written_in_file and len(place) == 1:
            return f"expected one section: write [{last}], with single brackets, once"
        case kind if kind in (NAMED_TWICE, AT_ODDS):
            return problem["msg"]
        case kind:
            said = _EXPECTED.get(kind) or problem["msg"].removeprefix("Value error, ")
            return f"{said[0].lower()}{said[1:]}, got {_short(given)}"


def _advice(place: Place, model: type[BaseModel]) -> str:
    """What to do about a key that is not known at ``place``."""
    unknown, here = str(place[-1]), _fields(model, place[:-1])
    if len(place) > 1 and unknown in model.model_fields and _model_in(model.model_fields[unknown].annotation) is None:
        # In TOML whatever follows a section's header is in that section.
        return f"{unknown!r} belongs at the top of the file, above the first [section]"
    return did_you_mean(unknown, here) or _known(here)


def _known(names: Collection[str]) -> str:
    return f"known here: {', '.join(sorted(names))}"


def _variable(place: Place, environment: Mapping[str, str]) -> str | None:
    """The environment variable that set what is at ``place``: itself, a part of it, or what contains it."""
    present = {variable.upper(): variable for variable in environment}
    for length in range(len(place), 0, -1):
        name = "AFRESH_" + "__".join(str(part).upper() for part in place[:length])
        if name in present:
            return present[name]
        if length == len(place):
            inside = sorted(variable for variable in present if variable.startswith(f"{name}__"))
            if inside:
                return present[inside[0]]
    return None


def _variables(model: type[BaseModel]) -> Iterator[str]:
    """What can be set by variables, as these write it, without `AFRESH_`: lists of sections cannot."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from (f"{name}__{key}".upper() for key in inner.model_fields)
        elif _model_in(inner) is None:
            yield name.upper()


def _dotted(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, looking into `tuple[Section, ...]`."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((found for part in typing.get_args(annotation) if (found := _model_in(part))), None)


def _fields(model: type[BaseModel], place: Place) -> list[str]:
    """The keys that are known at ``place``."""
    for part in place:
        if isinstance(part, str):
            inner = _model_in(model.model_fields[part].annotation) if part in model.model_fields else None
            if inner is None:
                return []
            model = inner
    return list(model.model_fields)
