"""What other processes of the proxy leave of limits of the queue that hold for all of them."""

from collections.abc import Callable

import msgspec


class Depth(msgspec.Struct, frozen=True, array_like=True):
    """What waits in the queue of a process."""

    requests: int = 0
    body_bytes: int = 0

    def __add__(self, other: "Depth") -> "Depth":
        return Depth(self.requests + other.requests, self.body_bytes + other.body_bytes)

    def __sub__(self, other: "Depth") -> "Depth":
        return Depth(self.requests - other.requests, self.body_bytes - other.body_bytes)


class Sharing:
    """Divides limits among *processes*, of which this is the one with *index*, from 1.

    Each has a part that the others cannot take from it, so that clients that fill the queue of one do not lock out
    those of another; beyond its part, a process may use what all together have not used.
    """

    def __init__(self, processes: int = 1, index: int = 1) -> None:
        self.elsewhere = Depth()
        """What waits in the others, as far as is known."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when a request begins or ends to wait in this process."""
        self.processes = processes
        self._index = index

    def part_of(self, limit: int) -> int:
        """Return the part of this process; those of all processes add up to *limit*."""
        each, rest = divmod(limit, self.processes)
        return each + (self._index <= rest)

    def max_requests(self, limit: int) -> int:
        """Return how many requests may wait in this process now."""
        return max(self.part_of(limit), limit - self.elsewhere.requests)

    def max_body_bytes(self, limit: int) -> int:
        """Return how many bytes the bodies of requests that wait in this process may have now."""
        return max(self.part_of(limit), limit - self.elsewhere.body_bytes)
