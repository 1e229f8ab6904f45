"""Applies a new set of members to the registry, the health checks and the breakers."""

from collections.abc import Mapping

import structlog

from nexus.config.schema import HealthCheckConfig
from nexus.domain.backend import Status
from nexus.domain.backend_load import BackendLoad
from nexus.domain.kinds import BackendKind, ServerFacts
from nexus.fleet.clock import unix_now
from nexus.fleet.health.checker import HealthChecker
from nexus.fleet.health.misconfiguration import Misconfigurations
from nexus.fleet.health.passive import UNTROUBLED, PassiveSignals
from nexus.fleet.health.state import HealthState
from nexus.fleet.health.watch import first_state
from nexus.fleet.kinds import UNDETECTED
from nexus.fleet.membership.member import Member
from nexus.fleet.membership.registry import Registry
from nexus.fleet.models.overrides import for_another_server, with_new_overrides

log = structlog.get_logger("nexus.fleet")


class Roster:
    """A backend that keeps its name keeps its id, load, health, latency and breaker; one that comes back keeps the
    slots that its requests still hold.
    """

    def __init__(
        self,
        registry: Registry,
        health: HealthChecker,
        passive: PassiveSignals,
        misconfigurations: Misconfigurations,
    ) -> None:
        self._registry = registry
        self._health = health
        self._passive = passive
        self._misconfigurations = misconfigurations
        self._members: Mapping[str, Member] = {}
        self._busy: dict[str, BackendLoad] = {}
        """By id, the load of backends that have left while requests still held slots."""
        self._watched_with: tuple[HealthCheckConfig, Mapping[str, BackendKind]] | None = None

    @property
    def members(self) -> Mapping[str, Member]:
        """The present members, by id."""
        return self._members

    def update(
        self, members: Mapping[str, Member], *, config: HealthCheckConfig, kinds: Mapping[str, BackendKind]
    ) -> None:
        """Make the fleet consist of *members*, which are keyed by id; all changes are published at once."""
        before, self._members = self._members, members
        is_check_changed = self._watched_with != (config, kinds)
        self._watched_with = (config, kinds)
        self._busy = {backend_id: load for backend_id, load in self._busy.items() if load.in_flight}
        with self._registry.batch():
            for backend_id in before.keys() - members.keys():
                self._leave(backend_id)
                log.info("backend_left", **_facts(before[backend_id]))
            for backend_id, member in members.items():
                if backend_id not in before:
                    state = first_state(config)
                    self._registry.add(member.row(self._initial_load(backend_id), state.status))
                    log.info("backend_joined", **_facts(member))
                elif before[backend_id] != member or is_check_changed:
                    state = self._change(before[backend_id], member, config)
                else:
                    continue
                self._health.watch(member, kinds, config, state)

    def _leave(self, backend_id: str) -> None:
        self._health.unwatch(backend_id)
        self._passive.forget(backend_id)
        self._misconfigurations.forget(backend_id)
        load = self._registry.remove(backend_id).load
        if load.in_flight:
            self._busy[backend_id] = load

    def _initial_load(self, backend_id: str) -> BackendLoad:
        """Return the load of a backend that joins, with the requests that still run from before it left."""
        load = self._busy.pop(backend_id, None)
        if load is None:
            return BackendLoad()
        load.forget_pace()
        load.restarted()
        return load

    def _change(self, before: Member, after: Member, config: HealthCheckConfig) -> HealthState:
        """Update the row of a member that stays, and return its health."""
        self._misconfigurations.forget(before.id)
        row = self._registry.row(before.id)
        watch = self._health.get(row.id)
        state = first_state(config) if watch is None else watch.state
        is_same_server = before.config.url == after.config.url
        is_same_kind = after.kind is None or after.kind.name == row.kind.name
        if is_same_server and is_same_kind:
            kind, learned = after.kind or row.kind, ServerFacts() if watch is None else watch.learned
            models = with_new_overrides(row.models, before.config.models, after.config.models, kind)
        else:
            # Another server under the same name: its health and models are unknown.
            kind, learned = after.kind or UNDETECTED, ServerFacts()
            models = for_another_server(row.models, after.config.models, kind)
            self._passive.forget(row.id)
            self._registry.update(row.id, **UNTROUBLED)
            row.load.forget_pace()
            row.load.restarted()
        keeps_health = is_same_server and is_same_kind and config.enabled
        if not keeps_health and state.status is not Status.DRAINING:
            state = first_state(config)
        fields = {"models": models, **after.fields(kind, learned=learned)}
        if not keeps_health:
            fields |= {"is_busy": False, "is_refusing": False, "is_replaced": False, "unsupported": frozenset()}
        if state.status is not row.status:
            fields |= {"status": state.status, "status_since": unix_now()}
        self._registry.update(row.id, **fields)
        return state


def _facts(member: Member) -> dict[str, str]:
    return {"backend": member.config.name, "url": member.config.url, "source": member.source}
