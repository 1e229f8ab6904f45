"""Found servers: which of them are in the fleet, and under which name."""

from collections.abc import Callable, Collection, Iterable, Mapping

from msgspec.structs import replace

from nexus.fleet.discovery.admission import admitted
from nexus.fleet.discovery.approval.applicants import Applicant, Applicants
from nexus.fleet.discovery.files.declared import Declared
from nexus.fleet.discovery.sightings import Key, Sighting
from nexus.fleet.membership.locations import place_of
from nexus.fleet.membership.member import Member
from nexus.fleet.plan import FleetPlan


class FoundServers:
    """What is configured or added comes first; of the found servers, what is in the fleet already does."""

    def __init__(self, applicants: Applicants, is_own: Callable[[str], bool] = lambda _: False) -> None:
        """:param is_own: whether a URL leads to this proxy, whose requests would come back to it."""
        self._applicants = applicants
        self._is_own = is_own
        self._names: Mapping[Key, str] = {}
        self._places: frozenset[object] = frozenset()
        self._displaced: frozenset[Key] = frozenset()
        """Those that wait at a place which is one of a backend's; the names that they have meanwhile are not shown."""

    def joining(
        self,
        sightings: Iterable[Sighting],
        fixed: Collection[Member],
        plan: FleetPlan,
        need_approval: Collection[str],
        unwell: Collection[str] = (),
    ) -> Mapping[str, Member]:
        """Return those that are in the fleet besides *fixed*, by id.

        :param need_approval: the discoverers whose servers wait to be approved.
        :param unwell: the names of backends that are down.
        """
        found = [s for s in sightings if not isinstance(s.found, Declared) and not self._is_own(s.found.url)]
        trusted = [sighting for sighting in found if sighting.source not in need_approval]
        announced = [sighting for sighting in found if sighting.source in need_approval]
        approved = self._applicants.admitted(announced, plan.discovery, unwell)
        candidates = (*trusted, *approved)
        joined = admitted(candidates, fixed, plan.kinds, plan.discovery.zone, before=self._names)
        members = [replace(member, is_announced=member.source in need_approval) for member in joined]
        self._names = {(member.source, member.found_as): member.config.name for member in members}
        self._places = frozenset(place_of(member.config.url) for member in (*fixed, *members))
        self._applicants.name((*fixed, *members), displaced=self._displaced)
        listed = self._applicants.listed()
        self._displaced = frozenset(a.sighting.key for a in listed if place_of(a.found.url) in self._places)
        return {member.id: member for member in members}

    def waiting(self) -> tuple[Applicant, ...]:
        """Return the servers that announced themselves and are not in the fleet, under any name."""
        return tuple(a for a in self._applicants.listed() if place_of(a.found.url) not in self._places)
