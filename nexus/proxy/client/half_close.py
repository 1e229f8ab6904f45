"""Whether a client that has sent FIN still reads its answer, or has left."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Final

STATUS_LINE_START: Final = b"HTTP/1.1 "
"""How each answer begins."""
MAX_ZEROS: Final = 8
"""Before the size of a chunk; readers that limit its digits take sixteen."""
FIRST_LOOK_S: Final = 0.01
MAX_PAUSE_S: Final = 5.0
KEEPALIVE_S: Final = 30
"""After so many seconds of silence the kernel asks whether the client is still there."""


class Next(Enum):
    """What the client is sent next, as far as its first bytes are known before it is there."""

    HEAD = "head"
    CHUNK = "chunk"
    UNKNOWN = "unknown"


class HalfClosed:
    """Looks again and again whether the client has reset the connection, and provokes the reset if it has left.

    A client that has closed its socket has sent FIN, like one that only has nothing more to send. The difference shows
    when something is sent to it: if it has left, it answers with a reset. So those next bytes of the answer that cannot
    be otherwise are sent ahead, one at a time: those of ``HTTP/1.1``, or zeros before the size of a chunk.
    """

    __slots__ = ("_ahead", "_leave", "_looks", "_loop", "_next", "_pause_s", "_sock", "_timer", "_write", "_zeros")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        *,
        next_is: Callable[[], Next],
        write: Callable[[bytes], None],
        leave: Callable[[], None],
    ) -> None:
        """Begin at once.

        :param next_is: asked before each byte that is sent ahead, with *write*.
        :param leave: called when the client has left.
        """
        self._loop = loop
        self._sock = sock
        self._next = next_is
        self._write = write
        self._leave = leave
        self._ahead = 0
        """How many bytes of the next status line have been sent."""
        self._zeros = 0
        self._looks = 0
        self._pause_s = FIRST_LOOK_S
        self._timer: asyncio.TimerHandle | None = None
        _ask_soon(sock)
        self._look()

    def rest_of(self, answer: bytes) -> bytes:
        """Return what of *answer*, which begins with its head, has not been sent."""
        ahead, self._ahead = self._ahead, 0
        return answer[ahead:]

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        if self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._leave()
            return
        # A relay between the client and here may need several bytes until it passes the client's reset on.
        if self._looks % 2 == 0:
            self._send_ahead()
        self._looks += 1
        self._timer = self._loop.call_later(self._pause_s, self._look)
        self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)

    def _send_ahead(self) -> None:
        expected = self._next()
        if expected is Next.HEAD and self._ahead < len(STATUS_LINE_START):
            self._ahead += 1
            self._write(STATUS_LINE_START[self._ahead - 1 : self._ahead])
        elif expected is Next.CHUNK and self._zeros < MAX_ZEROS:
            self._zeros += 1
            self._write(b"0")


def _ask_soon(sock: socket.socket) -> None:
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        # Not every system has these, nor is every socket one of TCP.
        with suppress(AttributeError, OSError):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), KEEPALIVE_S)
