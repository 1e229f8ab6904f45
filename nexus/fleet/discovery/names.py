"""Gives each found server a unique name that stays the same for as long as it is seen."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import count

from nexus.fleet.discovery.sightings import Key, Sighting
from nexus.fleet.membership.locations import port_of
from nexus.fleet.untrusted import MAX_NAME_LENGTH


def assign_names(sightings: Iterable[Sighting], *, taken: Iterable[str], before: Mapping[Key, str]) -> dict[Key, str]:
    """Return the name of each of *sightings*: its previous one, or else the one that its discoverer gave it.

    :param sightings: if two want the same name, the first gets it, and the other one with its port or source appended.
    :param taken: names that are not available.
    :param before: the names of sightings so far.
    """
    wanted = {sighting.key: sighting for sighting in sightings}
    used = set(taken)
    names: dict[Key, str] = {}
    for key in wanted:
        if (name := before.get(key)) is not None and name not in used:
            names[key] = name
            used.add(name)
    for key, sighting in wanted.items():
        if key not in names:
            names[key] = next(name for name in _candidates(sighting) if name not in used)
            used.add(names[key])
    return names


def _candidates(sighting: Sighting) -> Iterator[str]:
    name = sighting.found.name
    yield name
    for distinction in (port_of(sighting.found.url), sighting.source):
        yield _joined(name, distinction)
    for number in count(2):
        yield _joined(name, number)


def _joined(name: str, distinction: object) -> str:
    end = f"-{distinction}"
    return name[: MAX_NAME_LENGTH - len(end)] + end
