"""Lets replicas follow what administrators decide at one of them, and probe a backend that troubles another one."""

import asyncio
from typing import Final

import structlog

from nexus import tasks
from nexus.domain.backend import Backend, Breaker, Status
from nexus.domain.fleet import FleetSnapshot
from nexus.errors import StoreError
from nexus.fleet.clock import wait_for_event
from nexus.fleet.fleet import Decided, Fleet
from nexus.store.store import Delete, Put
from nexus.store.watched import WatchedStore

log = structlog.get_logger("nexus.fleet")

PREFIX: Final = "core/drained/"
DECIDED_HINT: Final = "decided"
TROUBLE_HINT: Final = "trouble"
LOOK_EVERY_S: Final = 30.0
"""A hint may be lost."""
MAX_UNTOLD: Final = 1000


class SharedDecisions:
    """Drains, approvals and added backends are kept in the store, where the other replicas find them; a hint makes them
    look at once.

    Trouble with a backend is only a hint to probe it: each replica judges by what it sees itself.
    """

    def __init__(self, fleet: Fleet, store: WatchedStore) -> None:
        """:param store: one that replicas share."""
        self._fleet = fleet
        self._store = store
        self._drained: frozenset[str] = frozenset()
        """As last seen in the store."""
        self._troubled: frozenset[str] = frozenset()
        self._untold: set[str] = set()
        """The URLs of backends that have got into trouble since the last hint."""
        self._is_due = asyncio.Event()
        self._tells = asyncio.Event()
        self._running: tuple[asyncio.Task[None], ...] = ()

    def start(self) -> None:
        """Follow from now on."""
        self._store.on_hint(DECIDED_HINT, lambda _: self._is_due.set())
        self._store.on_hint(TROUBLE_HINT, lambda url: self._fleet.probe_soon(url.decode(errors="replace")))
        self._fleet.on_decision = self._tell
        self._fleet.added.on_stored = lambda: self._store.publish(DECIDED_HINT)
        self._fleet.on_change(self._look_for_trouble)
        self._is_due.set()
        self._running = (
            tasks.keep_running(self._follow, name="follow decisions"),
            tasks.keep_running(self._tell_of_trouble, name="tell of trouble"),
        )

    async def stop(self) -> None:
        """Follow no more."""
        await tasks.stop(*self._running)

    async def _tell(self, decided: Decided) -> None:
        """:raises StoreError: the other replicas will not follow."""
        if decided.is_draining is not None:
            key = PREFIX + decided.name
            await self._store.apply((Put(key, b"") if decided.is_draining else Delete(key),))
            changed = {decided.name}
            self._drained = self._drained | changed if decided.is_draining else self._drained - changed
        await self._store.publish(DECIDED_HINT)

    async def _follow(self) -> None:
        while True:
            await wait_for_event(self._is_due, LOOK_EVERY_S)
            self._is_due.clear()
            try:
                await self._look()
            except StoreError as exc:
                log.debug("decisions_unreadable", reason=str(exc))

    async def _look(self) -> None:
        drained: set[str] = set()
        after = ""
        while page := await self._store.scan(PREFIX, after=after):
            after = page[-1][0]
            drained.update(key.removeprefix(PREFIX) for key, _ in page)
        before, self._drained = self._drained, frozenset(drained)
        for name in self._drained ^ before:
            self._fleet.follow_drain(name, is_draining=name in self._drained)
        await self._fleet.follow_approvals()
        await self._fleet.added.follow()

    def _look_for_trouble(self, snapshot: FleetSnapshot) -> None:
        troubled = frozenset(row.url for row in snapshot.backends if _is_in_trouble(row))
        new = troubled - self._troubled
        self._troubled = troubled
        if new and len(self._untold) < MAX_UNTOLD:
            self._untold |= new
            self._tells.set()

    async def _tell_of_trouble(self) -> None:
        while True:
            await self._tells.wait()
            self._tells.clear()
            urls, self._untold = self._untold, set()
            for url in urls:
                await self._store.publish(TROUBLE_HINT, url.encode())


def _is_in_trouble(row: Backend) -> bool:
    return row.status is Status.UNHEALTHY or row.own_breaker is Breaker.OPEN
