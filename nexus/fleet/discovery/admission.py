"""Turns sightings of servers into members; configured backends take precedence, and no server is added twice."""

from collections.abc import Iterable, Iterator, Mapping
from math import inf
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

import msgspec
import structlog

from nexus.config.rules.checks import is_loopback
from nexus.config.rules.urls import normalised
from nexus.config.schema import BackendConfig
from nexus.domain.kinds import BackendKind
from nexus.domain.model import Zone
from nexus.fleet.discovery.discoverer import Discovered
from nexus.fleet.discovery.names import assign_names
from nexus.fleet.discovery.sightings import Key, Sighting
from nexus.fleet.membership.locations import place_of
from nexus.fleet.membership.member import Member
from nexus.fleet.untrusted import is_plain_name

log = structlog.get_logger("nexus.fleet")

NO_NAMES: Final[Mapping[Key, str]] = MappingProxyType({})
OWN_MACHINE: Final = "local"
"""The discoverer of this machine."""
NAMED_HOSTS: Final = "hosts"
"""The discoverer of configured hosts, which may include this machine."""


def admit(
    sightings: Iterable[Sighting],
    configured: Iterable[Member],
    kinds: Mapping[str, BackendKind],
    zone: Zone = "open",
    before: Mapping[Key, str] = NO_NAMES,
) -> Iterator[Member]:
    """Return the members that *sightings* add to the configured ones.

    Of two sightings of one address, the one that is in the fleet already is kept.

    :param zone: the zone of servers on other machines; servers on this one are in the zone of their kind.
    :param before: the names of the members that sightings have added so far.
    """
    members = tuple(configured)
    places = {place_of(member.config.url) for member in members}
    joining: list[Sighting] = []
    for sighting in sorted(sightings, key=lambda s: (s.is_gone, s.key not in before)):
        found = checked(sighting.found)
        if found is not None and place_of(found.url) not in places:
            places.add(place_of(found.url))
            joining.append(msgspec.structs.replace(sighting, found=found))
    names = assign_names(joining, taken=(member.config.name for member in members), before=before)
    for sighting in joining:
        yield Member(
            config=_config(names[sighting.key], sighting.found),
            kind=kinds.get(sighting.found.kind),
            zone=None if _is_here(sighting) else zone,
            source=sighting.source,
            found_as=sighting.found.name,
        )


def _is_here(sighting: Sighting) -> bool:
    is_loopback_url = is_loopback(urlsplit(sighting.found.url).hostname or "")
    return sighting.source == OWN_MACHINE or (sighting.source == NAMED_HOSTS and is_loopback_url)


def _config(name: str, found: Discovered) -> BackendConfig:
    # The share may come from a plugin, and 0 would divide by zero.
    share = found.share if 0.0 < found.share < inf else 1.0
    config = BackendConfig(name=name, url=found.url, share=share)
    return config if found.priority is None else msgspec.structs.replace(config, priority=found.priority)


def checked(found: Discovered) -> Discovered | None:
    """Return *found* with a normalised URL; None if its URL or its name is not valid."""
    try:
        url = normalised(found.url)
    except ValueError as exc:
        log.debug("discovered_url_refused", reason=str(exc))
        return None
    return msgspec.structs.replace(found, url=url) if is_plain_name(found.name) else None
