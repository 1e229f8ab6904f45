"""One listening socket for each worker, at the same port.

With one socket for all, the kernel wakes whichever worker waits, and most connections end up at one of them. With a
socket each (SO_REUSEPORT), Linux spreads connections evenly by their addresses. The parent keeps every socket open, so
that the connections that wait at the one of a worker that crashed are accepted by its successor.
"""

import socket
import sys
from collections.abc import Iterator
from typing import Final

import structlog

from nexus.app.process.binding import BACKLOG, Listening

log = structlog.get_logger("nexus.app")

SPREADS: Final = sys.platform == "linux"
"""Whether the kernel spreads connections over sockets at the same port; elsewhere, one socket gets them all."""


def sockets_for(listening: Listening, count: int) -> tuple[tuple[socket.socket, ...], ...]:
    """Return the sockets of each of *count* workers, one for each address of *listening*, whose own are among them.

    They listen if those of *listening* do. Without SO_REUSEPORT, or if it fails, all workers get the same ones.
    """
    if not SPREADS:
        return (listening.sockets,) * count
    further: list[list[socket.socket]] = []
    try:
        for sock in listening.sockets:
            # It was bound alone, so no other process listens here. Others of this process may join it from now on.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            further.append([])
            further[-1].extend(_beside(sock, count - 1))
    except OSError as exc:
        for group in further:
            for extra in group:
                extra.close()
        log.warning("sockets_shared", reason=exc.strerror or str(exc))
        return (listening.sockets,) * count
    return (listening.sockets, *zip(*further, strict=True))


def _beside(sock: socket.socket, count: int) -> Iterator[socket.socket]:
    for _ in range(count):
        extra = socket.socket(sock.family, sock.type)
        try:
            extra.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            extra.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if sock.family == socket.AF_INET6:
                extra.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            extra.setblocking(False)  # noqa: FBT003 - its only parameter
            extra.bind(sock.getsockname())
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                extra.listen(BACKLOG)
        except OSError:
            extra.close()
            raise
        yield extra
