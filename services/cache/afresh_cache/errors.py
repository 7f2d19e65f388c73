"""Everything this package raises on purpose.

CacheError
├── BadMessage            a frame that is no message of the protocol
├── CallbackCancelled     a callback ended as cancelled, and nobody had cancelled it
├── LoadsItself           a load that waits for itself, be it by way of others
├── NothingLoaded         a block that was to load a value ended without one
└── SubscriptionRefused   the server will not have us: trying again would not help
"""

from __future__ import annotations


class CacheError(Exception):
    """The base of all errors here."""


class BadMessage(CacheError, ValueError):
    """A frame that is no message; ``parseable`` is False where it was not even a JSON object."""

    def __init__(self, problem: str, *, parseable: bool, message_id: str | None = None) -> None:
        super().__init__(problem)
        self.parseable = parseable
        self.message_id = message_id


class CallbackCancelled(CacheError, RuntimeError):
    """A callback of a `Subscriber` ended as if cancelled, which else would end all further calls in silence."""

    def __init__(self) -> None:
        super().__init__(
            "a callback was cancelled, or what it awaited was: catch CancelledError in it where that may be"
        )


class LoadsItself(CacheError, RuntimeError):
    """The task asked for ``key``, which it loads itself, or whose load waits for its own; it would have waited for ever."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"the load of {key!r} asks the cache for the same key, itself or by way of other loads: "
            "it would wait for itself; load it directly"
        )
        self.key = key


class NothingLoaded(CacheError, RuntimeError):
    """The block that was to load ``key`` ended, and had neither set a value nor raised anything."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"nothing was loaded for {key!r}: where load.missed is true, the block must set load.value, or raise"
        )
        self.key = key


class SubscriptionRefused(CacheError):
    """The server answered, and refused: ``code`` is its stable name for why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
