"""How long a client may take nothing of what was written for it, whatever its connection is doing meanwhile."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from nexus.proxy.socket_state import unacknowledged_bytes

LOOKS: Final = 4
"""How often a client is looked at within the limit."""
LONGEST_PAUSE_S: Final = 1.0
"""How long until the next look at most: the limit may have been lowered meanwhile."""


class Written(Protocol):
    """What was written to a client."""

    written: int
    """All bytes since the connection began."""

    @property
    def unsent(self) -> int:
        """How many of them have not left this process yet."""


class WriteStall:
    """Gives up a client that takes none of what is unsent for a while; one that takes some of it begins anew.

    What the kernel holds counts as not taken where it can be told: with a large buffer there, a slow client may leave
    this process nothing to write for longer than the limit.
    """

    __slots__ = ("_descriptor", "_give_up", "_handle", "_limit_s", "_loop", "_taken", "_taken_at", "_writer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        writer: Written,
        descriptor: int,
        *,
        limit_s: Callable[[], float],
        give_up: Callable[[], None],
    ) -> None:
        """:param descriptor: of the socket; -1 when there is none.
        :param limit_s: asked each time, as a reload may change it.
        """
        self._loop = loop
        self._writer = writer
        self._descriptor: Final = descriptor
        self._limit_s = limit_s
        self._give_up = give_up
        self._handle: asyncio.Handle | None = None
        self._taken = 0
        self._taken_at = 0.0

    def watch(self) -> None:
        """Watch the client until nothing is unsent; cheap when nothing is."""
        if self._handle is None:
            # What is written in this turn of the loop may leave at its end.
            self._handle = self._loop.call_soon(self._begin)

    def stop(self) -> None:
        """Watch no more, for good."""
        if self._handle is not None:
            self._handle.cancel()
        # The connection and this know each other: without this, only the collector would free them.
        self._give_up = _nothing

    def _begin(self) -> None:
        self._handle = None
        if self._writer.unsent:
            self._taken, self._taken_at = self._taken_now(), self._loop.time()
            self._look()

    def _look(self) -> None:
        self._handle = None
        if not self._writer.unsent:
            return
        taken, now, limit_s = self._taken_now(), self._loop.time(), self._limit_s()
        if taken > self._taken:
            self._taken, self._taken_at = taken, now
        if now - self._taken_at < limit_s:
            self._handle = self._loop.call_later(min(limit_s / LOOKS, LONGEST_PAUSE_S), self._look)
        else:
            self._give_up()

    def _taken_now(self) -> int:
        return self._writer.written - self._writer.unsent - unacknowledged_bytes(self._descriptor)


def _nothing() -> None:
    """Do nothing: it is closed."""
