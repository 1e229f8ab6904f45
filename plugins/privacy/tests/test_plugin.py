"""The hooks of the plugin."""

import nexus_privacy
from nexus_privacy import plugin
from nexus_privacy.config import PrivacyConfig, PrivacyKeys


def test_it_has_a_table_and_a_policy_key():
    assert plugin.nexus_config() is PrivacyConfig
    assert PrivacyConfig.policy_keys is PrivacyKeys


def test_it_gives_one_stage():
    (stage,) = plugin.nexus_reconcilers(PrivacyConfig(), {})

    assert stage.name == "privacy"


def test_it_says_its_version():
    assert nexus_privacy.__version__ == "0.1.0"
