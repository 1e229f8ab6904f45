"""How much is held of answers that are not streamed: of one answer, and of all together."""

import sys
from typing import Final

MAX_HELD_BYTES: Final = 8 * 1024 * 1024
"""A longer answer that is not streamed is passed on as it comes, and can then no longer be tried elsewhere."""
UNCOUNTED_BYTES: Final = 64 * 1024
"""As much of each answer is not counted: short answers are always held."""


class ResponseMemory:
    """Counts what exchanges hold of their answers, from the first byte until the client has taken the last."""

    __slots__ = ("max_bytes", "used_bytes")

    def __init__(self, max_bytes: int = sys.maxsize) -> None:
        self.max_bytes = max_bytes
        """A new limit leaves what is held as it is."""
        self.used_bytes = 0


UNSHARED: Final = ResponseMemory()
"""For answers outside of a proxy."""


class MemoryShare:
    """What one answer takes of the room."""

    __slots__ = ("_room", "_taken_bytes")

    def __init__(self, room: ResponseMemory = UNSHARED) -> None:
        self._room = room
        self._taken_bytes = 0

    def grows_to(self, held_bytes: int) -> bool:
        """Count an answer of which so much is held; return False, and count no more of it, when there is no room."""
        more_bytes = held_bytes - UNCOUNTED_BYTES - self._taken_bytes
        if more_bytes <= 0:
            return True
        if self._room.used_bytes + more_bytes > self._room.max_bytes:
            return False
        self._room.used_bytes += more_bytes
        self._taken_bytes += more_bytes
        return True

    def give_back(self) -> None:
        """Give back all that it has taken."""
        self._room.used_bytes -= self._taken_bytes
        self._taken_bytes = 0
