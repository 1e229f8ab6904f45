"""A backend as ``/admin/backends`` shows it: exactly what routing knows about it."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from time import monotonic
from typing import Final

import msgspec

from nexus.admin.backends.applicants import ApplicantView, applicant_views
from nexus.admin.backends.files import FileView
from nexus.admin.backends.last_holders import last_holders
from nexus.admin.openapi.operation import Operation
from nexus.admin.page import instant, json_page
from nexus.domain.backend import Backend
from nexus.domain.capacity import capacity_now, capacity_of
from nexus.domain.engine_report import EngineReport
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.model import ModelFacts
from nexus.domain.residency import Presence, max_loaded, presence
from nexus.domain.routes import Page
from nexus.domain.silence import oldest_unanswered_s
from nexus.fleet.discovery.approval.applicants import Applicant
from nexus.fleet.discovery.origins import Origin


class ModelView(msgspec.Struct, frozen=True, kw_only=True):
    """One model of one backend; null means unknown."""

    id: str
    name: str
    aliases: tuple[str, ...]
    """Its other names on the backend."""
    zone: str
    """Where its data goes: the backend's zone, unless the backend forwards the model elsewhere."""
    tier: int
    context_length: int | None
    max_output_tokens: int | None
    supports_vision: bool | None
    supports_tools: bool | None
    supports_json_mode: bool | None
    supports_embeddings: bool | None
    unsupported_endpoints: tuple[str, ...]
    """Endpoints at which the backend answered 501 for this model."""
    breaker: str
    """The state of its circuit breaker."""
    is_cooling: bool
    """Whether a Retry-After of the backend for this model is still in effect."""
    first_token_ms: int | None
    """The mean time to the first token of a stream; null when none was measured lately."""
    whole_answer_ms: int | None
    """The mean duration of a response that is not streamed; null when none was measured lately."""
    pending_requests: int
    """Its requests in flight."""
    capacity: float | None
    """How many requests for it the backend works on at once; null: unknown."""
    capacity_source: str
    """How the capacity is known; see that of the backend."""
    memory: str
    """Whether the model is in the memory of a backend that loads models on demand: ``in memory``, ``loading``, ``not in
    memory`` or ``unknown``; always ``unknown`` for other kinds."""
    load_s: float | None
    """How long it takes to load it into memory; null when that was not measured."""


