"""Runs one watch and one load reader for each backend, and probes on demand."""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Final

from nexus import tasks
from nexus.config.schema import HealthCheckConfig
from nexus.domain.kinds import BackendKind, ServerFacts
from nexus.fleet.fetching import Fetcher
from nexus.fleet.health.state import HealthState
from nexus.fleet.health.watch import MAX_LOOK_S, Watch
from nexus.fleet.loads.readers import LoadReaders
from nexus.fleet.membership.member import Member
from nexus.fleet.membership.registry import Registry
from nexus.fleet.probing.counts import ProbeCounts
from nexus.fleet.probing.probe import BackendProbe

PROBES_AT_ONCE: Final = 64
LISTING_PAUSE_S: Final = 1.0
"""Between two probes of a healthy backend on demand."""
MAX_LOOKS_PER_S: Final = 50
"""Probes of healthy backends on demand, in the whole fleet."""


class HealthChecker:
    """Probes each backend on a schedule of its own; a slow one delays no other."""

    def __init__(self, registry: Registry, fetcher: Fetcher, *, chance: Callable[[], float] = random.random) -> None:
        self._registry = registry
        self._fetcher = fetcher
        self._chance = chance
        self.counts = ProbeCounts()
        self.loads = LoadReaders(registry, fetcher, chance=chance)
        self._gate = asyncio.Semaphore(PROBES_AT_ONCE)
        self._watches: dict[str, tuple[Watch, asyncio.Task[None]]] = {}
        self._next_result = asyncio.Event()
        """Set, and then replaced, at the end of each probe."""

    def watch(
        self, member: Member, kinds: Mapping[str, BackendKind], config: HealthCheckConfig, state: HealthState
    ) -> None:
        """Watch *member*, beginning with a probe, in place of an earlier member with its id."""
        before = self.get(member.id)
        self.unwatch(member.id)
        watch = Watch(
            member,
            state=state,
            learned=ServerFacts() if before is None else before.learned,
            probe=BackendProbe(member, self._fetcher, kinds),
            gate=self._gate,
            registry=self._registry,
            counts=self.counts,
            config=config,
            on_probed=self._probed,
            chance=self._chance,
        )
        self._watches[member.id] = (watch, tasks.keep_running(watch.run, name=f"watch-{member.config.name}"))
        self.loads.watch(member, config, facts=lambda: watch.learned, learn_slots=watch.learn_slots)

    def unwatch(self, backend_id: str) -> None:
        """Stop watching a backend; a running probe is cancelled."""
        self.loads.unwatch(backend_id)
        if watched := self._watches.pop(backend_id, None):
            watched[1].cancel()

    def get(self, backend_id: str) -> Watch | None:
        """Return the watch of a backend, None if it is not watched."""
        watched = self._watches.get(backend_id)
        return None if watched is None else watched[0]

    def note_refused(self, backend_id: str) -> bool:
        """Note that a backend refused a connection; return whether its status shows that now."""
        watch = self.get(backend_id)
        return watch is not None and watch.note_refused()

    async def look(self, is_found: Callable[[], bool]) -> bool:
        """Probe the backends whose state or models may be out of date, until *is_found* or for :data:`MAX_LOOK_S`.
        Return whether any was probed.

        Callers share the probes: a healthy backend is probed on demand at most once per second, and less often in a
        fleet where that would exceed :data:`MAX_LOOKS_PER_S`. If no probe is due, the caller does not wait.
        """
        pause_s = max(LISTING_PAUSE_S, len(self._watches) / MAX_LOOKS_PER_S)
        looking = [watch for watch, _ in self._watches.values() if watch.look(pause_s=pause_s)]
        if not looking:
            return False
        try:
            async with asyncio.timeout(MAX_LOOK_S):
                while not is_found() and any(watch.is_looking for watch in looking):
                    await self._next_result.wait()
        except TimeoutError:
            pass
        return True

    def _probed(self) -> None:
        self._next_result.set()
        self._next_result = asyncio.Event()

    async def wait_first_probes(self, timeout_s: float) -> bool:
        """Wait until each currently watched backend has been probed once; return whether that was in time."""
        try:
            async with asyncio.timeout(timeout_s):
                for watch, _ in tuple(self._watches.values()):
                    await watch.has_probed.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Stop all watches and wait until they have ended."""
        watched = [task for _, task in self._watches.values()]
        self._watches.clear()
        await self.loads.stop()
        await tasks.stop(*watched)
