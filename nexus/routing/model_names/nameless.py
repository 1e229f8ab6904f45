"""What a request stands for that names no model: the backends that serve its endpoint, each by what it has."""

from msgspec.structs import replace

from nexus.domain.backend import Backend
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.request import Endpoint, Kept
from nexus.routing.model_names.resolution import Resolution


def without_model(endpoint: Endpoint, snapshot: FleetSnapshot) -> Resolution:
    """Return the backends that serve *endpoint*, and those of which that is not known yet."""
    names_model = endpoint.model == "maybe"
    candidates = {
        backend.name: (backend, _only_one(backend) if names_model else "")
        for backend in snapshot.backends
        if endpoint.name in backend.endpoints or not backend.endpoints
    }
    return Resolution("", "", candidates, (), ())


def at_its_keeper(kept: Kept, made_by: Resolution | None, snapshot: FleetSnapshot) -> Resolution:
    """Return the one backend that keeps what the request is about, whether it still has the model that made it or not.

    :param made_by: what the model stands for that made it; None when none did.
    """
    keeper = keeper_of(kept, snapshot)
    resolution = made_by or Resolution("", "", {}, (), ())
    candidates = {} if keeper is None else {keeper.name: (keeper, keeper.own_name(kept.model) if kept.model else "")}
    return replace(resolution, candidates=candidates)


def keeper_of(kept: Kept, snapshot: FleetSnapshot) -> Backend | None:
    """Return the backend that keeps it; None when it has left the fleet."""
    return next((backend for backend in snapshot.backends if backend.name == kept.backend), None)


def only_model(endpoint: Endpoint, snapshot: FleetSnapshot) -> str | None:
    """Return the one model that *endpoint* can be about, however it is spelt; None when there are more, or none."""
    serving = [backend for backend in snapshot.backends if endpoint.name in backend.endpoints and backend.models]
    if any(len(backend.models) > 1 for backend in serving):
        return None
    names = [name for backend in serving for name in backend.models]
    return next((name for name in names if all(backend.facts(name) is not None for backend in serving)), None)


def _only_one(backend: Backend) -> str:
    """Return the one model of *backend*, empty when it has several: then it is for it to say which answers."""
    return next(iter(backend.models)) if len(backend.models) == 1 else ""
