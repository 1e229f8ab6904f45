"""Builds the discoverers that the configuration asks for."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nexus.config.discovery_schema import HostsSourceConfig
from nexus.config.fleet_file import Load
from nexus.fleet.discovery.approval.approvals import Approvals
from nexus.fleet.discovery.discoverer import Discoverer
from nexus.fleet.discovery.dns.discoverer import DnsDiscoverer
from nexus.fleet.discovery.files.discoverer import FileDiscoverer
from nexus.fleet.discovery.mdns.service import full_types
from nexus.fleet.discovery.ports.hosts import HostsDiscoverer, SubnetsDiscoverer
from nexus.fleet.discovery.ports.local import LocalDiscoverer
from nexus.fleet.fetching import Fetcher
from nexus.fleet.plan import FleetPlan

if TYPE_CHECKING:
    from nexus.fleet.discovery.mdns.discoverer import MdnsDiscoverer


class ConfiguredDiscoverers:
    """Keeps each discoverer across reloads until its own settings change; its successor starts from what it found."""

    def __init__(
        self,
        fetcher: Fetcher,
        approvals: Approvals,
        load: Load,
        *,
        contributed: Sequence[Discoverer] = (),
        own_port: int | None = None,
    ) -> None:
        """:param contributed: the discoverers of plugins.
        :param own_port: the port of this Nexus, which is not scanned.
        """
        self._fetcher = fetcher
        self._approvals = approvals
        self._load = load
        self._contributed = contributed
        self._own_port = own_port
        self.dns: DnsDiscoverer | None = None
        self.files: FileDiscoverer | None = None
        self._local: LocalDiscoverer | None = None
        self._mdns: MdnsDiscoverer | None = None
        self._hosts: HostsDiscoverer | None = None
        self._subnets: SubnetsDiscoverer | None = None
        self._host_sources: tuple[HostsSourceConfig, ...] = ()

    def for_plan(self, plan: FleetPlan) -> tuple[Discoverer, ...]:
        """Return all discoverers of *plan*, those of plugins first."""
        discoverers = [*self._contributed, *self._of_dns(plan), *self._of_files(plan), *self._of_hosts(plan)]
        if plan.looks_around(has_finders=bool(self._contributed)):
            discoverers += [self._of_this_machine(plan), *self._of_mdns(plan)]
        return tuple(discoverers)

    def _of_dns(self, plan: FleetPlan) -> Iterator[Discoverer]:
        config = plan.discovery
        if self.dns is None or (self.dns.sources, self.dns.nameservers) != (config.dns, config.nameservers):
            self.dns = DnsDiscoverer(config.dns, config.nameservers, before=self.dns) if config.dns else None
        if self.dns is not None:
            yield self.dns

    def _of_files(self, plan: FleetPlan) -> Iterator[Discoverer]:
        sources = plan.discovery.file
        # A reload always makes a new one, so that files are read again together with the secrets that they name.
        self.files = FileDiscoverer(sources, self._load, plan.kinds, before=self.files) if sources else None
        if self.files is not None:
            yield self.files

    def _of_hosts(self, plan: FleetPlan) -> Iterator[Discoverer]:
        sources, interval_s = plan.discovery.hosts, plan.discovery.interval_seconds
        if sources != self._host_sources:
            self._host_sources = sources
            known = {} if self._hosts is None else self._hosts.ports
            self._hosts = HostsDiscoverer(
                sources, self._fetcher, interval_s=interval_s, own_port=self._own_port, known=known
            )
            known = {} if self._subnets is None else self._subnets.ports
            self._subnets = SubnetsDiscoverer(
                sources, self._fetcher, interval_s=interval_s, known=known, elsewhere=self._hosts.places
            )
        for discoverer in (self._hosts, self._subnets):
            if discoverer is not None and discoverer.ports:
                discoverer.interval_s = interval_s
                yield discoverer

    def _of_this_machine(self, plan: FleetPlan) -> Discoverer:
        interval_s = plan.discovery.interval_seconds
        if self._local is None:
            self._local = LocalDiscoverer(self._fetcher, interval_s=interval_s, own_port=self._own_port)
        self._local.interval_s = interval_s
        return self._local

    def _of_mdns(self, plan: FleetPlan) -> Iterator[Discoverer]:
        config = plan.discovery
        if not config.mdns:
            return
        # zeroconf takes a while to import, and many fleets do not need it.
        from nexus.fleet.discovery.mdns.discoverer import MdnsDiscoverer

        types = full_types(config.service_types)
        if self._mdns is None or self._mdns.service_types != types:
            self._mdns = MdnsDiscoverer(
                types,
                interval_s=config.interval_seconds,
                approved_url=lambda name: self._approvals.approved_url((MdnsDiscoverer.name, name)),
                before=self._mdns,
            )
        self._mdns.interval_s = config.interval_seconds
        yield self._mdns
