"""What a round writes down, for the checker: who committed what, who heard what, and what he read then.

Times are seconds of the round's event loop. A *place* is something that a client keeps copies of: one of the three views,
or a table that is read by itself. Its content is a mapping from a key to a value; values of one key only rise, whatever
happens, so of two of them it can be said which is older.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: What is kept for a key: one counter, or two for a view that stands on two others; None where there is no row.
Value = tuple[int | None, ...] | None

#: The content of a place, or of some of its keys.
Content = dict[int, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One transaction: ``rows`` are (table, id, n). ``acknowledged`` None: its answer was lost, and it may have failed."""

    sent: float
    acknowledged: float | None
    rows: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One message, ``kind`` connected, disconnected, invalidate or resync; and what was read because of it, by place."""

    at: float
    kind: str
    chain: int
    epoch: str = ""
    offset: int = 0
    patterns: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    detail: str = ""
    read: Mapping[str, Content] = field(default_factory=dict)


@dataclass(slots=True)
class ClientHistory:
    """What one client heard, in order, and what it keeps at the end."""

    name: str
    heard: list[Heard] = field(default_factory=list)
    #: The client's copies; a place is missing until it was read.
    kept: dict[str, Content] = field(default_factory=dict)
    connected: bool = False
    #: It reads what somebody keeps, and drops by what is named.
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One answer of the application: ``value`` for ``key`` of ``place``, asked for when everything up to ``offset`` had
    been heard; ``cached``: it came out of the cache, at once."""

    at: float
    place: str
    key: int
    value: Value
    cached: bool
    epoch: str
    offset: int


@dataclass(slots=True)
class ApplicationHistory:
    """What the application answered, and what its cache holds at the end, by place and key."""

    on_disconnect: str
    served: list[Served] = field(default_factory=list)
    kept: dict[str, Content] = field(default_factory=dict)
    hears: bool = False
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a view showed in the transaction that appended ``offset`` to the log of ``epoch``, seen from within."""

    epoch: str
    offset: int
    place: str
    content: Content


@dataclass(slots=True)
class History:
    """One round."""

    seed: int
    began: float = 0.0
    faults: list[tuple[float, str]] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    clients: list[ClientHistory] = field(default_factory=list)
    application: ApplicationHistory | None = None
    shown: list[Shown] = field(default_factory=list)
    #: The invalidation log at the end: epoch, offset, patterns.
    log: list[tuple[str, int, tuple[str, ...]]] = field(default_factory=list)
    #: What every place holds at the end, and what its definition says.
    final: dict[str, Content] = field(default_factory=dict)
    live: dict[str, Content] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> Path:
        """Put it into a file; returns which."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"round-{self.seed}.json"
        file.write_text(json.dumps(dataclasses.asdict(self), indent=1, default=str), encoding="utf-8")
        return file


def older(one: Value, other: Value) -> bool:
    """Whether ``one`` lacks something that ``other`` has."""
    if other is None:
        return False
    if one is None:
        return True
    return any(b is not None and (a is None or a < b) for a, b in zip(one, other, strict=True))


def keys_of(patterns: tuple[str, ...], place: str) -> set[int] | None:
    """The keys of ``place`` that ``patterns`` make stale: None for all, the empty set for none.

    Copies are kept under `<place>:<key>:` (the last colon, so that 1 is no prefix of 12), and a pattern is a prefix.
    """
    found: set[int] = set()
    for pattern in patterns:
        if f"{place}:".startswith(pattern):
            return None
        if pattern.startswith(f"{place}:"):
            found.add(int(pattern.split(":")[1]))
    return found
