"""Limits the memory of responses that are held back whole: of one response, and of all together."""

import sys
from typing import Final

import msgspec

MAX_HELD_BYTES: Final = 8 * 1024 * 1024
"""A longer response that is no stream is passed on as it arrives, and can then no longer be tried elsewhere."""
UNCOUNTED_BYTES: Final = 64 * 1024
"""As much of each response is not counted: short responses are always held back."""


class ResponseMemory(msgspec.Struct, eq=False):
    """Counts what exchanges hold of their responses, from the first byte until the client has taken the last."""

    max_bytes: int = sys.maxsize
    """A new limit leaves what is held as it is."""
    used_bytes: int = 0


class MemoryShare(msgspec.Struct, eq=False):
    """What one response has taken of the memory."""

    memory: ResponseMemory = msgspec.field(default_factory=ResponseMemory)
    taken_bytes: int = 0

    def grows_to(self, held_bytes: int) -> bool:
        """Count *held_bytes* of one response; return False, and count no more of it, when there is no room."""
        more_bytes = held_bytes - UNCOUNTED_BYTES - self.taken_bytes
        if more_bytes <= 0:
            return True
        if self.memory.used_bytes + more_bytes > self.memory.max_bytes:
            return False
        self.memory.used_bytes += more_bytes
        self.taken_bytes += more_bytes
        return True

    def give_back(self) -> None:
        """Give back all that was taken."""
        self.memory.used_bytes -= self.taken_bytes
        self.taken_bytes = 0
