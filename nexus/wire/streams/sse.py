"""Splits server-sent events out of bytes that are cut anywhere."""

import re
from collections.abc import Iterator
from typing import Final

from nexus.wire.streams.event import Event
from nexus.wire.streams.event_buffer import EventBuffer, EventTooLargeError

_BOUNDARY: Final = re.compile(rb"(?>\r\n|\n|\r)[\r\n]++")
"""Two or more line ends of any kind; the first is atomic, so that a single CRLF does not count as two."""

_MAX_BOUNDARY_BYTES: Final = 4
_LINE_END: Final = re.compile(rb"\r\n?")
_BOM: Final = b"\xef\xbb\xbf"
_TAIL_EVENTS: Final = 8
_DATA: Final = b"data: "
_EVENT: Final = b"event: "
_DATA_FIRST: Final = (b"data", _BOM + b"data")


class SSEFraming(EventBuffer):
    """Returns whole events, byte for byte, and buffers the rest."""

    __slots__ = ()

    end = b"\n\n"
    """Ends the last event of most reads. Whatever the line ends before them, two LF end an event."""
    data_starts_with = ord("d")
    """The first byte of most blocks that :meth:`has_data`; no other field begins with it."""

    def feed(self, data: bytes) -> bytes:
        """Return the events that *data* completes.

        :raises EventTooLargeError: an event is longer than its room allows.
        """
        rest, longest = self.rest, self.room.max_event_bytes
        searched = max(0, len(rest) - _MAX_BOUNDARY_BYTES + 1)
        rest += data
        end = _last_boundary(rest, searched)
        if not end and not searched:
            # Blank lines before an event belong to no event; nor does the LF after a CR that completed one.
            end = len(rest) - len(rest.lstrip(b"\r\n"))
        if len(rest) > longest:
            _refuse_long_event(rest, end, longest)
        if not end:
            self._count()
            return b""
        return self._take_events(end)

    def completed_rest(self) -> bytes:
        """Return the rest at the end of the stream as an event, with its missing line ends."""
        missing = b"\n" if self.rest.endswith((b"\n", b"\r")) else b"\n\n"
        return bytes(self.rest) + missing if self.rest.strip() else b""

    @staticmethod
    def count(block: bytes) -> int:
        """Return how many events *block* has, as far as each has one line of data."""
        return block.count(b"\ndata:") + block.startswith(_DATA_FIRST)

    @staticmethod
    def size_of(event: Event) -> int:
        """Estimate how many bytes *event* has on the wire."""
        named = len("event: \n") + len(event.name) if event.name else 0
        return named + len("data: \n\n") + len(event.content)

    @staticmethod
    def tail(block: bytes) -> bytes:
        """Return the last few events of *block*."""
        at = len(block)
        for _ in range(_TAIL_EVENTS + 1):
            at = block.rfind(b"\n\n", 0, at)
            if at < 0:
                return block
        return block[at + 2 :]

    @staticmethod
    def has_data(block: bytes) -> bool:
        """Whether *block* has more than comments."""
        return block.startswith(_DATA_FIRST) or b"\ndata" in block or b"\rdata" in block

    @classmethod
    def events(cls, block: bytes) -> list[Event]:
        """Read the events of *block* as specified by WHATWG, without those that have no data."""
        # The usual case: one event of one line.
        is_line = block.startswith(_DATA) and block.find(b"\n") == len(block) - 2 and block.endswith(b"\n\n")
        if is_line and block.find(b"\r") < 0:
            return [Event(b"", block[len(_DATA) : -2])]
        return list(cls.each(block))

    @staticmethod
    def each(block: bytes) -> Iterator[Event]:
        """Read the same lazily."""
        lines = _LINE_END.sub(b"\n", block.removeprefix(_BOM)) if b"\r" in block else block.removeprefix(_BOM)
        return (event for part in lines.split(b"\n\n") if (event := _read(part)) is not None)

    @staticmethod
    def event_at(block: bytes, at: int) -> bytes:
        """Return the event of *block* that contains the offset *at*."""
        if b"\r" not in block:
            end = block.find(b"\n\n", at)
            return block[block.rfind(b"\n\n", 0, at) + 1 : end + 2 if end >= 0 else len(block)]
        start, end = 0, len(block)
        for boundary in _BOUNDARY.finditer(block):
            if boundary.end() > at:
                end = boundary.end()
                break
            start = boundary.end()
        return block[start:end]

    @staticmethod
    def framed(event: Event) -> bytes:
        """Return *event* as it is sent; its content has no line ends."""
        name = b"event: %b\n" % event.name if event.name else b""
        return b"%bdata: %b\n\n" % (name, event.content)


def _read(part: bytes) -> Event | None:
    if part.startswith(_DATA) and b"\n" not in part:
        return Event(b"", part[len(_DATA) :])
    if part.startswith(_EVENT):
        name, has_data, value = part[len(_EVENT) :].partition(b"\ndata: ")
        if has_data and value.find(b"\n") < 0 and name.find(b"\n") < 0:
            return Event(name, value)
    name = b""
    values = []
    for line in part.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            values.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return Event(name, b"\n".join(values)) if values else None


def _last_boundary(buffer: bytearray, start: int) -> int:
    """Return the end of the last complete event in *buffer*, 0 if there is none."""
    if buffer.find(b"\r", start) < 0:
        at = buffer.rfind(b"\n\n", start)
        return at + 2 if at >= 0 else 0
    if buffer.endswith(b"\r\n\r\n"):
        return len(buffer)
    # A CR at the very end completes an event at once, though its LF may follow: the next token can be minutes away.
    end = 0
    for boundary in _BOUNDARY.finditer(buffer, start):
        end = boundary.end()
    return end


def _refuse_long_event(buffer: bytearray, end: int, longest: int) -> None:
    previous = 0
    for boundary in _BOUNDARY.finditer(buffer, 0, end):
        if boundary.end() - previous > longest:
            raise EventTooLargeError
        previous = boundary.end()
    if len(buffer) - previous > longest:
        raise EventTooLargeError
