"""The watch over one backend: probe, believe, wait, for as long as it belongs to the fleet."""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog

from nexus.config.schema import HealthCheckConfig
from nexus.domain.backend import Backend, Status
from nexus.domain.kinds import ServerFacts
from nexus.domain.model import ModelFacts
from nexus.fleet.clock import unix_now
from nexus.fleet.latency import observe_probe
from nexus.fleet.member import Member
from nexus.fleet.probe_counts import ProbeCounts
from nexus.fleet.probe_result import Failure, ProbeResult, Success, SuccessWithParseError
from nexus.fleet.probes import BackendProbe
from nexus.fleet.registry import Registry
from nexus.fleet.state import HealthState

JITTER: Final = 0.1
"""Of an interval, to either side, so that a fleet is not probed in one burst."""

log = structlog.get_logger("nexus.fleet")


class Watch:
    """Of one backend; the one place that decides its status."""

    def __init__(  # noqa: PLR0913 - what it watches, by which means, and what tests put in place of chance and clock
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
        chance: Callable[[], float] = random.random,
        now: Callable[[], float] = unix_now,
    ) -> None:
        """:param gate: bounds how many backends are probed at once."""
        self.member = member
        self.state = state
        self.learned = learned
        """What the server has said of itself: a lookup that fails once does not make it smaller."""
        self.has_probed = asyncio.Event()
        self.next_probe_at: float | None = None
        """Unix seconds; None while one is under way, and when there will be none."""
        self._probe = probe
        self._gate = gate
        self._registry = registry
        self._counts = counts
        self._config = config
        self._chance = chance
        self._now = now
        self._hurry = asyncio.Event()

    async def run(self) -> None:
        """Probe at once and then again and again; without health checks, until it has told its models."""
        while True:
            self._hurry.clear()
            self.next_probe_at = None
            async with self._gate:
                result = await self._probe.run()
            self._believe(result)
            self.has_probed.set()
            if not self._config.enabled and isinstance(result, Success):
                return
            await self._rest()

    def probe_soon(self) -> None:
        """Do not wait for the next turn."""
        self._hurry.set()

    def refuse(self) -> bool:
        """Learn that nobody listens there. Return whether that has settled it: without health checks, nobody looks
        again, so that its status stays.
        """
        if not self._config.enabled:
            return False
        if self.state.status is not Status.UNHEALTHY:
            self._enter(self.state.after_refusal(), {"last_error": "connection failed: refused to a request"})
            self.probe_soon()
        return True

    def drain(self) -> None:
        """Take it out of service; nothing but :meth:`undrain` brings it back."""
        self._enter(HealthState(Status.DRAINING), {})

    def undrain(self) -> None:
        """Let it serve again, once a probe has found it well."""
        if self.state.status is Status.DRAINING:
            self._enter(HealthState() if self._config.enabled else HealthState(Status.HEALTHY), {})
            self.probe_soon()

    async def _rest(self) -> None:
        interval_s = self.state.next_probe_in_s(self._config) * (1 - JITTER + 2 * JITTER * self._chance())
        self.next_probe_at = self._now() + interval_s
        try:
            async with asyncio.timeout(interval_s):
                await self._hurry.wait()
        except TimeoutError:
            return

    def _believe(self, result: ProbeResult) -> None:
        row = self._registry.get(self.member.id)
        if row is None:
            return
        self._counts.note(self.member.config.name, result)
        found = {"last_check_at": self._now(), **self._fields(result, row)}
        if not self._config.enabled:
            self._registry.update(row.id, **found)
        elif isinstance(result, Failure):
            self._enter(self.state.after_failure(self._config), found)
        else:
            self._enter(self.state.after_success(self._config), found)

    def _fields(self, result: ProbeResult, row: Backend) -> dict[str, Any]:
        """Return those fields of the row that *result* tells; a backend that is down keeps its models."""
        if isinstance(result, Failure):
            return {"last_error": result.error}
        observe_probe(row.load, result.latency_ms)
        self._learn(result, row)
        fields = {
            "version": self.learned.version,
            **self.member.fields(result.kind, learned_slots=self.learned.max_in_flight),
        }
        if isinstance(result, SuccessWithParseError):
            return {"last_error": result.error, **fields}
        models = {name: _first_dated(facts, row) for name, facts in result.models.items()}
        if models.keys() != row.models.keys():
            found, gone = sorted(models.keys() - row.models.keys()), sorted(row.models.keys() - models.keys())
            log.info("backend_models_changed", backend=row.name, found=found, gone=gone)
        return {"last_error": None, "models": models, **fields}

    def _learn(self, result: Success | SuccessWithParseError, row: Backend) -> None:
        before = self.learned if result.kind is row.kind else ServerFacts()
        told = result.server if isinstance(result, Success) else ServerFacts()
        self.learned = ServerFacts(told.version or before.version, told.max_in_flight or before.max_in_flight)

    def _enter(self, state: HealthState, fields: dict[str, Any]) -> None:
        before, self.state = self.state.status, state
        if state.status is not before:
            fields = {**fields, "status": state.status, "status_since": self._now()}
            log.info(
                "backend_status_changed",
                backend=self.member.config.name,
                old=before,
                new=state.status,
                error=fields.get("last_error"),
            )
        self._registry.update(self.member.id, **fields)


def _first_dated(facts: ModelFacts, row: Backend) -> ModelFacts:
    """Keep the date that was reported first: some servers say "created now" each time."""
    known = row.models.get(facts.name)
    created = known.created if known is not None and known.created else facts.created
    return msgspec.structs.replace(facts, created=created)
