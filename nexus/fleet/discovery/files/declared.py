"""Decides which backends of watched files join the fleet, and reports clashes."""

from collections.abc import Iterable, Mapping

import msgspec

from nexus.domain.kinds import BackendKind
from nexus.fleet.discovery.discoverer import Discovered
from nexus.fleet.discovery.sightings import Sighting
from nexus.fleet.membership.locations import place_of
from nexus.fleet.membership.member import Member


class Declared(Discovered, frozen=True, kw_only=True):
    """A backend in a watched file, complete with its credentials; no setting of discovery applies to it."""

    member: Member
    file: str
    """The path of the file."""
    rank: int = 0
    """The position of the file in the configuration: of two files with the same name or address, the first wins."""


class Clash(msgspec.Struct, frozen=True):
    """A backend of a file that is not in the fleet, because another one has its name or its address."""

    name: str
    file: str
    by: str
    """The name of the other backend."""
    source: str
    """The source of the other backend: ``static`` for the configuration."""


def resolve_clashes(
    sightings: Iterable[Sighting], members: Iterable[Member], kinds: Mapping[str, BackendKind]
) -> tuple[tuple[Member, ...], frozenset[Clash]]:
    """Return which declared backends in *sightings* join the fleet besides *members*, and which clash.

    Configured backends take precedence, then added ones, then the files in their order.
    """
    others = [*members]
    names = {member.config.name: member for member in others}
    places = {place_of(member.config.url): member for member in others}
    joined: list[Member] = []
    clashes: set[Clash] = set()
    listed = [sighting.found for sighting in sightings if isinstance(sighting.found, Declared)]
    for found in sorted(listed, key=lambda each: each.rank):
        kind = kinds.get(found.member.config.type)
        member = msgspec.structs.replace(found.member, kind=kind, found_as=found.name)
        name, place = member.config.name, place_of(member.config.url)
        if (other := names.get(name) or places.get(place)) is not None:
            clashes.add(Clash(name, found.file, other.config.name, other.source))
            continue
        names[name] = places[place] = member
        joined.append(member)
    return tuple(joined), frozenset(clashes)
