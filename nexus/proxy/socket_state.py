"""Asks the kernel about a connection: are there bytes to read, and has the other side received what was written?"""

import asyncio
import fcntl
import select
import sys
import termios
from typing import Final

_NO_COUNT: Final = bytes(4)
MAX_TLS_BYTES: Final = 16 * 1024
"""A request within one TLS record: in a longer one, the bytes that TLS adds could pass for unreceived ones."""
_TELLS_UNACKNOWLEDGED: Final = sys.platform == "linux"


class SocketState:
    """The state of the socket below a transport; a transport without a socket, as in tests, has nothing unread."""

    __slots__ = ("_descriptor", "_poll", "is_tls")

    def __init__(self, transport: asyncio.Transport) -> None:
        sock = transport.get_extra_info("socket")
        self.is_tls = transport.get_extra_info("ssl_object") is not None
        self._descriptor: int = -1 if sock is None else sock.fileno()
        self._poll = select.poll()
        if self._descriptor >= 0:
            self._poll.register(self._descriptor, select.POLLIN)

    def has_unread(self) -> bool:
        """Whether bytes, those of TLS itself included, or the end of the connection are waiting to be read."""
        return self._descriptor >= 0 and bool(self._poll.poll(0))

    def is_unacknowledged(self, size: int) -> bool:
        """Whether the other side has certainly received none of the last *size* bytes that were written.

        Each packet says what its sender has received (RFC 9293, section 3.4), so a response acknowledges its request.
        """
        if self.is_tls and size > MAX_TLS_BYTES:
            return False
        return unacknowledged_bytes(self._descriptor) >= size > 0


def unacknowledged_bytes(descriptor: int) -> int:
    """Return how many bytes the other side of a socket has not received; 0 where the system does not tell."""
    if not _TELLS_UNACKNOWLEDGED or descriptor < 0:
        return 0
    try:
        count = fcntl.ioctl(descriptor, termios.TIOCOUTQ, _NO_COUNT)
    except OSError:
        return 0
    return int.from_bytes(count, sys.byteorder)
