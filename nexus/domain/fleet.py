"""All backends at one instant, as one immutable value."""

from collections.abc import Mapping

import msgspec

from nexus.domain.backend import Backend


class FleetSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet as routing sees it and as the status endpoints show it."""

    version: int = 0
    """Incremented with every change."""
    backends: tuple[Backend, ...] = ()
    """Sorted by name."""
    by_id: Mapping[str, Backend] = {}
    by_model: Mapping[str, tuple[Backend, ...]] = {}
    """The backends that list a model, healthy or not, by every name that a client may use for it."""
    models: tuple[str, ...] = ()
    """The names for listings: sorted, unique, without other spellings."""

    def taking_any(self) -> tuple[Backend, ...]:
        """Return the backends that accept a model that no backend lists."""
        if len(self.backends) == 1 and self.backends[0].any_model == "alone":
            return self.backends
        return tuple([backend for backend in self.backends if backend.any_model == "always"])

    def having(self, model: str) -> tuple[Backend, ...]:
        """Return the backends that list *model*, healthy or not; empty when there are none."""
        exact = self.by_model.get(model, ())
        lower = model.lower()
        if lower == model or lower not in self.by_model:
            return exact
        # Letter case counts for some kinds only, so each backend decides.
        seen = {backend.id for backend in exact}
        return exact + tuple(b for b in self.by_model[lower] if b.id not in seen and b.facts(model) is not None)
