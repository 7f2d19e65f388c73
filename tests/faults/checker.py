"""What a round's history must hold; see `check`.

The rules, and why each is right and can fail:

**Lost.** (1) At the end every view holds what its definition makes of the tables. (2) At the end every client's copies
are what the places hold. A client reads a key only when an invalidation names it, or a resync is told; most keys are
written once, in one transaction, and so are named for that reason alone: a change that was not told leaves a copy stale
which nothing that comes later heals. Both hold of any service that keeps its word, however late, since the check waits for
them with a generous deadline.

**Stale.** What a client reads upon a message is compared with two things that are known without trusting the service.
(3) An eye in the database (a trigger, `world.SCHEMA`) writes down, in the very transaction that appends an invalidation,
what the views it names show there. Whoever is told the offset n can read what was committed with n, or what is newer: so no
key that he reads may be older than what the eye has seen up to n. A message that leaves before its refresh has committed
breaks this. (4) A message that names the key of a row which is written once, was caused by that row: whoever hears it must
find the row. That catches the same, and a message that was appended before its refresh, of which the eye knows nothing.
(5) What the eye sees of a view never moves backwards, in the order of the offsets; and so for each client's readings, but
for one that is answered out of the caches of several instances: what a refresh shows before it is told one of them may keep
as it was, until it is told, and another one may not.
(6) A copy that is stale at the end although an invalidation named its key after the change was committed. (A resync
promises nothing of the kind: it says that something was missed, and views may be refreshed and told after it.)

**Silent.** (7) A client that at the end is not connected, or has not been told of an offset that is in the log and
concerns it.

**Wrong.** (8) Along a client's connections, offsets of invalidations rise strictly within an epoch, across resumptions too:
nothing is told twice, but after a resync, and where a connection broke before it was `subscribed`: what was told on it is
told again, since the client has no position on it yet. (9) What a writer was told is committed, is; that is the server's
affair, and is checked so that its failure is not taken for ours.

**The application's cache** (stale, if it is not as follows). (10) Nothing that it answers is older than what the eye saw
with the last invalidation that names its key, of those which its Subscriber had heard when it was asked: whatever the cache
does while nothing is heard, and whatever was being loaded when the invalidation came. (A refresh can show a change that is
named only by the next one's invalidation.) (11) Where the cache is to be bypassed while nothing is heard, nothing out of it
is older than what the eye saw with the last one that names its key, of those which others had been told `BOUND` seconds
before: the time in which a dead connection is noticed, or an instance that hears nothing says so. (12) At the end it has
heard everything, and what the cache holds is so.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from afresh_notifier.tail import CURRENT_FOR
from faults.application import HEARTBEAT
from faults.history import ApplicationHistory, ClientHistory, Content, Heard, History, Value, keys_of, older
from faults.world import PLACES, VIEWS

#: For so many seconds may a cache that is to be bypassed serve what is not true any more: the longer of the two by which it
#: learns that it hears nothing (see `afresh_cache.client.Subscriber`), and what these machines may take to do it.
BOUND = max(1.5 * HEARTBEAT, CURRENT_FOR) + 2.0

#: Complaints of one kind that are written out; a thousand more say no more.
MOST = 20


@dataclass(slots=True)
class Verdict:
    """What is wrong with a round, by kind."""

    lost: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether there is nothing."""
        return not (self.lost or self.stale or self.silent or self.wrong)

    def lines(self) -> Iterator[str]:
        """Everything, for people."""
        for kind, found in (("lost", self.lost), ("stale", self.stale), ("silent", self.silent), ("wrong", self.wrong)):
            for one in found[:MOST]:
                yield f"{kind}: {one}"
            if len(found) > MOST:
                yield f"{kind}: and {len(found) - MOST} more"


def check(history: History) -> Verdict:
    """Hold the history against the rules above."""
    verdict = Verdict()
    _durable(history, verdict)
    for place in VIEWS:
        for key in _differing(history.final[place], history.live[place]):
            verdict.lost.append(
                f"{place} shows {history.final[place].get(key)} for {key}, not {history.live[place].get(key)}"
            )
    eye, named = _Eye(history, verdict), _Named(history)
    committed = _committed(history)
    once = {key for place in PLACES for key in history.live[place] if key % 1_000_000}
    for client in history.clients:
        _in_order(client, verdict)
        _fresh(client, eye, named, once, verdict)
        _complete(client, history, committed, verdict)
    if history.application is not None:
        _served(history.application, history, eye, named, verdict)
    return verdict


