"""Who was seen, and for how long the others have been gone."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
import structlog

from nexus.fleet.discovery.discoverer import Discovered

log = structlog.get_logger("nexus.fleet")

MAX_SIGHTINGS: Final = 1_000
"""By one discoverer at one look, and as many again that are gone: what comes from the network is bounded. Those that
have been known longest stay."""

Key = tuple[str, str]
"""The name of a discoverer, and the name that it gave a server: two discoverers may give two servers one name."""


class Sighting(msgspec.Struct, frozen=True):
    """One server, as it was seen last."""

    source: str
    """The name of the discoverer."""
    found: Discovered
    gone_since: float | None = None
    seen_at: float = 0.0
    """When it was certainly there last."""
    is_stale: bool = False
    """Whether its discoverer cannot look now."""
    is_followed: bool = False
    """Whether its discoverer says at once when it is gone: until then, it counts as seen."""

    @property
    def key(self) -> Key:
        return self.source, self.found.name

    @property
    def is_gone(self) -> bool:
        """Whether it was missing when it was looked for last."""
        return self.gone_since is not None

    def last_seen(self, *, now: float) -> float:
        """Return when it was seen last."""
        return now if self.is_followed and not self.is_stale else self.seen_at


class Sightings:
    """Of all discoverers, by the names that they gave."""

    def __init__(self) -> None:
        self._sightings: dict[Key, Sighting] = {}
        self._full: set[str] = set()
        """The discoverers that saw too many servers at their last look."""

    def __iter__(self) -> Iterator[Sighting]:
        return iter(self._sightings.values())

    def look(self, source: str, seen: Iterable[Discovered], *, now: float, is_certain: bool = False) -> None:
        """Take in all that *source* sees at *now*.

        :param is_certain: whether what is missing is forgotten at once.
        """
        names = set()
        for found in self._bounded(source, list(seen)):
            names.add(found.name)
            before = self._sightings.get((source, found.name))
            self._sightings[source, found.name] = Sighting(
                source,
                msgspec.structs.replace(found, is_stale=False),
                seen_at=before.seen_at if found.is_stale and before is not None and before.is_stale else now,
                is_stale=found.is_stale,
                is_followed=is_certain,
            )
        missing = [key for key in self._sightings if key[0] == source and key[1] not in names]
        for key in missing:
            sighting = self._sightings[key]
            if is_certain:
                del self._sightings[key]
            elif sighting.gone_since is None:
                self._sightings[key] = msgspec.structs.replace(sighting, gone_since=now)
        # Under other names at each look, as many more would be remembered until the grace period is over.
        for key in missing[MAX_SIGHTINGS:]:
            self._sightings.pop(key, None)

    def _bounded(self, source: str, seen: list[Discovered]) -> list[Discovered]:
        """Return as many of *seen* as may be, those first that are known."""
        is_full = len(seen) > MAX_SIGHTINGS
        if is_full and source not in self._full:
            log.warning("servers_left_out", source=source, seen=len(seen), most=MAX_SIGHTINGS)
        (self._full.add if is_full else self._full.discard)(source)
        if not is_full:
            return seen
        return sorted(seen, key=lambda found: (source, found.name) not in self._sightings)[:MAX_SIGHTINGS]

    def listed(self, *, now: float, grace_s: float) -> tuple[Sighting, ...]:
        """Return what belongs into the fleet, what is seen now before what is missing; forget what is gone for good."""
        self._sightings = {
            key: sighting
            for key, sighting in self._sightings.items()
            if sighting.gone_since is None or now - sighting.gone_since <= grace_s
        }
        return tuple(sorted(self._sightings.values(), key=lambda s: (s.gone_since is not None, s.source, s.found.name)))

    def keep_sources(self, sources: Iterable[str]) -> None:
        """Forget what discoverers saw that are no more."""
        kept = set(sources)
        self._sightings = {key: sighting for key, sighting in self._sightings.items() if sighting.source in kept}
