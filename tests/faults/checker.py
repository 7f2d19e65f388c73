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
(5) What the eye sees of a view never moves backwards, in the order of the offsets; and so for each client's readings.
(6) A copy that is stale at the end although an invalidation named its key after the change was committed. (A resync
promises nothing of the kind: it says that something was missed, and views may be refreshed and told after it.)

**Silent.** (7) A client that at the end is not connected, or has not been told of an offset that is in the log and
concerns it.

**Wrong.** (8) Along a client's connections, offsets of invalidations rise strictly within an epoch, across resumptions too:
nothing is told twice, but after a resync. (9) What a writer was told is committed, is; that is the server's affair, and is
checked so that its failure is not taken for ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from faults.history import ClientHistory, Content, Heard, History, Value, keys_of, older
from faults.world import PLACES, VIEWS

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
    eye = _Eye(history, verdict)
    committed = _committed(history)
    once = {key for place in PLACES for key in history.live[place] if key % 1_000_000}
    for client in history.clients:
        _in_order(client, verdict)
        _fresh(client, eye, once, verdict)
        _complete(client, history, committed, verdict)
    return verdict


def converged(history: History) -> bool:
    """Whether views and copies are what they must be, and everybody is connected; then nothing is waited for any more."""
    return all(history.final[place] == history.live[place] for place in VIEWS) and all(
        client.connected
        and not _untold(client, history)
        and not any(_differing(client.kept.get(place, {}), history.final[place]) for place in PLACES)
        for client in history.clients
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
        found: Content = {}
        for at, content in self._seen.get((epoch.rpartition("-")[2], place), ()):
            if at > offset:
                break
            found = content
        return found


def _in_order(client: ClientHistory, verdict: Verdict) -> None:
    """Rule 8."""
    last: tuple[str, int] | None = None
    for heard in client.heard:
        if heard.kind == "resync":
            last = None
        elif heard.kind == "invalidate":
            if last is not None and last[0] == heard.epoch and heard.offset <= last[1]:
                verdict.wrong.append(f"{client.name} was told {heard.offset} after {last[1]}, at {heard.at:.3f}")
            last = heard.epoch, heard.offset


def _fresh(client: ClientHistory, eye: _Eye, once: set[int], verdict: Verdict) -> None:
    """Rules 3, 4 and 5."""
    newest: dict[tuple[str, int], Value] = {}
    for heard in client.heard:
        for place, read in heard.read.items():
            seen = eye.upto(heard.epoch, heard.offset, place) if heard.kind == "invalidate" else {}
            named = keys_of(heard.patterns, place) or ()
            for key, value in read.items():
                if older(value, seen.get(key)):
                    verdict.stale.append(
                        f"{client.name} was told {heard.offset} at {heard.at:.3f} and read {value} for {place} {key}, "
                        f"where {seen.get(key)} was committed with it"
                    )
                elif key in named and key in once and value is None:
                    verdict.stale.append(
                        f"{client.name} was told of {place} {key} at {heard.at:.3f}, and did not find it"
                    )
                if older(value, newest.get((place, key))):
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
