"""Reads what the engine of one backend reports about its load, for as long as it is a member."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

import structlog
from msgspec.structs import replace

from nexus.config.schema import HealthCheckConfig
from nexus.domain.backend import Backend, Status
from nexus.domain.engine_report import EngineReport, NoReport
from nexus.domain.kinds import BackendKind, LoadLookup, ServerFacts
from nexus.fleet.fetching import Fetcher, FetchError, FetchResponse
from nexus.fleet.loads.counts import ReadCounts, ReadResult
from nexus.fleet.loads.endpoints import ABSENT, ABSENT_S, UNREADABLE_S, Endpoints
from nexus.fleet.loads.timing import MAX_READ_S, Activity, interval_s, jittered_s
from nexus.fleet.membership.member import Member
from nexus.fleet.membership.registry import Registry

MAX_PAGE_BYTES: Final = 1024 * 1024
"""Pages of vLLM have about 100 KB; a page of this size is searched in less than 2 ms."""
MAX_RUN_LENGTH: Final = 64
FIRST_WAIT_S: Final = 0.25
"""Between two looks whether the first probe has succeeded."""
READABLE: Final = frozenset({Status.HEALTHY, Status.DRAINING})
"""The status of backends that are read; any other is only probed."""
NOT_ASKED: Final = "health_check.load_interval_seconds is 0"

log = structlog.get_logger("nexus.fleet")


class LoadReader:
    """One read at a time, and never one that a probe or a request would wait for; a failure has no other effect than
    that the last report loses its weight.
    """

    def __init__(  # noqa: PLR0913 - a backend, and all that its reads need and change
        self,
        member: Member,
        *,
        fetcher: Fetcher,
        registry: Registry,
        config: HealthCheckConfig,
        counts: ReadCounts,
        gate: asyncio.Semaphore,
        active: set[str],
        facts: Callable[[], ServerFacts],
        learn_slots: Callable[[int], None],
        chance: Callable[[], float],
    ) -> None:
        """:param gate: bounds how many backends are read at once.
        :param active: the ids of all backends at which requests run.
        :param facts: returns what probes have learned about the server.
        :param learn_slots: called with the number of slots in a report when probes have learned none.
        """
        self._member = member
        self._fetcher = fetcher
        self._registry = registry
        self._config = config
        self._counts = counts
        self._gate = gate
        self._active = active
        self._facts = facts
        self._learn_slots = learn_slots
        self._chance = chance
        self._activity = Activity()
        self._kind: BackendKind | None = None
        self._endpoints = Endpoints(())
        self._restarts = 0
        """The count of restarts that the endpoints and the last report belong to."""
        self._last: EngineReport | None = None
        self._read_at: float | None = None
        """When the last read began, on the monotonic clock."""

    async def run(self) -> None:
        """Read whenever it is time."""
        try:
            while self._config.load_interval_seconds:
                row = self._registry.get(self._member.id)
                if row is not None and self._is_due(row, monotonic()):
                    await self.read(row)
                wait_s = jittered_s(self._interval_s(), self._chance())
                await asyncio.sleep(min(wait_s, FIRST_WAIT_S) if self._activity.checked_at is None else wait_s)
            if (row := self._registry.get(self._member.id)) is not None:
                row.load.miss_report(NOT_ASKED)
        finally:
            self._active.discard(self._member.id)

    def _interval_s(self) -> float:
        least_s = 0.0 if self._kind is None else self._kind.min_load_interval_s
        return interval_s(self._config.load_interval_seconds, least_s, len(self._active))

    def _is_due(self, row: Backend, now: float) -> bool:
        """Return whether to read now: while requests run there every time, otherwise once after each probe."""
        self._follow(row)
        load = row.load
        if self._activity.is_active(now, in_flight=load.everywhere, requests_total=load.requests_total):
            self._active.add(row.id)
        else:
            self._active.discard(row.id)
        if row.status not in READABLE or row.is_refusing or row.last_check_at is None:
            return False
        return row.id in self._active or row.last_check_at != self._activity.checked_at

    def _follow(self, row: Backend) -> None:
        """Begin again with a server that is of another kind now, or has restarted."""
        if row.kind is not self._kind:
            self._kind, self._endpoints = row.kind, Endpoints(row.kind.load_lookups)
        elif row.load.restarts == self._restarts:
            return
        self._restarts = row.load.restarts
        self._endpoints.forget()
        self._last = None

    async def read(self, row: Backend) -> None:
        """Read one report; the next page in the list if the server does not have the first one."""
        self._activity.checked_at = row.last_check_at
        while (lookup := self._best(row)) is not None:
            result = await self._read_page(row, lookup)
            self._counts.note(row.name, result)
            if result in (ReadResult.SUCCESS, ReadResult.FAILURE):
                return
        self._last = None
        row.load.miss_report(self._endpoints.why_none)

    def _best(self, row: Backend) -> LoadLookup | None:
        version, is_busy = self._facts().version, row.load.everywhere > 0
        return self._endpoints.best(monotonic(), version=version, is_busy=is_busy)

    async def _read_page(self, row: Backend, lookup: LoadLookup) -> ReadResult:
        load, before = row.load, row.load.everywhere
        async with self._gate:
            at = self._read_at = monotonic()
            timeout_s = min(self._config.timeout_seconds, MAX_READ_S)
            try:
                response = await self._fetcher.get(
                    self._member.target(row.kind), lookup.path, timeout_s=timeout_s, max_bytes=MAX_PAGE_BYTES
                )
            except FetchError as exc:
                self._miss(row, f"{lookup.path}: {exc}")
                return ReadResult.FAILURE
        if response.status in ABSENT or 300 <= response.status < 400:
            self._endpoints.skip(lookup, f"HTTP {response.status}", until=at + ABSENT_S)
            return ReadResult.ABSENT
        if not response.is_success:
            self._miss(row, f"{lookup.path}: HTTP {response.status}")
            return ReadResult.FAILURE
        wait_s = self._interval_s() if row.id in self._active else self._config.interval_seconds
        blank = EngineReport(at=at, due_at=at + wait_s + timeout_s, own_requests=max(before, load.everywhere))
        try:
            report = lookup.decode(response.body, replace(blank, run=_run_of(response, lookup)))
        except NoReport as exc:
            self._endpoints.skip(lookup, str(exc), until=at + ABSENT_S)
            return ReadResult.ABSENT
        except ValueError as exc:
            self._endpoints.skip(lookup, f"not a report: {exc}", until=at + UNREADABLE_S)
            return ReadResult.UNREADABLE
        self._apply(row, report, lookup)
        return ReadResult.SUCCESS

    def _apply(self, row: Backend, report: EngineReport, lookup: LoadLookup) -> None:
        facts = self._facts()
        if row.load.restarts == self._restarts and self._last is not None and report.is_after_restart(self._last):
            log.info("backend_restarted", backend=row.name, seen="in its report")
            row.load.restarted()
            self._restarts = row.load.restarts
        # A page that is read while it is idle may not show runs; the last one that does is kept.
        self._last = report if report.shows_runs or self._last is None else self._last
        lacks = self._endpoints.why_no_requests(lookup) if report.requests is None else ""
        row.load.tell(replace(report, max_loaded=report.max_loaded or facts.max_loaded), lacks)
        if report.slots and facts.max_in_flight is None:
            self._learn_slots(report.slots)

    def _miss(self, row: Backend, reason: str) -> None:
        """Let the last report lose its weight from now on."""
        load, now = row.load, monotonic()
        if load.told is None:
            load.miss_report(reason)
        elif load.told.due_at > now:
            load.tell(replace(load.told, due_at=now))


def _run_of(response: FetchResponse, lookup: LoadLookup) -> str | None:
    return response.headers.get(lookup.run_header, "")[:MAX_RUN_LENGTH] or None if lookup.run_header else None
