"""Backends and outcomes in one line each."""

import pytest

from nexus.domain.backend import Backend, BackendLoad, Status
from nexus.domain.model import ModelFacts
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.fleet.kinds import KINDS
from nexus.fleet.membership.identity import backend_id


@pytest.fixture(scope="session")
def make_backend():
    """A healthy backend of a name, with models of these names."""

    def make(name, *models, kind="vllm", status=Status.HEALTHY, **fields):
        return Backend(
            id=backend_id(name),
            name=name,
            url=f"http://{name}.test:8000",
            kind=KINDS[kind],
            status=status,
            models={model: ModelFacts(name=model) for model in models},
            load=BackendLoad(),
            **fields,
        )

    return make


@pytest.fixture(scope="session")
def make_outcome():
    """How an attempt ended: well, unless said otherwise."""

    def make(ending=Ending.FINISHED, **fields):
        fields = {"model": "llama3", **fields}
        return AttemptOutcome(backend="gpu", backend_id=backend_id("gpu"), ending=ending, **fields)

    return make
