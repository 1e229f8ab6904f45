"""Probes one backend for as long as it is a member, and decides its status."""

import asyncio
import math
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

import msgspec
import structlog

from nexus.config.schema import HealthCheckConfig
from nexus.domain.backend import Backend, Status
from nexus.domain.kinds import ServerFacts
from nexus.domain.model import ModelFacts
from nexus.fleet.clock import unix_now, wait_for_event
from nexus.fleet.health.state import RECOVERY_INTERVAL_S, HealthState
from nexus.fleet.membership.member import Member
from nexus.fleet.membership.registry import Registry
from nexus.fleet.probing.counts import ProbeCounts
from nexus.fleet.probing.probe import BackendProbe
from nexus.fleet.probing.result import Cause, Failure, ProbeResult, Success, SuccessWithParseError

JITTER: Final = 0.1
"""The share by which an interval varies to either side, so that a fleet is not probed in one burst."""
MAX_LOOK_S: Final = 1.0
"""How long a request waits for a probe on demand."""
LOOKS_PER_PAUSE: Final = {Status.UNHEALTHY: 4, Status.UNKNOWN: 4, Status.LOADING: 4}
"""How many probes on demand an unusable backend may get in the time in which a healthy one gets one."""
LOOKS_PER_REFUSAL: Final = 20
"""The same where nothing listens: a refused connection is cheap, and the server may start at any moment."""
EMPTY_LISTS_TO_BELIEVE: Final = 3
"""How many empty lists in a row it takes until a backend that had models counts as having none."""

log = structlog.get_logger("nexus.fleet")


