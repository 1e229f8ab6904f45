"""Decides which found servers are in the fleet, and under which names."""

from collections.abc import Callable, Collection, Iterable, Mapping

from msgspec.structs import replace

from nexus.fleet.discovery.admission import admit
from nexus.fleet.discovery.approval.applicants import Applicant, Applicants
from nexus.fleet.discovery.files.declared import Declared
from nexus.fleet.discovery.sightings import Key, Sighting
from nexus.fleet.membership.locations import place_of
from nexus.fleet.membership.member import Member
from nexus.fleet.plan import FleetPlan


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

    def joining(
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
        joined = admit(candidates, fixed, plan.kinds, plan.discovery.zone, before=self._names)
        members = [replace(member, is_announced=member.source in need_approval) for member in joined]
        self._names = {(member.source, member.found_as): member.config.name for member in members}
        self._places = frozenset(place_of(member.config.url) for member in (*fixed, *members))
        self._applicants.rename((*fixed, *members), displaced=self._displaced)
        listed = self._applicants.listed()
        self._displaced = frozenset(a.sighting.key for a in listed if place_of(a.found.url) in self._places)
        return {member.id: member for member in members}

    def waiting(self) -> tuple[Applicant, ...]:
        """Return the servers that announced themselves and are not in the fleet under any name."""
        return tuple(a for a in self._applicants.listed() if place_of(a.found.url) not in self._places)
