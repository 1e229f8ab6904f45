"""The connections to one backend: opened, kept for reuse while the backend keeps to its turn, and closed."""

import asyncio
from collections import deque
from functools import partial
from time import monotonic
from typing import Final

import structlog

from nexus.dialing.dial import Address, dial
from nexus.proxy.outbox import Outbox
from nexus.proxy.upstream import UpstreamConnection

MAX_IDLE: Final = 256
"""Idle connections kept per backend."""
NO_REUSE_S: Final = 60.0
"""After bytes that answer no request, for how long each request to the backend gets a connection of its own."""

log = structlog.get_logger("nexus.proxy")


class ConnectionCounts:
    """The connections to one backend; they outlive its pool, which a reload replaces."""

    __slots__ = ("no_reuse_until", "open", "opened", "reused")

    def __init__(self) -> None:
        self.open = 0
        """Now, idle ones included."""
        self.opened = 0
        self.reused = 0
        """Requests that found an idle one."""
        self.no_reuse_until = 0.0
        """Of the monotonic clock: until then the backend is not trusted with a second request on a connection."""


class Pool:
    """The connections to one backend: idle ones are reused for a few seconds, the newest first.

    A backend that sends an answer too many would have it taken for the answer to the next request on that connection,
    which is another client's. It is found out before that where possible; after the first time no connection to it is
    reused until it has behaved for :data:`NO_REUSE_S` seconds.
    """

    def __init__(  # noqa: PLR0913 - where it connects to, and the limits of that
        self,
        address: Address,
        *,
        backend: str = "",
        connect_timeout_s: float,
        keepalive_s: float,
        counts: ConnectionCounts | None = None,
        outbox: Outbox | None = None,
    ) -> None:
        """:param backend: its name, for the log."""
        self.address = address
        self._backend = backend
        self.counts = counts or ConnectionCounts()
        self._connect_timeout_s = connect_timeout_s
        self._keepalive_s = keepalive_s
        self._make: Final = partial(UpstreamConnection, outbox)
        self._idle: deque[UpstreamConnection] = deque()
        self._loop = asyncio.get_running_loop()
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    def take_idle(self) -> UpstreamConnection | None:
        """Return a connection that may be reused, None when a fresh one is needed."""
        fresh_after = monotonic() - self._keepalive_s
        while self._idle:
            connection = self._idle.pop()
            if connection.is_closed or connection.transport.is_closing():
                continue
            if connection.idle_since < fresh_after:
                connection.close()
                continue
            self.counts.reused += 1
            return connection
        return None

    async def open(self) -> UpstreamConnection:
        """Connect, TLS included.

        :raises UpstreamError: REFUSED, CONNECT_TIMEOUT or TLS; nothing has been sent then.
        """
        connection = await dial(self.address, self._make, timeout_s=self._connect_timeout_s)
        self.counts.opened += 1
        if not connection.is_closed:
            self.counts.open += 1
            connection.owner = self
        return connection

    def give_back(self, connection: UpstreamConnection, *, may_reuse: bool) -> None:
        """Keep *connection* for the next request if it can serve one, else close it."""
        now = monotonic()
        is_kept = may_reuse and not self._is_closed and len(self._idle) < MAX_IDLE and now >= self.counts.no_reuse_until
        if not is_kept or not connection.is_reusable:
            connection.close()
            return
        connection.rest(now)
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._keepalive_s, self._close_expired)

    def on_lost(self) -> None:
        self.counts.open -= 1

    def on_unasked(self) -> None:
        """Stop reusing connections for a while, idle ones included: more of the kind may be on its way on each."""
        now = monotonic()
        if now >= self.counts.no_reuse_until:
            log.warning("unasked_answer", backend=self._backend, no_reuse_s=NO_REUSE_S)
        self.counts.no_reuse_until = now + NO_REUSE_S
        self._close_idle()

    def _close_expired(self) -> None:
        self._sweep = None
        fresh_after = monotonic() - self._keepalive_s
        while self._idle and self._idle[0].idle_since <= fresh_after:
            self._idle.popleft().close()
        if self._idle:
            self._sweep = self._loop.call_later(self._keepalive_s, self._close_expired)

    def close(self) -> None:
        """Close all idle connections; those in use are closed when they are given back."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()
