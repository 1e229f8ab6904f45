"""The stages of all installed plugins, with a configuration on which each of them acts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.config.schema import PluginLoadingConfig, RoutingConfig
from nexus.plugin_manager import PluginManager
from nexus.routing.assembly import build_router
from nexus.testing.builders import make_intent
from nexus.testing.strategies import fleets, requirements

modestly = settings(max_examples=60, deadline=None)

TABLES = {
    "budget": {"monthly_limit_usd": 1, "hard_limit_action": "block_cloud"},
    "privacy": {"default": "restricted"},
    "tier": {"min_tier": 3, "allow_downgrade": True},
}
MANAGER = PluginManager.load(PluginLoadingConfig())
NAMES = {plugin.name for plugin in MANAGER.plugins}
STAGES = [stage.name for _, stage in MANAGER.configure({}).reconcilers()]

headers = st.sampled_from([{}, {"x-nexus-privacy": "restricted"}, {"x-nexus-flexible": "true"}])


@pytest.fixture(scope="module")
def contributions():
    return MANAGER.configure({name: table for name, table in TABLES.items() if name in NAMES})


def said(contributions, priorities, backends, asked, hints):
    router = build_router(RoutingConfig(priorities=priorities), contributions)
    intent = make_intent(backends=backends, model=asked.model, requirements=asked, headers=hints)
    router.pipeline.run(intent)
    return intent


@modestly
@given(fleets(), requirements(), headers, st.permutations(["analyze", *STAGES, "schedule"]))
def test_any_order_of_them_leaves_the_same_survivors(contributions, backends, asked, hints, order):
    usual = said(contributions, {}, backends, asked, hints)
    other = said(contributions, {name: place for place, name in enumerate(order)}, backends, asked, hints)

    assert usual.candidates == other.candidates
    assert {v.backend for v in usual.avoided} & usual.candidates == {
        v.backend for v in other.avoided
    } & other.candidates


@modestly
@given(fleets(), requirements(), headers)
def test_whoever_survives_all_of_them_survives_each(contributions, backends, asked, hints):
    survivors = said(contributions, {}, backends, asked, hints).candidates

    for _, stage in contributions.reconcilers():
        alone = make_intent(backends=backends, model=asked.model, requirements=asked, headers=hints)
        stage.reconcile(alone)
        assert survivors <= alone.candidates
