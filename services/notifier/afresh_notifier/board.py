"""The board: the newest of everything, gathered from observations, for `/views`, `/readyz` and the dashboard."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from afresh_notifier.observations import (
    CatalogueFailed,
    CatalogueRead,
    CaughtUp,
    ConnectFailed,
    FellBehind,
    Following,
    Invalidated,
    Leading,
    Listening,
    ListeningLost,
    Observation,
    RefreshDone,
    RefreshNotDone,
    RefreshPostponed,
    RefreshStarted,
    SettingIgnored,
)


@dataclass(slots=True)
class ViewState:
    """What became of the refreshes of one view; ``seconds`` is how long the last one took."""

    refreshing: bool = False
    last_refresh: datetime | None = None
    #: When its content will be another by time alone.
    next_change: datetime | None = None
    seconds: float | None = None
    refreshes: int = 0
    failures: int = 0
    broken: bool = False
    problem: str | None = None
    hint: str | None = None


def _after(seconds: float) -> datetime | None:
    """The moment in so many seconds; None where no calendar has it."""
    try:
        return datetime.now(UTC) + timedelta(seconds=seconds)
    except OverflowError:
        return None


class Board:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.views: dict[str, ViewState] = {}
        self.ignored: tuple[SettingIgnored, ...] = ()
        #: Whether the catalogue was read at least once: before that it is not known what there is to refresh.
        self.planned = asyncio.Event()
        self.why_not_planned = "the catalogue was not read yet"
        self.leader: str | None = None
        self.leading = False
        self.listening = False
        self.why_not_listening = "the listening connection is not there yet"
        self.behind = ""

    @property
    def role(self) -> str:
        """What this instance does: "leader" (it refreshes) or "follower"."""
        return "leader" if self.leading else "follower"

    def __call__(self, observation: Observation) -> None:
        """Take note."""
        match observation:
            case Listening():
                self.listening = True
            case ListeningLost(reason=reason):
                self.listening, self.why_not_listening = False, reason
            case ConnectFailed(problem=problem):
                self.listening, self.why_not_listening = False, problem
            case FellBehind(seconds=seconds):
                self.behind = f"the invalidation log could not be read for {seconds:g} s: clients are told of nothing"
            case CaughtUp():
                self.behind = ""
            case Leading():
                self.leading, self.leader = True, None
            case Following(leader=leader):
                self.leading, self.leader = False, leader
                for state in self.views.values():
                    state.refreshing = False
            case Invalidated(views=views, age=age) if not self.leading:
                for view in views:
                    self._state(view).last_refresh = datetime.now(UTC) - timedelta(seconds=age)
            case CatalogueFailed(problem=problem):
                self.why_not_planned = f"the catalogue cannot be read: {problem}"
            case CatalogueRead(catalogue=catalogue, ignored=ignored):
                self.views = {name: self.views.get(name, ViewState()) for name in catalogue.views}
                self.ignored = ignored
                self.why_not_planned = ""
                self.planned.set()
            case RefreshStarted(view=view):
                self._state(view).refreshing = True
            case RefreshPostponed(view=view, problem=problem):
                state = self._state(view)
                state.refreshing, state.problem = False, problem
            case RefreshDone(view=view, seconds=seconds, next_change=next_change):
                state = self._state(view)
                state.refreshing, state.broken, state.failures = False, False, 0
                state.problem = state.hint = None
                state.last_refresh, state.seconds = datetime.now(UTC), seconds
                state.next_change = None if next_change is None else _after(next_change)
                state.refreshes += 1
            case RefreshNotDone(view=view, problem=problem, hint=hint, failures=failures, broken=broken):
                state = self._state(view)
                state.refreshing, state.broken, state.failures = False, broken, failures
                state.problem, state.hint = problem, hint or None
            case _:
                pass

    def _state(self, view: str) -> ViewState:
        """The state of ``view``; one that nobody sees, where it was dropped while it was being refreshed."""
        return self.views.get(view) or ViewState()
