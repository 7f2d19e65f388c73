"""Where the files that are not Python are found: the SQL and the dashboard.

A wheel carries them inside the package (``force-include`` in pyproject.toml); in an editable install they are
where they are written, at the checkout's root. Nothing else in the project knows of this difference.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _folder(name: str) -> Path:
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parents[2] / name


def sql_folder() -> Path:
    """The folder that holds ``triggers/`` and ``packs/``."""
    return _folder("sql")


def web_folder() -> Path:
    """The folder that holds the dashboard."""
    return _folder("web")


@cache
def query(name: str) -> str:
    """The text of one of the service's own statements, ``queries/<name>.sql`` beside this module."""
    return (_PACKAGE / "queries" / f"{name}.sql").read_text(encoding="utf-8")
