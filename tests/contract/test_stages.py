"""The built-in stages fulfil the contract of stages."""

from nexus.routing.core_stages.analyze import Analyze
from nexus.routing.core_stages.schedule import Schedule
from nexus.routing.stage.api import Reconciler
from nexus.testing.reconciler_contract import ReconcilerContract


class TestAnalyze(ReconcilerContract):
    def make(self) -> Reconciler:
        return Analyze()


class TestSchedule(ReconcilerContract):
    def make(self) -> Reconciler:
        return Schedule()
