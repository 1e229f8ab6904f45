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

    def taking_any(self) -> tuple[Backend, ...]:
        """Return the backends that may be asked for a model that no backend lists."""
        if len(self.backends) == 1 and self.backends[0].any_model == "alone":
            return self.backends
        return tuple([backend for backend in self.backends if backend.any_model == "always"])

    def having(self, model: str) -> tuple[Backend, ...]:
        """Return the backends that list *model*, healthy or not; empty when nobody does."""
        exact = self.by_model.get(model, ())
        lower = model.lower()
        if lower == model or lower not in self.by_model:
            return exact
        # Letter case counts for some kinds and not for others: each backend is asked.
        seen = {backend.id for backend in exact}
        return exact + tuple(b for b in self.by_model[lower] if b.id not in seen and b.facts(model) is not None)
