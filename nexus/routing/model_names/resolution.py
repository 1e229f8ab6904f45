"""The backends that a request can go to, by the model that it names or by the lack of one."""

from collections.abc import Callable, Mapping

import msgspec

from nexus.domain.backend import Backend
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.naming import Naming
from nexus.domain.request import Endpoint, Kept


class Resolution(msgspec.Struct, frozen=True):
    """What one name stands for in one snapshot of the fleet."""

    requested: str
    model: str
    """The first of its models that a backend has; the first of all when no backend has any."""
    candidates: Mapping[str, tuple[Backend, str]]
    """By backend name: each backend that has one of the models, healthy or not, and its own name for the model."""
    names: tuple[str, ...]
    """Every name of the model in this request: as sent, aliases, as resolved, and as spelled by the backends."""
    names_by_model: tuple[tuple[str, ...], ...]
    """For each model that the name stands for, the model's own name and its spellings."""


def resolve(name: str, snapshot: FleetSnapshot, naming: Naming) -> Resolution:
    """Return the backends that have what *name* stands for."""
    meaning = naming.meaning(name, snapshot)
    models = meaning.models
    candidates: dict[str, tuple[Backend, str]] = {}
    names_by_model = []
    for model in models:
        # Most backends list the name as it is: a probe of one of a hundred must not cost a call for each.
        offers = {
            backend.name: (backend, model if model in backend.models else backend.own_name(model))
            for backend in snapshot.having(model)
        }
        candidates = offers if not candidates else candidates | {b: o for b, o in offers.items() if b not in candidates}
        names_by_model.append(tuple(dict.fromkeys((model, *sorted({own_name for _, own_name in offers.values()})))))
    if not candidates and models:
        candidates = {b.name: (b, b.name_for_any(models[0])) for b in snapshot.taking_any()}
        names_by_model.append(tuple(dict.fromkeys(own_name for _, own_name in candidates.values())))
    resolved = next((model for model in models if snapshot.having(model)), models[0] if models else name)
    every = (name, resolved, *meaning.way, *models, *(spelling for names in names_by_model for spelling in names))
    return Resolution(name, resolved, candidates, tuple(dict.fromkeys(every)), tuple(names_by_model))


class Nameless(msgspec.Struct, frozen=True):
    """A request that names no model."""

    endpoint: Endpoint
    served: tuple[str, ...]
    """The name of its endpoint, and of those to which it can be translated."""
    kept: Kept | None
    """The object that it refers to, if the backend that keeps it is known."""
    default_model: str | None

    def resolve(
        self, snapshot: FleetSnapshot, resolve_name: Callable[[str, FleetSnapshot], Resolution]
    ) -> Resolution | None:
        """Return the backends that it can go to; None when it has to name a model."""
        endpoint, kept = self.endpoint, self.kept
        made_by = resolve_name(kept.model, snapshot) if kept is not None and kept.model else None
        if endpoint.model == "none":
            return resolve_kept(kept, made_by, snapshot) if kept else resolve_endpoint(endpoint, snapshot)
        if made_by is not None:
            return made_by
        name = None if endpoint.model == "own" else self.default_model
        if endpoint.model == "body":
            name = name or next((model for e in self.served if (model := only_model(e, snapshot))), None)
            return resolve_name(name, snapshot) if name else None
        by_default = resolve_name(name, snapshot) if name else None
        if by_default is not None and any(endpoint.name in b.endpoints for b, _ in by_default.candidates.values()):
            return by_default
        return resolve_endpoint(endpoint, snapshot)


def resolve_endpoint(endpoint: Endpoint, snapshot: FleetSnapshot) -> Resolution:
    """Return the backends for a request without a model: those that serve *endpoint* or have not been probed yet."""
    takes_model = endpoint.model == "maybe"
    candidates = {
        backend.name: (backend, _sole_model(backend) if takes_model else "")
        for backend in snapshot.backends
        if endpoint.name in backend.endpoints or not backend.endpoints
    }
    return Resolution("", "", candidates, (), ())


def resolve_kept(kept: Kept, made_by: Resolution | None, snapshot: FleetSnapshot) -> Resolution:
    """Return the one backend that keeps what the request refers to, even if it no longer has the model.

    :param made_by: the resolution of the model that made the kept object; None when no model did.
    """
    keeper = keeper_of(kept, snapshot)
    resolution = made_by or Resolution("", "", {}, (), ())
    candidates = {} if keeper is None else {keeper.name: (keeper, keeper.own_name(kept.model) if kept.model else "")}
    return msgspec.structs.replace(resolution, candidates=candidates)


def keeper_of(kept: Kept, snapshot: FleetSnapshot) -> Backend | None:
    """Return the backend that keeps the object; None when it has left the fleet."""
    return next((backend for backend in snapshot.backends if backend.name == kept.backend), None)


def only_model(endpoint: str, snapshot: FleetSnapshot) -> str | None:
    """Return the one model, in any spelling, that the backends of *endpoint* have; None when there are more or none.

    :param endpoint: its name.
    """
    serving = [backend for backend in snapshot.backends if endpoint in backend.endpoints and backend.models]
    if any(len(backend.models) > 1 for backend in serving):
        return None
    names = [name for backend in serving for name in backend.models]
    return next((name for name in names if all(backend.facts(name) is not None for backend in serving)), None)


def _sole_model(backend: Backend) -> str:
    """Return the one model of *backend*; empty when it has several, so that the backend picks one itself."""
    return next(iter(backend.models)) if len(backend.models) == 1 else ""
