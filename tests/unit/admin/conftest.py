"""Backends and fleets of an Ollama kind."""

import pytest

from nexus.domain.kinds import BackendKind, ModelListing
from nexus.testing.builders import make_backend, make_fleet

OLLAMA = BackendKind(
    name="ollama",
    endpoints=frozenset({"ollama.chat"}),
    health_path="/api/version",
    listing=ModelListing("/api/tags", lambda _: ()),
)


@pytest.fixture
def backend():
    def make(name="gpu-1", **fields):
        return make_backend(name, kind=OLLAMA, **{"id": f"id-of-{name}", "url": f"http://{name}:11434", **fields})

    return make


@pytest.fixture
def fleet():
    return lambda *backends: make_fleet(*backends, version=7)
