"""Every installed plugin fulfils the contract of plugins, with its defaults."""

import pytest

from nexus.config.schema import PluginLoadingConfig
from nexus.plugin_manager import PluginManager, find_plugins
from nexus.routing.stage.api import Reconciler
from nexus.routing.stage.order import in_order
from nexus.testing.plugin_check import check_package, cope_with_policies
from nexus.testing.reconciler_contract import ReconcilerContract

FOUND = find_plugins()
LOADED = PluginManager.load(PluginLoadingConfig())


def contract_of(plugin, index):
    class Installed(ReconcilerContract):
        def make(self) -> Reconciler:
            return LOADED.configure({}).reconcilers()[index][1]

    Installed.plugin = plugin.name
    return Installed


for _index, (_plugin, _stage) in enumerate(LOADED.configure({}).reconcilers()):
    globals()[f"Test_{_plugin.name}_{_stage.name}"] = contract_of(_plugin, _index)


@pytest.mark.parametrize("candidate", FOUND, ids=lambda candidate: candidate.name)
def test_its_package_is_as_it_should_be(candidate):
    assert [finding for finding in check_package(candidate) if finding.outcome == "failed"] == []


@pytest.mark.parametrize("candidate", FOUND, ids=lambda candidate: candidate.name)
def test_its_stages_cope_with_every_policy_and_say_what_a_failure_means(candidate):
    contributions = LOADED.configure({})
    mine = [(plugin, stage) for plugin, stage in contributions.reconcilers() if plugin.name == candidate.name]
    keys = contributions.policy_keys().get(candidate.name)

    in_order((), mine)
    for plugin, stage in mine:
        assert any("on_error" in vars(owner) for owner in type(stage).__mro__ if owner is not Reconciler)
        if keys is not None:
            cope_with_policies(lambda stage=stage: stage, plugin, keys)
