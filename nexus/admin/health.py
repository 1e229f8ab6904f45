"""Whether the proxy is alive (``/health``) and whether it can serve (``/ready``)."""

import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from nexus.admin.openapi.operation import DescribedRoute, Operation
from nexus.admin.page import json_page
from nexus.admin.workers import ALONE, Workers
from nexus.domain.backend import Status
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.routes import Page
from nexus.routing.pipeline import Pipeline
from nexus.routing.stage.runner import Stage

CORE_USES: Final[Mapping[str, str]] = MappingProxyType({"approvals": "refuse", "kept_objects": "local"})
"""What the core does while the store fails: a change of approvals is refused, and ids are known to one process only."""

USES_OF_REPLICAS: Final[Mapping[str, str]] = MappingProxyType({"slots": "local_share"})
"""The same where replicas share it: each uses its part of the limits of backends."""


class BackendCounts(msgspec.Struct, frozen=True):
    """How many backends there are, and how many of them may get requests."""

    total: int
    healthy: int
    unhealthy: int
    """All others, including unknown and draining ones, which get no requests either."""


class Health(msgspec.Struct, frozen=True):
    """The body of ``/health``."""

    status: str
    """``healthy`` when all backends are, ``degraded`` when some are, else ``unhealthy``."""
    uptime_seconds: int
    backends: BackendCounts
    models: int
    """The number of distinct model names in the fleet."""
    workers: Workers = ALONE


class ReadyDetail(msgspec.Struct, frozen=True):
    """Details of ``/ready``; apart from the backends, they do not make the proxy unready."""

    backends: BackendCounts
    rejected_reload: str | None
    """Why the last reload was refused; None when the newest file is in force."""
    switched_off_stages: tuple[str, ...]
    """Stages that are switched off until the next reload because they failed too often."""
    store_failure: str | None = None
    """Why the store failed when it was last used; None when it did not."""
    on_store_failure: Mapping[str, str] = msgspec.field(default_factory=lambda: {**CORE_USES})
    """By what uses the store, what happens there while it fails."""
    workers: Workers = ALONE
    """With fewer than wanted, the others serve, and those that are missing are started again."""


class Ready(msgspec.Struct, frozen=True):
    """The body of ``/ready``."""

    ready: bool
    reason: str | None
    """Why it is not ready; None when it is."""
    detail: ReadyDetail


class ProxyState(msgspec.Struct):
    """The state of the process; it changes while the proxy runs."""

    started_at: float
    """Of the monotonic clock."""
    is_draining: bool = False
    rejected_reload: str | None = None
    """Why the last reload was refused; None when it was not."""
    store_failure: Callable[[], str | None] = lambda: None
    """Returns why the store failed when it was last used; None when it did not."""
    has_replicas: Callable[[], bool] = lambda: False
    """Returns whether other replicas share the store, and by it the slots of backends."""
    workers: Workers = ALONE
    """As the parent has told; by default, this process is the only one."""
    waiting: Callable[[], int] = lambda: 0
    """Returns how many servers wait for an approval."""

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self.started_at


def routes(
    snapshot: Callable[[], FleetSnapshot], state: ProxyState, pipeline: Pipeline
) -> tuple[DescribedRoute, DescribedRoute]:
    """Return ``/health`` and ``/ready``."""
    return (
        DescribedRoute(
            path="/health",
            respond=lambda _: health(snapshot(), uptime_s=state.uptime_s, workers=state.workers),
            operation=Operation(summary="Whether the process is alive: always 200", answers=(Health,)),
        ),
        DescribedRoute(
            path="/ready",
            respond=lambda _: ready(
                snapshot(),
                state,
                tuple(stage.place.name for stage in pipeline.stages if stage.is_off),
                {name: word for stage in pipeline.stages for name, word in _store_use(stage)},
            ),
            operation=Operation(
                summary="Whether a request could be served now, and why not", answers=(Ready,), statuses=(200, 503)
            ),
        ),
    )


def health(snapshot: FleetSnapshot, *, uptime_s: float, workers: Workers = ALONE) -> Page:
    """Answer ``/health``: always 200, because a process that answers is alive."""
    counts = count(snapshot)
    return json_page(Health(health_word(counts), int(uptime_s), counts, len(snapshot.models), workers))


def _store_use(stage: Stage) -> Iterable[tuple[str, str]]:
    """Yield what *stage* does while the store fails, if it uses the store."""
    word = stage.place.reconciler.on_store_failure
    if word is not None:
        yield stage.place.name, word


def ready(
    snapshot: FleetSnapshot,
    state: ProxyState,
    switched_off_stages: tuple[str, ...] = (),
    store_uses: Mapping[str, str] = MappingProxyType({}),
) -> Page:
    """Answer ``/ready``: 200 only when a request could be served now, else 503 with the reason.

    Shown, but no reason for 503: a refused reload, as the old configuration still serves; a stage that is switched off,
    as it declared itself optional; a failing store, as the stages that need it refuse requests themselves.
    """
    reason = _why_not(snapshot, state)
    detail = ReadyDetail(
        count(snapshot),
        state.rejected_reload,
        switched_off_stages,
        state.store_failure(),
        {**CORE_USES, **(USES_OF_REPLICAS if state.has_replicas() else {}), **store_uses},
        state.workers,
    )
    body = Ready(reason is None, reason, detail)
    return json_page(body, status=200 if reason is None else 503)


def count(snapshot: FleetSnapshot) -> BackendCounts:
    """Count the backends of *snapshot*."""
    total = len(snapshot.backends)
    healthy = sum(backend.status is Status.HEALTHY for backend in snapshot.backends)
    return BackendCounts(total, healthy, total - healthy)


def health_word(counts: BackendCounts) -> str:
    """Return ``healthy``, ``degraded`` or ``unhealthy``."""
    if counts.healthy == 0:
        return "unhealthy"
    return "healthy" if counts.healthy == counts.total else "degraded"


def _why_not(snapshot: FleetSnapshot, state: ProxyState) -> str | None:
    if state.is_draining:
        return "shutting down: no new requests"
    if not snapshot.backends and (waiting := state.waiting()):
        servers = "1 server that was found waits" if waiting == 1 else f"{waiting} servers that were found wait"
        return f"no backend is in the fleet, and {servers} for approval: see `nexus-proxy backends`"
    if not snapshot.backends:
        return "no backend is known: configure one, or start a server that discovery finds"
    healthy = [backend for backend in snapshot.backends if backend.status is Status.HEALTHY]
    if any(backend.models for backend in healthy):
        return None
    if healthy:
        return "no healthy backend lists a model: /admin/backends has the last error of each"
    if all(backend.status is Status.UNKNOWN for backend in snapshot.backends):
        return "no backend has been probed yet"
    return "no backend is healthy: /admin/backends has the last error of each"
