"""The stage passes the contract of stages, with and without prompts in caches."""

from nexus.api import Reconciler, Requirements
from nexus.testing.builders import MODEL, make_backend, make_intent
from nexus.testing.reconciler_contract import ReconcilerContract
from nexus_affinity.config import AffinityConfig
from nexus_affinity.fleet_caches import FleetCaches
from nexus_affinity.reconciler import AffinityReconciler


class TestWithEmptyCaches(ReconcilerContract):
    plugin = "affinity"

    def make(self) -> Reconciler:
        return AffinityReconciler(AffinityConfig(), FleetCaches(), lambda: 0.0)


class TestWithFullCaches(ReconcilerContract):
    plugin = "affinity"

    def make(self) -> Reconciler:
        stage = AffinityReconciler(AffinityConfig(), FleetCaches(), lambda: 0.0)
        for number in range(0, 20, 2):
            backend = make_backend(f"gpu-{number}")
            wanted = Requirements(model=MODEL, prompt_blocks=tuple(range(number)))
            stage.reserve(make_intent(backends=[backend], requirements=wanted), backend)
        return stage
