"""Splits JSON lines out of bytes that are cut anywhere."""

from collections.abc import Iterator
from typing import Final

from nexus.wire.streams.event import Event
from nexus.wire.streams.event_buffer import EventBuffer, EventTooLargeError

_TAIL_LINES: Final = 8


class LineFraming(EventBuffer):
    """Returns whole lines, byte for byte, and buffers the rest."""

    __slots__ = ()

    end = b"\n"
    """Ends the last line of most reads."""
    data_starts_with = ord("{")
    """The first byte of most blocks that :meth:`has_data`."""

    def feed(self, data: bytes) -> bytes:
        """Return the lines that *data* completes.

        :raises EventTooLargeError: a line is longer than its room allows.
        """
        rest, longest = self.rest, self.room.max_event_bytes
        end = data.rfind(b"\n") + 1
        if end:
            end += len(rest)
        rest += data
        if len(rest) > longest:
            _refuse_long_line(rest, longest)
        if not end:
            self._count()
            return b""
        return self._take_events(end)

    def completed_rest(self) -> bytes:
        """Return the rest at the end of the stream as a line, with its missing line end."""
        return bytes(self.rest) + b"\n" if self.rest.strip() else b""

    @staticmethod
    def count(block: bytes) -> int:
        """Return how many lines *block* has."""
        return block.count(b"\n")

    @staticmethod
    def size_of(event: Event) -> int:
        """Return how many bytes *event* has on the wire."""
        return len(event.content) + len("\n")

    @staticmethod
    def tail(block: bytes) -> bytes:
        """Return the last few lines of *block*."""
        at = len(block)
        for _ in range(_TAIL_LINES + 1):
            at = block.rfind(b"\n", 0, at)
            if at < 0:
                return block
        return block[at + 1 :]

    @staticmethod
    def has_data(block: bytes) -> bool:
        """Whether *block* has more than blank lines."""
        return not block.isspace()

    @classmethod
    def events(cls, block: bytes) -> list[Event]:
        """Read the lines of *block*, without blank ones."""
        return list(cls.each(block))

    @staticmethod
    def each(block: bytes) -> Iterator[Event]:
        """Read the same lazily."""
        return (Event(b"", content) for line in block.split(b"\n") if (content := line.strip()))

    @staticmethod
    def event_at(block: bytes, at: int) -> bytes:
        """Return the line of *block* that contains the offset *at*."""
        end = block.find(b"\n", at)
        return block[block.rfind(b"\n", 0, at) + 1 : end if end >= 0 else len(block)]

    @staticmethod
    def framed(event: Event) -> bytes:
        """Return *event* as it is sent."""
        return event.content + b"\n"


def _refuse_long_line(buffer: bytearray, longest: int) -> None:
    start = 0
    while (end := buffer.find(b"\n", start) + 1) > 0:
        if end - start > longest:
            raise EventTooLargeError
        start = end
    if len(buffer) - start > longest:
        raise EventTooLargeError
