"""The fleet as it should be: everything that can be wrong with it is found here, before anything changes."""

import ssl
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

import msgspec
import structlog

from nexus.config.faults import Fault, KeyPath
from nexus.config.schema import BackendConfig, DiscoveryConfig, HealthCheckConfig
from nexus.config.secrets import Secret
from nexus.config.suggestions import did_you_mean, shown
from nexus.domain.kinds import BackendKind
from nexus.domain.model import Zone
from nexus.fleet.detection import CLOUD_HOSTS
from nexus.fleet.fetching import Tls
from nexus.fleet.kinds import KINDS
from nexus.fleet.locations import is_public
from nexus.fleet.member import Member

ZONES: Mapping[str, Zone] = {"restricted": "restricted", "open": "open"}
AUTO = "auto"

log = structlog.get_logger("nexus.fleet")


class FleetPlan(msgspec.Struct, frozen=True):
    """What a fleet is built from, and rebuilt at a reload."""

    members: Mapping[str, Member]
    """The configured ones, by id."""
    kinds: Mapping[str, BackendKind]
    health_check: HealthCheckConfig
    discovery: DiscoveryConfig

    @property
    def looks_around(self) -> bool:
        """Whether the usual ports of this machine are looked at."""
        return not self.members if self.discovery.enabled is None else self.discovery.enabled


def plan_fleet(
    backends: Iterable[BackendConfig],
    *,
    kinds: Iterable[BackendKind] = (),
    secrets: Mapping[str, Secret] | None = None,
    health_check: HealthCheckConfig | None = None,
    discovery: DiscoveryConfig | None = None,
) -> FleetPlan:
    """Check and complete what is configured; nothing is started.

    :param kinds: those that plugins add.
    :param secrets: the keys of backends, by the backend's name.
    :raises Fault: when a key is wrong.
    """
    known = {**KINDS, **{kind.name: kind for kind in kinds}}
    members: dict[str, Member] = {}
    for index, config in enumerate(backends):
        member = _member(config, known, (secrets or {}).get(config.name), ("backends", index))
        if members.setdefault(member.id, member) is not member:
            raise Fault(("backends", index, "name"), f"another backend is named '{shown(config.name)}' already")
    return FleetPlan(members, known, health_check or HealthCheckConfig(), discovery or DiscoveryConfig())


def _member(config: BackendConfig, kinds: Mapping[str, BackendKind], key: Secret | None, path: KeyPath) -> Member:
    if config.type != AUTO and config.type not in kinds:
        hint = did_you_mean(config.type, (*kinds, AUTO)) or f"known are {AUTO}, {', '.join(sorted(kinds))}"
        raise Fault((*path, "type"), f"no kind of backend is named '{shown(config.type)}'", hint)
    if config.zone is not None and config.zone.lower() not in ZONES:
        raise Fault((*path, "zone"), f"expected 'restricted' or 'open', got '{shown(config.zone)}'")
    kind = kinds.get(config.type)
    _tell_what_is_assumed(config, kind)
    return Member(
        config=config,
        kind=kind,
        zone=None if config.zone is None else ZONES[config.zone.lower()],
        key=key,
        tls=_tls(config, path),
    )


def _tell_what_is_assumed(config: BackendConfig, kind: BackendKind | None) -> None:
    """Warn of a server that counts as one of the house by its kind alone, while its address speaks against it."""
    is_known_cloud = urlsplit(config.url).hostname in CLOUD_HOSTS if kind is None else not kind.is_local
    if config.zone is None and not is_known_cloud and is_public(config.url):
        log.warning("zone_assumed", backend=config.name, url=config.url, type=config.type, zone="restricted")


def _tls(config: BackendConfig, path: KeyPath) -> Tls:
    if not config.tls_verify:
        return False
    if config.tls_ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=config.tls_ca_file)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or "no certificate in it"
        raise Fault((*path, "tls_ca_file"), f"{shown(config.tls_ca_file)} cannot be used: {reason}") from exc
