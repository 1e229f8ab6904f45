import pytest

from nexus.domain.model import ModelFacts
from nexus.fleet.models.guesses import with_guesses


@pytest.mark.parametrize(
    "name",
    ["llava:7b", "Llama-3.2-11B-Vision", "bakllava", "llama4:scout", "gemma3-12b", "gemma3:27b", "pixtral-12b",
     "moondream", "minicpm-v", "gpt-4o-mini", "qwen2.5vl:7b", "Qwen/Qwen2-VL-7B"],
)  # fmt: skip
def test_some_names_suggest_vision(name):
    assert with_guesses(ModelFacts(name=name)).vision is True


@pytest.mark.parametrize(
    "name", ["mistral:7b", "llama3.1", "Llama-3.3-70B", "qwen2.5-coder", "qwen3:8b", "command-r", "firefunction-v2"]
)
def test_some_names_suggest_tools(name):
    assert with_guesses(ModelFacts(name=name)).tools is True


def test_a_guess_never_says_no():
    facts = with_guesses(ModelFacts(name="tinyllama"))

    assert (facts.vision, facts.tools, facts.context_length) == (None, None, None)


def test_a_guess_never_contradicts_the_server():
    facts = ModelFacts(name="llava-mistral", vision=False, tools=False)

    assert with_guesses(facts) == facts


@pytest.mark.parametrize("name", ["gpt-oss:120b-cloud", "glm-4.6:cloud", "Kimi-K2:1T-Cloud", "somebody/model-cloud"])
def test_some_names_suggest_that_a_model_runs_in_a_cloud(name):
    assert with_guesses(ModelFacts(name=name)).zone == "open"


@pytest.mark.parametrize("name", ["llama3", "cloud:7b", "cloudy", "my-cloud-model:8b"])
def test_other_names_do_not(name):
    assert with_guesses(ModelFacts(name=name)).zone is None
