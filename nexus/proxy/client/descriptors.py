"""Turns clients away while few file descriptors are left.

The kernel gives out the lowest free descriptor, so the number of the newest one tells how many are in use.
"""

import asyncio
import os
from contextlib import suppress
from enum import Enum, auto
from typing import Final

import structlog

log = structlog.get_logger("nexus.proxy")

KEPT_SHARE: Final = 8
"""One in so many descriptors is kept from new clients: for connections to backends, the store and the log."""
MIN_KEPT: Final = 16
CHECK_S: Final = 1.0
"""How often it is checked whether the shortage is over."""
CALM_S: Final = 3.0
"""How long no connection may have been refused until the shortage is over."""
MAX_READ_BYTES: Final = 64 * 1024

_BODY: Final = (
    b'{"error":{"message":"the proxy has no file descriptor left for another connection","type":"server_error",'
    b'"param":null,"code":"overloaded"}}'
)
NO_DESCRIPTOR_REPLY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    b"Retry-After: 1\r\nConnection: close\r\n\r\n%b" % (len(_BODY), _BODY)
)
"""Sent before a request is read, so it is the same for every protocol."""


class Room(Enum):
    """How much a new connection of a client may use."""

    ENOUGH = auto()
    LITTLE = auto()
    """It gets replies that need no further descriptor."""
    NONE = auto()
    """It is turned away: while it waited for a request, it would hold one of the last descriptors."""


class Descriptors:
    """Keeps some descriptors from new clients, and logs the beginning and the end of a shortage."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        """:param limit: how many the process may have open."""
        self._loop = loop
        self._limit = limit
        kept = max(MIN_KEPT, limit // KEPT_SHARE)
        self._little_at = limit - kept
        self._none_at = limit - kept // 2
        self._timer: asyncio.TimerHandle | None = None
        """Runs during a shortage."""
        self._refused = 0
        self._short_since = 0.0
        self._refused_at = 0.0

    def room_for(self, descriptor: int) -> Room:
        """Return how much the connection with the number *descriptor* may use."""
        if descriptor < self._little_at:
            return Room.ENOUGH
        self._note(descriptor)
        return Room.LITTLE if descriptor < self._none_at else Room.NONE

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _note(self, descriptor: int) -> None:
        self._refused += 1
        self._refused_at = self._loop.time()
        if self._timer is not None:
            return
        self._short_since = self._refused_at
        self._timer = self._loop.call_later(CHECK_S, self._check)
        reason = "few are left, so new connections are refused; raise LimitNOFILE of the systemd unit, or ulimit -n"
        log.warning("file_descriptors_short", open=descriptor + 1, limit=self._limit, reason=reason)

    def _check(self) -> None:
        now = self._loop.time()
        if now - self._refused_at < CALM_S or not self._is_enough():
            self._timer = self._loop.call_later(CHECK_S, self._check)
            return
        self._timer = None
        log.info("file_descriptors_enough", refused=self._refused, lasted_s=round(now - self._short_since, 1))
        self._refused = 0

    def _is_enough(self) -> bool:
        try:
            lowest_free = os.open(os.devnull, os.O_RDONLY)
        except OSError:
            return False
        os.close(lowest_free)
        return lowest_free < self._little_at


def turn_away(transport: asyncio.Transport) -> None:
    """Reply to a connection that has just been made that there is no descriptor for it, and close it."""
    transport.set_protocol(asyncio.Protocol())
    # Closing with unread bytes resets the connection, and the client may lose the reply.
    with suppress(OSError):
        os.read(transport.get_extra_info("socket").fileno(), MAX_READ_BYTES)
    transport.write(NO_DESCRIPTOR_REPLY)
    transport.close()
