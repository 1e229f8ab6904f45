"""The fleet: what Nexus knows of its backends, from the configuration, from probes, and from traffic."""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import structlog

from nexus.config.discovery_schema import HostsSourceConfig
from nexus.config.one_backend import load_backend
from nexus.dialing.upstream_settings import DEFAULT_SETTINGS, UpstreamSettings
from nexus.domain.backend import Status
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.outcome import AttemptOutcome
from nexus.fleet.added import AddedBackends, Load
from nexus.fleet.discovery.approval.applicants import Applicant, Applicants
from nexus.fleet.discovery.approval.approvals import Approvals
from nexus.fleet.discovery.approval.trust import Trust
from nexus.fleet.discovery.discoverer import Discoverer
from nexus.fleet.discovery.dns.discoverer import DnsDiscoverer
from nexus.fleet.discovery.files.declared import Clash, joining
from nexus.fleet.discovery.files.discoverer import FileDiscoverer
from nexus.fleet.discovery.files.watched_file import FileState
from nexus.fleet.discovery.found import FoundServers
from nexus.fleet.discovery.mdns.service import full_types
from nexus.fleet.discovery.origins import Origin, Origins
from nexus.fleet.discovery.ports.hosts import HostsDiscoverer, SubnetsDiscoverer
from nexus.fleet.discovery.ports.local import LocalDiscoverer
from nexus.fleet.discovery.search import Search
from nexus.fleet.discovery.sightings import Sighting, Sightings
from nexus.fleet.fetching import Fetcher
from nexus.fleet.health.misconfiguration import Misconfigurations
from nexus.fleet.health.passive import PassiveSignals
from nexus.fleet.health.watch import Watch
from nexus.fleet.health.watches import HealthChecker
from nexus.fleet.membership.identity import backend_id
from nexus.fleet.membership.member import Member
from nexus.fleet.membership.registry import BackendNotFound, Registry
from nexus.fleet.plan import FleetPlan
from nexus.fleet.probing.counts import ProbeCounts
from nexus.fleet.roster import Roster
from nexus.store.store import Store

if TYPE_CHECKING:
    from nexus.fleet.discovery.mdns.discoverer import MdnsDiscoverer

log = structlog.get_logger("nexus.fleet")

_without_environ: Load = partial(load_backend, environ={})


