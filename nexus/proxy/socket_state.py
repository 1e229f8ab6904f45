"""What the kernel knows of a connection and the event loop has not seen yet: unread bytes, and bytes not received."""

import asyncio
import fcntl
import select
import sys
import termios
from typing import Final

_NO_COUNT: Final = bytes(4)
MAX_TLS_BYTES: Final = 16 * 1024
"""Of a request in one TLS record: with more of them, what TLS adds could be taken for bytes that were not received."""
_TELLS_UNACKNOWLEDGED: Final = sys.platform == "linux"


class SocketState:
    """The socket below one transport; without one, as in a test, it has nothing to tell."""

    __slots__ = ("_descriptor", "_poll", "is_tls")

    def __init__(self, transport: asyncio.Transport) -> None:
        sock = transport.get_extra_info("socket")
        self.is_tls = transport.get_extra_info("ssl_object") is not None
        self._descriptor: int = -1 if sock is None else sock.fileno()
        self._poll = select.poll()
        if self._descriptor >= 0:
            self._poll.register(self._descriptor, select.POLLIN)

    def has_unread(self) -> bool:
        """Whether bytes have come that were not read, or the end of the connection; under TLS, its own ones count."""
        return self._descriptor >= 0 and bool(self._poll.poll(0))

    def is_unacknowledged(self, size: int) -> bool:
        """Whether the other side is certain not to have received any of the last *size* bytes that were written.

        Each packet tells what its sender has received (RFC 9293, section 3.4), so an answer acknowledges its request.
        """
        if not _TELLS_UNACKNOWLEDGED or self._descriptor < 0 or (self.is_tls and size > MAX_TLS_BYTES):
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
