from nexus.domain.model import ModelFacts
from nexus.fleet.kinds import OLLAMA, VLLM
from nexus.fleet.models import spellings


def spellings_of(kind, names, **aliases):
    return spellings.spellings_of(kind, [ModelFacts(name=name, aliases=aliases.get(name, ())) for name in names])


def test_the_default_tag_may_be_left_out():
    assert spellings_of(OLLAMA, ["llama3:latest"]) == {"llama3": "llama3:latest"}


def test_another_tag_may_not_be_left_out():
    assert spellings_of(OLLAMA, ["llama3:8b"]) == {}


def test_letter_case_does_not_count():
    assert spellings_of(OLLAMA, ["hf.co/Team/Model:Q4_K_M"]) == {"hf.co/team/model:q4_k_m": "hf.co/Team/Model:Q4_K_M"}


def test_a_port_in_a_name_is_no_tag():
    assert spellings_of(OLLAMA, ["host:5000/team/model"]) == {"host:5000/team/model:latest": "host:5000/team/model"}


def test_a_real_name_is_no_spelling_of_another_model():
    assert spellings_of(OLLAMA, ["llama3", "llama3:latest"]) == {}


def test_kinds_without_a_default_tag_know_one_spelling():
    assert spellings_of(VLLM, ["llama3:latest", "Qwen"]) == {}


def test_an_alias_is_another_name_unless_it_is_the_name_of_a_model():
    assert spellings_of(VLLM, ["qwen", "phi"], qwen=("q", "Q2", "phi")) == {"q": "qwen", "Q2": "qwen"}


def test_a_kind_with_a_default_tag_may_have_aliases_too():
    assert spellings_of(OLLAMA, ["a:latest"], **{"a:latest": ("b",)}) == {"b": "a:latest", "a": "a:latest"}
