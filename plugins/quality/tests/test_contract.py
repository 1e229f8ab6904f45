"""The stage passes the contract of stages, with and without measurements."""

from nexus.api import Reconciler
from nexus.testing.builders import make_backend, make_intent
from nexus.testing.reconciler_contract import ReconcilerContract
from nexus.testing.strategies import MODELS
from nexus_quality.config import QualityConfig
from nexus_quality.measurements import Measurements
from nexus_quality.reconciler import QualityReconciler
from nexus_quality.track import Track


class TestWithoutHistory(ReconcilerContract):
    def make(self) -> Reconciler:
        return QualityReconciler(QualityConfig(), Measurements())


class Remembering(Measurements):
    """Remembers failures, and slow answers, of every second backend, and forgets none of them."""

    def __init__(self):
        super().__init__(clock=lambda: 1_000_000.0)
        for number in range(0, 20, 2):
            for model in (*MODELS, "llama3"):
                track = self.tracks[f"gpu-{number}", model] = Track(f"gpu-{number}", model)
                for _ in range(20):
                    track.record(True, 5_000, self.clock(), 1.7e9, QualityConfig())

    def follow(self, snapshot):
        del snapshot


class TestWithFailures(ReconcilerContract):
    def make(self) -> Reconciler:
        return QualityReconciler(QualityConfig(), Remembering())


def test_these_measurements_cause_a_penalty():
    intent = make_intent(backends=[make_backend("gpu-0"), make_backend("gpu-1")])

    TestWithFailures().make().reconcile(intent)

    assert [verdict.backend for verdict in (*intent.avoided, *intent.weights)] == ["gpu-0"] * 3
