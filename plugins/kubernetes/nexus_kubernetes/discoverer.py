"""Follows all configured services of a cluster and lists their servers."""

import asyncio
from collections.abc import AsyncGenerator
from functools import partial

from nexus.api import Discovered, Discoverer, tasks
from nexus_kubernetes.cluster import connected
from nexus_kubernetes.config import KubernetesConfig
from nexus_kubernetes.following import Follower, Pace
from nexus_kubernetes.servers import discovered


class KubernetesDiscoverer(Discoverer):
    """Follows services. Its servers need no approval, since the operator named each service."""

    name = "kubernetes"
    is_certain = True
    needs_approval = False

    def __init__(self, config: KubernetesConfig, pace: Pace | None = None) -> None:
        self._is_changed = asyncio.Event()
        self._pace = pace or Pace()
        self._followers = tuple(
            Follower(service, partial(connected, config), self._is_changed.set, self._pace)
            for service in config.services
        )

    async def watch(self) -> AsyncGenerator[tuple[Discovered, ...], None]:
        following = [
            tasks.keep_running(follower.run, name=f"discover-kubernetes-{follower.service.service}")
            for follower in self._followers
        ]
        try:
            while True:
                await self._wait()
                # Read every follower, so that no change waits for the next change of another.
                if sum(follower.look() for follower in self._followers):
                    known = [(f.service, f.namespace, f.reading) for f in self._followers if f.reading is not None]
                    yield discovered(known)
        finally:
            await tasks.stop(*following)

    async def _wait(self) -> None:
        """Wait for changes, or until a vanished server must be dropped."""
        due = [f.look_again_at for f in self._followers if f.look_again_at is not None]
        try:
            async with asyncio.timeout_at(min(due, default=None)):
                await self._is_changed.wait()
                await asyncio.sleep(self._pace.gather_s)
        except TimeoutError:
            return
        self._is_changed.clear()
