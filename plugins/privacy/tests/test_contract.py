"""The stage passes the contract of stages, and imports only the API."""

from pathlib import Path

from nexus.api import Priority, Reconciler
from nexus.testing.imports import assert_only_uses_api
from nexus.testing.reconciler_contract import ReconcilerContract
from nexus_privacy.config import PrivacyConfig, PrivacyKeys
from nexus_privacy.counters import RestrictionCounters
from nexus_privacy.reconciler import PrivacyReconciler


class TestByDefault(ReconcilerContract):
    def make(self) -> Reconciler:
        return PrivacyReconciler(PrivacyConfig(), RestrictionCounters())


class TestUnderPolicy(ReconcilerContract):
    policy = {"privacy": PrivacyKeys(privacy="restricted")}  # noqa: RUF012 - as the contract declares it

    def make(self) -> Reconciler:
        return PrivacyReconciler(PrivacyConfig(trust_discovered=False), RestrictionCounters())


def test_it_imports_nothing_of_nexus_but_the_api():
    assert_only_uses_api(Path(__file__).parents[1])


def test_when_it_fails_the_request_is_rejected():
    assert (PrivacyReconciler.on_error, PrivacyReconciler.priority) == ("reject", Priority.PRIVACY)
