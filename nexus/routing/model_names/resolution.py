"""From the name that a client sent to the models, and the backends that have them, that it stands for."""

from collections.abc import Mapping

import msgspec

from nexus.domain.backend import Backend
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.naming import Naming


class Resolution(msgspec.Struct, frozen=True):
    """What one name stands for in one snapshot of the fleet."""

    requested: str
    model: str
    """The first model that it stands for and that a backend has; the first of all when nobody has any."""
    candidates: Mapping[str, tuple[Backend, str]]
    """By name, each backend that has one of the models, healthy or not, and the name under which it is asked."""
    names: tuple[str, ...]
    """Every name that the request gives its model here: as sent, resolved, on the way, as spelt by the backends."""
    names_by_model: tuple[tuple[str, ...], ...]
    """For each model that it stands for, the model's own name and as the backends spell it."""
    ambiguous: tuple[str, ...] = ()
    """The models that it could mean, where ``routing.loose_tags`` finds more than one; then there are no candidates."""


class Aliases:
    """``[routing.aliases]``, another name for a model, or for several, and ``routing.loose_tags``."""

    def __init__(self, aliases: Mapping[str, str | tuple[str, ...]] | None = None, *, loose_tags: bool = False) -> None:
        targets = {
            alias: (targets,) if isinstance(targets, str) else tuple(targets)
            for alias, targets in (aliases or {}).items()
        }
        self.naming = Naming(targets, loose_tags)

    def resolve(self, model: str, snapshot: FleetSnapshot) -> Resolution:
        """Return the backends that have what *model* stands for."""
        meaning = self.naming.meaning(model, snapshot)
        models = meaning.models
        candidates: dict[str, tuple[Backend, str]] = {}
        names_by_model = []
        for real in models:
            own_names = {backend.name: backend.own_name(real) for backend in snapshot.having(real)}
            for backend in snapshot.having(real):
                candidates.setdefault(backend.name, (backend, own_names[backend.name]))
            names_by_model.append(tuple(dict.fromkeys((real, *sorted(own_names.values())))))
        if not candidates and models:
            candidates = {b.name: (b, b.name_for_any(models[0])) for b in snapshot.taking_any()}
            names_by_model.append(tuple(dict.fromkeys(name for _, name in candidates.values())))
        resolved = next((real for real in models if snapshot.having(real)), models[0] if models else model)
        every = (model, resolved, *meaning.way, *models, *(name for names in names_by_model for name in names))
        names = tuple(dict.fromkeys(every))
        return Resolution(model, resolved, candidates, names, tuple(names_by_model), meaning.ambiguous)
