"""Finds out whether a client that has sent FIN still reads its reply, or has left."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Final

STATUS_LINE_START: Final = b"HTTP/1.1 "
"""The beginning of each reply."""
MAX_ZEROS: Final = 8
"""Before the size of a chunk; clients that limit its digits accept sixteen."""
FIRST_PAUSE_S: Final = 0.01
MAX_PAUSE_S: Final = 5.0
KEEPALIVE_S: Final = 30
"""How long the connection is silent before the kernel sends a keep-alive probe."""


class NextBytes(Enum):
    """The next part of the reply, whose first bytes may be known before the rest."""

    HEAD = "head"
    CHUNK = "chunk"
    UNKNOWN = "unknown"


class HalfClosed:
    """Checks repeatedly whether the client has reset the connection, and provokes the reset.

    A client that closes its socket sends FIN, and so does one that only has nothing more to send. Bytes tell them
    apart: a client that has left replies to them with a reset. So the next bytes of the reply that are certain are sent
    ahead, one at a time: those of ``HTTP/1.1``, or zeros before the size of a chunk.
    """

    __slots__ = ("_ahead", "_checks", "_leave", "_loop", "_next", "_pause_s", "_sock", "_timer", "_write", "_zeros")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        *,
        next_is: Callable[[], NextBytes],
        write: Callable[[bytes], None],
        leave: Callable[[], None],
    ) -> None:
        """Begin at once.

        :param next_is: called before each byte that is sent ahead.
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
        self._checks = 0
        self._pause_s = FIRST_PAUSE_S
        self._timer: asyncio.TimerHandle | None = None
        _probe_sooner(sock)
        self._check()

    def rest_of(self, reply: bytes) -> bytes:
        """Return *reply*, which begins with its head, without the bytes that were sent ahead."""
        ahead, self._ahead = self._ahead, 0
        return reply[ahead:]

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        if self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._leave()
            return
        # A port forwarder in between may need several bytes before it passes on the client's reset.
        if self._checks % 2 == 0:
            self._send_ahead()
        self._checks += 1
        self._timer = self._loop.call_later(self._pause_s, self._check)
        self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)

    def _send_ahead(self) -> None:
        expected = self._next()
        if expected is NextBytes.HEAD and self._ahead < len(STATUS_LINE_START):
            self._ahead += 1
            self._write(STATUS_LINE_START[self._ahead - 1 : self._ahead])
        elif expected is NextBytes.CHUNK and self._zeros < MAX_ZEROS:
            self._zeros += 1
            self._write(b"0")


def _probe_sooner(sock: socket.socket) -> None:
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        # Some systems lack these options, and sockets that are not TCP refuse them.
        with suppress(AttributeError, OSError):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), KEEPALIVE_S)
