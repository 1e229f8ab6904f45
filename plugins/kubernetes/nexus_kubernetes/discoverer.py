"""All configured services of a cluster: what is found behind each goes into one list."""

import asyncio
from collections.abc import AsyncGenerator
from functools import partial

from nexus.api import Discovered, Discoverer, tasks
from nexus_kubernetes.cluster import connected
from nexus_kubernetes.config import KubernetesConfig
from nexus_kubernetes.following import Follower, Pace
from nexus_kubernetes.servers import discovered


class KubernetesDiscoverer(Discoverer):
    """Follows services. What the API server says is certain, and the operator has named each service."""

    name = "kubernetes"
    is_certain = True
    needs_approval = False

    def __init__(self, config: KubernetesConfig, pace: Pace | None = None) -> None:
        self._is_changed = asyncio.Event()
        self._followers = tuple(
            Follower(service, partial(connected, config), self._is_changed.set, pace or Pace())
            for service in config.services
        )

    async def watch(self) -> AsyncGenerator[tuple[Discovered, ...], None]:
        following = [
            tasks.keep_running(follower.run, name=f"discover-kubernetes-{follower.service.service}")
            for follower in self._followers
        ]
        try:
            while True:
                self._is_changed.clear()
                known = [(f.service, f.namespace, f.reading) for f in self._followers if f.reading is not None]
                if known:
                    yield discovered(known)
                await self._is_changed.wait()
        finally:
            await tasks.stop(*following)
