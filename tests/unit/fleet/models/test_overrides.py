from nexus.config.schema import ModelConfig
from nexus.domain.model import ModelFacts
from nexus.fleet.kinds import OLLAMA, VLLM
from nexus.fleet.models.overrides import declared_models, reconsidered, unconfirmed, with_overrides


def test_the_operator_knows_better_than_the_server():
    listed = [ModelFacts(name="m", context_length=4096, vision=True)]
    told = ModelConfig(context_length=8192, vision=False, first_byte_seconds=300.0)

    (facts,) = with_overrides(listed, {"m": told}, VLLM)

    assert (facts.context_length, facts.vision, facts.tools, facts.first_byte_s) == (8192, False, None, 300.0)


def test_any_spelling_names_the_model():
    (facts,) = with_overrides([ModelFacts(name="llama3:latest")], {"Llama3": ModelConfig(tools=True)}, OLLAMA)

    assert facts.tools is True


def test_what_is_not_listed_is_not_made_up():
    assert with_overrides([], {"m": ModelConfig(tools=True)}, VLLM) == ()


def test_declared_models_are_there_until_the_server_says_otherwise():
    assert declared_models({"m": ModelConfig(vision=True)}) == {"m": ModelFacts(name="m", vision=True)}


def test_a_declared_model_whose_name_speaks_of_the_cloud_is_not_in_the_house():
    declared = declared_models({"gpt-oss:120b-cloud": ModelConfig(), "own:cloud": ModelConfig(zone="restricted")})

    assert [facts.zone for facts in declared.values()] == ["open", "restricted"]


def test_the_operator_knows_better_where_a_model_runs():
    listed = [ModelFacts(name="a", zone="open"), ModelFacts(name="b")]
    told = {"a": ModelConfig(zone="restricted"), "b": ModelConfig(zone="open")}

    assert [facts.zone for facts in with_overrides(listed, told, OLLAMA)] == ["restricted", "open"]


class TestReconsidered:
    def test_what_is_said_now_holds_at_once(self):
        models = {"m": ModelFacts(name="m", vision=True)}

        after = reconsidered(models, {}, {"m": ModelConfig(zone="open", tier=3)}, VLLM)

        assert after == {"m": ModelFacts(name="m", vision=True, zone="open", tier=3)}

    def test_what_is_no_longer_said_is_unknown(self):
        told = {"m": ModelConfig(tier=3, context_length=10, first_byte_seconds=9.0)}
        models = {"m": ModelFacts(name="m", vision=True, tier=3, context_length=10, first_byte_s=9.0)}

        assert reconsidered(models, told, {}, VLLM) == {"m": ModelFacts(name="m", vision=True)}

    def test_what_only_the_operator_kept_in_the_house_is_outside_until_the_server_tells(self):
        models = {"m": ModelFacts(name="m", zone="restricted")}

        assert reconsidered(models, {"m": ModelConfig(zone="restricted")}, {}, VLLM)["m"].zone == "open"

    def test_what_the_server_said_stays(self):
        models = {"m": ModelFacts(name="m", zone="open", tools=True)}

        assert reconsidered(models, {"m": ModelConfig(tier=2)}, {}, VLLM) == models


def test_of_another_server_under_an_old_name_only_the_names_of_models_are_believed():
    models = {"m": ModelFacts(name="m", vision=True, context_length=10), "n": ModelFacts(name="n")}

    after = unconfirmed(models, {"n": ModelConfig(zone="restricted"), "o": ModelConfig(tools=True)}, VLLM)

    assert after == {
        "m": ModelFacts(name="m", zone="open"),
        "n": ModelFacts(name="n", zone="restricted"),
        "o": ModelFacts(name="o", tools=True),
    }