def converged(history: History) -> bool:
    """Whether views and copies are what they must be, and everybody is connected; then nothing is waited for any more."""
    return (
        all(history.final[place] == history.live[place] for place in VIEWS)
        and all(
            client.connected
            and not _untold(client, history)
            and not any(_differing(client.kept.get(place, {}), history.final[place]) for place in PLACES)
            for client in history.clients
        )
        and (history.application is None or _caught_up(history.application, history))
    )


def _differing(one: Content, other: Content) -> list[int]:
    return [key for key in sorted(one.keys() | other.keys()) if one.get(key) != other.get(key)]


def _durable(history: History, verdict: Verdict) -> None:
    """Rule 9."""
    tables = {"ledger": history.live["ledger"], "notes": history.live["noted"]}
    for commit in history.commits:
        if commit.acknowledged is not None:
            for table, key, n in commit.rows:
                if older(tables[table].get(key), (n,)):
                    verdict.wrong.append(f"{table} {key} = {n} was committed, and is gone")


def _committed(history: History) -> dict[tuple[str, int], float]:
    """When the newest change of each key of each place was sent; a commit without an answer counts where it took place."""
    reads = {"ledger": ("ledger", "latest", "board"), "notes": ("noted", "board")}
    tables = {"ledger": history.live["ledger"], "notes": history.live["noted"]}
    newest: dict[tuple[str, int], float] = {}
    for commit in history.commits:
        for table, key, n in commit.rows:
            if commit.acknowledged is not None or not older(tables[table].get(key), (n,)):
                for place in reads[table]:
                    newest[place, key] = max(newest.get((place, key), 0.0), commit.sent)
    return newest


class _Eye:
    """What the views showed when each offset was appended."""

    def __init__(self, history: History, verdict: Verdict) -> None:
        self._seen: dict[tuple[str, str], list[tuple[int, Content]]] = {}
        for shown in history.shown:
            before = self._seen.setdefault((shown.epoch, shown.place), [])
            if before:
                for key, value in before[-1][1].items():
                    now = shown.content.get(key)
                    if older(now, value):
                        verdict.stale.append(
                            f"{shown.place} moved backwards at {shown.offset}: {key} from {value} to {now}"
                        )
            before.append((shown.offset, shown.content))

    def upto(self, epoch: str, offset: int, place: str) -> Content:
        """The newest content that whoever was told ``offset`` can read."""
        seen = self._seen.get((epoch.rpartition("-")[2], place), [])
        number = bisect_right(seen, offset, key=lambda shown: shown[0])
        return seen[number - 1][1] if number else {}


def _in_order(client: ClientHistory, verdict: Verdict) -> None:
    """Rule 8."""
    last: tuple[str, int] | None = None
    stood = {heard.chain for heard in client.heard if heard.kind == "connected"}
    before, chain = last, 0
    for heard in client.heard:
        if heard.chain != chain:
            if chain not in stood:
                last = before
            before, chain = last, heard.chain
        if heard.kind == "resync":
            last = None
        elif heard.kind == "invalidate":
            if last is not None and last[0] == heard.epoch and heard.offset <= last[1]:
                verdict.wrong.append(f"{client.name} was told {heard.offset} after {last[1]}, at {heard.at:.3f}")
            last = heard.epoch, heard.offset


def _fresh(client: ClientHistory, eye: _Eye, named: _Named, once: set[int], verdict: Verdict) -> None:
    """Rules 3, 4 and 5."""
    newest: dict[tuple[str, int], Value] = {}
    for heard in client.heard:
        for place, read in heard.read.items():
            seen = eye.upto(heard.epoch, heard.offset, place) if heard.kind == "invalidate" else {}
            meant = keys_of(heard.patterns, place) or ()
            for key, value in read.items():
                if client.cached and heard.kind == "invalidate":
                    # What a refresh showed early, and a later message names, may be kept as it was until then (rule 10).
                    last = named.last(heard.epoch, place, key, heard.offset)
                    seen = eye.upto(heard.epoch, last, place)
                if older(value, seen.get(key)):
                    verdict.stale.append(
                        f"{client.name} was told {heard.offset} at {heard.at:.3f} and read {value} for {place} {key}, "
                        f"where {seen.get(key)} was committed with it"
                    )
                elif key in meant and key in once and value is None:
                    verdict.stale.append(
                        f"{client.name} was told of {place} {key} at {heard.at:.3f}, and did not find it"
                    )
                if not client.cached and older(value, newest.get((place, key))):
                    verdict.stale.append(
                        f"{client.name} read {value} for {place} {key} at {heard.at:.3f}, after {newest[place, key]}"
                    )
                newest[place, key] = value


