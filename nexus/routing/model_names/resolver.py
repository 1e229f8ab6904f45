"""Resolves the names that requests have, each once for a snapshot of the fleet."""

from collections.abc import Mapping
from typing import Final

import msgspec

from nexus.domain.fleet import FleetSnapshot
from nexus.domain.naming import Naming, served
from nexus.routing.model_names.resolution import Resolution, resolve

MAX_CACHED_RESOLUTIONS: Final = 1024
"""Clients choose the names, so the cache must be bounded."""


class Resolver:
    """The names of one configuration. May be called in any thread: large bodies are understood in threads."""

    __slots__ = ("_known", "fallbacks", "naming")

    def __init__(self, naming: Naming, fallbacks: Mapping[str, tuple[str, ...]]) -> None:
        self.naming = naming
        self.fallbacks = fallbacks
        # Replaced as a whole, so that no thread sees the names of one snapshot with another one.
        self._known = _Known(FleetSnapshot(), {})

    def resolve(self, model: str, snapshot: FleetSnapshot) -> Resolution:
        """Return what *model* stands for; cached until the fleet changes."""
        known = self._known
        if snapshot is not known.snapshot or len(known.resolutions) >= MAX_CACHED_RESOLUTIONS:
            known = self._known = _Known(snapshot, {})
        found = known.resolutions.get(model)
        if found is None:
            found = known.resolutions[model] = resolve(model, snapshot, self.naming)
        return found

    def served(self, snapshot: FleetSnapshot) -> tuple[str, ...]:
        """Return the models that a backend can be asked for; cached until the fleet changes."""
        known = self._known
        if snapshot is not known.snapshot:
            known = self._known = _Known(snapshot, {})
        if known.served is None:
            known.served = served(snapshot)
        return known.served

    def fallbacks_of(self, resolution: Resolution) -> tuple[str, ...]:
        """Return the fallbacks configured for any name of the model."""
        return next((self.fallbacks[name] for name in resolution.names if name in self.fallbacks), ())

    def has_choice(self, snapshot: FleetSnapshot, model: str) -> bool:
        """Whether *snapshot* has several backends, healthy or not, for *model* or for one of its fallbacks.

        :param model: true if it is empty, as then the endpoint decides.
        """
        if not model:
            return True
        first = self.resolve(model, snapshot)
        if len(first.candidates) > 1 or not self.fallbacks:
            return len(first.candidates) > 1
        return any(len(self.resolve(name, snapshot).candidates) > 1 for name in self.fallbacks_of(first))


class _Known(msgspec.Struct, eq=False):
    """What names stand for in one snapshot of the fleet, as far as they have been asked for."""

    snapshot: FleetSnapshot
    resolutions: dict[str, Resolution]
    served: tuple[str, ...] | None = None
