"""One backend as configured or found, and the row that the registry shows for it."""

from typing import Any

import msgspec

from nexus.config.schema import BackendConfig
from nexus.dialing.upstream_settings import DEFAULT_SETTINGS, UpstreamSettings
from nexus.domain.backend import AnyModel, Backend, Status
from nexus.domain.backend_load import BackendLoad
from nexus.domain.kinds import BackendKind, ServerFacts
from nexus.domain.model import Zone
from nexus.fleet.fetching import Target
from nexus.fleet.kinds import PROTOCOL_ENDPOINTS, UNDETECTED
from nexus.fleet.membership.identity import backend_id
from nexus.fleet.models.overrides import declared_models


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """The static part of a backend: validated and complete, without state."""

    config: BackendConfig
    kind: BackendKind | None
    """None: a probe detects it."""
    zone: Zone | None = None
    """None: the default of its kind."""
    settings: UpstreamSettings = DEFAULT_SETTINGS
    source: str = "static"
    is_announced: bool = False
    """Whether it announced itself and was approved as a server of its kind: each probe detects its kind again."""
    found_as: str = ""
    """The name that its discoverer gave it, which may be taken in the fleet; empty if no discoverer found it."""

    @property
    def id(self) -> str:
        return backend_id(self.config.name)

    def target(self, kind: BackendKind) -> Target:
        """Return the target of probes; its credentials are sent to this backend only."""
        return Target(self.config.url, {**kind.probe_headers, **self.settings.headers_for(kind)}, self.settings)

    def row(self, load: BackendLoad, status: Status) -> Backend:
        """Return its first row in the registry."""
        kind = self.kind or UNDETECTED
        return Backend(
            id=self.id,
            name=self.config.name,
            load=load,
            status=status,
            models=declared_models(self.config.models),
            **self.fields(kind, learned=ServerFacts()),
        )

    def fields(self, kind: BackendKind, *, learned: ServerFacts) -> dict[str, Any]:
        """Return the fields of its row that follow from the configuration and the kind."""
        config = self.config
        return {
            "url": config.url,
            "kind": kind,
            "zone": self.zone or kind.default_zone,
            "tier": config.tier,
            "priority": config.priority,
            "share": config.share,
            "endpoints": _endpoints(kind, config.protocols),
            "max_in_flight": config.max_in_flight or kind.default_max_in_flight,
            "is_limited": config.max_in_flight is not None,
            "slots_are_reported": learned.max_in_flight is not None,
            # The default of the kind applies only if the operator has set no limit.
            "slots": learned.max_in_flight or (kind.default_slots if config.max_in_flight is None else None),
            "max_loaded_models": config.max_loaded_models,
            "retry_unsafe": kind.is_local if config.retry_unsafe is None else config.retry_unsafe,
            "discovery_source": self.source,
            "any_model": _any_model(kind, learned, accepts=config.accepts_any_model),
        }


def _any_model(kind: BackendKind, learned: ServerFacts, *, accepts: bool | None) -> AnyModel:
    """Return the configured value, or the default of *kind*."""
    if accepts is not None:
        return "always" if accepts else "never"
    return "alone" if kind.answers_to_any_model and learned.has_one_model else "never"


def _endpoints(kind: BackendKind, protocols: tuple[str, ...] | None) -> frozenset[str]:
    """Return the endpoints of *kind*, or of *protocols*, which names endpoints or protocols.

    Of a protocol that the kind does not speak, it has all endpoints.
    """
    if protocols is None:
        return kind.endpoints
    every = (PROTOCOL_ENDPOINTS.get(name) for name in protocols)
    parts = ({name} if of is None else kind.endpoints & of or of for name, of in zip(protocols, every, strict=True))
    return frozenset().union(*parts)