class ReportView(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine reports about the load of all its clients; null: it does not report the figure."""

    age_s: float
    weight: float
    """How much it counts, 0 to 1: less and less once the next report is overdue."""
    running: int | None
    waiting: int | None
    own_requests: int
    """How many requests of this Nexus were running there at the time."""
    kv_usage: float | None
    """The part of its KV cache that is in use, 0 to 1."""
    cache_tokens: int | None
    """The size of its KV cache."""
    loaded: tuple[str, ...] | None
    """The models in memory."""
    loading: tuple[str, ...]
    """The models that it is loading into memory."""
    max_loaded: int | None
    """How many models it keeps in memory at once."""


class BackendView(msgspec.Struct, frozen=True, kw_only=True):
    """One backend. It has no field for a key, and nothing that the fleet publishes contains one."""

    id: str
    name: str
    url: str
    backend_type: str
    zone: str
    tier: int
    priority: int
    share: float
    """Its share of the requests, relative to other backends that could serve them."""
    status: str
    status_since: datetime | None
    breaker: str
    """The server's breaker, or, when every recently requested model fails, the best of the models' breakers."""
    is_cooling: bool
    """Whether a Retry-After is in effect for every recently requested model."""
    misconfigured: str | None
    """Why the operator must act: the backend refused its key, or the account cannot pay. Null: no such problem."""
    is_busy: bool
    """Whether the last probe timed out while requests were running there; ``last_error`` says how many."""
    is_refusing: bool
    """Whether nothing listened there at the last attempt."""
    is_replaced: bool
    """Whether it was approved as another kind of server than it is now."""
    last_health_check: datetime | None
    last_error: str | None
    any_model: str
    """Whether it accepts models that it does not list: ``always``, ``alone`` (as the only backend) or ``never``."""
    endpoints: tuple[str, ...]
    """The names of the endpoints that it supports natively."""
    models: tuple[ModelView, ...]
    pending_requests: int
    oldest_unanswered_s: float
    """How long the oldest request there has waited for its first content; 0 when none waits."""
    prompt_tokens: int
    """About how many tokens the prompts have that it has not read yet."""
    answer_tokens: int
    """How many tokens the answers to its requests are expected to have."""
    busy_requests: float
    """With how many requests it is busy: ``pending_requests``, and those of other clients that it reports, as far as
    the report is fresh."""
    max_in_flight: int
    """How many requests are sent to it at most at once."""
    slots: int | None
    """How many requests it works on at once, as it reports or as is usual for its kind; null: unknown."""
    capacity: float | None
    """The same, as far as it is configured, reported, learned or usual, for the model most in use; null: unknown."""
    capacity_source: str
    """How the capacity is known: ``configured``, ``reported by the server``, ``learned``, ``usual for its kind`` or
    ``none known``."""
    held_from: int | None
    """With so many requests in flight, further ones wait in the queue of Nexus; null: not before ``max_in_flight``."""
    reported: ReportView | None
    """The last report of its engine about its load; null: it reports nothing, and only own requests are counted."""
    report: str
    """The same in words: how old it is and how much it counts, or why there is none and what would help."""
    restarts: int
    """How often its server was noticed to have restarted."""
    max_loaded_models: int | None
    """How many models it keeps in memory at once, as configured or as it reports; null: unknown."""
    total_requests: int
    avg_latency_ms: int | None
    retry_unsafe: bool
    discovery_source: str
    also_found_by: tuple[str, ...]
    """Other discoverers that found a server at its address."""
    joined_at: datetime | None
    """Since when it has been in the fleet without interruption."""
    last_seen: datetime | None
    """When its discoverer last saw it; null: it is configured, or was added."""
    is_stale: bool
    """Whether its discoverer no longer sees it, or fails: it stays for the grace period, or until the discoverer works
    again."""
    address_stale_since: datetime | None
    """Since when its host name, or that of its HTTPS proxy, cannot be resolved: connections use the last known
    addresses. Null: the last lookup succeeded, or no connection was made."""
    version: str | None


class FleetView(msgspec.Struct, frozen=True):
    """The body of ``/admin/backends``."""

    version: int
    """Increases by one with every change of the fleet."""
    backends: tuple[BackendView, ...]
    pending: tuple[ApplicantView, ...]
    """Discovered servers that are not in the fleet; see ``[discovery] trust``."""
    last_with: Mapping[str, tuple[str, ...]]
    """Backends that are the last healthy one with some models, each with these models: draining it makes them
    unavailable."""
    files: tuple[FileView, ...] = ()
    """The watched files of ``[[discovery.file]]``."""


LIST: Final = Operation(summary="All that routing believes of each backend", answers=(FleetView,))


def backends(
    snapshot: FleetSnapshot,
    origin_of: Callable[[str], Origin],
    applicants: Iterable[Applicant] = (),
    files: tuple[FileView, ...] = (),
    *,
    view_one: Callable[[Backend, Origin], BackendView] | None = None,
) -> Page:
    """Answer ``/admin/backends``.

    :param origin_of: returns the origin of the backend with an id.
    :param view_one: returns the view of one backend; None: :func:`view_of`.
    """
    view_one = view_one or view_of
    rows = tuple(view_one(backend, origin_of(backend.id)) for backend in snapshot.backends)
    return json_page(FleetView(snapshot.version, rows, applicant_views(applicants), last_holders(snapshot), files))


def view_of(backend: Backend, origin: Origin) -> BackendView:
    """Return the view of *backend*, which comes from *origin*."""
    now = monotonic()
    _, capacity = capacity_now(backend, now)
    return BackendView(
        id=backend.id,
        name=backend.name,
        url=backend.url,
        backend_type=backend.kind.name,
        zone=backend.zone,
        tier=backend.tier,
        priority=backend.priority,
        share=backend.share,
        status=backend.status,
        status_since=instant(backend.status_since),
        breaker=backend.breaker,
        is_cooling=backend.is_cooling,
        misconfigured=backend.misconfigured,
        is_busy=backend.is_busy,
        is_refusing=backend.is_refusing,
        is_replaced=backend.is_replaced,
        last_health_check=instant(backend.last_check_at),
        last_error=backend.last_error,
        any_model=backend.any_model,
        endpoints=tuple(sorted(backend.endpoints)),
        models=tuple(_model_view(backend, backend.models[name]) for name in sorted(backend.models)),
        pending_requests=backend.load.everywhere,
        oldest_unanswered_s=round(oldest_unanswered_s(backend, now), 1),
        prompt_tokens=backend.load.prompt_tokens,
        answer_tokens=backend.load.answer_tokens,
        busy_requests=round(backend.load.everywhere + backend.load.other_requests(now), 2),
        max_in_flight=backend.max_in_flight,
        slots=backend.slots,
        capacity=_rounded(capacity.requests),
        capacity_source=capacity.source,
        held_from=capacity.held_from,
        reported=None if backend.load.told is None else _report_view(backend.load.told, now),
        report=backend.load.report_in_words(now),
        restarts=backend.load.restarts,
        max_loaded_models=max_loaded(backend),
        total_requests=backend.load.requests_total,
        avg_latency_ms=backend.load.latency_ms,
        retry_unsafe=backend.retry_unsafe,
        discovery_source=backend.discovery_source,
        also_found_by=origin.also_found_by,
        joined_at=instant(origin.joined_unix_s),
        last_seen=instant(origin.last_seen_unix_s),
        is_stale=origin.is_stale,
        address_stale_since=instant(origin.address_stale_unix_s),
        version=backend.version,
    )


def _report_view(report: EngineReport, now: float) -> ReportView:
    return ReportView(
        age_s=round(max(0.0, now - report.at), 1),
        weight=round(report.weight(now), 3),
        running=report.running,
        waiting=report.waiting,
        own_requests=report.own_requests,
        kv_usage=report.kv_usage,
        cache_tokens=report.cache_tokens,
        loaded=None if report.loaded is None else tuple(sorted(report.loaded)),
        loading=tuple(sorted(report.loading)),
        max_loaded=report.max_loaded,
    )


def last_seen_of(origin: Origin) -> dict[str, object]:
    """Return the fields that a discoverer changes without a change of the backend."""
    return {
        "last_seen": instant(origin.last_seen_unix_s),
        "is_stale": origin.is_stale,
        "also_found_by": origin.also_found_by,
    }


def _rounded(requests: float | None) -> float | None:
    return None if requests is None else round(requests, 1)


def _model_view(backend: Backend, facts: ModelFacts) -> ModelView:
    figures = backend.load.models.get(facts.name)
    loads_models, capacity = backend.kind.loads_models, capacity_of(backend, facts.name, monotonic())
    return ModelView(
        id=facts.name,
        name=facts.name,
        aliases=facts.aliases,
        zone=backend.zone_of(facts.name),
        tier=backend.tier_of(facts.name),
        context_length=facts.context_length,
        max_output_tokens=facts.max_output_tokens,
        supports_vision=facts.vision,
        supports_tools=facts.tools,
        supports_json_mode=facts.json_mode,
        supports_embeddings=facts.embeddings,
        unsupported_endpoints=tuple(sorted(name for name, model in backend.unsupported if model == facts.name)),
        breaker=backend.breaker_of(facts.name),
        is_cooling=backend.is_cooling_for(facts.name),
        first_token_ms=None if figures is None else figures.first_token.mean_ms(),
        whole_answer_ms=None if figures is None else figures.whole.mean_ms(),
        pending_requests=(0 if figures is None else figures.in_flight)
        + backend.load.elsewhere.models.get(facts.name, 0),
        capacity=_rounded(capacity.requests),
        capacity_source=capacity.source,
        memory=presence(backend, facts.name, monotonic()) if loads_models else Presence.UNKNOWN,
        load_s=round(figures.load_s, 1) if figures is not None and figures.load_s else None,
    )
