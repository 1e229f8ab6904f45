"""The stage passes the contract of stages, and imports only the API."""

from pathlib import Path

from nexus.api import Priority, Reconciler
from nexus.testing.imports import assert_only_uses_api
from nexus.testing.reconciler_contract import ReconcilerContract
from nexus_tier.config import TierConfig, TierKeys
from nexus_tier.counters import TierCounters
from nexus_tier.reconciler import TierReconciler


class TestByDefault(ReconcilerContract):
    def make(self) -> Reconciler:
        return TierReconciler(TierConfig(), TierCounters())


class TestUnderPolicy(ReconcilerContract):
    policy = {"tier": TierKeys(min_tier=3)}  # noqa: RUF012 - as the contract declares it

    def make(self) -> Reconciler:
        return TierReconciler(TierConfig(allow_downgrade=True), TierCounters())


def test_it_imports_nothing_of_nexus_but_the_api():
    assert_only_uses_api(Path(__file__).parents[1])


def test_when_it_fails_the_request_is_rejected():
    assert (TierReconciler.on_error, TierReconciler.priority) == ("reject", Priority.TIER)
