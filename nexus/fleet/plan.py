"""Validates the configured backends before anything changes, and completes them."""

from collections.abc import Iterable, Mapping

import msgspec
import structlog

from nexus.config.discovery_schema import DiscoveryConfig
from nexus.config.faults import Fault, KeyPath
from nexus.config.quoting import shown
from nexus.config.schema import BackendConfig, HealthCheckConfig
from nexus.config.secrets import Credentials, Secret
from nexus.dialing.age import MAX_AGE_S
from nexus.dialing.upstream_settings import UpstreamSettings
from nexus.domain.kinds import BackendKind
from nexus.domain.model import Zone
from nexus.errors import did_you_mean
from nexus.fleet.kinds import KINDS, PROTOCOL_ENDPOINTS
from nexus.fleet.membership.locations import is_public
from nexus.fleet.membership.member import Member
from nexus.fleet.membership.settings import settings_of
from nexus.fleet.probing.detection import cloud_at

ZONES: Mapping[str, Zone] = {"restricted": "restricted", "open": "open"}
AUTO = "auto"

log = structlog.get_logger("nexus.fleet")


class FleetPlan(msgspec.Struct, frozen=True):
    """The validated configuration of a fleet; a reload replaces it."""

    members: Mapping[str, Member]
    """The configured backends, by id."""
    kinds: Mapping[str, BackendKind]
    health_check: HealthCheckConfig
    discovery: DiscoveryConfig
    connection_age_s: float = MAX_AGE_S
    """The maximum age of connections that probes reuse."""

    def looks_around(self, *, has_finders: bool = False) -> bool:
        """Whether to search this machine and its network for servers.

        :param has_finders: whether plugins contribute discoverers.
        """
        if self.discovery.enabled is not None:
            return self.discovery.enabled
        return not self.members and not self.discovery.has_sources and not has_finders


def plan_fleet(  # noqa: PLR0913 - the parts of one configuration
    backends: Iterable[BackendConfig],
    *,
    kinds: Iterable[BackendKind] = (),
    secrets: Mapping[str, Secret] | None = None,
    credentials: Mapping[str, Credentials] | None = None,
    health_check: HealthCheckConfig | None = None,
    discovery: DiscoveryConfig | None = None,
    connection_age_s: float = MAX_AGE_S,
) -> FleetPlan:
    """Validate and complete the configuration of a fleet; nothing is started.

    :param kinds: the kinds that plugins add.
    :param secrets: the key of each backend, by its name.
    :param credentials: other credentials of each backend, by its name.
    :param connection_age_s: the maximum age of connections that probes reuse.
    :raises Fault: a key of the configuration is wrong.
    """
    known = {**KINDS, **{kind.name: kind for kind in kinds}}
    members: dict[str, Member] = {}
    for index, config in enumerate(backends):
        path = ("backends", index)
        settings = settings_of(
            config, (secrets or {}).get(config.name), (credentials or {}).get(config.name, Credentials()), path
        )
        member = _member(config, known, settings, path)
        if members.setdefault(member.id, member) is not member:
            raise Fault(("backends", index, "name"), f"another backend is named '{shown(config.name)}' already")
    return FleetPlan(
        members, known, health_check or HealthCheckConfig(), discovery or DiscoveryConfig(), connection_age_s
    )


def plan_member(
    config: BackendConfig,
    kinds: Mapping[str, BackendKind],
    key: Secret | None,
    credentials: Credentials,
    *,
    source: str,
) -> Member:
    """Return the member that *config* describes. :raises Fault: a key is wrong; its path is relative to the table."""
    member = _member(config, kinds, settings_of(config, key, credentials, ()), ())
    return msgspec.structs.replace(member, source=source)


def _member(
    config: BackendConfig, kinds: Mapping[str, BackendKind], settings: UpstreamSettings, path: KeyPath
) -> Member:
    if config.type != AUTO and config.type not in kinds:
        hint = did_you_mean(config.type, (*kinds, AUTO), before="") or f"known are {AUTO}, {', '.join(sorted(kinds))}"
        raise Fault((*path, "type"), f"no kind of backend is named '{shown(config.type)}'", hint)
    if config.zone is not None and config.zone.lower() not in ZONES:
        raise Fault((*path, "zone"), f"expected 'restricted' or 'open', got '{shown(config.zone)}'")
    kind = kinds.get(config.type)
    _reject_unknown_endpoints(config, path)
    _reject_two_keys(kind, settings, path)
    _warn_of_assumed_zone(config, kind)
    return Member(
        config=config,
        kind=kind,
        zone=None if config.zone is None else ZONES[config.zone.lower()],
        settings=settings,
    )


def _reject_unknown_endpoints(config: BackendConfig, path: KeyPath) -> None:
    known = {*PROTOCOL_ENDPOINTS, *(name for names in PROTOCOL_ENDPOINTS.values() for name in names)}
    for name in config.protocols or ():
        if name not in known:
            hint = did_you_mean(name, sorted(known), before="")
            raise Fault((*path, "protocols"), f"no endpoint is named '{shown(name)}'", hint)


def _reject_two_keys(kind: BackendKind | None, settings: UpstreamSettings, path: KeyPath) -> None:
    """Raise Fault if a configured header is the one that carries the backend's key."""
    name = "authorization" if kind is None else kind.key_header
    if settings.key is not None and name in map(str.lower, settings.headers):
        raise Fault((*path, "api_key"), f"the header '{name}' is set by another key too", "keep one of them")


def _warn_of_assumed_zone(config: BackendConfig, kind: BackendKind | None) -> None:
    """Warn of a backend that is taken for a local one because of its kind, although its address is public."""
    is_known_cloud = cloud_at(config.url) is not None if kind is None else not kind.is_local
    if config.zone is None and not is_known_cloud and is_public(config.url):
        log.warning("zone_assumed", backend=config.name, url=config.url, type=config.type, zone="restricted")
