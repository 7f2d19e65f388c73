"""What happened: one closed set of observations, which every stage reports and none formats.

Logs, metrics and the state that HTTP shows are three observers of the same stream; each decides for itself what to
make of an observation. An observer returns at once and never raises.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from afresh_notifier.dependencies import Catalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """The listening connection stands."""

    backend_pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListeningLost:
    """The listening connection is gone, or was given up."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectFailed:
    """An attempt to connect failed; the next is in ``retry_in`` seconds."""

    problem: str
    hint: str
    retry_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangesHeard:
    """``count`` changes of ``table`` were consumed."""

    table: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadRejected:
    """A notification on our channel was none of ours."""

    problem: str
    payload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GapFound:
    """Changes that are only notified may have been missed: what hangs on such tables is refreshed and resynced."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumeFailed:
    """Changes could not be taken, or passed on; nothing of it was done, and it is tried again in ``retry_in`` seconds."""

    problem: str
    retry_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BellSet:
    """Writers ring from now on, or do so no more."""

    ringing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMeasured:
    """``changes`` wait in the change log (at least so many), the oldest since ``oldest`` seconds."""

    changes: int
    oldest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Leading:
    """This instance leads, under ``term``."""

    term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """This instance does not lead; ``leader`` does, where that is known. ``reason``: why it ceased to lead."""

    leader: str | None
    term: int | None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseFailed:
    """The lease could not be asked for or renewed; it is tried again."""

    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TailFailed:
    """The invalidation log could not be read; it is tried again."""

    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingIgnored:
    """A table or view that the settings name is not as they say; everything else goes on."""

    name: str
    problem: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueRead:
    """The views and what they hang on were read; ``suspects`` are refreshed because of it, ``ignored`` is what the
    settings say in vain."""

    catalogue: Catalogue
    suspects: Collection[str]
    ignored: tuple[SettingIgnored, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueFailed:
    """The catalogue could not be read; the next attempt is in ``retry_in`` seconds."""

    problem: str
    retry_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshStarted:
    """A refresh of ``view`` is on its way."""

    view: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshDone:
    """``view`` was refreshed by ``method``; it had been dirty for ``dirty_for`` seconds when the refresh began. Its content
    will be another by time alone in ``next_change`` seconds, if that is known."""

    view: str
    method: str
    seconds: float
    dirty_for: float
    next_change: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshPostponed:
    """Somebody else holds ``view``, for the ``waits``-th time in a row."""

    view: str
    problem: str
    waits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshNotDone:
    """A refresh of ``view`` failed for the ``failures``-th time in a row; ``broken``: not tried again by itself."""

    view: str
    problem: str
    hint: str
    failures: int
    broken: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalidated:
    """An invalidation came out of the log, ``age`` seconds after it went in; a resync, where there is a ``reason``."""

    offset: int
    patterns: Collection[str]
    tables: Collection[str]
    views: Collection[str]
    reason: str | None
    age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientJoined:
    """A client connected by ``kind`` ("websocket" or "sse")."""

    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLeft:
    """It is gone."""

    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A request whose ``header``, `Origin` or `Host`, is not one of ours; each ``value`` is reported once."""

    header: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FellBehind:
    """The invalidation log could not be read for ``seconds``: clients are told that they hear nothing."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtUp:
    """It could be read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientResynced:
    """Clients were told to drop everything."""

    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """One flush wrote to ``clients``; for ``lagging`` more, who do not read, it was merged with what waits for them."""

    clients: int
    lagging: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryReady:
    """A named query can be run; ``after_failure``: it could not before."""

    query: str
    after_failure: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryBroken:
    """A named query cannot be run until somebody changes something; it is looked at again."""

    query: str
    problem: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryAnswered:
    """A named query was answered ``how``: "hit", "miss", "stale"; or "csv" or "write", which are never kept."""

    query: str
    how: str
    seconds: float
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryNotAnswered:
    """Somebody got the error ``code`` in place of an answer."""

    query: str
    code: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFailed:
    """The chat model gave no answer for a named query, which then answered with what its SQL composed."""

    query: str
    problem: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NextChangeUnknown:
    """A refreshed view's `next_change` gives no instant: the view is refreshed again in ``retry_in`` seconds."""

    view: str
    problem: str
    hint: str
    retry_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDone:
    """A job was run, for the time ``due`` (ISO 8601)."""

    job: str
    due: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailed:
    """A job failed for the ``failures``-th time in a row; it is run again in ``retry_in`` seconds."""

    job: str
    problem: str
    hint: str
    failures: int
    retry_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """``rows`` of ``table`` have embeddings of their texts; ``skipped`` have changed again, or are gone."""

    table: str
    rows: int
    skipped: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingFailed:
    """Embeddings of ``table`` could not be made or stored, of ``rows`` rows; they are tried again later."""

    table: str
    rows: int
    problem: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingsWaiting:
    """So many ``rows`` of ``table`` wait for their embeddings (counted up to a bound)."""

    table: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Something that was set up does not work, or will bite; ``to_do`` is the way out."""

    about: str
    what: str
    to_do: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """HTTP is up."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """A shutdown began."""

    reason: str


Observation = (
    Listening
    | ListeningLost
    | ConnectFailed
    | ChangesHeard
    | PayloadRejected
    | GapFound
    | CatalogueRead
    | CatalogueFailed
    | ConsumeFailed
    | BellSet
    | LogMeasured
    | Leading
    | Following
    | LeaseFailed
    | TailFailed
    | FellBehind
    | CaughtUp
    | SettingIgnored
    | RefreshStarted
    | RefreshDone
    | RefreshPostponed
    | RefreshNotDone
    | Invalidated
    | ClientJoined
    | ClientLeft
    | Refused
    | ClientResynced
    | Delivered
    | QueryReady
    | QueryBroken
    | QueryAnswered
    | QueryNotAnswered
    | ChatFailed
    | NextChangeUnknown
    | JobDone
    | JobFailed
    | Embedded
    | EmbeddingFailed
    | EmbeddingsWaiting
    | Warned
    | Serving
    | Stopping
)

Observe = Callable[[Observation], None]


def fan_out(*observers: Observe) -> Observe:
    """One observer that tells each of these, in order."""

    def observe(observation: Observation) -> None:
        for observer in observers:
            observer(observation)

    return observe
