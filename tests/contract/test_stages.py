"""The built-in stages keep the promises of every stage."""

from nexus.routing.reconciler import Reconciler
from nexus.routing.stages.analyze import Analyze
from nexus.routing.stages.schedule import Schedule
from nexus.testing.reconciler_contract import ReconcilerContract


class TestAnalyze(ReconcilerContract):
    def make(self) -> Reconciler:
        return Analyze()


class TestSchedule(ReconcilerContract):
    def make(self) -> Reconciler:
        return Schedule()
