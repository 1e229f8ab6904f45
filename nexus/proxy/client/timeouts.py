"""Limits how long a client may take to send the head of a request, and how long its connection may be idle."""

import asyncio
from collections.abc import Callable
from typing import Final

MIN_CHECK_S: Final = 0.05
"""The shortest pause between two checks of a busy connection."""


class ClientTimeouts:
    """The header timeout and the keep-alive timeout of one connection; neither expires while a request is served."""

    __slots__ = (
        "_give_up",
        "_headers_s",
        "_idle_timer",
        "_keepalive_s",
        "_loop",
        "head_timer",
        "idle_since",
        "is_busy",
        "is_head_begun",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, headers_s: float, keepalive_s: float, give_up: Callable[[], None]
    ) -> None:
        """:param give_up: called when either of them expires."""
        self._loop = loop
        self._headers_s = headers_s
        self._keepalive_s = keepalive_s
        self._give_up = give_up
        self.head_timer: asyncio.TimerHandle | None = None
        """Runs while the first head is awaited, or a head is incomplete."""
        self._idle_timer: asyncio.TimerHandle | None = None
        self.idle_since = 0.0
        """When the last request was answered, on the clock of the event loop."""
        self.is_busy = False
        self.is_head_begun = False
        """Whether a head is incomplete."""

    def begin(self) -> None:
        """Start both timers for a new connection."""
        self._await_head()
        self.idle_since = self._loop.time()
        self._idle_timer = self._loop.call_later(self._keepalive_s, self._give_up_if_idle)

    def end(self) -> None:
        """Stop both timers, for good."""
        self.stop_awaiting_head()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        # Breaks the reference cycle with the connection, which only the garbage collector would free.
        self._give_up = lambda: None

    def shorten(self, keepalive_s: float) -> None:
        """Wait at most *keepalive_s* from now on for the next request."""
        self._keepalive_s = min(self._keepalive_s, keepalive_s)
        self.idle_since = self._loop.time()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._idle_timer = self._loop.call_later(self._keepalive_s, self._give_up_if_idle)

    def head_began(self) -> None:
        """Note that a part of a head has arrived, and start the header timeout."""
        self.is_head_begun = True
        if self.head_timer is None:
            self._await_head()

    def _await_head(self) -> None:
        self.head_timer = self._loop.call_later(self._headers_s, self._give_up_head)

    def stop_awaiting_head(self) -> None:
        self.is_head_begun = False
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    def _give_up_head(self) -> None:
        self.head_timer = None
        if not self.is_busy:
            self._give_up()

    def _give_up_if_idle(self) -> None:
        # One timer serves all requests of a connection: it is restarted here if the connection was used meanwhile.
        now, keepalive_s = self._loop.time(), self._keepalive_s
        if self.is_busy or (self.is_head_begun and keepalive_s):
            self._idle_timer = self._loop.call_at(now + max(keepalive_s, MIN_CHECK_S), self._give_up_if_idle)
        elif now - self.idle_since < keepalive_s:
            self._idle_timer = self._loop.call_at(self.idle_since + keepalive_s, self._give_up_if_idle)
        else:
            self._give_up()
