"""Runs the discoverers and collects their sightings."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from nexus import tasks
from nexus.fleet.discovery.discoverer import Discoverer
from nexus.fleet.discovery.sightings import Sightings

SWEEP_INTERVAL_S: Final = 5.0
"""A server that is missing may outlast its grace period by this, if its discoverer yields nothing in the meantime."""


class Search:
    """Runs discoverers until it is stopped."""

    def __init__(self, sightings: Sightings, on_look: Callable[[], None]) -> None:
        """:param on_look: called whenever a discoverer yields, and every few seconds."""
        self._sightings = sightings
        self._on_look = on_look
        self._following: dict[Discoverer, asyncio.Task[Any]] = {}
        self._closing: set[asyncio.Task[Any]] = set()
        """The tasks of discoverers that are being closed."""
        self._sweeping: asyncio.Task[Any] | None = None

    def follow(self, discoverers: Iterable[Discoverer]) -> None:
        """Run exactly *discoverers* from now on; one that runs already is not restarted."""
        wanted = tuple(discoverers)
        for gone in self._following.keys() - set(wanted):
            task = self._following.pop(gone)
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            task.cancel()
        self._sightings.keep_sources(discoverer.name for discoverer in wanted)
        for discoverer in wanted:
            if discoverer not in self._following:
                name = f"discover-{discoverer.name}"
                self._following[discoverer] = tasks.keep_running(partial(self._follow, discoverer), name=name)
        if self._following and self._sweeping is None:
            self._sweeping = tasks.keep_running(self._sweep, name="discover-sweep")

    async def stop(self) -> None:
        """Stop and wait until every discoverer is closed."""
        running = [*self._following.values(), *([self._sweeping] if self._sweeping else [])]
        self._following.clear()
        self._sweeping = None
        await asyncio.gather(tasks.stop(*running), *self._closing, return_exceptions=True)

    async def _follow(self, discoverer: Discoverer) -> None:
        clock = asyncio.get_running_loop().time
        async with aclosing(discoverer.watch()) as looks:
            async for seen in looks:
                self._sightings.update(discoverer.name, seen, now=clock(), is_certain=discoverer.is_certain)
                self._on_look()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            self._on_look()
