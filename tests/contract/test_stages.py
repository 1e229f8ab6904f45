"""The built-in stages, and those of every installed plugin, keep the promises of every stage."""

from nexus.config.schema import PluginLoadingConfig
from nexus.plugin_manager import PluginManager
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


def contract_of(index: int) -> type[ReconcilerContract]:
    class Installed(ReconcilerContract):
        def make(self) -> Reconciler:
            return installed()[index]

    return Installed


def installed() -> list[Reconciler]:
    """Make the stages of all installed plugins anew, each under its defaults."""
    manager = PluginManager.load(PluginLoadingConfig())
    return [stage for _, stage in manager.configure({}).reconcilers() if isinstance(stage, Reconciler)]


for _index, _stage in enumerate(installed()):
    globals()[f"Test_{_stage.name}"] = contract_of(_index)
