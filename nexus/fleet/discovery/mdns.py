"""Finds servers that announce themselves on the local network: mDNS, with DNS-SD."""

import asyncio
import random
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from itertools import islice
from typing import Final

import structlog
from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from nexus import tasks
from nexus.fleet.discovery.announced import announced, label_of
from nexus.fleet.discovery.discoverer import Discovered, Discoverer
from nexus.fleet.discovery.instances import MAX_INSTANCES, MAX_PER_HOST, ApprovedUrl, Instance, Instances
from nexus.fleet.discovery.network import MulticastUnavailable, interfaces, join_network
from nexus.fleet.discovery.reaching import Reach, answers
from nexus.observability.repeats import Repeats

log = structlog.get_logger("nexus.fleet")

RESOLVE_MS: Final = 3000
AT_ONCE: Final = 16
"""Instances that are resolved, or connected to, at the same time."""
GATHER_S: Final = 0.2
"""After the first event, how long more are waited for: a machine that wakes up announces several services."""
REPEAT_S: Final = 60.0
"""Between two lines of the log about the same."""


class MdnsDiscoverer(Discoverer):
    """Browses for service types, resolves what is announced, and reports the instances that accept connections.

    zeroconf keeps a service that vanished without a goodbye for 18 minutes, and reports nothing when it is back within
    that time. So every instance that zeroconf knows is connected to again and again, and reported when that succeeds.
    Those that do not answer, and names that cannot be resolved, are tried beside that: they delay no other.
    """

    name = "mdns"
    needs_approval = True

    def __init__(
        self,
        service_types: Iterable[str],
        *,
        interval_s: float,
        reach: Reach = answers,
        approved_url: ApprovedUrl = lambda _: None,
        before: "MdnsDiscoverer | None" = None,
    ) -> None:
        """:param service_types: such as ``_ollama._tcp.local.``.
        :param approved_url: tells the servers that others must not displace.
        :param before: the one that it replaces at a reload: of a type that is still followed, its instances stay.
        """
        self.interval_s = interval_s
        self.service_types = tuple(service_types)
        self._reach = reach
        self._approved_url = approved_url
        self._instances = Instances(approved_url, before=() if before is None else before.instances_of(service_types))
        self._changed: dict[str, str] = {}
        """Services to resolve, each with its type."""
        self._is_overflowing = False
        """Whether there were more of them than can be noted."""
        self._has_changed = asyncio.Event()
        self._has_silent = asyncio.Event()
        self._has_news = asyncio.Event()
        self._repeats = Repeats(REPEAT_S)

    def instances_of(self, service_types: Iterable[str]) -> Iterator[Instance]:
        """Yield the instances that are of these types."""
        ends = tuple(f".{service_type}".lower() for service_type in service_types)
        return (instance for instance in self._instances if instance.service.endswith(ends))

    async def watch(self) -> AsyncGenerator[tuple[Discovered, ...], None]:
        async with AsyncExitStack() as resources:
            network = await self._join()
            resources.push_async_callback(network.async_close)
            self._note_those_of_before()
            for name, work in (("browse", self._browse), ("resolve", self._resolve_all), ("try", self._try_silent)):
                task = tasks.keep_running(partial(work, network), name=f"mdns-{name}")
                resources.push_async_callback(tasks.stop, task)
            while True:
                self._has_news.clear()
                await self._check(each for each in self._instances if self._instances.is_used(each))
                yield self._instances.answering()
                await _wait(self._has_news, self.interval_s)

    async def _join(self) -> AsyncZeroconf:
        while True:
            try:
                return join_network()
            except MulticastUnavailable as exc:
                self._warn("mdns_unavailable", reason=str(exc), retry_in_s=self.interval_s)
            await asyncio.sleep(self.interval_s)

    async def _browse(self, network: AsyncZeroconf) -> None:
        """Ask for services, and ask anew when interfaces have changed: only what is asked anew reaches new ones."""
        while True:
            joined = interfaces()
            browser = AsyncServiceBrowser(network.zeroconf, list(self.service_types), handlers=[self._note])
            try:
                while joined == interfaces():
                    await asyncio.sleep(self.interval_s)
                    self._look_up_missed(network.zeroconf)
            finally:
                await browser.async_cancel()
            await network.async_update_interfaces()

    def _note_those_of_before(self) -> None:
        """Resolve what was known when another watch ended: of those that left meanwhile, nothing tells."""
        for service_type in self.service_types:
            self._changed |= {each.full_name: service_type for each in self.instances_of([service_type])}
        self._has_changed.set()

    def _note(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        """Look again at the service of that name; events may come late or in the wrong order, so none is believed."""
        del zeroconf, state_change
        if len(self._changed) < MAX_INSTANCES or self._is_known(name, service_type):
            self._changed[name] = service_type
        elif name not in self._changed:
            self._is_overflowing = True
        self._has_changed.set()

    def _look_up_missed(self, zeroconf: Zeroconf) -> None:
        """Note some of the services that zeroconf knows and that could not be noted when it told of them."""
        if not self._is_overflowing or self._changed:
            return
        known = {instance.service for instance in self._instances}
        missed = [
            (pointer.alias, service_type)
            for service_type in self.service_types
            for pointer in zeroconf.cache.async_entries_with_name(service_type)
            if hasattr(pointer, "alias") and pointer.alias.lower() not in known
        ]
        self._is_overflowing = len(missed) > MAX_INSTANCES
        self._changed |= dict(random.sample(missed, min(len(missed), MAX_INSTANCES)))
        self._has_changed.set()

    def _is_known(self, name: str, service_type: str) -> bool:
        return self._approved_url(label_of(name, service_type)) is not None or self._instances.knows(name)

    async def _resolve_all(self, network: AsyncZeroconf) -> None:
        while True:
            await self._has_changed.wait()
            self._has_changed.clear()
            await asyncio.sleep(GATHER_S)
            while self._changed:
                known_first = sorted(self._changed.items(), key=lambda item: not self._is_known(*item))
                unresolved: list[AsyncServiceInfo] = []
                for name, service_type in known_first:
                    info = AsyncServiceInfo(service_type, name)
                    if info.load_from_cache(network.zeroconf):
                        self._take_in(info)
                    elif len(unresolved) < AT_ONCE:
                        unresolved.append(info)
                    else:
                        continue
                    del self._changed[name]
                    await asyncio.sleep(0)
                self._has_silent.set()
                await asyncio.gather(*(self._resolve(network.zeroconf, info) for info in unresolved))

    async def _resolve(self, zeroconf: Zeroconf, info: AsyncServiceInfo) -> None:
        if await info.async_request(zeroconf, RESOLVE_MS):
            self._take_in(info)
            self._has_silent.set()
        else:
            self._instances.forget(info.name)
            self._has_news.set()

    def _take_in(self, info: AsyncServiceInfo) -> None:
        found = announced(info)
        if found is not None and not self._instances.add(info.name, found):
            limits = {"most": MAX_INSTANCES, "most_per_host": MAX_PER_HOST}
            self._warn("mdns_instance_ignored", host=found.host, **limits)

    async def _try_silent(self, network: AsyncZeroconf) -> None:
        """Connect to those that do not answer, each as often as to the others if time permits."""
        del network
        clock = asyncio.get_running_loop().time
        while True:
            self._has_silent.clear()
            silent = [each for each in self._instances if not self._instances.is_used(each)]
            due = sorted((e for e in silent if clock() - e.checked_at >= self.interval_s), key=lambda e: e.checked_at)
            await self._check(islice(due, AT_ONCE))
            if len(due) <= AT_ONCE:
                await _wait(self._has_silent, self.interval_s)

    async def _check(self, instances: Iterable[Instance]) -> None:
        limit = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._connect_to(instance, limit) for instance in instances))

    async def _connect_to(self, instance: Instance, limit: asyncio.Semaphore) -> None:
        """Find out whether *instance* answers, and at which of its addresses."""
        was_answering = instance.is_answering
        first, *others = self._instances.addresses_of(instance)
        async with limit:
            reached = [first] if await self._reach(first, instance.found.port) else []
            if not reached:
                answering = await asyncio.gather(*(self._reach(other, instance.found.port) for other in others))
                reached = [other for other, is_answering in zip(others, answering, strict=True) if is_answering]
        instance.checked_at = asyncio.get_running_loop().time()
        instance.is_answering = bool(reached)
        if reached:
            instance.found = instance.found.preferring(reached[0])
        if instance.is_answering != was_answering:
            self._has_news.set()

    def _warn(self, event: str, **facts: object) -> None:
        if (unsaid := self._repeats.unsaid(event, asyncio.get_running_loop().time())) is not None:
            log.warning(event, **facts, unsaid=unsaid)


async def _wait(event: asyncio.Event, within_s: float) -> None:
    """Wait for *event*, or for as long."""
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return
