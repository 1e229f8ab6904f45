"""Buffers an incomplete event, within limits for one stream and for all streams together."""

import sys
from typing import Final

MAX_EVENT_BYTES: Final = 32 * 1024 * 1024
"""The default limit of an event: an image of some megapixels in base64."""
MAX_BUFFERED_BYTES: Final = 256 * 1024 * 1024
"""The default limit of all incomplete events together."""
UNCOUNTED_BYTES: Final = 64 * 1024
"""The first bytes of each event are not counted, so that an event cut by the network costs nothing."""


class EventTooLargeError(ValueError):
    """An event of a stream exceeds a limit."""


class EventRoom:
    """Counts the buffered bytes of all streams that share it."""

    __slots__ = ("max_buffered_bytes", "max_event_bytes", "used_bytes")

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES, max_buffered_bytes: int = MAX_BUFFERED_BYTES) -> None:
        self.used_bytes = 0
        self.resize(max_event_bytes=max_event_bytes, max_buffered_bytes=max_buffered_bytes)

    def resize(self, *, max_event_bytes: int, max_buffered_bytes: int) -> None:
        """Change the limits; buffered bytes stay."""
        self.max_event_bytes = max_event_bytes
        self.max_buffered_bytes = max_buffered_bytes

    def take(self, more_bytes: int) -> None:
        """Count *more_bytes*.

        :raises EventTooLargeError: there is no room for them, and they are not counted.
        """
        if self.used_bytes + more_bytes > self.max_buffered_bytes:
            raise EventTooLargeError
        self.used_bytes += more_bytes


UNSHARED: Final = EventRoom(max_buffered_bytes=sys.maxsize)
"""For streams outside of a proxy, where only the limit of one event applies."""


class EventBuffer:
    """The incomplete event of one stream; its bytes count in ``room`` until they are released."""

    __slots__ = ("_taken_bytes", "rest", "room")

    def __init__(self) -> None:
        self.rest = bytearray()
        """The bytes of the incomplete event."""
        self.room = UNSHARED
        self._taken_bytes = 0

    def release(self) -> None:
        """Drop what is buffered."""
        self.rest.clear()
        self._count()

    def _take_events(self, end: int) -> bytes:
        """Remove and return the first *end* bytes, which are whole events; count the rest."""
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
