"""One client on one connection: where he stands, what waits for him while he does not read, and how it is said to him.

In: what he has not heard (`keep`), or that it cannot be told (`owe`). Out: the one message that makes up for it (`take`).
What waits is merged, which is exact, since an invalidation is a set of patterns; past `MAX_WAITING` patterns it is one
resync, which covers whatever comes before it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from afresh_cache.messages import Invalidate, Position, Resync, ResyncReason, ServerMessage
from afresh_notifier import replay
from afresh_notifier.clock import rfc3339
from afresh_notifier.invalidation import Invalidation, merge_all
from afresh_notifier.replay import Interest


class Transport(Protocol):
    """The part of an asyncio transport that is used here."""

    def write(self, data: bytes) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def is_closing(self) -> bool: ...


@dataclass(slots=True, eq=False)
class Subscriber:
    """One client on one connection. ``frame`` turns an encoded message, and the resume position after it, into the
    bytes of this kind of connection; one function object for all of a kind, so that its result can be shared."""

    transport: Transport
    frame: Callable[[ServerMessage, Position], bytes]
    interest: Interest = frozenset()
    #: The offset up to which everything was written, or merged into ``waiting``.
    offset: int = 0
    #: The offset that the client has been told.
    told: int = 0
    waiting: Invalidation | None = None
    resync: ResyncReason | None = None
    #: The log is another one than he was told; the resync that waits for him is to be followed by his position in it.
    displaced: bool = False
    #: Whether he believes us to be current; whoever has just come does.
    current: bool = True
    #: How many live queries he has.
    queries: int = 0

    @property
    def lagging(self) -> bool:
        """Whether something waits for him to read."""
        return self.waiting is not None or self.resync is not None

    @property
    def listens(self) -> bool:
        """Whether he wants to hear of any pattern at all."""
        return self.interest is None or bool(self.interest)

    def misled(self, current: bool) -> bool:
        """Whether he is to be told that we are ``current``, or not: he believes otherwise, and it concerns him."""
        return self.current is not current and (self.listens or self.queries > 0)

    def reads(self, buffer: int) -> bool:
        """Whether his socket's ``buffer`` (bytes) has room; he who did not read must have taken half of it first."""
        bound = buffer // 2 if self.lagging else buffer
        return self.transport.get_write_buffer_size() <= bound

    def keep(self, news: Invalidation) -> None:
        """Let ``news`` wait for him. Raises OverflowError where that is more than may wait."""
        self.waiting = news if self.waiting is None else merge_all((self.waiting, news), replay.MAX_WAITING)

    def owe(self, reason: ResyncReason) -> None:
        """He cannot be told what he has not heard: he is to drop everything, whatever waited for him."""
        self.waiting, self.resync = None, reason

    def take(self) -> ServerMessage:
        """What waits for him, who is lagging; from now on he has been told."""
        message: ServerMessage
        if self.resync is not None:
            message, self.told = Resync(offset=self.offset, reason=self.resync), self.offset
        else:
            assert self.waiting is not None  # noqa: S101 - he is lagging
            message, self.told = message_of(self.waiting), self.waiting.offset
        self.waiting = self.resync = None
        return message


def message_of(invalidation: Invalidation) -> Invalidate:
    """The wire message for ``invalidation``."""
    lsn = invalidation.lsn
    return Invalidate(
        offset=invalidation.offset,
        patterns=list(invalidation.patterns),
        tables=sorted(invalidation.tables),
        views=sorted(invalidation.views),
        lsn=None if lsn is None else f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}",
        at=rfc3339(invalidation.at),
    )
