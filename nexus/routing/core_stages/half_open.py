"""The half-open breakers of a backend and of its models, each of which admits one request at a time."""

from nexus.domain.backend import Backend, Breaker
from nexus.domain.backend_load import BackendLoad
from nexus.domain.model_load import ModelLoad


def is_tried(backend: Backend, model: str) -> bool:
    """Whether a request is trying a half-open breaker of the backend or of *model*, here or in another process."""
    elsewhere = backend.load.elsewhere.probing
    return any(load.probing for load in half_open(backend, model)) or (
        bool(elsewhere) and not elsewhere.isdisjoint({"", model})
    )


def begin_probing(backend: Backend, model: str) -> tuple[BackendLoad | ModelLoad, ...]:
    """Mark the half-open breakers that a request tries, and return them.

    Each admits one request; any other that gets here meanwhile has no other candidate.
    """
    tried_now = half_open(backend, model)
    if tried_now and backend.breaker is Breaker.HALF_OPEN and backend.load not in tried_now:
        tried_now.append(backend.load)
    probed = tuple(tried for tried in tried_now if not tried.probing)
    for tried in probed:
        tried.begin_probing()
    return probed


def half_open(backend: Backend, model: str) -> list[BackendLoad | ModelLoad]:
    """Return the load of each half-open breaker: of the server, of its model, or of both."""
    found: list[BackendLoad | ModelLoad] = []
    if backend.own_breaker is Breaker.HALF_OPEN:
        found.append(backend.load)
    if backend.model_breakers.get(model) is Breaker.HALF_OPEN:
        found.append(backend.load.model(model))
    return found
