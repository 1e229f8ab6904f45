"""How many file descriptors are left, told by the number of the newest: the kernel gives out the lowest free one."""

import asyncio
import os
from enum import Enum, auto
from typing import Final

import structlog

log = structlog.get_logger("nexus.proxy")

KEPT_SHARE: Final = 8
"""One in so many descriptors is kept from new clients: those that are there need them for connections to backends, and
the store and the log for files."""
LEAST_KEPT: Final = 16
LOOK_S: Final = 1.0
"""How often it is looked whether there are enough again."""
CALM_S: Final = 3.0
"""How long no connection may have been refused until there are."""


class Room(Enum):
    """What a new connection of a client can be given."""

    ENOUGH = auto()
    LITTLE = auto()
    """Only an answer that needs no further descriptor."""
    NONE = auto()
    """Nothing: each connection that waits for its request takes one of the last."""


class Descriptors:
    """Keeps some descriptors from new clients, and logs once when that begins, and once when it is over."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        """:param limit: how many the process may have open."""
        self._loop = loop
        self._limit = limit
        kept = max(LEAST_KEPT, limit // KEPT_SHARE)
        self._little_at = limit - kept
        self._none_at = limit - kept // 2
        self._timer: asyncio.TimerHandle | None = None
        """None while there are enough."""
        self._refused = 0
        self._short_since = 0.0
        self._refused_at = 0.0

    def room_for(self, descriptor: int) -> Room:
        """Return what the client whose new connection has the number *descriptor* can be given."""
        if descriptor < self._little_at:
            return Room.ENOUGH
        self._note(descriptor)
        return Room.LITTLE if descriptor < self._none_at else Room.NONE

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _note(self, descriptor: int) -> None:
        self._refused += 1
        self._refused_at = self._loop.time()
        if self._timer is not None:
            return
        self._short_since = self._refused_at
        self._timer = self._loop.call_later(LOOK_S, self._look)
        reason = "few are left, so new connections are refused; raise LimitNOFILE of the systemd unit, or ulimit -n"
        log.warning("file_descriptors_short", open=descriptor + 1, limit=self._limit, reason=reason)

    def _look(self) -> None:
        now = self._loop.time()
        if now - self._refused_at < CALM_S or not self._is_enough():
            self._timer = self._loop.call_later(LOOK_S, self._look)
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
