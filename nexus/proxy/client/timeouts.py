"""How long a client may take: to send the head of a request, and between two requests."""

import asyncio
from collections.abc import Callable
from typing import Final

NEXT_LOOK_S: Final = 0.05
"""How long a busy connection is left alone, however short the time is that an idle one may stay open."""


class Patience:
    """The two clocks of one connection, of which neither runs while it is answered."""

    __slots__ = (
        "_give_up",
        "_head_timer",
        "_headers_s",
        "_idle_since",
        "_idle_timer",
        "_keepalive_s",
        "_loop",
        "is_answering",
        "is_head_begun",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, headers_s: float, keepalive_s: float, give_up: Callable[[], None]
    ) -> None:
        """:param give_up: called when it is at an end."""
        self._loop = loop
        self._headers_s = headers_s
        self._keepalive_s = keepalive_s
        self._give_up = give_up
        self._head_timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self.is_answering = False
        self.is_head_begun = False
        """Whether a part of a head has come, and not the whole."""

    @property
    def is_awaiting_head(self) -> bool:
        """Whether a head has begun, or is to be the first, and is not whole."""
        return self._head_timer is not None

    def begin(self) -> None:
        """Begin with a connection, whose first head is due."""
        self._await_head()
        self._idle_since = self._loop.time()
        self._idle_timer = self._loop.call_later(self._keepalive_s, self._give_up_if_idle)

    def end(self) -> None:
        """Stop both clocks, for good."""
        self.stop_awaiting_head()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        # The connection and its clocks know each other: without this, only the collector would free them.
        self._give_up = _nothing

    def shorten(self, keepalive_s: float) -> None:
        """Wait no longer than *keepalive_s*, counted from now, for a request of which nothing has come."""
        self._keepalive_s = min(self._keepalive_s, keepalive_s)
        self._idle_since = self._loop.time()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._idle_timer = self._loop.call_later(self._keepalive_s, self._give_up_if_idle)

    def rest(self) -> None:
        """Note that a request has been answered."""
        self.is_answering = False
        self._idle_since = self._loop.time()

    def head_began(self) -> None:
        """Note that a part of a head has come: the whole is due."""
        self.is_head_begun = True
        if self._head_timer is None:
            self._await_head()

    def _await_head(self) -> None:
        self._head_timer = self._loop.call_later(self._headers_s, self._give_up_head)

    def stop_awaiting_head(self) -> None:
        self.is_head_begun = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up_head(self) -> None:
        self._head_timer = None
        if not self.is_answering:
            self._give_up()

    def _give_up_if_idle(self) -> None:
        # One timer for all requests of a connection, which looks again when it was too early.
        now, keepalive_s = self._loop.time(), self._keepalive_s
        if self.is_answering or (self.is_head_begun and keepalive_s):
            self._idle_timer = self._loop.call_at(now + max(keepalive_s, NEXT_LOOK_S), self._give_up_if_idle)
        elif now - self._idle_since < keepalive_s:
            self._idle_timer = self._loop.call_at(self._idle_since + keepalive_s, self._give_up_if_idle)
        else:
            self._give_up()


def _nothing() -> None:
    """Do nothing: it is closed."""
