from nexus.config.schema import ModelConfig
from nexus.domain.model import ModelFacts
from nexus.fleet.kinds import OLLAMA, VLLM
from nexus.fleet.overrides import declared_models, with_overrides


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
