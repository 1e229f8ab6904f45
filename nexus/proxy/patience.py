"""How long a client may take: to send the head of a request, and between two requests."""

import asyncio
from collections.abc import Callable


class Patience:
    """The two clocks of one connection, of which neither runs while it is answered."""

    __slots__ = (
        "_close",
        "_head_timer",
        "_headers_s",
        "_idle_since",
        "_idle_timer",
        "_keepalive_s",
        "_loop",
        "is_answering",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, headers_s: float, keepalive_s: float, close: Callable[[], None]
    ) -> None:
        """:param close: called when it is at an end."""
        self._loop = loop
        self._headers_s = headers_s
        self._keepalive_s = keepalive_s
        self._close = close
        self._head_timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self.is_answering = False

    @property
    def is_awaiting_head(self) -> bool:
        """Whether a head has begun, or is to be the first, and is not whole."""
        return self._head_timer is not None

    def begin(self) -> None:
        """Begin with a connection, whose first head is due."""
        self.await_head()
        self._idle_since = self._loop.time()
        self._idle_timer = self._loop.call_later(self._keepalive_s, self._close_if_idle)

    def end(self) -> None:
        """Stop both clocks, for good."""
        self.stop_awaiting_head()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        # The connection and its clocks know each other: without this, only the collector would free them.
        self._close = _nothing

    def rest(self) -> None:
        """Note that a request has been answered."""
        self.is_answering = False
        self._idle_since = self._loop.time()

    def await_head(self) -> None:
        self._head_timer = self._loop.call_later(self._headers_s, self._give_up_head)

    def stop_awaiting_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up_head(self) -> None:
        self._head_timer = None
        if not self.is_answering:
            self._close()

    def _close_if_idle(self) -> None:
        # One timer for all requests of a connection, which looks again when it was too early.
        now = self._loop.time()
        since = now if self.is_answering else self._idle_since
        if now - since < self._keepalive_s:
            self._idle_timer = self._loop.call_at(since + self._keepalive_s, self._close_if_idle)
        else:
            self._close()


def _nothing() -> None:
    """Do nothing: it is closed."""
