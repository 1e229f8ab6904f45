"""The servers that discoverers see now, and how long others have been missing."""

from collections.abc import Iterable
from typing import Final

import msgspec
import structlog

from nexus.config.rules.urls import normalised
from nexus.fleet.discovery.discoverer import Discovered
from nexus.fleet.untrusted import is_plain_name

log = structlog.get_logger("nexus.fleet")

MAX_SIGHTINGS: Final = 1_000
"""Per discoverer and look, and as many again that are missing; the longest known are kept."""

Key = tuple[str, str]
"""The name of a discoverer, and the name that it gave a server: two discoverers may use the same name."""


class Sighting(msgspec.Struct, frozen=True):
    """One server as it was last seen."""

    source: str
    """The name of the discoverer."""
    found: Discovered
    gone_since: float | None = None
    seen_at: float = 0.0
    """When it was last certainly there."""
    is_stale: bool = False
    """Whether its discoverer cannot look now."""
    is_followed: bool = False
    """Whether its discoverer reports at once that it is gone: until then, it counts as seen."""

    @property
    def key(self) -> Key:
        return self.source, self.found.name

    @property
    def is_gone(self) -> bool:
        """Whether it was missing at the last look."""
        return self.gone_since is not None

    def last_seen(self, *, now: float) -> float:
        """Return when it was last seen."""
        return now if self.is_followed and not self.is_stale else self.seen_at


class Sightings:
    """The sightings of all discoverers."""

    def __init__(self) -> None:
        self._sightings: dict[Key, Sighting] = {}
        self._full: set[str] = set()
        """The discoverers that saw too many servers at their last look."""

    def update(self, source: str, seen: Iterable[Discovered], *, now: float, is_certain: bool = False) -> None:
        """Set all that *source* sees at *now*.

        :param is_certain: whether missing servers are forgotten at once.
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
        # A discoverer that yields new names each time would fill the memory until the grace period is over.
        for key in missing[MAX_SIGHTINGS:]:
            self._sightings.pop(key, None)

    def _bounded(self, source: str, seen: list[Discovered]) -> list[Discovered]:
        """Return at most ``MAX_SIGHTINGS`` of *seen*, known ones first."""
        is_full = len(seen) > MAX_SIGHTINGS
        if is_full and source not in self._full:
            log.warning("servers_left_out", source=source, seen=len(seen), most=MAX_SIGHTINGS)
        (self._full.add if is_full else self._full.discard)(source)
        if not is_full:
            return seen
        return sorted(seen, key=lambda found: (source, found.name) not in self._sightings)[:MAX_SIGHTINGS]

    def listed(self, *, now: float, grace_s: float) -> tuple[Sighting, ...]:
        """Forget sightings whose grace period is over, and return the others: those seen now first."""
        self._sightings = {
            key: sighting
            for key, sighting in self._sightings.items()
            if sighting.gone_since is None or now - sighting.gone_since <= grace_s
        }
        return tuple(sorted(self._sightings.values(), key=lambda s: (s.gone_since is not None, s.source, s.found.name)))

    def keep_sources(self, sources: Iterable[str]) -> None:
        """Forget the sightings of all other discoverers."""
        kept = set(sources)
        self._sightings = {key: sighting for key, sighting in self._sightings.items() if sighting.source in kept}


def checked(found: Discovered) -> Discovered | None:
    """Return *found* with a normalised URL; None if its URL or its name is not valid."""
    try:
        url = normalised(found.url)
    except ValueError as exc:
        log.debug("discovered_url_refused", reason=str(exc))
        return None
    return msgspec.structs.replace(found, url=url) if is_plain_name(found.name) else None
