"""Finds models that only one healthy backend has."""

from collections import Counter
from collections.abc import Mapping

from nexus.domain.backend import Backend, Status
from nexus.domain.fleet import FleetSnapshot


def last_holders(snapshot: FleetSnapshot) -> Mapping[str, tuple[str, ...]]:
    """Return, by backend, the models that no other healthy backend has."""
    healthy = _healthy(snapshot)
    holders = Counter(model for backend in healthy for model in backend.models)
    rare = {backend.name: [m for m in sorted(backend.models) if holders[m] == 1] for backend in healthy}
    found = {backend.name: _without_others(backend, rare[backend.name], healthy) for backend in healthy}
    return {name: models for name, models in found.items() if models}


def only_at(snapshot: FleetSnapshot, name: str) -> tuple[str, ...]:
    """Return the models that no healthy backend but *name* has."""
    return last_holders(snapshot).get(name, ())


def _without_others(backend: Backend, models: list[str], healthy: list[Backend]) -> tuple[str, ...]:
    others = [other for other in healthy if other is not backend]
    if any(other.any_model == "always" for other in others):
        return ()
    # Another backend may have the model under another spelling.
    return tuple(model for model in models if not any(other.facts(model) for other in others))


def _healthy(snapshot: FleetSnapshot) -> list[Backend]:
    return [backend for backend in snapshot.backends if backend.status is Status.HEALTHY]
