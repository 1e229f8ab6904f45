"""Which of the servers that were found join the fleet: configured ones come first, and nobody is in it twice."""

from collections.abc import Iterable, Iterator, Mapping
from math import inf
from typing import Final
from urllib.parse import urlsplit

import msgspec
import structlog

from nexus.config.schema import BackendConfig
from nexus.config.urls import normalised
from nexus.domain.kinds import BackendKind
from nexus.domain.model import Zone
from nexus.fleet.discovery.discoverer import Discovered
from nexus.fleet.discovery.sightings import Sighting
from nexus.fleet.member import Member
from nexus.fleet.untrusted import is_plain_name

log = structlog.get_logger("nexus.fleet")

_LOOPBACK: Final = {"localhost": "127.0.0.1", "::1": "127.0.0.1"}


OWN_MACHINE: Final = "local"
"""The discoverer that looks at this machine alone."""


def admitted(
    sightings: Iterable[Sighting],
    configured: Iterable[Member],
    kinds: Mapping[str, BackendKind],
    zone: Zone = "open",
) -> Iterator[Member]:
    """Return the members that *sightings* add to those that are configured.

    :param zone: that of servers on other machines; those on this one are in the zone of their kind.
    """
    members = tuple(configured)
    names = {member.config.name for member in members}
    places = {place_of(member.config.url) for member in members}
    for sighting in sightings:
        found = checked(sighting.found)
        if found is None or place_of(found.url) in places:
            continue
        name = found.name if found.name not in names else f"{found.name}-{_port(found.url)}"
        if name in names:
            continue
        names.add(name)
        places.add(place_of(found.url))
        yield Member(
            config=_config(name, found),
            kind=kinds.get(found.kind),
            zone=None if sighting.source == OWN_MACHINE else zone,
            source=sighting.source,
        )


def _config(name: str, found: Discovered) -> BackendConfig:
    # Plugins find servers too, and a share of nothing would divide by zero.
    share = found.share if 0.0 < found.share < inf else 1.0
    config = BackendConfig(name=name, url=found.url, share=share)
    return config if found.priority is None else msgspec.structs.replace(config, priority=found.priority)


def checked(found: Discovered) -> Discovered | None:
    """Return *found* with its URL normalised, None when it has no acceptable URL or name."""
    try:
        url = normalised(found.url)
    except ValueError as exc:
        log.debug("discovered_url_refused", reason=str(exc))
        return None
    return msgspec.structs.replace(found, url=url) if is_plain_name(found.name) else None


def place_of(url: str) -> tuple[str, str, int, str]:
    """Return what two URLs of one server have in common: a loopback address has several names."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme, _LOOPBACK.get(host, host), _port(url), parts.path


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)
