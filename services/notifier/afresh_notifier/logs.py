"""The log: an observer that writes observations as events, for people at a terminal or as JSON for machines."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
from collections import Counter
from typing import Any

import structlog

from afresh_notifier.dependencies import Catalogue
from afresh_notifier.observations import (
    BellSet,
    CatalogueFailed,
    CatalogueRead,
    CaughtUp,
    ChangesHeard,
    ChatFailed,
    ClientJoined,
    ClientLeft,
    ClientResynced,
    ConnectFailed,
    ConsumeFailed,
    Delivered,
    Embedded,
    EmbeddingFailed,
    EmbeddingsWaiting,
    FellBehind,
    Following,
    GapFound,
    Invalidated,
    JobDone,
    JobFailed,
    Leading,
    LeaseFailed,
    Listening,
    ListeningLost,
    LogMeasured,
    NextChangeUnknown,
    Observation,
    PayloadRejected,
    QueryAnswered,
    QueryBroken,
    QueryNotAnswered,
    QueryReady,
    RefreshDone,
    RefreshNotDone,
    RefreshPostponed,
    RefreshStarted,
    Refused,
    Serving,
    SettingIgnored,
    Stopping,
    TailFailed,
    Warned,
)

#: How each observation is called in the log, and how much it matters.
EVENTS: dict[type[Observation], tuple[int, str]] = {
    Listening: (logging.INFO, "listening"),
    ListeningLost: (logging.WARNING, "listening connection lost"),
    ConnectFailed: (logging.WARNING, "cannot connect"),
    ChangesHeard: (logging.DEBUG, "changes heard"),
    PayloadRejected: (logging.WARNING, "notification rejected"),
    GapFound: (logging.INFO, "gap: what is only notified may have been missed"),
    ConsumeFailed: (logging.WARNING, "changes cannot be taken"),
    BellSet: (logging.DEBUG, "bell set"),
    LogMeasured: (logging.DEBUG, "change log measured"),
    Leading: (logging.INFO, "leading"),
    Following: (logging.INFO, "following"),
    LeaseFailed: (logging.WARNING, "lease cannot be renewed"),
    TailFailed: (logging.WARNING, "invalidation log cannot be read"),
    FellBehind: (logging.WARNING, "behind the invalidation log, which clients are told"),
    CaughtUp: (logging.INFO, "caught up with the invalidation log"),
    CatalogueRead: (logging.DEBUG, "catalogue read"),
    CatalogueFailed: (logging.WARNING, "catalogue cannot be read"),
    SettingIgnored: (logging.ERROR, "setting without effect"),
    RefreshStarted: (logging.DEBUG, "refresh started"),
    RefreshDone: (logging.INFO, "refreshed"),
    RefreshPostponed: (logging.DEBUG, "refresh postponed"),
    RefreshNotDone: (logging.ERROR, "refresh failed"),
    Invalidated: (logging.DEBUG, "invalidated"),
    ClientJoined: (logging.DEBUG, "client joined"),
    ClientLeft: (logging.DEBUG, "client left"),
    Refused: (logging.WARNING, "refused: server.origins does not name it"),
    ClientResynced: (logging.INFO, "clients resynced"),
    Delivered: (logging.DEBUG, "delivered"),
    QueryReady: (logging.DEBUG, "query can be run"),
    QueryBroken: (logging.WARNING, "query cannot be run"),
    QueryAnswered: (logging.DEBUG, "query answered"),
    QueryNotAnswered: (logging.DEBUG, "query not answered"),
    ChatFailed: (logging.WARNING, "chat model does not answer"),
    NextChangeUnknown: (logging.WARNING, "next change is not known"),
    JobDone: (logging.INFO, "job done"),
    JobFailed: (logging.ERROR, "job failed"),
    Embedded: (logging.INFO, "embedded"),
    EmbeddingFailed: (logging.WARNING, "embeddings cannot be made"),
    EmbeddingsWaiting: (logging.DEBUG, "embeddings waiting"),
    Warned: (logging.WARNING, "look at this"),
    Serving: (logging.INFO, "serving"),
    Stopping: (logging.INFO, "stopping"),
}


def configure(*, level: str = "info", json: bool | None = None) -> None:
    """Set structlog up once, at the start: to stderr, coloured at a terminal, JSON lines elsewhere unless told."""
    as_json = not sys.stderr.isatty() if json is None else json
    renderer: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


#: What comes again and again while PostgreSQL is down, and what says that it is over.
_ENDS: dict[type[Observation], type[Observation]] = {
    Listening: ConnectFailed,
    CatalogueRead: CatalogueFailed,
    ChangesHeard: ConsumeFailed,
    Leading: LeaseFailed,
    Invalidated: TailFailed,
    RefreshDone: RefreshNotDone,
    Embedded: EmbeddingFailed,
}


#: After so many tries in a row it is no chance any more that a view was locked; they take about three seconds.
LOCKED_FOR_LONG = 8


class Log:
    """The observer.

    It never raises: what cannot be written is not.

    Of failures of one kind in a row it writes the first, the second, the fourth, the eighth and so on, each with how many
    there were by then; and so does what ends them. A view that somebody has locked for long is told of in the same way.
    """

    def __init__(self) -> None:
        self._logger = structlog.get_logger()
        self._in_a_row: Counter[tuple[type[Observation], str]] = Counter()

    def __call__(self, observation: Observation) -> None:
        """Write one event, or none."""
        kind, more = type(observation), {}
        level, event = EVENTS[kind]
        if isinstance(observation, RefreshPostponed) and observation.waits >= LOCKED_FOR_LONG:
            if observation.waits & (observation.waits - 1):
                return
            level = logging.WARNING
        of = getattr(observation, "view", "") or getattr(observation, "table", "")
        if kind in _ENDS.values():
            self._in_a_row[kind, of] += 1
            count = self._in_a_row[kind, of]
            if count & (count - 1):
                return
            more = {"in_a_row": count} if count > 1 else {}
        elif kind in _ENDS and (count := self._in_a_row.pop((_ENDS[kind], of), 0)):
            level, more = max(level, logging.INFO), {"after_failures": count}
        if not self._logger.is_enabled_for(level):
            return  # of most there may be thousands a second
        fields = {field.name: _plain(getattr(observation, field.name)) for field in dataclasses.fields(observation)}
        with contextlib.suppress(OSError):  # a full disk, or nobody reads: what is observed goes on all the same
            self._logger.log(level, event, **fields, **more)


def _plain(value: object) -> object:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, Catalogue):
        return sorted(value.views)
    if isinstance(value, frozenset | tuple | set):
        return [item.name if isinstance(item, SettingIgnored) else item for item in sorted(value, key=str)]
    return value
