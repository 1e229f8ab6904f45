"""Decides which found servers join the fleet, and under which names."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from math import inf
from typing import Final
from urllib.parse import urlsplit

import msgspec

from nexus.config.rules.checks import is_loopback
from nexus.config.schema import BackendConfig
from nexus.domain.kinds import BackendKind
from nexus.domain.model import Zone
from nexus.fleet.discovery.approval.applicants import Applicant, Applicants
from nexus.fleet.discovery.discoverer import Discovered
from nexus.fleet.discovery.files.declared import Declared
from nexus.fleet.discovery.names import assign_names
from nexus.fleet.discovery.sightings import Key, Sighting, checked
from nexus.fleet.membership.locations import place_of
from nexus.fleet.membership.member import Member
from nexus.fleet.plan import FleetPlan

OWN_MACHINE: Final = "local"
"""The discoverer of this machine."""
NAMED_HOSTS: Final = "hosts"
"""The discoverer of configured hosts, which may include this machine."""


class FoundServers:
    """Declared members take precedence over found servers, and of those, current members over new ones."""

    def __init__(self, applicants: Applicants, is_own: Callable[[str], bool] = lambda _: False) -> None:
        """:param is_own: whether a URL leads to this proxy, which would send requests to itself."""
        self._applicants = applicants
        self._is_own = is_own
        self._names: Mapping[Key, str] = {}
        self._places: frozenset[object] = frozenset()
        self._displaced: frozenset[Key] = frozenset()
        """Applicants at the address of a backend; they are not shown, so their names are not kept."""

    def members(
        self,
        sightings: Iterable[Sighting],
        fixed: Collection[Member],
        plan: FleetPlan,
        need_approval: Collection[str],
        unhealthy: Collection[str] = (),
    ) -> Mapping[str, Member]:
        """Return, by id, the members besides *fixed*.

        :param need_approval: the discoverers whose servers need approval.
        :param unhealthy: the names of unhealthy backends.
        """
        found = [s for s in sightings if not isinstance(s.found, Declared) and not self._is_own(s.found.url)]
        trusted = [sighting for sighting in found if sighting.source not in need_approval]
        announced = [sighting for sighting in found if sighting.source in need_approval]
        approved = self._applicants.admit(announced, plan.discovery, unhealthy)
        candidates = (*trusted, *approved)
        joined = admit(candidates, fixed, plan.kinds, plan.discovery.zone, self._names)
        members = [msgspec.structs.replace(member, is_announced=member.source in need_approval) for member in joined]
        self._names = {(member.source, member.found_as): member.config.name for member in members}
        self._places = frozenset(place_of(member.config.url) for member in (*fixed, *members))
        self._applicants.rename((*fixed, *members), displaced=self._displaced)
        listed = self._applicants.listed()
        self._displaced = frozenset(a.sighting.key for a in listed if place_of(a.found.url) in self._places)
        return {member.id: member for member in members}

    def waiting(self) -> tuple[Applicant, ...]:
        """Return the servers that announced themselves and are not in the fleet under any name."""
        return tuple(a for a in self._applicants.listed() if place_of(a.found.url) not in self._places)


def admit(
    sightings: Iterable[Sighting],
    configured: Iterable[Member],
    kinds: Mapping[str, BackendKind],
    zone: Zone,
    before: Mapping[Key, str],
) -> Iterator[Member]:
    """Yield the members that *sightings* add to the configured ones; no server is added twice.

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
