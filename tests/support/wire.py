"""A transport in memory: a test decides when the client reads."""

from __future__ import annotations

from afresh_cache.messages import Position, ServerMessage, encode
from afresh_cache.messages import read_server_message as read


class Wire:
    """What is written waits until the client reads it."""

    def __init__(self) -> None:
        self.unread: list[bytes] = []
        self.closing = False
        self.most = 0

    def write(self, data: bytes) -> None:
        """Take it, unless nothing may be written any more."""
        assert not self.closing
        self.unread.append(data)
        self.most = max(self.most, self.get_write_buffer_size())

    def get_write_buffer_size(self) -> int:
        """How many bytes wait."""
        return sum(map(len, self.unread))

    def is_closing(self) -> bool:
        """Whether it is over."""
        return self.closing

    def read(self, count: int | None = None) -> list[tuple[ServerMessage, Position]]:
        """Take ``count`` messages (all), each with the position that its frame was given."""
        count = len(self.unread) if count is None else count
        taken, self.unread = self.unread[:count], self.unread[count:]
        found = []
        for data in taken:
            position, text = data.split(b" ", 1)
            message = read(text)
            assert message is not None
            found.append((message, Position.parse(position.decode())))
        return found


def framed(message: ServerMessage, position: Position) -> bytes:
    """A frame that says what it was given."""
    return str(position).encode() + b" " + encode(message)
