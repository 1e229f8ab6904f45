"""What is kept of an event that is not complete, and how much of it there may be: in one stream, and in all."""

import sys
from typing import Final

MAX_EVENT_BYTES: Final = 32 * 1024 * 1024
"""The longest event unless configured otherwise: a picture of some megapixels, in base64."""
MAX_BUFFERED_BYTES: Final = 256 * 1024 * 1024
"""The same of all events that are being put together."""
UNCOUNTED_BYTES: Final = 64 * 1024
"""As much of each event is not counted: the common case, an event cut by the network, costs nothing."""


class EventTooLargeError(ValueError):
    """One event of a stream is longer than there is room for."""


class EventRoom:
    """Counts the bytes that are buffered of incomplete events, for all streams that share it."""

    __slots__ = ("max_buffered_bytes", "max_event_bytes", "used_bytes")

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES, max_buffered_bytes: int = MAX_BUFFERED_BYTES) -> None:
        self.used_bytes = 0
        self.resize(max_event_bytes=max_event_bytes, max_buffered_bytes=max_buffered_bytes)

    def resize(self, *, max_event_bytes: int, max_buffered_bytes: int) -> None:
        """Take new limits; what is buffered stays."""
        self.max_event_bytes = max_event_bytes
        self.max_buffered_bytes = max_buffered_bytes

    def take(self, more_bytes: int) -> None:
        """Count *more_bytes*.

        :raises EventTooLargeError: there is no room for them; they are not counted then.
        """
        if self.used_bytes + more_bytes > self.max_buffered_bytes:
            raise EventTooLargeError
        self.used_bytes += more_bytes


UNSHARED: Final = EventRoom(max_buffered_bytes=sys.maxsize)
"""For streams that are watched outside of a proxy, where only the limit of one event applies."""


class EventBuffer:
    """The incomplete event of one stream. Its bytes are counted in ``room`` until they are given back."""

    __slots__ = ("_taken_bytes", "rest", "room")

    def __init__(self) -> None:
        self.rest = bytearray()
        """What has come of an event that is not complete."""
        self.room = UNSHARED
        self._taken_bytes = 0

    def release(self) -> None:
        """Drop what is buffered."""
        self.rest.clear()
        self._count()

    def _take_events(self, end: int) -> bytes:
        """Take the first *end* bytes, which are whole events, out of the buffer; count what is left."""
        rest = self.rest
        if end == len(rest):
            block = bytes(rest)
            rest.clear()
        else:
            block = bytes(memoryview(rest)[:end])
            del rest[:end]
        self._count()
        return block

    def _count(self) -> None:
        """Count the bytes of ``rest``.

        :raises EventTooLargeError: there is no room for them.
        """
        size = len(self.rest)
        if size > UNCOUNTED_BYTES or self._taken_bytes:
            counted = max(0, size - UNCOUNTED_BYTES)
            self.room.take(counted - self._taken_bytes)
            self._taken_bytes = counted
