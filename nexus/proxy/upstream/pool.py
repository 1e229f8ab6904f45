"""Opens, reuses and closes the connections to one backend."""

import asyncio
from collections import deque
from functools import partial
from math import inf
from time import monotonic
from typing import Final

import structlog

from nexus.dialing import names
from nexus.dialing.age import MAX_AGE_S, expiry
from nexus.dialing.dial import Address, dial
from nexus.proxy.upstream.connection import UpstreamConnection
from nexus.proxy.upstream.rotation import AddressRotation
from nexus.proxy.write_batch import WriteBatch

MAX_IDLE: Final = 256
"""Idle connections kept per backend."""
NO_REUSE_S: Final = 60.0
"""How long no connection is reused after the backend sent bytes that answer no request."""

log = structlog.get_logger("nexus.proxy")


class ConnectionCounts:
    """Counts the connections to one backend; a reload replaces the pool, and keeps the counts."""

    __slots__ = ("no_reuse_until", "open", "opened", "reused")

    def __init__(self) -> None:
        self.open = 0
        """Idle ones included."""
        self.opened = 0
        self.reused = 0
        """Requests that were sent on an idle connection."""
        self.no_reuse_until = 0.0
        """Of the monotonic clock: until then, no connection carries a second request."""


class Pool:
    """The connections to one backend: idle ones are reused for a few seconds, the newest first.

    An open connection does not follow a change in DNS, so none is reused beyond its maximum age, or when its address is
    no longer one of the backend's host name.

    A surplus response would be taken for the response to the next request on that connection, which is another
    client's. A connection detects it before that where it can. After the first one, no connection to the backend is
    reused until :data:`NO_REUSE_S` seconds have passed without another.
    """

    def __init__(  # noqa: PLR0913 - where it connects to, and the limits of that
        self,
        address: Address,
        *,
        backend: str = "",
        connect_timeout_s: float,
        keepalive_s: float,
        max_age_s: float = MAX_AGE_S,
        counts: ConnectionCounts | None = None,
        batch: WriteBatch | None = None,
    ) -> None:
        """:param backend: the name for the log."""
        self.address = address
        self._backend = backend
        hop = address.next_hop
        self._name: Final = hop if names.is_name(hop[0]) else None
        """Host name and port; None when the backend is configured by address."""
        self._rotation = AddressRotation()
        self._wanted: bytes | None = None
        """The address for the next request; None: any."""
        self.counts = counts or ConnectionCounts()
        self._connect_timeout_s = connect_timeout_s
        self._keepalive_s = keepalive_s
        self._max_age_s = max_age_s
        self._make: Final = partial(UpstreamConnection, batch)
        self._idle: deque[UpstreamConnection] = deque()
        self._loop = asyncio.get_running_loop()
        self._sweep: asyncio.TimerHandle | None = None
        self._sweeps_at = inf
        self._is_closed = False

    def take_idle(self) -> UpstreamConnection | None:
        """Return an idle connection to reuse; None: open one."""
        now = monotonic()
        name = None if self._name is None else names.in_use(self._name)
        self._wanted = self._rotation.next(name.several) if name is not None and name.several else None
        while self._idle:
            connection = self._idle.pop() if self._wanted is None else self._pop_wanted()
            if connection is None:
                return None
            if connection.is_closed or connection.transport.is_closing():
                continue
            if self._ends_at(connection) <= now or (name is not None and connection.peer not in name.hosts):
                connection.close()
                continue
            self.counts.reused += 1
            return connection
        return None

    def _pop_wanted(self) -> UpstreamConnection | None:
        """Return the newest idle connection to the wanted address, if there is one."""
        for connection in reversed(self._idle):
            if connection.peer == self._wanted:
                self._idle.remove(connection)
                return connection
        return None

    async def open(self) -> UpstreamConnection:
        """Connect, TLS included.

        :raises UpstreamError: REFUSED, CONNECT_TIMEOUT or TLS; no part of a request has been sent then.
        """
        wanted = self._wanted
        connection = await dial(self.address, self._make, timeout_s=self._connect_timeout_s, first=wanted)
        connection.expires_at = expiry(self._max_age_s)
        if self._name is not None and (place := connection.transport.get_extra_info("peername")):
            connection.peer = names.packed(place[0])
            self._rotation.reached(wanted, connection.peer)
        self.counts.opened += 1
        if not connection.is_closed:
            self.counts.open += 1
            connection.owner = self
        return connection

    def give_back(self, connection: UpstreamConnection, *, may_reuse: bool) -> None:
        """Keep *connection* for another request, or close it if it cannot carry one."""
        now = monotonic()
        is_kept = may_reuse and not self._is_closed and len(self._idle) < MAX_IDLE and now >= self.counts.no_reuse_until
        if not is_kept or now >= connection.expires_at or not connection.is_reusable:
            connection.close()
            return
        connection.rest(now)
        self._idle.append(connection)
        if (ends_at := self._ends_at(connection)) < self._sweeps_at:
            self._sweep_by(ends_at)

    def on_lost(self) -> None:
        self.counts.open -= 1

    def on_unsolicited(self) -> None:
        """Stop reusing connections for a while, and close idle ones: each may carry more such bytes."""
        now = monotonic()
        if now >= self.counts.no_reuse_until:
            log.warning("unasked_answer", backend=self._backend, no_reuse_s=NO_REUSE_S)
        self.counts.no_reuse_until = now + NO_REUSE_S
        self._close_idle()

    def _ends_at(self, connection: UpstreamConnection) -> float:
        """Return when an idle connection expires, by the monotonic clock."""
        return min(connection.idle_since + self._keepalive_s, connection.expires_at)

    def _sweep_by(self, at: float) -> None:
        self._stop_sweeping()
        # The loop's clock is the monotonic one.
        self._sweep, self._sweeps_at = self._loop.call_at(at, self._close_expired), at

    def _stop_sweeping(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep, self._sweeps_at = None, inf

    def _close_expired(self) -> None:
        self._stop_sweeping()
        now, idle = monotonic(), self._idle
        self._idle = deque(connection for connection in idle if self._ends_at(connection) > now)
        for connection in idle:
            if self._ends_at(connection) <= now:
                connection.close()
        if self._idle:
            self._sweep_by(min(map(self._ends_at, self._idle)))

    def close(self) -> None:
        """Close all idle connections; those in use are closed when they are given back."""
        self._is_closed = True
        self._stop_sweeping()
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()
