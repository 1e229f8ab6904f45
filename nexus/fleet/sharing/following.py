"""A fleet that follows that of another process, which alone probes, discovers and decides."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog
from msgspec.structs import replace

from nexus import tasks
from nexus.config.faults import Fault
from nexus.dialing.upstream_settings import UpstreamSettings
from nexus.domain.backend import Backend
from nexus.domain.backend_load import BackendLoad
from nexus.domain.outcome import AttemptOutcome
from nexus.fleet.clock import call_later
from nexus.fleet.discovery.approval.applicants import Applicant
from nexus.fleet.discovery.files.declared import Clash
from nexus.fleet.discovery.files.watched_file import FileState
from nexus.fleet.discovery.origins import Origin
from nexus.fleet.fleet import Fleet
from nexus.fleet.loads.counts import ReadCounts
from nexus.fleet.plan import FleetPlan
from nexus.fleet.probing.counts import ProbeCounts
from nexus.fleet.sharing.counting import RequestCounter
from nexus.fleet.sharing.division import parts_of
from nexus.fleet.sharing.followed_backends import FollowedBackends
from nexus.fleet.sharing.messages import Decision, Done, Draining, NotHaving, SentLoad, SentPages, SentRows
from nexus.fleet.sharing.outcome_reports import OutcomeReports
from nexus.fleet.sharing.pages import file_state, note_counts
from nexus.fleet.sharing.refusals import received
from nexus.fleet.sharing.rows import UnknownKind, decode_row, settings_received
from nexus.fleet.sharing.slot_broker import SlotOrder
from nexus.fleet.sharing.slot_keeper import SlotKeeper
from nexus.workers.channel import Channel, ChannelError

log = structlog.get_logger("nexus.fleet")

FOLLOW_S: Final = 30.0
"""How long the first rows may take."""
LOOK_S: Final = 2.0
CHANGE_S: Final = 30.0
"""How long a change may take; the other process probes or writes to its store meanwhile."""


class FollowingFleet(Fleet):
    """The fleet of another process, by way of a channel; what it knows is as old as messages take."""

    def __init__(self, plan: FleetPlan, channel: Channel) -> None:
        """:param channel: not open yet; the other end is a :class:`~nexus.fleet.sharing.publisher.Publisher`'s."""
        super().__init__(plan)
        self._channel = channel
        self._pages = SentPages()
        self._probe_counts, self._read_counts = ProbeCounts(), ReadCounts()
        self._reports = OutcomeReports(
            self._passive.weigh, lambda outcomes: self._tell("fleet.outcomes", outcomes), later=call_later
        )
        self._departed: dict[str, BackendLoad] = {}
        """By id, the load of backends that have left while requests still held slots."""
        self._next_change = asyncio.Event()
        """Set, and replaced, whenever rows have changed."""
        self._keeper = SlotKeeper(
            send=lambda reports: self._tell("slots", reports),
            later=call_later,
        )
        self._counter = RequestCounter(lambda: self.snapshot, lambda counts: self._tell("fleet.counts", counts))
        self.added = FollowedBackends(self)
        channel.on("fleet.rows", SentRows, self._take_rows)
        channel.on("fleet.loads", tuple[SentLoad, ...], self._take_loads)
        channel.on("fleet.pages", SentPages, self._take_pages)
        channel.on("slots", tuple[SlotOrder, ...], self._keeper.order)

    @property
    def keeper(self) -> SlotKeeper:
        """Keeps the slots that this process may use; it has to be told of the queue."""
        return self._keeper

    # what the other process knows

    @property
    def probe_counts(self) -> ProbeCounts:
        return self._probe_counts

    @property
    def read_counts(self) -> ReadCounts:
        return self._read_counts

    @property
    def pages(self) -> SentPages:
        """What pages for operators need."""
        return self._pages

    @property
    def applicants(self) -> tuple[Applicant, ...]:
        return self._pages.applicants

    @property
    def found_counts(self) -> Mapping[tuple[str, str], int]:
        return {(source, trust): count for source, trust, count in self._pages.found}

    @property
    def files(self) -> Mapping[str, FileState]:
        return {path: file_state(sent) for path, sent in self._pages.files.items()}

    @property
    def clashes(self) -> frozenset[Clash]:
        return frozenset(self._pages.clashes)

    @property
    def are_decisions_kept(self) -> bool:
        return self._pages.are_decisions_kept

    @property
    def announced_names(self) -> frozenset[str]:
        return self._pages.announced

    def has_announced_itself(self, name: str) -> bool:
        return name in self._pages.announced

    def origin_of(self, backend_id: str) -> Origin:
        found = self._pages.origins.get(backend_id)
        return super().origin_of(backend_id) if found is None else found

    def next_probe_at(self, backend_id: str) -> float | None:
        return self._pages.next_probes.get(backend_id)

    def counts_successes(self, backend_id: str) -> bool:
        return self._reports.counts_successes.get(backend_id, False)

    # its life

    async def start(self) -> None:
        """Take the rows of the other process. :raises NexusError: it does not answer."""
        self._take_rows(await self._channel.ask("fleet.follow", None, SentRows, timeout_s=FOLLOW_S))
        self._counter.start()

    async def stop(self) -> None:
        self._counter.stop()
        self._reports.send()

    async def wait_first_probes(self, timeout_s: float) -> bool:
        del timeout_s
        # The other process has waited for them.
        return True

    def reconfigure(self, plan: FleetPlan) -> None:
        """Use the kinds of *plan*; its backends come from the other process."""
        self._plan = plan

    # what exchanges report

    def report(self, backend_id: str, outcome: AttemptOutcome, *, retry_after_s: float | None = None) -> None:
        if (row := self.snapshot.by_id.get(backend_id)) is not None:
            self._reports.add(row, outcome, retry_after_s)

    def report_unsupported(self, backend_id: str, endpoint: str, model: str) -> None:
        self._tell("fleet.lacks", NotHaving(backend_id, model, endpoint))

    def report_missing_model(self, backend_id: str, model: str) -> None:
        self._tell("fleet.lacks", NotHaving(backend_id, model))

    async def look(self, is_found: Callable[[], bool]) -> bool:
        """Let the other process probe what may have changed, until *is_found* or until it has finished."""
        asked = tasks.start(self._ask_to_look(), name="look")
        asked.add_done_callback(lambda _: self._signal())
        try:
            while not asked.done() and not is_found():
                await self._next_change.wait()
            return asked.result() if asked.done() else True
        finally:
            asked.cancel()

    async def _ask_to_look(self) -> bool:
        try:
            return await self._channel.ask("fleet.look", None, bool, timeout_s=LOOK_S)
        except ChannelError:
            return False

    def _signal(self) -> None:
        self._next_change.set()
        self._next_change = asyncio.Event()

    # what administrators ask

    async def drain(self, name: str) -> None:
        await self.ask("fleet.drain", Draining(name, is_draining=True))

    async def undrain(self, name: str) -> None:
        await self.ask("fleet.drain", Draining(name, is_draining=False))

    async def approve(self, name: str, url: str | None = None) -> None:
        await self.ask("fleet.decide", Decision(name, is_approved=True, url=url))

    async def reject(self, name: str, url: str | None = None) -> None:
        await self.ask("fleet.decide", Decision(name, is_approved=False, url=url))

    async def ask(self, topic: str, question: object) -> Done:
        """Let the other process change the fleet; what has changed is known here when this returns.

        :raises NexusError: it has refused, as a fleet does, or does not answer.
        :raises Fault: a key is wrong.
        """
        done = await self._channel.ask(topic, question, Done, timeout_s=CHANGE_S)
        if done.refused is not None:
            raise received(done.refused)
        return done

    # what the other process sends

    def _tell(self, topic: str, payload: object) -> None:
        # A lost process is noticed by the end of the channel.
        with suppress(ChannelError):
            self._channel.send(topic, payload)

    def _take_rows(self, update: SentRows) -> None:
        renewed: list[str] = []
        with self.registry.batch():
            for backend_id in update.removed:
                self._remove(backend_id)
            for sent in update.backends:
                try:
                    fields = decode_row(sent.row, self._plan.kinds)
                    settings = None if sent.settings is None else settings_received(sent.settings)
                except (UnknownKind, Fault) as exc:
                    # During a reload, this process may not have the new configuration yet.
                    log.warning("row_not_followed", reason=str(exc))
                    continue
                name = fields["name"]
                if self._use_settings(name, settings, is_new=self.registry.get(fields["id"]) is None):
                    renewed.append(name)
                self._put(fields)
        for name in renewed:
            self.on_settings_changed(name)
        self._signal()

    def _put(self, fields: Mapping[str, Any]) -> None:
        before = self.registry.get(fields["id"])
        if before is None:
            load = self._departed.pop(fields["id"], None)
            if load is None:
                load = BackendLoad()
            else:
                load.forget_pace()
            row = Backend(load=load, **fields)
            self.registry.add(row)
        else:
            if (before.url, before.kind) != (fields["url"], fields["kind"]):
                # Another server under the same name.
                before.load.forget_pace()
            row = self.registry.update(before.id, **fields)
        self._keeper.divide(row.name, row.load, parts_of(row))

    def _remove(self, backend_id: str) -> None:
        if self.registry.get(backend_id) is None:
            return
        row = self.registry.remove(backend_id)
        self._keeper.leave(row.name)
        self._reports.forget(backend_id)
        self._departed = {name: load for name, load in self._departed.items() if load.in_flight}
        if row.load.in_flight:
            self._departed[backend_id] = row.load

    def _use_settings(self, name: str, settings: UpstreamSettings | None, *, is_new: bool) -> bool:
        """Use *settings* for the backend of that name; return whether connections made with others have to go."""
        before = self.upstream_settings.get(name)
        if settings == before or (settings is not None and before is not None and _are_alike(settings, before)):
            return False
        if settings is None:
            del self.upstream_settings[name]
        else:
            self.upstream_settings[name] = settings
        return not is_new

    def _take_loads(self, loads: Sequence[SentLoad]) -> None:
        for sent in loads:
            if (row := self.registry.get(sent.id)) is None:
                continue
            load = row.load
            while load.restarts < sent.restarts:
                load.restarted()
            if sent.told is None:
                load.miss_report(sent.no_report)
            elif load.told != sent.told or load.no_report != sent.no_report:
                load.tell(sent.told, sent.no_report)
            if sent.probe_latency_ms is not None and not load.is_latency_real:
                load.set_probe_latency(sent.probe_latency_ms)
            was_held = load.elsewhere.in_flight
            load.see_elsewhere(sent.elsewhere)
            self._reports.counts_successes[sent.id] = sent.counts_successes
            if sent.elsewhere.in_flight < was_held:
                # What it works on at once may have room again, without a slot that became free here.
                self._keeper.offer(row.name)

    def _take_pages(self, pages: SentPages) -> None:
        self._pages = pages
        note_counts(pages, self._probe_counts, self._read_counts)


def _are_alike(one: UpstreamSettings, two: UpstreamSettings) -> bool:
    """Whether two settings differ at most in their TLS contexts, which are never equal, and both have one or none."""
    return (one.tls is None) is (two.tls is None) and replace(one, tls=None) == replace(two, tls=None)
