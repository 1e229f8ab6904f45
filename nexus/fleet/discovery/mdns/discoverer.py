"""Finds servers that announce themselves on the local network by mDNS and DNS-SD."""

import asyncio
import random
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from itertools import islice
from typing import Final

import structlog
from zeroconf import BadTypeInNameException, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from nexus import tasks
from nexus.fleet.clock import wait_for_event
from nexus.fleet.discovery.discoverer import Discovered, Discoverer
from nexus.fleet.discovery.mdns.instances import MAX_INSTANCES, MAX_PER_HOST, ApprovedUrl, Instance, Instances
from nexus.fleet.discovery.mdns.network import MulticastUnavailable, interfaces, join_network, leave_network
from nexus.fleet.discovery.mdns.service import label_of, parse_service
from nexus.fleet.discovery.tcp_check import TcpCheck, accepts_connections
from nexus.observability.logging.repeats import Repeats

log = structlog.get_logger("nexus.fleet")

RESOLVE_MS: Final = 3000
AT_ONCE: Final = 16
"""Concurrent resolutions, and concurrent connections to instances in use."""
SILENT_AT_ONCE: Final = 64
"""Concurrent connections to silent instances, most of which time out."""
GATHER_S: Final = 0.2
"""How long to wait for more events after the first: a machine that wakes up announces several services."""
BROWSE_S: Final = 300.0
"""Between two queries for all services, because an announcement may have been lost."""
REPEAT_S: Final = 60.0
"""Between two log lines of the same event."""


