"""The plugin keeps requests off the cloud at night, and its stage passes the contract of stages."""

from nexus.api import Reconciler
from nexus.testing.reconciler_contract import ReconcilerContract
from no_cloud_at_night import NightConfig, NoCloudAtNight

pytest_plugins = ["nexus.testing.fixtures"]


class TestContract(ReconcilerContract):
    def make(self) -> Reconciler:
        return NoCloudAtNight(NightConfig())


def test_cloud_backends_rest_at_night(intent):
    at_three = intent(received_at="2026-05-01T03:00", backends={"gpu-1": "restricted", "cloud": "open"})

    NoCloudAtNight(NightConfig()).reconcile(at_three)

    assert at_three.candidates == {"gpu-1"}


def test_cloud_backends_work_by_day(intent):
    at_noon = intent(received_at="2026-05-01T12:00", backends={"gpu-1": "restricted", "cloud": "open"})

    NoCloudAtNight(NightConfig()).reconcile(at_noon)

    assert at_noon.candidates == {"gpu-1", "cloud"}
