"""Records where each backend comes from, when it joined, and when a discoverer last saw it."""

from collections.abc import Collection, Iterable, Mapping

import msgspec

from nexus.dialing import names
from nexus.fleet.clock import unix_now
from nexus.fleet.discovery.sightings import Sighting, checked
from nexus.fleet.membership.locations import place_of
from nexus.fleet.membership.member import Member


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The origin of one backend."""

    joined_unix_s: float
    last_seen_unix_s: float | None = None
    """When its discoverer last saw it; None if it is configured or was added."""
    is_stale: bool = False
    """Whether it is still in the fleet although it was missing at the last look, or its discoverer cannot look."""
    also_found_by: tuple[str, ...] = ()
    """Other discoverers that see a server at its address."""
    address_stale_unix_s: float | None = None
    """Since when its host name cannot be resolved, so that its last good addresses are used."""


class Origins:
    """The origins of all members."""

    def __init__(self) -> None:
        self._joined: dict[str, float] = {}
        self._members: Mapping[str, Member] = {}
        self._finders: Mapping[object, Collection[str]] = {}
        self._sightings: Mapping[tuple[str, str], Sighting] = {}

    def update(self, members: Mapping[str, Member], sightings: Iterable[Sighting]) -> None:
        """Set the members, by id, and all current sightings."""
        now_unix_s = unix_now()
        self._joined = {backend_id: self._joined.get(backend_id, now_unix_s) for backend_id in members}
        self._members = members
        self._sightings = {sighting.key: sighting for sighting in sightings}
        finders: dict[object, set[str]] = {}
        for sighting in self._sightings.values():
            if not sighting.is_gone and (found := checked(sighting.found)) is not None:
                finders.setdefault(place_of(found.url), set()).add(sighting.source)
        self._finders = finders

    def of(self, backend_id: str, *, now: float) -> Origin:
        """Return the origin of a member.

        :param now: by the clock of the sightings.
        """
        member = self._members.get(backend_id)
        now_unix_s = unix_now()
        if member is None:
            return Origin(joined_unix_s=now_unix_s)
        finders = self._finders.get(place_of(member.config.url), ())
        sighting = self._sightings.get((member.source, member.found_as or member.config.name))
        return Origin(
            joined_unix_s=self._joined[backend_id],
            last_seen_unix_s=None if sighting is None else now_unix_s - (now - sighting.last_seen(now=now)),
            is_stale=sighting is not None and (sighting.is_gone or sighting.is_stale),
            also_found_by=tuple(sorted({*finders} - {member.source})),
            address_stale_unix_s=_address_stale_since(member),
        )


def _address_stale_since(member: Member) -> float | None:
    proxy = member.settings.proxy
    if proxy is not None:
        return names.stale_since(proxy.host, proxy.port)
    _, host, port, _ = place_of(member.config.url)
    return names.stale_since(host, port)
