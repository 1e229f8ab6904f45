"""One backend as it was configured or found, and what follows from that once its kind is known."""

from typing import Any

import msgspec

from nexus.config.schema import BackendConfig
from nexus.dialing.upstream_settings import DEFAULT_SETTINGS, UpstreamSettings
from nexus.domain.backend import AnyModel, Backend, BackendLoad, Status
from nexus.domain.kinds import BackendKind, ServerFacts
from nexus.domain.model import Zone
from nexus.fleet.fetching import Target
from nexus.fleet.kinds import PROTOCOL_ENDPOINTS, UNDETECTED
from nexus.fleet.membership.identity import backend_id
from nexus.fleet.models.overrides import declared_models


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A backend's place in the fleet: checked, complete, and without anything that changes by itself."""

    config: BackendConfig
    kind: BackendKind | None
    """None: to be found out by asking."""
    zone: Zone | None = None
    """None: what is usual for its kind."""
    settings: UpstreamSettings = DEFAULT_SETTINGS
    source: str = "static"
    is_announced: bool = False
    """Whether it announced itself and was approved as what it is: each probe asks whether it still is."""
    found_as: str = ""
    """The name that its discoverer gave it, which another server may have had already; empty of one that nothing found.
    """

    @property
    def id(self) -> str:
        return backend_id(self.config.name)

    def target(self, kind: BackendKind) -> Target:
        """Return which backend to ask, and how; its credentials go to this backend alone."""
        return Target(self.config.url, {**kind.probe_headers, **self.settings.headers_for(kind)}, self.settings)

    def row(self, load: BackendLoad, status: Status) -> Backend:
        """Return the row with which it enters the registry."""
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
        """Return those fields of a row that follow from the configuration and the kind."""
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
            # A limit that the operator sets says more of the server than what is usual for its kind.
            "slots": learned.max_in_flight or (kind.default_slots if config.max_in_flight is None else None),
            "retry_unsafe": kind.is_local if config.retry_unsafe is None else config.retry_unsafe,
            "discovery_source": self.source,
            "any_model": _any_model(kind, learned, accepts=config.accepts_any_model),
        }


def _any_model(kind: BackendKind, learned: ServerFacts, *, accepts: bool | None) -> AnyModel:
    """Return what the operator says or, where that is nothing, what a server of *kind* does when it is asked alone."""
    if accepts is not None:
        return "always" if accepts else "never"
    return "alone" if kind.answers_to_any_model and learned.has_one_model else "never"


def _endpoints(kind: BackendKind, protocols: tuple[str, ...] | None) -> frozenset[str]:
    """Return what *kind* speaks, or what the operator says: of a protocol that the kind lacks, everything."""
    if protocols is None:
        return kind.endpoints
    return frozenset().union(
        *(kind.endpoints & every or every for every in map(PROTOCOL_ENDPOINTS.__getitem__, protocols))
    )
