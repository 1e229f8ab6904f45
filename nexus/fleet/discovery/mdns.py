"""Finds servers that announce themselves on the local network: mDNS, with DNS-SD."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Final

import msgspec
import structlog
from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from nexus.fleet.discovery.announced import Announced, announced, free_name, is_same_instance
from nexus.fleet.discovery.discoverer import Discovered, Discoverer
from nexus.fleet.discovery.network import MulticastUnavailable, join_network
from nexus.fleet.discovery.reaching import Reach, answers
from nexus.observability.repeats import Repeats

log = structlog.get_logger("nexus.fleet")

RESOLVE_MS: Final = 3000
MAX_INSTANCES: Final = 256
MAX_PER_HOST: Final = 32
AT_ONCE: Final = 16
"""Instances that are resolved, or connected to, at the same time."""
GATHER_S: Final = 0.2
"""After the first event, how long more are waited for: a machine that wakes up announces several services."""
INTERFACES_S: Final = 60.0
"""How often interfaces that have appeared are joined."""
RETRY_S: Final = 60.0
"""After multicast could not be used at all."""


class MdnsDiscoverer(Discoverer):
    """Browses for service types, resolves what is announced, and reports the instances that accept connections.

    zeroconf keeps a service that vanished without a goodbye for 18 minutes, and reports nothing when it is back within
    that time. So every instance that zeroconf knows is connected to at each look, and reported when that succeeds.
    """

    name = "mdns"
    needs_approval = True

    def __init__(self, service_types: Iterable[str], *, interval_s: float, reach: Reach = answers) -> None:
        """:param service_types: such as ``_ollama._tcp.local.``."""
        self.interval_s = interval_s
        self.service_types = tuple(service_types)
        self._reach = reach
        self._instances: dict[str, Announced] = {}
        """By the full name of the service."""
        self._changed: dict[str, str] = {}
        """Services to look at again, each with its type."""
        self._is_changed = asyncio.Event()
        self._limit = asyncio.Semaphore(AT_ONCE)
        self._repeats = Repeats(RETRY_S)

    async def watch(self) -> AsyncGenerator[tuple[Discovered, ...], None]:
        while True:
            try:
                network = join_network()
            except MulticastUnavailable as exc:
                log.warning("mdns_unavailable", reason=str(exc), retry_in_s=RETRY_S)
                await asyncio.sleep(RETRY_S)
                continue
            break
        browser = AsyncServiceBrowser(network.zeroconf, list(self.service_types), handlers=[self._note])
        try:
            async for seen in self._looks(network):
                yield seen
        finally:
            await browser.async_cancel()
            await network.async_close()

    async def _looks(self, network: AsyncZeroconf) -> AsyncGenerator[tuple[Discovered, ...], None]:
        clock = asyncio.get_running_loop().time
        joined_at = clock()
        while True:
            changed, self._changed = self._changed, {}
            self._is_changed.clear()
            await asyncio.gather(*(self._resolve(network.zeroconf, type_, name) for name, type_ in changed.items()))
            yield await self._seen()
            if clock() - joined_at > INTERFACES_S:
                await network.async_update_interfaces()
                joined_at = clock()
            await self._wait()

    async def _wait(self) -> None:
        """Wait for an event, or for the next look."""
        try:
            async with asyncio.timeout(self.interval_s):
                await self._is_changed.wait()
                await asyncio.sleep(GATHER_S)
        except TimeoutError:
            return

    def _note(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        """Look again at the service of that name; events may come late or in the wrong order, so none is believed."""
        del zeroconf, state_change
        if name in self._instances or len(self._changed) < MAX_INSTANCES:
            self._changed[name] = service_type
            self._is_changed.set()

    async def _resolve(self, zeroconf: Zeroconf, service_type: str, name: str) -> None:
        info = AsyncServiceInfo(service_type, name)
        async with self._limit:
            is_found = info.load_from_cache(zeroconf) or await info.async_request(zeroconf, RESOLVE_MS)
        known = self._instances.get(name)
        if not is_found:
            self._instances.pop(name, None)
            return
        found = announced(info)
        if found is None or (known is None and not self._has_room(found)):
            return
        if known is not None and is_same_instance(known, found):
            found = found.preferring(known.address)
        # An approval is bound to the name: a server keeps it, whatever another one announces.
        others = {other.name for each, other in self._instances.items() if each != name}
        label = found.name if known is None else known.name
        self._instances[name] = msgspec.structs.replace(found, name=free_name(label, found, others))

    def _has_room(self, found: Announced) -> bool:
        at_host = sum(found.host == other.host for other in self._instances.values())
        if len(self._instances) < MAX_INSTANCES and at_host < MAX_PER_HOST:
            return True
        now = asyncio.get_running_loop().time()
        if (unsaid := self._repeats.unsaid("full", now)) is not None:
            limits = {"most": MAX_INSTANCES, "most_per_host": MAX_PER_HOST}
            log.warning("mdns_instance_ignored", host=found.host, **limits, unsaid=unsaid)
        return False

    async def _seen(self) -> tuple[Discovered, ...]:
        """Return the instances that accept connections, each at the first of its addresses that does."""
        names = tuple(self._instances)
        reached = await asyncio.gather(*(self._reached(self._instances[name]) for name in names))
        for name, found in zip(names, reached, strict=True):
            if found is not None:
                self._instances[name] = found
        return tuple(found.discovered() for found in reached if found is not None)

    async def _reached(self, instance: Announced) -> Announced | None:
        for address in instance.addresses:
            async with self._limit:
                if await self._reach(address, instance.port):
                    return instance.preferring(address)
        return None
