"""The fleet: all backends of one Nexus, as configured, found, probed and seen through traffic."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial

import msgspec
import structlog

from nexus.config.fleet_file import Load
from nexus.config.one_backend import load_backend
from nexus.dialing.upstream_settings import DEFAULT_SETTINGS, UpstreamSettings
from nexus.domain.backend import Status
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.outcome import AttemptOutcome
from nexus.fleet.added import AddedBackends
from nexus.fleet.discovery.admission import FoundServers
from nexus.fleet.discovery.approval.applicants import Applicant, Applicants
from nexus.fleet.discovery.approval.approvals import Approvals
from nexus.fleet.discovery.approval.trust import Trust
from nexus.fleet.discovery.configured import ConfiguredDiscoverers
from nexus.fleet.discovery.discoverer import Discoverer
from nexus.fleet.discovery.files.declared import Clash, resolve_clashes
from nexus.fleet.discovery.files.watched_file import FileState
from nexus.fleet.discovery.origins import Origin, Origins
from nexus.fleet.discovery.search import Search
from nexus.fleet.discovery.sightings import Sighting, Sightings
from nexus.fleet.fetching import Fetcher
from nexus.fleet.health.checker import HealthChecker
from nexus.fleet.health.misconfiguration import Misconfigurations
from nexus.fleet.health.passive import PassiveSignals
from nexus.fleet.health.watch import Watch
from nexus.fleet.loads.counts import ReadCounts
from nexus.fleet.membership.identity import backend_id
from nexus.fleet.membership.member import Member
from nexus.fleet.membership.registry import BackendNotFound, Registry
from nexus.fleet.plan import FleetPlan
from nexus.fleet.probing.counts import ProbeCounts
from nexus.fleet.roster import Roster
from nexus.store.store import Store

log = structlog.get_logger("nexus.fleet")

_without_environ: Load = partial(load_backend, environ={})


class Decided(msgspec.Struct, frozen=True):
    """What an administrator has decided about one backend."""

    name: str
    is_draining: bool | None = None
    """None: whether it is approved."""


async def _tell_none(_: Decided) -> None:
    pass


class Fleet:
    """Answers questions about backends and takes reports of them; used on one event loop."""

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
        """Nothing is sent before :meth:`start`, so a fleet can be built before the loop runs.

        :param discoverers: the discoverers of plugins.
        :param own_port: the port of this Nexus, which is not scanned.
        :param is_own: whether a URL leads to this Nexus, which is never its own backend.
        :param store: keeps approvals and added backends; None: they last until the process ends.
        :param load: validates the table of a backend that is added or that a watched file lists.
        """
        self.registry = Registry()
        self._plan = plan
        self._fetcher = Fetcher(timeout_s=plan.health_check.timeout_seconds, max_age_s=plan.connection_age_s)
        self._health = HealthChecker(self.registry, self._fetcher, chance=chance)
        self._passive = PassiveSignals(self.registry, on_refused=self._health.note_refused, chance=chance)
        self._misconfigurations = Misconfigurations(self.registry)
        self._roster = Roster(self.registry, self._health, self._passive, self._misconfigurations)
        self._sightings = Sightings()
        self._clashes: frozenset[Clash] = frozenset()
        self.upstream_settings: dict[str, UpstreamSettings] = {}
        """By name, those of each backend that is not configured; current before a change of the fleet is published."""
        self.on_settings_changed: Callable[[str], None] = lambda _: None
        self.on_decision: Callable[[Decided], Awaitable[None]] = _tell_none
        """Called after an administrator has decided."""
        self._need_approval: frozenset[str] = frozenset()
        self._search = Search(self._sightings, self._update_members)
        self.added = AddedBackends(lambda: self._plan, load, store, self._update_members)
        """The backends that administrators have added."""
        self._approvals = Approvals(store)
        self._applicants = Applicants(self._fetcher, self._approvals, self._update_members)
        self._found = FoundServers(self._applicants, is_own)
        self._origins = Origins()
        self._discoverers = ConfiguredDiscoverers(
            self._fetcher, self._approvals, load, contributed=discoverers, own_port=own_port
        )

    @property
    def snapshot(self) -> FleetSnapshot:
        """The current state; immutable, so take it once for each decision."""
        return self.registry.snapshot

    @property
    def plan(self) -> FleetPlan:
        """The configuration in force."""
        return self._plan

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of all known kinds of servers."""
        return tuple(sorted(self._plan.kinds))

    @property
    def probe_counts(self) -> ProbeCounts:
        """The results of all probes so far."""
        return self._health.counts

    @property
    def read_counts(self) -> ReadCounts:
        """The results of all reads of what engines report about their load so far."""
        return self._health.loads.counts

    @property
    def applicants(self) -> tuple[Applicant, ...]:
        """Servers that announced themselves and are not in the fleet: pending and rejected ones."""
        return self._found.waiting()

    @property
    def waiting_count(self) -> int:
        """How many of them are pending."""
        return sum(applicant.trust is Trust.PENDING for applicant in self.applicants)

    @property
    def found_counts(self) -> Mapping[tuple[str, str], int]:
        """How many servers announced themselves, by source and decision."""
        nothing = {(source, trust.value): 0 for source in self._need_approval for trust in Trust}
        return {**nothing, **self._applicants.counts()}

    @property
    def files(self) -> Mapping[str, FileState]:
        """The state of each watched file, by path."""
        return {} if self._discoverers.files is None else self._discoverers.files.states

    @property
    def clashes(self) -> frozenset[Clash]:
        """The entries of watched files that are ignored, because another backend has their name or address."""
        return self._clashes

    @property
    def members(self) -> Mapping[str, Member]:
        """The present members, by id."""
        return self._roster.members

    def counts_successes(self, backend_id: str) -> bool:
        """Whether good answers of the backend make a difference now, because it has failed before."""
        return self._passive.has_failed(backend_id) or bool(
            self._misconfigurations.pauses or self._misconfigurations.forbidden
        )

    def on_change(self, callback: Callable[[FleetSnapshot], None]) -> None:
        """Call *callback* with each new snapshot."""
        self.registry.on_change(callback)

    async def start(self) -> None:
        """Add the configured backends, and start probing and discovery."""
        await self._fetcher.__aenter__()
        await self._approvals.open()
        await self.added.open()
        discoverers = self._discoverers_now()
        if (files := self._discoverers.files) is not None:
            await files.open()
            self._sightings.update(files.name, files.found(), now=asyncio.get_running_loop().time(), is_certain=True)
        self._update_members()
        self._search.follow(discoverers)

    async def stop(self) -> None:
        """Stop all background work; the last snapshot stays readable."""
        await self._search.stop()
        await self._applicants.stop()
        await self._health.stop()
        self._passive.stop()
        self._misconfigurations.stop()
        await self._fetcher.__aexit__(None, None, None)

    async def wait_first_probes(self, timeout_s: float) -> bool:
        """Wait until each current backend was probed once; return whether that was in time."""
        return await self._health.wait_first_probes(timeout_s)

    def reconfigure(self, plan: FleetPlan) -> None:
        """Switch to *plan* in one change. A backend that keeps its name keeps its state, one that is removed finishes
        its requests, and one with another URL or kind is probed again.
        """
        self._plan = plan
        self._fetcher.timeout_s = plan.health_check.timeout_seconds
        self._fetcher.max_age_s = plan.connection_age_s
        self._search.follow(self._discoverers_now())
        self._update_members()

    def report(self, backend_id: str, outcome: AttemptOutcome, *, retry_after_s: float | None = None) -> None:
        """Report the outcome of one attempt, exactly once.

        :param retry_after_s: the Retry-After of the response; it counts on 429 and 503 only.
        """
        self._passive.report(backend_id, outcome, retry_after_s=retry_after_s)
        marks = self._misconfigurations
        if outcome.fault is not None or marks.pauses or marks.forbidden:
            marks.report(backend_id, outcome)

    def report_unsupported(self, backend_id: str, endpoint: str, model: str) -> None:
        """Report that a backend does not support *endpoint* with *model*: others are preferred until it changes."""
        self._passive.note_unsupported(backend_id, endpoint, model)

    def report_missing_model(self, backend_id: str, model: str) -> None:
        """Report that a backend does not have *model*: it gets no request for it until a probe lists it again."""
        self._passive.remove_model(backend_id, model)

    async def look(self, is_found: Callable[[], bool]) -> bool:
        """Probe backends that may have changed, until *is_found* or for at most a second; return whether any was
        probed. Concurrent callers share the probes.
        """
        return await self._health.look(is_found)

    def origin_of(self, backend_id: str) -> Origin:
        """Return the source of a backend, when it joined, and when its discoverer last saw it."""
        return self._origins.of(backend_id, now=asyncio.get_running_loop().time())

    def next_probe_at(self, backend_id: str) -> float | None:
        """Return when a backend is probed next, in Unix seconds; None if a probe is running or none will."""
        watch = self._health.get(backend_id)
        return None if watch is None else watch.next_probe_at

    async def drain(self, name: str) -> None:
        """Send no more requests to the backend of that name. :raises BackendNotFound: there is none."""
        self._watch(name).drain()
        await self.on_decision(Decided(name, is_draining=True))

    async def undrain(self, name: str) -> None:
        """Return it to service once a probe succeeds. :raises BackendNotFound: there is none."""
        self._watch(name).undrain()
        await self.on_decision(Decided(name, is_draining=False))

    @property
    def are_decisions_kept(self) -> bool:
        """Whether approvals and rejections survive a restart."""
        return self._approvals.are_kept

    @property
    def announced_names(self) -> frozenset[str]:
        """The names of the servers that can be approved and rejected."""
        return self._applicants.names

    def has_announced_itself(self, name: str) -> bool:
        """Whether a server of that name can be approved and rejected."""
        return self._applicants.knows(name)

    async def approve(self, name: str, url: str | None = None) -> None:
        """Add a server that announced itself to the fleet, now and whenever it returns unchanged.

        :param url: the address that was approved; None: wherever it is.
        :raises AnotherServer: it has another address by now.
        :raises BackendNotFound: no server of that name has announced itself.
        :raises NotRecognised: its responses do not show its kind.
        :raises StoreError: the decision could not be stored.
        """
        await self._applicants.decide(name, Trust.APPROVED, url)
        await self.on_decision(Decided(name))

    async def reject(self, name: str, url: str | None = None) -> None:
        """Keep a server that announced itself out of the fleet; requests that it serves are finished.

        :param url: as for :meth:`approve`.
        :raises AnotherServer: it has another address by now.
        :raises BackendNotFound: no server of that name has announced itself.
        :raises StoreError: the decision could not be stored.
        """
        await self._applicants.decide(name, Trust.REJECTED, url)
        await self.on_decision(Decided(name))

    def follow_drain(self, name: str, *, is_draining: bool) -> None:
        """Do as another replica was told; nothing if the backend is not in this fleet."""
        if (watch := self._health.get(backend_id(name))) is not None:
            (watch.drain if is_draining else watch.undrain)()

    async def follow_approvals(self) -> None:
        """Read the approvals in the store again, which another replica has changed."""
        await self._approvals.open()
        self._update_members()

    def probe_soon(self, url: str) -> None:
        """Probe the backends at *url* now, because another replica has trouble with one."""
        for row in self.snapshot.backends:
            if row.url == url and (watch := self._health.get(row.id)) is not None:
                watch.probe_soon()

    def _watch(self, name: str) -> Watch:
        watch = self._health.get(backend_id(name))
        if watch is None:
            raise BackendNotFound(name)
        return watch

    def _discoverers_now(self) -> tuple[Discoverer, ...]:
        discoverers = self._discoverers.for_plan(self._plan)
        self._need_approval = frozenset(each.name for each in discoverers if each.needs_approval)
        return discoverers

    def _update_members(self) -> None:
        """Make the fleet consist of what is configured, added, listed in files and found now."""
        plan = self._plan
        now = asyncio.get_running_loop().time()
        sightings = self._sightings.listed(now=now, grace_s=plan.discovery.grace_period_seconds)
        declared = self._declared(plan, sightings)
        unhealthy = {row.name for row in self.snapshot.backends if row.status is Status.UNHEALTHY}
        found = self._found.members(sightings, declared.values(), plan, self._need_approval, unhealthy)
        members = {**declared, **found}
        renewed = self._update_settings(member for member in members.values() if member.id not in plan.members)
        self._origins.update(members, sightings)
        self._roster.update(members, config=plan.health_check, kinds=plan.kinds)
        for name in renewed:
            self.on_settings_changed(name)

    def _declared(self, plan: FleetPlan, sightings: Iterable[Sighting]) -> dict[str, Member]:
        """Return the members that the configuration, administrators and watched files declare."""
        members = {**plan.members, **self.added.members_beside(plan)}
        declared, clashes = resolve_clashes(sightings, members.values(), plan.kinds)
        for clash in sorted(clashes - self._clashes, key=lambda each: (each.file, each.name)):
            log.warning(
                "fleet_file_entry_ignored", backend=clash.name, file=clash.file, taken_by=clash.by, source=clash.source
            )
        self._clashes = clashes
        return {**members, **{member.id: member for member in declared}}

    def _update_settings(self, members: Iterable[Member]) -> list[str]:
        """Replace the upstream settings by those of *members*; return the names whose settings have changed."""
        now = {member.config.name: member.settings for member in members if member.settings != DEFAULT_SETTINGS}
        before = self.upstream_settings.copy()
        self.upstream_settings.clear()
        self.upstream_settings.update(now)
        return [name for name in before.keys() | now.keys() if before.get(name) != now.get(name)]