class Fleet:
    """One object for all who ask about backends or have something to tell of them. Used on one event loop."""

    def __init__(  # noqa: PLR0913 - what a fleet is built from, all but one optional
        self,
        plan: FleetPlan,
        *,
        discoverers: Sequence[Discoverer] = (),
        own_port: int | None = None,
        is_own: Callable[[str], bool] = lambda _: False,
        store: Store | None = None,
        load: Load = _without_environ,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Built before the loop runs; nothing is asked of anybody until :meth:`start`.

        :param discoverers: those that plugins contribute.
        :param own_port: where this Nexus listens, which is not looked at.
        :param is_own: whether a URL leads to this Nexus, which is no backend of its own wherever it was found.
        :param store: where approvals of found servers and added backends are kept; None: until the process ends.
        :param load: checks the table of a backend that is added, or that a watched file lists.
        """
        self.registry = Registry()
        self._plan = plan
        self._discoverers = discoverers
        self._fetcher = Fetcher(timeout_s=plan.health_check.timeout_seconds, max_age_s=plan.connection_age_s)
        self._local = LocalDiscoverer(self._fetcher, interval_s=plan.discovery.interval_seconds, own_port=own_port)
        self._health = HealthChecker(self.registry, self._fetcher, chance=chance)
        self._passive = PassiveSignals(self.registry, on_refused=self._health.refuse, chance=chance)
        self._misconfigurations = Misconfigurations(self.registry)
        self._roster = Roster(self.registry, self._health, self._passive, self._misconfigurations)
        self._sightings = Sightings()
        self._mdns: MdnsDiscoverer | None = None
        self._dns: DnsDiscoverer | None = None
        self._files: FileDiscoverer | None = None
        self._hosts: HostsDiscoverer | None = None
        self._subnets: SubnetsDiscoverer | None = None
        self._host_sources: tuple[HostsSourceConfig, ...] = ()
        self._own_port = own_port
        self._load = load
        self._clashes: frozenset[Clash] = frozenset()
        self.upstream_settings: dict[str, UpstreamSettings] = {}
        """How each backend is reached that is not configured, by its name: it is up to date before the fleet tells of a
        change."""
        self.on_settings_changed: Callable[[str], None] = lambda _: None
        self._need_approval: frozenset[str] = frozenset()
        self._search = Search(self._sightings, self._settle)
        self.added = AddedBackends(lambda: self._plan, load, store, self._settle)
        """Those that were added while the fleet was at work."""
        self._approvals = Approvals(store)
        self._applicants = Applicants(self._fetcher, self._approvals, self._settle)
        self._found = FoundServers(self._applicants, is_own)
        self._origins = Origins()

    @property
    def snapshot(self) -> FleetSnapshot:
        """What is believed now; immutable, so take it once and use it for one decision."""
        return self.registry.snapshot

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of the kinds of servers that are known."""
        return tuple(sorted(self._plan.kinds))

    @property
    def probe_counts(self) -> ProbeCounts:
        """What has come of the probes so far."""
        return self._health.counts

    @property
    def applicants(self) -> tuple[Applicant, ...]:
        """Servers that announced themselves and are not in the fleet: those to decide about, and the rejected."""
        return self._found.waiting()

    @property
    def waiting_count(self) -> int:
        """How many of them are to be decided about."""
        return sum(applicant.trust is Trust.PENDING for applicant in self.applicants)

    @property
    def found_counts(self) -> Mapping[tuple[str, str], int]:
        """How many servers announced themselves, by their source and by what was decided about them."""
        nothing = {(source, trust.value): 0 for source in self._need_approval for trust in Trust}
        return {**nothing, **self._applicants.counts()}

    @property
    def files(self) -> Mapping[str, FileState]:
        """What is known of each watched file, by its path."""
        return {} if self._files is None else self._files.states

    @property
    def clashes(self) -> frozenset[Clash]:
        """What watched files list and the fleet has no place for."""
        return self._clashes

    def on_change(self, callback: Callable[[FleetSnapshot], None]) -> None:
        """Call *callback* with each new snapshot."""
        self.registry.on_change(callback)

    async def start(self) -> None:
        """Take in the configured backends, and begin to probe and to look around."""
        await self._fetcher.__aenter__()
        await self._approvals.open()
        await self.added.open()
        finders = self._finders()
        if self._files is not None:
            await self._files.open()
            now = asyncio.get_running_loop().time()
            self._sightings.look(self._files.name, self._files.found(), now=now, is_certain=True)
        self._settle()
        self._search.follow(finders)

    async def stop(self) -> None:
        """End everything that runs in the background; the last snapshot stays readable."""
        await self._search.stop()
        await self._applicants.stop()
        await self._health.stop()
        self._passive.stop()
        self._misconfigurations.stop()
        await self._fetcher.__aexit__(None, None, None)

    async def wait_first_probes(self, timeout_s: float) -> bool:
        """Wait until each backend that is known now was probed once; return whether that was in time."""
        return await self._health.wait_first_probes(timeout_s)

    def reconfigure(self, plan: FleetPlan) -> None:
        """Become the fleet of *plan*, in one change. What stays, by its name, keeps its state; what goes finishes its
        requests unseen; what has another URL or kind is probed anew.
        """
        self._plan = plan
        self._fetcher.timeout_s = plan.health_check.timeout_seconds
        self._fetcher.max_age_s = plan.connection_age_s
        self._local.interval_s = plan.discovery.interval_seconds
        self._search.follow(self._finders())
        self._settle()

    def report(self, backend_id: str, outcome: AttemptOutcome, *, retry_after_s: float | None = None) -> None:
        """Tell how an attempt at a backend ended, exactly once for each.

        :param retry_after_s: what its answer asked for; it counts on 429 and 503 only.
        """
        self._passive.report(backend_id, outcome, retry_after_s=retry_after_s)
        self._misconfigurations.report(backend_id, outcome)

    def report_unsupported(self, backend_id: str, endpoint: str, model: str) -> None:
        """Tell that a backend does not support *endpoint* with *model*: others are asked first, until it changes."""
        self._passive.note_unsupported(backend_id, endpoint, model)

    def report_missing_model(self, backend_id: str, model: str) -> None:
        """Tell that a backend denied to have *model*: it is not asked for it until its next probe lists it again."""
        self._passive.miss_model(backend_id, model)

    async def look(self, is_found: Callable[[], bool]) -> bool:
        """Look again at backends that may have changed, together with all other callers, until *is_found* or for a
        second at most; return whether any backend was probed.
        """
        return await self._health.look(is_found)

    def origin_of(self, backend_id: str) -> Origin:
        """Return where a backend comes from, since when it is in the fleet, and when its discoverer saw it last."""
        return self._origins.of(backend_id, now=asyncio.get_running_loop().time())

    def next_probe_at(self, backend_id: str) -> float | None:
        """Return when a backend will be probed next, in Unix seconds; None when that is now, or never."""
        watch = self._health.get(backend_id)
        return None if watch is None else watch.next_probe_at

    def drain(self, name: str) -> None:
        """Give no more requests to the backend of that name. :raises BackendNotFound: when there is none."""
        self._watch(name).drain()

    def undrain(self, name: str) -> None:
        """Let it serve again, once a probe has found it well. :raises BackendNotFound: when there is none."""
        self._watch(name).undrain()

    @property
    def are_decisions_kept(self) -> bool:
        """Whether approvals and rejections survive a restart."""
        return self._approvals.are_kept

    def has_announced_itself(self, name: str) -> bool:
        """Whether a server of that name can be approved and rejected."""
        return self._applicants.knows(name)

    async def approve(self, name: str, url: str | None = None) -> None:
        """Take a server that announced itself into the fleet, now and whenever it comes back as it is.

        :param url: where it was when that was decided; None: wherever it is.
        :raises AnotherServer: it is not there any more.
        :raises BackendNotFound: none of that name has announced itself.
        :raises NotRecognised: its answers do not show what it is.
        :raises StoreError: the decision could not be stored.
        """
        await self._applicants.decide(name, Trust.APPROVED, url)

    async def reject(self, name: str, url: str | None = None) -> None:
        """Keep a server that announced itself out of the fleet; requests that it is busy with end as they would have.

        :param url: as of :meth:`approve`.
        :raises AnotherServer: it is not there any more.
        :raises BackendNotFound: none of that name has announced itself.
        :raises StoreError: the decision could not be stored.
        """
        await self._applicants.decide(name, Trust.REJECTED, url)

    def _watch(self, name: str) -> Watch:
        watch = self._health.get(backend_id(name))
        if watch is None:
            raise BackendNotFound(name)
        return watch

    def _settle(self) -> None:
        plan = self._plan
        now = asyncio.get_running_loop().time()
        sightings = self._sightings.listed(now=now, grace_s=plan.discovery.grace_period_seconds)
        named = self._those_named(plan, sightings)
        unwell = {row.name for row in self.snapshot.backends if row.status is Status.UNHEALTHY}
        members = {**named, **self._found.joining(sightings, named.values(), plan, self._need_approval, unwell)}
        renewed = self._take_settings(member for member in members.values() if member.id not in plan.members)
        self._origins.note(members, sightings)
        self._roster.settle(members, config=plan.health_check, kinds=plan.kinds)
        for name in renewed:
            self.on_settings_changed(name)

    def _those_named(self, plan: FleetPlan, sightings: Iterable[Sighting]) -> dict[str, Member]:
        members = {**plan.members, **self.added.standing(plan)}
        declared, clashes = joining(sightings, members.values(), plan.kinds)
        for clash in sorted(clashes - self._clashes, key=lambda each: (each.file, each.name)):
            log.warning(
                "fleet_file_entry_ignored", backend=clash.name, file=clash.file, taken_by=clash.by, source=clash.source
            )
        self._clashes = clashes
        return {**members, **{member.id: member for member in declared}}

    def _take_settings(self, members: Iterable[Member]) -> list[str]:
        """Take in how *members* are reached, and return the names for which that has changed."""
        now = {member.config.name: member.settings for member in members if member.settings != DEFAULT_SETTINGS}
        before = self.upstream_settings.copy()
        self.upstream_settings.clear()
        self.upstream_settings.update(now)
        return [name for name in before.keys() | now.keys() if before.get(name) != now.get(name)]

    def _finders(self) -> tuple[Discoverer, ...]:
        finders: list[Discoverer] = [
            *self._discoverers,
            *self._dns_finder(),
            *self._file_finder(),
            *self._host_finders(),
        ]
        if self._plan.looks_around(has_finders=bool(self._discoverers)):
            finders += [self._local, *self._mdns_finder()]
        self._need_approval = frozenset(finder.name for finder in finders if finder.needs_approval)
        return tuple(finders)

    def _dns_finder(self) -> tuple[Discoverer, ...]:
        config = self._plan.discovery
        if self._dns is None or (self._dns.sources, self._dns.nameservers) != (config.dns, config.nameservers):
            dns = DnsDiscoverer(config.dns, config.nameservers, before=self._dns)
            self._dns = dns if config.dns else None
        return () if self._dns is None else (self._dns,)

    def _file_finder(self) -> tuple[Discoverer, ...]:
        sources = self._plan.discovery.file
        # A new one at each reload: files are read again, and with them the secrets that they name.
        files = FileDiscoverer(sources, self._load, lambda: self._plan.kinds, before=self._files)
        self._files = files if sources else None
        return () if self._files is None else (self._files,)

    def _host_finders(self) -> Iterator[Discoverer]:
        sources, interval_s = self._plan.discovery.hosts, self._plan.discovery.interval_seconds
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
        for finder in (self._hosts, self._subnets):
            if finder is not None and finder.ports:
                finder.interval_s = interval_s
                yield finder

    def _mdns_finder(self) -> tuple[Discoverer, ...]:
        config = self._plan.discovery
        if not config.mdns:
            return ()
        # zeroconf takes a while to load, and many fleets do not need it.
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
        return (self._mdns,)
