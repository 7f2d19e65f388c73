"""Everything this package raises on purpose.

CacheError
├── BadMessage        a frame that is no message of the protocol
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


class SubscriptionRefused(CacheError):
    """The server answered, and refused: ``code`` is its stable name for why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
