"""A fleet, and the stage that weighs it."""

from typing import NamedTuple

import pytest

from nexus.api import AttemptOutcome, Ending, Requirements
from nexus.testing.builders import MODEL, make_backend, make_fleet, make_intent
from nexus_affinity.config import AffinityConfig
from nexus_affinity.fleet_caches import FleetCaches
from nexus_affinity.reconciler import AffinityReconciler


def prompt(name, blocks=12, *, begins=()):
    """Return the blocks of a prompt: those it begins with, and new ones of this name."""
    return (*begins, *[hash((name, at)) for at in range(len(begins), blocks)])


class Weighed(NamedTuple):
    factors: dict[str, float]
    reasons: dict[str, str]


class Scene:
    """A stage and its fleet."""

    def __init__(self, backends, **keys):
        self.caches = FleetCaches()
        self.stage = AffinityReconciler(AffinityConfig(**keys), self.caches, lambda: 0.0)
        self.backends = {backend.name: backend for backend in backends}

    def __getitem__(self, name):
        return self.backends[name]

    def intent(self, blocks=(), conversation=0, model=MODEL):
        wanted = Requirements(model=model, prompt_blocks=tuple(blocks), conversation=conversation)
        return make_intent(backends=self.backends.values(), model=model, requirements=wanted)

    def weigh(self, blocks=(), **fields):
        intent = self.intent(blocks, **fields)
        self.stage.reconcile(intent)
        assert not intent.excluded
        assert not intent.avoided
        factors = dict.fromkeys(self.backends, 1.0) | {verdict.backend: verdict.factor for verdict in intent.weights}
        return Weighed(factors, {verdict.backend: verdict.reason for verdict in intent.weights})

    def preferred(self, blocks=(), **fields):
        """Return the names of the backends that are not weighed down."""
        return {name for name, factor in self.weigh(blocks, **fields).factors.items() if factor == 1.0}

    def forget_counts(self):
        """Forget how many requests each backend got."""
        for cache in self.caches.caches.values():
            cache.recent = 0.0

    def begin(self, backend, blocks=(), **fields):
        return self.stage.reserve(self.intent(blocks, **fields), self.backends[backend])

    def send(self, backend, blocks=(), *, status=200, first_byte_s=0.1, ending=Ending.FINISHED, **fields):
        """Let *backend* answer a request."""
        hold = self.begin(backend, blocks, **fields)
        if hold is not None:
            hold.settle(
                AttemptOutcome(
                    backend=backend,
                    backend_id=backend,
                    model=MODEL,
                    ending=ending,
                    status=status,
                    first_byte_s=first_byte_s,
                )
            )

    def fail(self, backend, blocks):
        self.send(backend, blocks, status=None, first_byte_s=None, ending=Ending.BACKEND_FAILED)

    def cached(self, backend, blocks, **fields):
        """Return how many of *blocks* the backend is expected to have in its cache."""
        facts = self.stage.explain(self.intent(blocks, **fields))["candidates"]
        return next(row["cached_kib"] for row in facts if row["backend"] == backend)

    def replace(self, name, **fields):
        self.backends[name] = make_backend(name, **{"kind": "vllm", "load": self.backends[name].load, **fields})

    def snapshot(self):
        return make_fleet(*self.backends.values())


@pytest.fixture
def scene():
    """Make a scene of this many vLLMs, named ``gpu-0`` and so on, or of these backends."""

    def make(backends=4, **keys):
        if isinstance(backends, int):
            backends = [make_backend(f"gpu-{number}", kind="vllm") for number in range(backends)]
        return Scene(backends, **keys)

    return make


@pytest.fixture(name="prompt")
def _prompt():
    return prompt
