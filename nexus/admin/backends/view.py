"""What is believed about each backend (``/admin/backends``): exactly what routing believes."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from time import monotonic
from typing import Final

import msgspec

from nexus.admin.backends.applicants import ApplicantView, applicant_views
from nexus.admin.backends.files import FileView, instant
from nexus.admin.backends.last_holders import last_holders
from nexus.admin.openapi.operation import Operation
from nexus.admin.page import json_page
from nexus.domain.backend import Backend
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.model import ModelFacts
from nexus.domain.routes import Page
from nexus.domain.silence import oldest_unanswered_s
from nexus.fleet.discovery.approval.applicants import Applicant
from nexus.fleet.discovery.origins import Origin


class ModelView(msgspec.Struct, frozen=True, kw_only=True):
    """One model of one backend; null means unknown."""

    id: str
    name: str
    aliases: tuple[str, ...]
    """Other names that the backend knows it by."""
    zone: str
    """Where its data goes: its backend's zone, unless that passes it on."""
    tier: int
    context_length: int | None
    max_output_tokens: int | None
    supports_vision: bool | None
    supports_tools: bool | None
    supports_json_mode: bool | None
    supports_embeddings: bool | None
    unsupported_endpoints: tuple[str, ...]
    """Endpoints that the backend has refused for it as not supported (501)."""
    breaker: str
    """What recent traffic says of requests for it."""
    is_cooling: bool
    """Whether the backend asked to be left alone for it (Retry-After) and that time is not over."""
    first_token_ms: int | None
    """The mean time to the first token of its streams; null when none was measured lately."""
    whole_answer_ms: int | None
    """The mean time of its answers that are not streamed; null when none was measured lately."""


class BackendView(msgspec.Struct, frozen=True, kw_only=True):
    """One backend. There is no key in it, and a backend's own key is in nothing that the fleet publishes."""

    id: str
    name: str
    url: str
    backend_type: str
    zone: str
    tier: int
    priority: int
    share: float
    """How much of the work it gets, in proportion to others that could do it as well."""
    status: str
    status_since: datetime | None
    breaker: str
    """That of the server, or, when every model that was asked for lately fails, the best of theirs."""
    is_cooling: bool
    """Whether it asked to be left alone (Retry-After) for every model that was asked for lately, and that time is not
    over."""
    misconfigured: str | None
    """Why the operator must act: it refused its key, or the account behind that. Null: nothing is known to be wrong."""
    is_busy: bool
    """Whether it left the last probe unanswered while requests were running there; ``last_error`` says how many."""
    is_refusing: bool
    is_replaced: bool
    """Whether nothing was listening there when it was last tried."""
    last_health_check: datetime | None
    last_error: str | None
    any_model: str
    """Whether it takes a name that it does not list: ``always``, ``alone`` (as the whole fleet) or ``never``."""
    endpoints: tuple[str, ...]
    """The names of the endpoints that it speaks natively."""
    models: tuple[ModelView, ...]
    pending_requests: int
    oldest_unanswered_s: float
    """For how long the oldest request has waited there without any content in answer; 0 when none waits."""
    max_in_flight: int
    slots: int | None
    """How many requests it works on at once, as far as is known."""
    total_requests: int
    avg_latency_ms: int | None
    retry_unsafe: bool
    discovery_source: str
    also_found_by: tuple[str, ...]
    """Other discoverers that see a server at its address."""
    joined_at: datetime | None
    """Since when it is in the fleet, without a break."""
    last_seen: datetime | None
    """When its discoverer saw it last; null: it is configured, or was added."""
    is_stale: bool
    """Whether its discoverer missed it at the last look, or cannot look: it stays for the grace period, or until that
    can look again."""
    address_stale_since: datetime | None
    """Since when its host name, or that of the proxy before it, cannot be looked up: connections go to the last good
    addresses. Null: they are those of the last answer, or no connection was made."""
    version: str | None


class FleetView(msgspec.Struct, frozen=True):
    """The body of ``/admin/backends``."""

    version: int
    """Grows by one with every change of the fleet."""
    backends: tuple[BackendView, ...]
    pending: tuple[ApplicantView, ...]
    """Servers that announced themselves and are not in the fleet; see ``[discovery] trust``."""
    last_with: Mapping[str, tuple[str, ...]]
    """The backends that are the last healthy one with a model, each with these models: what drains one leaves them
    without any."""
    files: tuple[FileView, ...] = ()
    """The watched files of ``[[discovery.file]]``."""


LIST: Final = Operation(summary="All that routing believes of each backend", answers=(FleetView,))


def backends(
    snapshot: FleetSnapshot,
    origin_of: Callable[[str], Origin],
    applicants: Iterable[Applicant] = (),
    files: tuple[FileView, ...] = (),
) -> Page:
    """Answer ``/admin/backends``.

    :param origin_of: says where the backend of an id comes from.
    """
    rows = tuple(view_of(backend, origin_of(backend.id)) for backend in snapshot.backends)
    return json_page(FleetView(snapshot.version, rows, applicant_views(applicants), last_holders(snapshot), files))


def view_of(backend: Backend, origin: Origin) -> BackendView:
    """Return what may be shown of *backend*, which is in the fleet as *origin* says."""
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
        pending_requests=backend.load.in_flight,
        oldest_unanswered_s=round(oldest_unanswered_s(backend, monotonic()), 1),
        max_in_flight=backend.max_in_flight,
        slots=backend.slots,
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


def last_seen_of(origin: Origin) -> dict[str, object]:
    """Return what changes with every look of a discoverer, while nothing else does."""
    return {
        "last_seen": instant(origin.last_seen_unix_s),
        "is_stale": origin.is_stale,
        "also_found_by": origin.also_found_by,
    }


def _model_view(backend: Backend, facts: ModelFacts) -> ModelView:
    figures = backend.load.models.get(facts.name)
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
    )
