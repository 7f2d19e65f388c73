"""A user's file with one statement in it, as queries, jobs and views name them.

In: a path. Out: the statement, without what ends it, which would end it in the middle of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from afresh_notifier.errors import SettingsError


def statements_in(files: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """The statements of all these files, each with what names it, for people; by file.

    Raises `SettingsError` with a line for each that cannot be read.
    """
    found, problems = {}, []
    for named_by, file in files:
        try:
            found[file] = Path(file).read_text(encoding="utf-8").rstrip(" \t\r\n;")
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{named_by}: {file} cannot be read: {getattr(error, 'strerror', None) or error}")
    if problems:
        raise SettingsError(problems)
    return found
