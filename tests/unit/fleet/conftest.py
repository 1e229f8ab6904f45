"""Backends and attempts whose ids are those of their names."""

import pytest

from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.fleet.membership.identity import backend_id
from nexus.testing import builders


@pytest.fixture(scope="session")
def make_backend():
    """Return a function that builds a healthy backend with these models."""

    def make(name, *models, kind="vllm", **fields):
        return builders.make_backend(
            name, kind=kind, models=models, **{"id": backend_id(name), "url": f"http://{name}.test:8000", **fields}
        )

    return make


@pytest.fixture(scope="session")
def make_outcome():
    """Return a function that builds an attempt that was not sent, and finished by default."""

    def make(ending=Ending.FINISHED, **fields):
        fields = {"model": "llama3", **fields}
        return AttemptOutcome(backend="gpu", backend_id=backend_id("gpu"), ending=ending, **fields)

    return make
