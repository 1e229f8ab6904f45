"""Runs one reader for each backend, and bounds them together."""

import asyncio
from collections.abc import Callable
from typing import Final

from nexus import tasks
from nexus.config.schema import HealthCheckConfig
from nexus.domain.kinds import ServerFacts
from nexus.fleet.fetching import Fetcher
from nexus.fleet.loads.counts import ReadCounts
from nexus.fleet.loads.reader import LoadReader
from nexus.fleet.membership.member import Member
from nexus.fleet.membership.registry import Registry

READS_AT_ONCE: Final = 16


class LoadReaders:
    """The readers of a whole fleet."""

    def __init__(self, registry: Registry, fetcher: Fetcher, *, chance: Callable[[], float]) -> None:
        self._registry = registry
        self._fetcher = fetcher
        self._chance = chance
        self.counts = ReadCounts()
        self._gate = asyncio.Semaphore(READS_AT_ONCE)
        self._active: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def watch(
        self,
        member: Member,
        config: HealthCheckConfig,
        *,
        facts: Callable[[], ServerFacts],
        learn_slots: Callable[[int], None],
    ) -> None:
        """Read the reports of *member*; see :class:`LoadReader` for the parameters."""
        self.unwatch(member.id)
        reader = LoadReader(
            member,
            fetcher=self._fetcher,
            registry=self._registry,
            config=config,
            counts=self.counts,
            gate=self._gate,
            active=self._active,
            facts=facts,
            learn_slots=learn_slots,
            chance=self._chance,
        )
        self._tasks[member.id] = tasks.keep_running(reader.run, name=f"load-{member.config.name}")

    def unwatch(self, backend_id: str) -> None:
        """Stop reading a backend; a running read is cancelled."""
        if task := self._tasks.pop(backend_id, None):
            task.cancel()

    async def stop(self) -> None:
        """Stop all readers and wait until they have ended."""
        running = tuple(self._tasks.values())
        self._tasks.clear()
        await tasks.stop(*running)
