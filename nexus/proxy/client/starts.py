"""Starts and settles few requests in one turn of the event loop, so that events are relayed in between."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from nexus.proxy.write_batch import WriteBatch

MAX_STARTED: Final = 4
"""Requests that start, and streams that are settled, in one turn: each takes a hundred microseconds or more, in which
no event is relayed."""
TURN_S: Final = 0.001
"""The resolution of the event loop's clock, which stands still during a turn."""


class Starts:
    """Wakes the tasks that serve requests: as the requests arrived and the streams ended, in one order."""

    __slots__ = ("_loop", "_started", "_started_at", "_waiting", "announce", "streams")

    def __init__(self, loop: asyncio.AbstractEventLoop, batch: WriteBatch | None) -> None:
        """:param batch: is told of each task that is woken."""
        self._loop = loop
        self.announce: Callable[[], None] = _ignore if batch is None else batch.expect
        """To be called for each task that is woken to serve a request."""
        self.streams = 0
        """How many clients are being sent a stream; without any, no request needs to wait."""
        self._waiting: deque[tuple[asyncio.Future[None], Callable[[], None]]] = deque()
        """At most one per connection, with what announces it; woken in the following turns."""
        self._started = 0
        self._started_at = 0.0

    def wake(self, waiter: asyncio.Future[None]) -> None:
        """Wake the task that awaits *waiter*, now or in one of the next turns."""
        if self._has_room():
            self._start(waiter, self.announce)
        else:
            self._wait(waiter, self.announce)

    def turn_to_settle(self) -> asyncio.Future[None] | None:
        """Return what a task awaits before it settles a stream that has ended; None: it may do so now."""
        if self._has_room():
            self._started += 1
            return None
        waiter = self._loop.create_future()
        # It has written all that it writes.
        self._wait(waiter, _ignore)
        return waiter

    def _has_room(self) -> bool:
        now = self._loop.time()
        if now - self._started_at >= TURN_S:
            self._started, self._started_at = 0, now
        return self._started < MAX_STARTED and not self._waiting

    def _wait(self, waiter: asyncio.Future[None], announce: Callable[[], None]) -> None:
        if not self._waiting:
            self._loop.call_soon(self._start_waiting)
        self._waiting.append((waiter, announce))

    def _start(self, waiter: asyncio.Future[None], announce: Callable[[], None]) -> None:
        if not waiter.done():
            self._started += 1
            waiter.set_result(None)
            announce()

    def _start_waiting(self) -> None:
        self._started, self._started_at = 0, self._loop.time()
        while self._waiting and self._started < MAX_STARTED:
            self._start(*self._waiting.popleft())
        if self._waiting:
            self._loop.call_soon(self._start_waiting)


def _ignore() -> None:
    """Announce nothing: each write is sent at once, or there is none."""
