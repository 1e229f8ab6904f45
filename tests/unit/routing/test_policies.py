"""Traffic policies: strict at start, first match in file order, owned by plugins."""

import pytest
from structlog.testing import capture_logs

from nexus.api import PolicyKeys
from nexus.domain.naming import Naming
from nexus.errors import ConfigError, PluginError
from nexus.routing.model_names.resolution import resolve
from nexus.routing.policies import decode_policies
from nexus.testing.builders import make_backend, make_fleet


class PrivacyKeys(PolicyKeys, frozen=True):
    privacy: str = "unrestricted"


class TierKeys(PolicyKeys, frozen=True):
    min_tier: int | None = None


OWNERS = {"privacy": PrivacyKeys, "tier": TierKeys}


def decode(*tables, owners=OWNERS):
    return decode_policies(tables, owners)


def refused(*tables, owners=OWNERS, error=ConfigError) -> str:
    with pytest.raises(error) as caught:
        decode(*tables, owners=owners)
    return str(caught.value)


def test_the_first_match_in_file_order_applies():
    policies = decode({"model_pattern": "llama3*", "privacy": "restricted"}, {"model_pattern": "*"})

    assert policies.match(("llama3:8b",)).index == 0
    assert policies.match(("qwen3",)).index == 1


def test_any_name_of_the_model_counts():
    policies = decode({"model_pattern": "secret*"})

    assert policies.match(("open", "secret:latest")).index == 0
    assert policies.match(("open",)) is None


class TestAliases:
    """The policy of an alias adds to those of its models and lifts none of them."""

    FLEET = make_fleet(make_backend("gpu-1", models=["llama3", "qwen3"]))

    def applied(self, policies, name, **aliases):
        return [policy.model_pattern for policy in policies.of(resolve(name, self.FLEET, Naming.of(aliases)))]

    def test_an_alias_does_not_dodge_the_policy_of_its_model(self):
        policies = decode({"model_pattern": "fast"}, {"model_pattern": "llama*", "privacy": "restricted"})

        assert self.applied(policies, "fast", fast="llama3") == ["fast", "llama*"]

    def test_an_alias_of_several_models_has_the_policies_of_all(self):
        policies = decode({"model_pattern": "llama*"}, {"model_pattern": "qwen*"})

        assert self.applied(policies, "any", any=("llama3", "qwen3")) == ["llama*", "qwen*"]

    def test_a_name_on_the_way_counts(self):
        policies = decode({"model_pattern": "secret*"})

        assert self.applied(policies, "a", a="secret-1", **{"secret-1": "llama3"}) == ["secret*"]

    def test_an_exception_for_a_model_holds_under_its_alias(self):
        policies = decode({"model_pattern": "llama3"}, {"model_pattern": "*", "privacy": "restricted"})

        assert self.applied(policies, "fast", fast="llama3") == ["llama3"]

    def test_another_spelling_of_a_model_is_no_other_model(self):
        fleet = make_fleet(make_backend("laptop", models=["llama3:latest"], kind="ollama"))
        policies = decode({"model_pattern": "llama3"}, {"model_pattern": "*", "privacy": "restricted"})

        assert [policy.index for policy in policies.of(resolve("llama3", fleet, Naming()))] == [0]

    def test_without_a_match_there_is_none(self):
        assert self.applied(decode({"model_pattern": "phi*"}), "llama3") == []


def test_a_name_without_a_policy_has_the_defaults_where_it_needs_some():
    keys = decode({"model_pattern": "x"}).default.keys

    assert (keys["privacy"].privacy, keys["tier"].min_tier) == ("unrestricted", None)


def test_a_key_that_is_not_mentioned_means_its_default():
    keys = decode({"model_pattern": "*", "min_tier": 3}).match(("x",)).keys

    assert (keys["privacy"].privacy, keys["tier"].min_tier) == ("unrestricted", 3)


def test_fallbacks_are_allowed_unless_a_policy_says_otherwise():
    policies = decode({"model_pattern": "a", "fallback_allowed": False}, {"model_pattern": "b"})

    assert [policies.match((name,)).fallback_allowed for name in "ab"] == [False, True]


def test_an_unknown_key_says_what_to_install():
    message = refused({"model_pattern": "*", "privacy": "restricted"}, owners={})

    assert message == (
        "nexus.toml: routing.policies[0].privacy: no installed plugin understands 'privacy';"
        " pip install nexus-proxy-privacy"
    )


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"model_pattern": "*", "fallback_alowed": True}, "did you mean 'fallback_allowed'?"),
        ({"model_pattern": "*", "zzz": 1}, "the known keys are: fallback_allowed, min_tier, model_pattern, privacy"),
        ({"model_pattern": "*", "min_tier": "3"}, "routing.policies[0]: expected `int`, got `str`"),
        ({"model_pattern": "*", "min_tier": "3"}, "- at `min_tier`"),
        ({"model_pattern": 3}, "expected `str`, got `int` - at `model_pattern`"),
        ({}, "required, and missing - at `model_pattern`"),
        ({"model_pattern": "[a"}, "routing.policies[0].model_pattern: '[a' is not a valid pattern: a '[' has no ']'"),
    ],
)
def test_a_wrong_policy_is_refused_with_its_place(table, expected):
    message = refused(table)

    assert message.startswith("nexus.toml: routing.policies[0]")
    assert expected in message


def test_a_policy_that_can_never_apply_is_said():
    with capture_logs() as logs:
        decode({"model_pattern": "llama*"}, {"model_pattern": "qwen*"}, {"model_pattern": "llama3"})

    assert [(entry["event"], entry["policy"], entry["by"]) for entry in logs] == [("policy_shadowed", 2, 0)]


def test_two_plugins_cannot_own_one_key():
    message = refused(owners={"privacy": PrivacyKeys, "acme": PrivacyKeys}, error=PluginError)

    assert message == "plugin 'privacy' adds the policy key 'privacy', which plugin 'acme' owns already"


def test_a_plugin_cannot_own_a_key_of_the_core():
    class Keys(PolicyKeys, frozen=True):
        model_pattern: str = ""

    assert "which the core owns already" in refused(owners={"acme": Keys}, error=PluginError)


def test_a_policy_key_needs_a_default():
    class Keys(PolicyKeys, frozen=True):
        zone: str

    message = refused(owners={"acme": Keys}, error=PluginError)

    assert message == "the policy key 'zone' of plugin 'acme' has no default"


def test_what_is_remembered_of_names_is_bounded(monkeypatch):
    monkeypatch.setattr("nexus.routing.policies.MAX_CACHED_MATCHES", 10)
    policies = decode({"model_pattern": "model-1*"})

    found = [policies.match((f"model-{number}",)) for number in range(100)]

    assert sum(policy is not None for policy in found) == 11
    assert len(policies._matches) <= 10
