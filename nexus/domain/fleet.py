"""All backends at one instant: published whole, read without locks."""

from collections.abc import Mapping

import msgspec

from nexus.domain.backend import Backend


class FleetSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What routing believes about the fleet, and what the status endpoints show: the same thing."""

    version: int = 0
    """Grows by one with every change."""
    backends: tuple[Backend, ...] = ()
    """Sorted by name."""
    by_id: Mapping[str, Backend] = {}
    by_model: Mapping[str, tuple[Backend, ...]] = {}
    """By every name that a client may use for a model, other spellings included; whatever their health."""
    models: tuple[str, ...] = ()
    """The names for listings, sorted, each once, without other spellings."""

    def having(self, model: str) -> tuple[Backend, ...]:
        """Return the backends that list *model*, healthy or not; empty when nobody does."""
        return self.by_model.get(model, ())
