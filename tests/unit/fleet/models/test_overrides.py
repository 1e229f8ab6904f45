from nexus.config.schema import ModelConfig
from nexus.domain.model import ModelFacts
from nexus.fleet.kinds import OLLAMA, VLLM
from nexus.fleet.models.overrides import declared_models, for_another_server, with_new_overrides, with_overrides


def test_the_operator_knows_better_than_the_server():
    listed = [ModelFacts(name="m", context_length=4096, vision=True)]
    told = ModelConfig(context_length=8192, vision=False, first_byte_seconds=300.0)

    (facts,) = with_overrides(listed, {"m": told}, VLLM)

    assert (facts.context_length, facts.vision, facts.tools, facts.first_byte_s) == (8192, False, None, 300.0)


def test_any_spelling_names_the_model():
    (facts,) = with_overrides([ModelFacts(name="llama3:latest")], {"Llama3": ModelConfig(tools=True)}, OLLAMA)

    assert facts.tools is True


def test_models_that_are_not_listed_are_not_added():
    assert with_overrides([], {"m": ModelConfig(tools=True)}, VLLM) == ()


def test_declared_models_are_there_until_the_server_says_otherwise():
    assert declared_models({"m": ModelConfig(vision=True)}) == {"m": ModelFacts(name="m", vision=True)}


def test_a_declared_model_whose_name_suggests_a_cloud_is_in_the_open_zone():
    declared = declared_models({"gpt-oss:120b-cloud": ModelConfig(), "own:cloud": ModelConfig(zone="restricted")})

    assert [facts.zone for facts in declared.values()] == ["open", "restricted"]


def test_the_operator_knows_better_where_a_model_runs():
    listed = [ModelFacts(name="a", zone="open"), ModelFacts(name="b")]
    told = {"a": ModelConfig(zone="restricted"), "b": ModelConfig(zone="open")}

    assert [facts.zone for facts in with_overrides(listed, told, OLLAMA)] == ["restricted", "open"]


class TestReconsidered:
    def test_a_new_override_applies_at_once(self):
        models = {"m": ModelFacts(name="m", vision=True)}

        after = with_new_overrides(models, {}, {"m": ModelConfig(zone="open", tier=3)}, VLLM)

        assert after == {"m": ModelFacts(name="m", vision=True, zone="open", tier=3)}

    def test_a_removed_override_is_unknown(self):
        told = {"m": ModelConfig(tier=3, context_length=10, first_byte_seconds=9.0)}
        models = {"m": ModelFacts(name="m", vision=True, tier=3, context_length=10, first_byte_s=9.0)}

        assert with_new_overrides(models, told, {}, VLLM) == {"m": ModelFacts(name="m", vision=True)}

    def test_a_model_whose_zone_is_no_longer_configured_is_open_until_the_server_says(self):
        models = {"m": ModelFacts(name="m", zone="restricted")}

        assert with_new_overrides(models, {"m": ModelConfig(zone="restricted")}, {}, VLLM)["m"].zone == "open"

    def test_facts_of_the_server_stay(self):
        models = {"m": ModelFacts(name="m", zone="open", tools=True)}

        assert with_new_overrides(models, {"m": ModelConfig(tier=2)}, {}, VLLM) == models


def test_another_server_under_the_same_name_keeps_only_the_names_of_models():
    models = {"m": ModelFacts(name="m", vision=True, context_length=10), "n": ModelFacts(name="n")}

    after = for_another_server(models, {"n": ModelConfig(zone="restricted"), "o": ModelConfig(tools=True)}, VLLM)

    assert after == {
        "m": ModelFacts(name="m", zone="open"),
        "n": ModelFacts(name="n", zone="restricted"),
        "o": ModelFacts(name="o", tools=True),
    }