def _complete(
    client: ClientHistory, history: History, committed: dict[tuple[str, int], float], verdict: Verdict
) -> None:
    """Rules 2, 6 and 7."""
    if not client.connected:
        verdict.silent.append(f"{client.name} is not connected at the end")
    missing = _untold(client, history)
    if missing:
        verdict.silent.append(f"{client.name} was not told of {missing[0]} to {missing[-1]}")
    for place in PLACES:
        differing = _differing(client.kept.get(place, {}), history.final[place])
        for key in differing:
            after = committed.get((place, key), 0.0)
            named = any(_names(heard, place, key) for heard in client.heard if heard.at > after)
            has = client.kept.get(place, {}).get(key)
            what = f"{client.name} keeps {has} for {place} {key}, not {history.final[place].get(key)}"
            if named:
                verdict.stale.append(f"{what}, although it was named after the change")
            elif missing:
                verdict.silent.append(f"{what}, and was not told of {missing[0]} to {missing[-1]}")
            else:
                verdict.lost.append(f"{what}, and nothing that was told names it")


def _names(heard: Heard, place: str, key: int) -> bool:
    """Whether it names just this key: what names all of them may have been about something that came before."""
    return heard.kind == "invalidate" and key in (keys_of(heard.patterns, place) or ())


def _untold(client: ClientHistory, history: History) -> list[int]:
    """The offsets of the log that it has not been told of, by all that it was told."""
    for heard in reversed(client.heard):
        if heard.kind in ("connected", "invalidate", "resync"):
            mine = heard.epoch.rpartition("-")[2]
            return [offset for epoch, offset, _ in history.log if epoch != mine or offset > heard.offset]
    return [offset for _, offset, _ in history.log]


class _Named:
    """Which invalidations of the log name which key."""

    def __init__(self, history: History) -> None:
        self._offsets: dict[tuple[str, str, int | None], list[int]] = {}
        for epoch, offset, patterns in history.log:
            for place in VIEWS:
                keys = keys_of(patterns, place)
                for key in (None,) if keys is None else keys:
                    self._offsets.setdefault((epoch, place, key), []).append(offset)

    def last(self, epoch: str, place: str, key: int, upto: int) -> int:
        """The last offset up to ``upto`` that names the key, or all keys; 0 where none does."""
        found = 0
        for one in (key, None):
            offsets = self._offsets.get((epoch.rpartition("-")[2], place, one), [])
            number = bisect_right(offsets, upto)
            found = max(found, offsets[number - 1] if number else 0)
        return found


def _caught_up(application: ApplicationHistory, history: History) -> bool:
    return application.hears and application.offset >= max((offset for _, offset, _ in history.log), default=0)


def _served(application: ApplicationHistory, history: History, eye: _Eye, named: _Named, verdict: Verdict) -> None:
    """Rules 10, 11 and 12."""
    told: dict[str, list[tuple[float, int]]] = {}  # by when somebody had been told which offset
    for heard in sorted((one for client in history.clients for one in client.heard), key=lambda one: one.at):
        if heard.kind == "invalidate":
            known = told.setdefault(heard.epoch, [])
            known.append((heard.at, max(heard.offset, known[-1][1] if known else 0)))
    for served in application.served:
        what = f"the application answered {served.value} for {served.place} {served.key} at {served.at:.3f}"
        last = named.last(served.epoch, served.place, served.key, served.offset)
        seen = eye.upto(served.epoch, last, served.place).get(served.key)
        if older(served.value, seen):
            verdict.stale.append(
                f"{what}, and had heard of {last}, which names it, and with which {seen} was committed"
            )
        known = told.get(served.epoch, [])
        number = bisect_left(known, (served.at - BOUND,))
        if served.cached and application.on_disconnect == "bypass" and number:
            last = named.last(served.epoch, served.place, served.key, known[number - 1][1])
            seen = eye.upto(served.epoch, last, served.place).get(served.key)
            if older(served.value, seen):
                verdict.stale.append(f"{what}, out of its cache, where others had been told of {seen} {BOUND} s before")
    if not _caught_up(application, history):
        verdict.silent.append(f"the application has heard of everything up to {application.offset}, and no further")
    for place, kept in application.kept.items():
        for key, value in kept.items():
            final = history.final[place].get(key)
            if value != final:
                verdict.stale.append(f"the application's cache holds {value} for {place} {key}, not {final}")
