"""Follows one Service: lists its slices, watches them, and starts over after a failure."""

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Final

import msgspec
import structlog

from nexus_kubernetes.cluster import Cluster
from nexus_kubernetes.config import ServiceConfig
from nexus_kubernetes.servers import Reading, read, with_vanished
from nexus_kubernetes.slices import View

log = structlog.get_logger("nexus.kubernetes")

MAX_REASON_LENGTH: Final = 400


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Pauses and limits, in seconds."""

    first_retry_s: float = 0.5
    max_retry_s: float = 30.0
    settled_s: float = 10.0
    """A watch that lasted this long resets the count of failures in a row."""
    min_watch_s: float = 1.0
    """At most one watch is started in this time, even if the API server ends each at once."""
    gather_s: float = 0.1
    """How long further changes are awaited after a change, since reading thousands of endpoints takes time."""
    vanished_s: float = 2.0
    """How long a server is kept that is no longer in any slice but was not unready before: slices are recreated, and
    endpoints move between them."""


class Follower:
    """Keeps the servers of one Service up to date; while the API server fails, the last servers are kept."""

    def __init__(
        self,
        service: ServiceConfig,
        connect: Callable[[], AbstractAsyncContextManager[Cluster]],
        on_change: Callable[[], None],
        pace: Pace,
    ) -> None:
        self.service = service
        self.namespace = service.namespace or ""
        self.reading: Reading | None = None
        """None until the first list."""
        self.look_again_at: float | None = None
        """When a vanished server must be dropped, by the clock of the loop."""
        self._view: View | None = None
        self._is_read = True
        """Whether the reading is up to date with the view."""
        self._connect = connect
        self._on_change = on_change
        self._pace = pace
        self._failures = 0
        """In a row."""

    async def run(self) -> None:
        """Follow the service until this is cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                async with self._connect() as cluster:
                    await self._follow(cluster)
            except Exception as exc:  # noqa: BLE001 - a background loop keeps the servers on any error
                if clock() - began >= self._pace.settled_s:
                    self._failures = 0
                self._failed(exc)
            await asyncio.sleep(pause_s(self._failures, self._pace, random.random()))  # noqa: S311 - no secret

    def look(self) -> bool:
        """Read changes and return whether the servers differ from before."""
        now = asyncio.get_running_loop().time()
        is_due = self.look_again_at is not None and self.look_again_at <= now
        if self._view is None or (self._is_read and not is_due):
            return False
        self._is_read = True
        before = self.reading
        reading = read(self.service, self._view.slices.values())
        self.reading, self.look_again_at = with_vanished(reading, before, now=now, hold_s=self._pace.vanished_s)
        if self.reading.problem and (before is None or self.reading.problem != before.problem):
            log.warning(
                "service_incomplete",
                service=self.service.service,
                namespace=self.namespace,
                reason=self.reading.problem,
                servers=len(self.reading.servers),
            )
        return before is None or self.reading.servers != before.servers

    async def _follow(self, cluster: Cluster) -> None:
        clock = asyncio.get_running_loop().time
        service = self.service.service
        self.namespace = self.service.namespace or cluster.namespace
        view = View.listed(await cluster.list_slices(service, self.namespace))
        self._update(view)
        while True:
            began = clock()
            async with aclosing(cluster.watch_slices(service, self.namespace, view.version)) as events:
                async for event in events:
                    view = view.after(event)
                    self._update(view)
                    self._recovered()
            self._recovered()
            await asyncio.sleep(began + self._pace.min_watch_s - clock())

    def _update(self, view: View) -> None:
        if self._view is None or view.slices is not self._view.slices:
            self._is_read = False
            self._on_change()
        self._view = view

    def _failed(self, exc: Exception) -> None:
        self._failures += 1
        # Connections end, tokens and versions expire: log only what the next try does not fix.
        if self._failures == (1 if self.reading is None else 2):
            log.warning(
                "service_watch_failed",
                service=self.service.service,
                namespace=self.namespace or None,
                reason=(str(exc) or type(exc).__name__)[:MAX_REASON_LENGTH],
                servers=len(self.reading.servers) if self.reading else 0,
            )

    def _recovered(self) -> None:
        if self._failures > 1:
            log.info("service_watch_resumed", service=self.service.service, namespace=self.namespace)
        self._failures = 0


def pause_s(failures: int, pace: Pace, chance: float) -> float:
    """Return how long to wait after so many failures in a row.

    :param chance: from 0 to 1, so that many proxies do not retry at the same moment.
    """
    longest = min(pace.max_retry_s, pace.first_retry_s * 2.0 ** min(failures - 1, 20))
    return longest * (0.5 + chance / 2)
