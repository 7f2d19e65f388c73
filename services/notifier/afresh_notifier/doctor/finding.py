"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``about`` is what was looked at, ``what`` what was found, ``to_do`` the way out.

    A line of ``to_do`` is prose, or part of a statement or command that is ready to run, and never both.
    """

    level: Level
    about: str
    what: str
    to_do: str = ""


def ok(about: str, what: str) -> Finding:
    """All is well."""
    return Finding(level="ok", about=about, what=what)


def warning(about: str, what: str, to_do: str) -> Finding:
    """It works, and will surprise somebody."""
    return Finding(level="warning", about=about, what=what, to_do=to_do)


def problem(about: str, what: str, to_do: str) -> Finding:
    """Something that was asked for does not work."""
    return Finding(level="problem", about=about, what=what, to_do=to_do)
