"""Backends and snapshots as the fleet would publish them."""

import pytest

from nexus.domain.backend import Backend, BackendLoad, Status
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.kinds import BackendKind, ModelListing
from nexus.domain.model import ModelFacts

OLLAMA = BackendKind(
    name="ollama",
    endpoints=frozenset({"ollama.chat"}),
    health_path="/api/version",
    listing=ModelListing("/api/tags", lambda _: ()),
)


@pytest.fixture
def backend():
    def make(name="gpu-1", *, status=Status.HEALTHY, models=("llama3",), load=None, **facts):
        return Backend(
            id=f"id-of-{name}",
            name=name,
            url=f"http://{name}:11434",
            kind=OLLAMA,
            status=status,
            models={model: ModelFacts(name=model) for model in models},
            load=load or BackendLoad(),
            **facts,
        )

    return make


@pytest.fixture
def fleet():
    def make(*backends):
        return FleetSnapshot(
            version=7,
            backends=backends,
            by_id={backend.id: backend for backend in backends},
            models=tuple(sorted({model for backend in backends for model in backend.models})),
        )

    return make
