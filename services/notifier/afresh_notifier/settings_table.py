"""The table of all settings, made from the settings themselves, so that it cannot say anything else.

`python -m afresh_notifier.settings_table docs/settings.md` writes it between the markers in these files; without
a file it is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from afresh_notifier import marked
from afresh_notifier.settings import Settings
from afresh_notifier.settings_values import seconds

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"), (0.001, "ms"))


def table() -> str:
    """The settings as a table in Markdown."""
    rows = [("Setting", "Default", "What it is"), ("---", "---", "---")]
    rows += [(f"`{name}`", _default(field), str(field.description)) for name, field in _fields(Settings, "")]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows)


def written(text: str) -> str:
    """``text`` with the table of today between its markers. Raises ValueError where it has none."""
    return marked.replaced(text, "settings", table())


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    """Every setting with its full name, sections before lists of sections."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _fields(inner, f"{prefix}{name}.")
        elif get_args(inner) and isinstance(get_args(inner)[0], type) and issubclass(get_args(inner)[0], BaseModel):
            several = "[]" if get_origin(inner) is tuple else ""
            yield from _fields(get_args(inner)[0], f"{prefix}{name}{several}.")
        else:
            yield f"{prefix}{name}", field


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.default
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float) and any(isinstance(m, BeforeValidator) and m.func is seconds for m in field.metadata):
        return f'`"{_duration(value)}"`'
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def _duration(value: float) -> str:
    """Seconds as one would write them."""
    size, unit = next(
        ((size, unit) for size, unit in _UNITS if value >= size and (value / size).is_integer()), (1, "s")
    )
    return f"{value / size:g}{unit}"


def main() -> None:
    """Print the table, or write it into the files named."""
    for file in map(Path, sys.argv[1:]):
        file.write_text(written(file.read_text(encoding="utf-8")), encoding="utf-8")
    if not sys.argv[1:]:
        sys.stdout.write(table() + "\n")


if __name__ == "__main__":
    main()
