"""Gives up a client that takes nothing of what was written for it."""

import asyncio
from collections.abc import Callable
from typing import Final

from nexus.proxy.socket_state import unacknowledged_bytes
from nexus.proxy.write_batch import BatchedWriter

CHECKS: Final = 4
"""How often a client is checked within the limit."""
MAX_PAUSE_S: Final = 1.0
"""Between two checks: a reload may lower the limit meanwhile."""


class WriteStall:
    """Watches a client while bytes for it are unsent; the limit applies anew whenever the client takes some.

    Bytes that the kernel holds count as not taken, where the system tells: a slow client behind a large buffer may
    drain nothing from this process for longer than the limit.
    """

    __slots__ = ("_descriptor", "_give_up", "_handle", "_limit_s", "_loop", "_taken", "_taken_at", "_writer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        writer: BatchedWriter,
        descriptor: int,
        *,
        limit_s: Callable[[], float],
        give_up: Callable[[], None],
    ) -> None:
        """:param descriptor: of the socket; -1: there is none.
        :param limit_s: called at each check, as a reload may change the limit.
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
        """Watch the client until nothing is unsent."""
        if self._handle is None:
            # At the end of this turn of the event loop, writes that are held may leave.
            self._handle = self._loop.call_soon(self._begin)

    def stop(self) -> None:
        """Stop watching, for good."""
        if self._handle is not None:
            self._handle.cancel()
        # Breaks the reference cycle with the connection, which only the garbage collector would free.
        self._give_up = lambda: None

    def _begin(self) -> None:
        self._handle = None
        if self._writer.unsent:
            self._taken, self._taken_at = self._taken_now(), self._loop.time()
            self._check()

    def _check(self) -> None:
        self._handle = None
        if not self._writer.unsent:
            return
        taken, now, limit_s = self._taken_now(), self._loop.time(), self._limit_s()
        if taken > self._taken:
            self._taken, self._taken_at = taken, now
        if now - self._taken_at < limit_s:
            self._handle = self._loop.call_later(min(limit_s / CHECKS, MAX_PAUSE_S), self._check)
        else:
            self._give_up()

    def _taken_now(self) -> int:
        return self._writer.written - self._writer.unsent - unacknowledged_bytes(self._descriptor)
