"""The hooks of the plugin."""

import nexus_tier
from nexus_tier import plugin
from nexus_tier.config import TierConfig, TierKeys


def test_it_has_a_table_and_policy_keys():
    assert plugin.nexus_config() is TierConfig
    assert TierConfig.policy_keys is TierKeys


def test_it_gives_one_stage():
    (stage,) = plugin.nexus_reconcilers(TierConfig(), {})

    assert stage.name == "tier"


def test_it_says_its_version():
    assert nexus_tier.__version__ == "0.1.0"
