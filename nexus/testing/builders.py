"""Builds backends, fleets, intents and outcomes for tests, with defaults for everything."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

import msgspec

from nexus.domain.backend import Backend, Status
from nexus.domain.backend_load import BackendLoad
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.kinds import BackendKind
from nexus.domain.model import ModelFacts, Zone
from nexus.domain.naming import Naming
from nexus.domain.outcome import AttemptOutcome, Ending, ExchangeOutcome
from nexus.domain.read_only import ReadOnlyDict
from nexus.domain.request import Endpoint, Requirements
from nexus.fleet.kinds import KINDS
from nexus.fleet.membership.registry import Registry
from nexus.routing.intent import RoutingIntent
from nexus.routing.model_names.resolution import resolve

MODEL: Final = "llama3"
"""The default model of backends and requests."""

CHAT: Final = Endpoint("openai.chat", "openai", "/v1/chat/completions")

NOON: Final = "2026-05-01T12:00"

_ZONES: Final[Mapping[str, Zone]] = {"restricted": "restricted", "local": "restricted", "open": "open", "cloud": "open"}
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def make_backend(
    name: str = "gpu-1",
    *,
    zone: str = "local",
    models: Iterable[str | ModelFacts] = (MODEL,),
    kind: str | BackendKind = "generic",
    in_flight: int = 0,
    **fields: Any,
) -> Backend:
    """Return a healthy backend that has *models*.

    :param zone: ``local`` (or ``restricted``), ``cloud`` (or ``open``).
    :param models: names, or facts.
    :param in_flight: the number of its slots that are in use.
    :param fields: any other field of ``nexus.api.Backend``.
    """
    kind = KINDS[kind] if isinstance(kind, str) else kind
    facts = [ModelFacts(name=model) if isinstance(model, str) else model for model in models]
    defaults = {
        "id": name,
        "url": f"http://{name}:8000",
        "kind": kind,
        "zone": _ZONES[zone],
        "endpoints": kind.endpoints,
        "status": Status.HEALTHY,
        "models": {fact.name: fact for fact in facts},
        "load": BackendLoad(in_flight=in_flight),
    }
    return Backend(name=name, **{**defaults, **fields})


def make_fleet(*backends: Backend, version: int | None = None) -> FleetSnapshot:
    """Return the snapshot that the registry publishes for *backends*."""
    registry = Registry()
    with registry.batch():
        for backend in backends:
            registry.add(backend)
    fleet = registry.snapshot
    return fleet if version is None else msgspec.structs.replace(fleet, version=version)


def make_intent(  # noqa: PLR0913 - the parts of an intent, all with defaults
    *,
    backends: Mapping[str, str] | Iterable[Backend] = (),
    received_at: str | datetime = NOON,
    model: str = MODEL,
    requirements: Requirements | None = None,
    endpoint: Endpoint = CHAT,
    other_endpoints: tuple[str, ...] = (),
    headers: Mapping[str, str] = _NOTHING,
    policy: Mapping[str, Any] = _NOTHING,
) -> RoutingIntent:
    """Return an intent whose candidates are all *backends* that have *model*.

    :param backends: backends, or their zones by name: ``{"gpu-1": "local", "openai": "cloud"}``.
    :param received_at: ISO time or datetime; UTC if it has no time zone.
    :param other_endpoints: the names of endpoints to which the request can be translated, such as ``openai.chat``.
    :param policy: the decoded keys of the traffic policy that applies, by plugin.
    """
    if isinstance(backends, Mapping):
        backends = [make_backend(name, zone=zone, models=(model,)) for name, zone in backends.items()]
    at = datetime.fromisoformat(received_at) if isinstance(received_at, str) else received_at
    fleet = make_fleet(*backends)
    resolution = resolve(model, fleet, Naming())
    return RoutingIntent(
        request_id="test",
        endpoint=endpoint,
        requirements=requirements or Requirements(model=model),
        resolved_model=resolution.model,
        snapshot=fleet,
        survivors=dict(resolution.candidates),
        headers=ReadOnlyDict(headers),
        policies=(ReadOnlyDict(policy),) if policy else (),
        other_endpoints=other_endpoints,
        received_unix_s=(at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp(),
    )


def make_attempt(backend: str = "gpu-1", **fields: Any) -> AttemptOutcome:
    """Return a successful attempt at *backend*.

    :param fields: any other field of ``nexus.api.AttemptOutcome``.
    """
    defaults = {
        "backend_id": backend,
        "model": MODEL,
        "ending": Ending.FINISHED,
        "is_sent": True,
        "status": 200,
        "duration_s": 0.5,
        "first_byte_s": 0.1,
    }
    return AttemptOutcome(backend=backend, **{**defaults, **fields})


def make_outcome(*attempts: AttemptOutcome, **fields: Any) -> ExchangeOutcome:
    """Return the outcome of an exchange, which by default ended as its last attempt did.

    :param fields: any field of ``nexus.api.ExchangeOutcome``.
    """
    last = attempts[-1] if attempts else None
    defaults = {
        "request_id": "test",
        "endpoint": CHAT.name,
        "protocol": CHAT.protocol,
        "model": MODEL,
        "resolved_model": MODEL if last is None else last.model,
        "is_stream": last is not None and last.is_stream,
        "ending": Ending.REJECTED if last is None else last.ending,
        "status": 503 if last is None else last.status or 502,
        "code": "no_healthy_backend" if last is None else None,
        "phase": "route" if last is None else "relay",
        "termination": "--",
        "route_reason": None if last is None else "capability-match",
        "fallback_model": None,
        "received_at": datetime.fromisoformat(NOON).replace(tzinfo=UTC).timestamp(),
        "duration_s": sum(attempt.duration_s for attempt in attempts),
        "queued_s": 0.0,
        "first_byte_s": None if last is None else last.first_byte_s,
        "usage": None if last is None else last.usage,
        "bytes_in": 800,
        "bytes_out": 2000,
    }
    return ExchangeOutcome(attempts=attempts, **{**defaults, **fields})