class MdnsDiscoverer(Discoverer):
    """Browses for service types, resolves what is announced, and reports the instances that accept connections.

    zeroconf keeps a service that vanished without a goodbye for 18 minutes, and does not report its return within that
    time. So the discoverer connects to every known instance repeatedly, and reports those that accept the connection.
    Silent instances and names that cannot be resolved are tried by tasks of their own, so that they delay no other.
    """

    name = "mdns"
    needs_approval = True

    def __init__(
        self,
        service_types: Iterable[str],
        *,
        interval_s: float,
        accepts: TcpCheck = accepts_connections,
        approved_url: ApprovedUrl = lambda _: None,
        before: "MdnsDiscoverer | None" = None,
    ) -> None:
        """:param service_types: such as ``_ollama._tcp.local.``.
        :param approved_url: identifies the servers that others must not displace.
        :param before: the discoverer that it replaces at a reload; the instances of types in both are kept.
        """
        self.interval_s = interval_s
        self.service_types = tuple(service_types)
        self._accepts = accepts
        self._approved_url = approved_url
        self._instances = Instances(approved_url, before=() if before is None else before.instances_of(service_types))
        self._urgent: dict[str, str] = {}
        self._changed: dict[str, str] = {}
        """Services to resolve, each with its type; known ones are urgent."""
        self._is_overflowing = False
        """Whether there were too many services to keep."""
        self._has_changed = asyncio.Event()
        self._has_silent = asyncio.Event()
        self._has_news = asyncio.Event()
        self._repeats = Repeats(REPEAT_S)

    def instances_of(self, service_types: Iterable[str]) -> Iterator[Instance]:
        """Return the instances of these types."""
        ends = tuple(f".{service_type}".lower() for service_type in service_types)
        return (instance for instance in self._instances if instance.service.endswith(ends))

    async def watch(self) -> AsyncGenerator[tuple[Discovered, ...], None]:
        async with AsyncExitStack() as resources:
            network = await self._join()
            resources.push_async_callback(leave_network, network)
            self._resolve_known()
            for name, work in (("browse", self._browse), ("resolve", self._resolve_all), ("try", self._try_silent)):
                task = tasks.keep_running(partial(work, network), name=f"mdns-{name}")
                resources.push_async_callback(tasks.stop, task)
            while True:
                await self._check(each for each in self._due() if self._instances.is_used(each))
                self._has_news.clear()
                yield self._instances.answering()
                await wait_for_event(self._has_news, self.interval_s)
                await asyncio.sleep(min(GATHER_S, self.interval_s))

    async def _join(self) -> AsyncZeroconf:
        while True:
            try:
                return join_network()
            except MulticastUnavailable as exc:
                self._warn("mdns_unavailable", reason=str(exc), retry_in_s=self.interval_s)
            await asyncio.sleep(self.interval_s)

    async def _browse(self, network: AsyncZeroconf) -> None:
        """Query for services, again after a while and after interfaces have changed."""
        clock = asyncio.get_running_loop().time
        while True:
            joined, queried_at = interfaces(), clock()
            browser = AsyncServiceBrowser(network.zeroconf, list(self.service_types), handlers=[self._note])
            try:
                while joined == interfaces() and clock() - queried_at < BROWSE_S:
                    await asyncio.sleep(self.interval_s)
                    self._look_up_missed(network.zeroconf)
            finally:
                await browser.async_cancel()
            await network.async_update_interfaces()

    def _resolve_known(self) -> None:
        """Resolve the instances of an earlier watch, since no event reports those that left between the two."""
        for service_type in self.service_types:
            self._urgent |= {each.full_name: service_type for each in self.instances_of([service_type])}
        self._has_changed.set()

    def _note(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        """Resolve the service again, whatever the event says: events may come late or in the wrong order."""
        del zeroconf, state_change
        self._has_changed.set()
        if self._is_known(name, service_type) and len(self._urgent) < MAX_INSTANCES:
            self._urgent[name] = service_type
            return
        if name not in self._changed and len(self._changed) >= MAX_INSTANCES:
            # Services that cannot be resolved stay longest, so the oldest is dropped.
            self._is_overflowing = True
            del self._changed[next(iter(self._changed))]
        self._changed[name] = service_type

    def _look_up_missed(self, zeroconf: Zeroconf) -> None:
        """Resolve some of the services that zeroconf knows and that were dropped for lack of room."""
        if not self._is_overflowing or self._changed:
            return
        known = {instance.service for instance in self._instances}
        missed = [
            (pointer.alias, service_type)
            for service_type in self.service_types
            for pointer in zeroconf.cache.async_entries_with_name(service_type)
            if hasattr(pointer, "alias") and pointer.alias.lower() not in known
        ]
        # Only the names of the others are known, and resolving each takes seconds.
        described = [item for item in missed if zeroconf.cache.async_entries_with_name(item[0])]
        self._is_overflowing = bool(missed)
        for some, most in ((described, MAX_INSTANCES - AT_ONCE), (missed, AT_ONCE)):
            self._changed |= dict(random.sample(some, min(len(some), most)))
        self._has_changed.set()

    def _is_known(self, name: str, service_type: str) -> bool:
        return self._approved_url(label_of(name, service_type)) is not None or self._instances.knows(name)

    async def _resolve_all(self, network: AsyncZeroconf) -> None:
        while True:
            await self._has_changed.wait()
            self._has_changed.clear()
            await asyncio.sleep(GATHER_S)
            while self._urgent or self._changed:
                unresolved = await self._resolve_described(network.zeroconf)
                self._has_silent.set()
                await asyncio.gather(*(self._resolve(network.zeroconf, info) for info in unresolved))

    async def _resolve_described(self, zeroconf: Zeroconf) -> list[AsyncServiceInfo]:
        """Add those changed services whose records are all in zeroconf's cache, and return some of the others."""
        unresolved: list[AsyncServiceInfo] = []
        for name, service_type in (*self._urgent.items(), *self._changed.items()):
            info = _service(service_type, name)
            if info is not None and info.load_from_cache(zeroconf):
                self._add(info)
            elif info is not None and len(unresolved) < AT_ONCE:
                unresolved.append(info)
            elif info is not None:
                continue
            self._urgent.pop(name, None)
            self._changed.pop(name, None)
            # Let the loop process packets in between, in case they never stop.
            await asyncio.sleep(0)
        return unresolved

    async def _resolve(self, zeroconf: Zeroconf, info: AsyncServiceInfo) -> None:
        if await info.async_request(zeroconf, RESOLVE_MS):
            self._add(info)
            self._has_silent.set()
        else:
            await self._check(each for each in self._instances if each.service == info.name.lower())
            self._instances.withdraw(info.name)
            self._has_news.set()

    def _add(self, info: AsyncServiceInfo) -> None:
        found = parse_service(info)
        if found is not None and not self._instances.add(info.name, found):
            self._is_overflowing = True
            limits = {"most": MAX_INSTANCES, "most_per_host": MAX_PER_HOST}
            self._warn("mdns_instance_ignored", host=found.host, **limits)

    async def _try_silent(self, network: AsyncZeroconf) -> None:
        """Connect to silent instances, as often as to the others if time permits."""
        del network
        while True:
            self._has_silent.clear()
            silent = [each for each in self._due() if not self._instances.is_used(each)]
            await self._check(islice(silent, SILENT_AT_ONCE), SILENT_AT_ONCE)
            if len(silent) <= SILENT_AT_ONCE:
                await wait_for_event(self._has_silent, self.interval_s)

    def _due(self) -> list[Instance]:
        """Return the instances without a recent attempt to connect, longest waiting first."""
        before = asyncio.get_running_loop().time() - self.interval_s
        return sorted((e for e in self._instances if e.checked_at <= before), key=lambda e: e.checked_at)

    async def _check(self, instances: Iterable[Instance], at_once: int = AT_ONCE) -> None:
        limit = asyncio.Semaphore(at_once)
        await asyncio.gather(*(self._connect_to(instance, limit) for instance in instances))

    async def _connect_to(self, instance: Instance, limit: asyncio.Semaphore) -> None:
        """Check whether *instance* accepts connections, and at which of its addresses."""
        was_answering = instance.is_answering
        first, *others = self._instances.addresses_of(instance)
        async with limit:
            reached = [first] if await self._accepts(first, instance.found.port) else []
            if not reached:
                answering = await asyncio.gather(*(self._accepts(other, instance.found.port) for other in others))
                reached = [other for other, is_answering in zip(others, answering, strict=True) if is_answering]
        instance.checked_at = asyncio.get_running_loop().time()
        instance.is_answering = bool(reached)
        if reached:
            instance.answered_at = instance.checked_at
            instance.found = instance.found.preferring(reached[0])
        if instance.is_answering != was_answering:
            self._has_news.set()

    def _warn(self, event: str, **facts: object) -> None:
        if (unsaid := self._repeats.unsaid(event, asyncio.get_running_loop().time())) is not None:
            log.warning(event, **facts, unsaid=unsaid)


def _service(service_type: str, name: str) -> AsyncServiceInfo | None:
    """Return the request that resolves a service, None if zeroconf rejects its name."""
    try:
        return AsyncServiceInfo(service_type, name)
    except BadTypeInNameException:
        return None