class Watch:
    """The schedule and the state of one backend; nothing else decides its status."""

    def __init__(  # noqa: PLR0913 - a backend, and all that its probes need and change
        self,
        member: Member,
        *,
        state: HealthState,
        learned: ServerFacts,
        probe: BackendProbe,
        gate: asyncio.Semaphore,
        registry: Registry,
        counts: ProbeCounts,
        config: HealthCheckConfig,
        on_probed: Callable[[], None],
        chance: Callable[[], float],
    ) -> None:
        """:param gate: bounds how many backends are probed at once.
        :param on_probed: called after the result of each probe is published.
        """
        self.member = member
        self.state = state
        self.learned = learned
        """What probes have learned about the server; one failed lookup erases nothing."""
        self.has_probed = asyncio.Event()
        self.next_probe_at: float | None = None
        """Unix seconds; None while a probe is running, and when there will be none."""
        self._probe = probe
        self._gate = gate
        self._registry = registry
        self._counts = counts
        self._config = config
        self._on_probed = on_probed
        self._chance = chance
        self._hurry = asyncio.Event()
        self._began_at = -math.inf
        """When the last probe began, on the monotonic clock."""
        self._took_s = 0.0
        """How long the last probe took."""
        self._looked_at = -math.inf
        """When the backend was last probed on demand."""
        self._is_probing = False
        self._last: Cause | None = None
        """Why the last probe failed; None when it succeeded."""
        self._empty_lists = 0
        """Consecutive lists without models, from a backend that had some."""

    async def run(self) -> None:
        """Probe on schedule; with health checks disabled, only until the models are listed, then on demand."""
        while True:
            self._hurry.clear()
            self.next_probe_at = None
            result = await self._probe_once()
            self.has_probed.set()
            self._on_probed()
            if not self._config.enabled and isinstance(result, Success):
                await self._hurry.wait()
            else:
                await self._rest()

    def probe_soon(self) -> None:
        """Probe without waiting for the end of the interval."""
        self._hurry.set()

    def look(self, *, pause_s: float) -> bool:
        """Probe on demand, at most once per *pause_s* (see :data:`LOOKS_PER_PAUSE`). Return whether the caller should
        wait for a result.

        A backend whose last probe took too long is not worth the wait. One whose last probe timed out is probed again
        soon in any case, and may be busy.
        """
        now = monotonic()
        if self.state.status is Status.DRAINING or self._last is Cause.TIMEOUT:
            return False
        if self._is_probing:
            return max(self._took_s, now - self._began_at) <= MAX_LOOK_S
        looks = LOOKS_PER_REFUSAL if self._last is Cause.REFUSED else LOOKS_PER_PAUSE.get(self.state.status, 1)
        if now - self._looked_at > pause_s / looks:
            self._looked_at = now
            self._hurry.set()
        return self._hurry.is_set() and self._took_s <= MAX_LOOK_S

    @property
    def is_looking(self) -> bool:
        """Whether a probe is running or about to start."""
        return self._is_probing or self._hurry.is_set()

    def note_refused(self) -> bool:
        """Note that the backend refused the connection of a request, and return whether its status shows that now.

        With health checks disabled the status stays, as no probe would bring the backend back.
        """
        if not self._config.enabled:
            return False
        row = self._registry.get(self.member.id)
        if row is not None and not (row.is_refusing and row.status is Status.UNHEALTHY):
            fields = {"last_error": "connection failed: refused to a request", "is_refusing": True}
            self._enter(self.state.after_refusal(), fields)
            self.probe_soon()
        return True

    def drain(self) -> None:
        """Take it out of service until :meth:`undrain`."""
        self._enter(HealthState(Status.DRAINING), {})

    def undrain(self) -> None:
        """Return it to service once a probe succeeds."""
        if self.state.status is Status.DRAINING:
            self._enter(first_state(self._config), {})
            self.probe_soon()

    async def _probe_once(self) -> ProbeResult:
        self._is_probing, self._began_at = True, monotonic()
        running = self._in_flight()
        try:
            async with self._gate:
                result = await self._probe.run()
        finally:
            self._is_probing = False
        self._took_s = monotonic() - self._began_at
        self._last = result.cause if isinstance(result, Failure) else None
        self._apply(result, running=max(running, self._in_flight()))
        return result

    def _in_flight(self) -> int:
        row = self._registry.get(self.member.id)
        return 0 if row is None else row.load.everywhere

    async def _rest(self) -> None:
        interval_s = self.state.next_probe_in_s(self._config)
        if self._empty_lists:
            interval_s = min(interval_s, RECOVERY_INTERVAL_S)
        interval_s *= 1 - JITTER + 2 * JITTER * self._chance()
        self.next_probe_at = unix_now() + interval_s
        await wait_for_event(self._hurry, interval_s)

    def _apply(self, result: ProbeResult, *, running: int) -> None:
        """Publish *result*.

        :param running: how many requests the backend was serving during the probe.
        """
        row = self._registry.get(self.member.id)
        if row is None:
            return
        self._counts.note(self.member.config.name, result)
        found = {"last_check_at": unix_now(), **self._fields(result, row, running)}
        if not self._config.enabled:
            self._registry.update(row.id, **found)
        else:
            self._enter(self._next_state(result, running), found)

    def _next_state(self, result: ProbeResult, running: int) -> HealthState:
        if not isinstance(result, Failure):
            return self.state.after_success(self._config)
        if result.cause is Cause.SHORTAGE:
            return self.state
        if result.cause is Cause.REPLACED:
            # As certain as a refused connection, and prompts must not reach the other server.
            return self.state.after_refusal()
        if result.cause is Cause.LOADING:
            return self.state.after_loading()
        if result.cause is Cause.TIMEOUT and running:
            return self.state.after_busy()
        return self.state.after_failure(self._config)

    def _fields(self, result: ProbeResult, row: Backend, running: int) -> dict[str, Any]:
        """Return the fields of the row that *result* changes; a backend that is down keeps its models."""
        if isinstance(result, Failure):
            return self._fields_of_failure(result, row, running)
        row.load.observe_probe(result.latency_ms)
        self._learn(result, row)
        if self._is_after_restart(row):
            log.info("backend_restarted", backend=row.name, seen="by a probe")
            row.load.restarted()
        fields = {
            "is_refusing": False,
            "is_replaced": False,
            "version": self.learned.version,
            **self.member.fields(result.kind, learned=self.learned),
        }
        if isinstance(result, SuccessWithParseError):
            return {"last_error": result.error, **fields}
        if self._is_doubtful(result, row):
            return {"last_error": f"invalid response: no models; {len(row.models)} were listed before", **fields}
        models = {name: _first_dated(facts, row) for name, facts in result.models.items()}
        if models.keys() != row.models.keys() or self.learned.version != row.version:
            # Another server, or one that was restarted with other options.
            fields["unsupported"] = frozenset()
        if models.keys() != row.models.keys():
            found, gone = sorted(models.keys() - row.models.keys()), sorted(row.models.keys() - models.keys())
            log.info("backend_models_changed", backend=row.name, found=found, gone=gone)
        return {"last_error": None, "models": models, **fields}

    def _fields_of_failure(self, result: Failure, row: Backend, running: int) -> dict[str, Any]:
        is_busy = result.cause is Cause.TIMEOUT and running
        error = f"busy: {result.error} (requests running: {running})" if is_busy else result.error
        is_refusing = row.is_refusing if result.cause is Cause.SHORTAGE else result.cause is Cause.REFUSED
        is_replaced = row.is_replaced or result.cause in {Cause.REPLACED, Cause.PERHAPS_REPLACED}
        fields: dict[str, Any] = {"last_error": error, "is_refusing": is_refusing, "is_replaced": is_replaced}
        if result.kind is not None and result.kind is not row.kind:
            fields |= self.member.fields(result.kind, learned=ServerFacts())
        return fields

    def _is_doubtful(self, result: Success, row: Backend) -> bool:
        """Count empty lists in a row, and return whether this one is not believed yet: a server may be starting."""
        self._empty_lists = 0 if result.models or not row.models else self._empty_lists + 1
        if self._empty_lists < EMPTY_LISTS_TO_BELIEVE:
            return self._empty_lists > 0
        self._empty_lists = 0
        return False

    def _learn(self, result: Success | SuccessWithParseError, row: Backend) -> None:
        before = self.learned if result.kind is row.kind else ServerFacts()
        reported = result.server if isinstance(result, Success) else ServerFacts()
        self.learned = reported.completed_by(before)

    def _is_after_restart(self, row: Backend) -> bool:
        """Return whether the server that has answered is known to be another process than the one before."""
        was_away = row.is_refusing or row.is_replaced or self.state.status is Status.LOADING
        return was_away or (row.version is not None and row.version != self.learned.version)

    def learn_slots(self, slots: int) -> None:
        """Publish how many requests the server works on at once, which only its report of its load says."""
        row = self._registry.get(self.member.id)
        if row is not None:
            self.learned = msgspec.structs.replace(self.learned, max_in_flight=slots)
            self._registry.update(row.id, **self.member.fields(row.kind, learned=self.learned))

    def _enter(self, state: HealthState, fields: dict[str, Any]) -> None:
        before, self.state = self.state.status, state
        fields = {**fields, "is_busy": state.is_busy}
        if state.status is not before:
            fields |= {"status": state.status, "status_since": unix_now(), "unsupported": frozenset()}
            (log.warning if state.status is Status.UNHEALTHY else log.info)(
                "backend_status_changed",
                backend=self.member.config.name,
                old=before,
                new=state.status,
                error=fields.get("last_error"),
            )
        self._registry.update(self.member.id, **fields)


def first_state(config: HealthCheckConfig) -> HealthState:
    """Return the health of a backend before its first probe."""
    return HealthState() if config.enabled else HealthState(Status.HEALTHY)


def _first_dated(facts: ModelFacts, row: Backend) -> ModelFacts:
    """Keep the date that was reported first: some servers always report the current time."""
    known = row.models.get(facts.name)
    created = known.created if known is not None and known.created else facts.created
    return msgspec.structs.replace(facts, created=created)
