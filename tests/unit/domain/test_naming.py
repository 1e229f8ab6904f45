"""What a name stands for: loose tags, and hints that show only what the listing of models shows."""

import pytest

from nexus.domain.naming import Naming
from nexus.testing.builders import make_backend, make_fleet

LOOSE = Naming(loose_tags=True)
GONE = {"is_refusing": True, "status": "unhealthy"}


def ollama(*models, name="mac", **fields):
    return make_backend(name, kind="ollama", models=list(models), **fields)


def with_spellings(*models, name="mac"):
    spelled = {m.removesuffix(":latest"): m for m in models if m.endswith(":latest")}
    return ollama(*models, name=name, spellings=spelled)


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("llama3.2", ("llama3.2:3b",)),
        ("llama3.2:latest", ("llama3.2:3b",)),
        ("llama3.2:1b", ("llama3.2:3b",)),
        ("LLaMA3.2", ("llama3.2:3b",)),
        ("phi4:14b", ("phi4",)),
        ("gemma:2b", ("gemma:latest",)),
        # A name that a backend has is exact.
        ("gemma", ("gemma",)),
        ("qwen3", ("qwen3",)),
        ("org/llama3.2", ("org/llama3.2",)),
    ],
)
def test_a_name_with_a_loose_tag_stands_for_the_one_model_of_another_tag(name, models):
    fleet = make_fleet(with_spellings("llama3.2:3b", "gemma:latest"), make_backend("gpu-1", models=["phi4", "qwen3"]))

    assert LOOSE.meaning(name, fleet).models == models


def test_a_tag_is_exact_unless_configured_otherwise():
    assert Naming().meaning("llama3.2", make_fleet(ollama("llama3.2:3b"))).models == ("llama3.2",)


def test_two_models_of_another_tag_are_ambiguous():
    meaning = LOOSE.meaning("llama3.2", make_fleet(ollama("llama3.2:3b", "llama3.2:1b")))

    assert (meaning.models, meaning.ambiguous) == (("llama3.2",), ("llama3.2:1b", "llama3.2:3b"))


def test_one_model_under_two_names_is_not_ambiguous():
    fleet = make_fleet(make_backend("gpu-1", models=["m"]), with_spellings("m:latest"))

    assert LOOSE.meaning("m:8b", fleet).models == ("m",)


def test_an_alias_may_lead_to_a_loose_tag_and_all_names_on_the_way_count():
    naming = Naming({"gpt-4o": ("llama3.2",)}, loose_tags=True)

    meaning = naming.meaning("gpt-4o", make_fleet(ollama("llama3.2:3b")))

    assert (meaning.models, meaning.way) == (("llama3.2:3b",), ("gpt-4o", "llama3.2"))


def test_a_model_that_a_backend_has_is_no_reason_to_guess_at_the_others_of_an_alias():
    naming = Naming({"any": ("llama3.2", "qwen3")}, loose_tags=True)

    fleet = make_fleet(ollama("llama3.2:3b", "qwen3"))

    assert naming.meaning("any", fleet).models == ("llama3.2", "qwen3")


def test_a_backend_that_takes_any_name_gets_it_as_it_was_sent():
    fleet = make_fleet(ollama("llama3.2:3b"), make_backend("gateway", models=[], any_model="always"))

    assert LOOSE.meaning("llama3.2", fleet).models == ("llama3.2",)


def test_a_hint_names_three_models_at_most_and_aliases_too():
    fleet = make_fleet(ollama(*(f"llama3.2:{n}b" for n in range(1, 9))))

    assert Naming().hint("llama3.2", fleet).names == ("llama3.2:1b", "llama3.2:2b", "llama3.2:3b")
    assert Naming({"assistant": ("llama3.2:1b",)}).hint("asistant", fleet).text == "Did you mean 'assistant'?"


def test_a_hint_shows_no_name_that_the_listing_hides():
    fleet = make_fleet(ollama("llama3.2:3b"), make_backend("gpu-1", models=["llama3.2:70b"], **GONE))

    assert Naming({"llama-3.2": ("llama3.2:70b",)}).hint("llama3.2", fleet).names == ("llama3.2:3b",)
    assert Naming().hint("llama3.2", make_fleet(make_backend("gpu-1", models=["llama3.2:70b"], **GONE))) is None


def test_an_ambiguous_name_names_the_models_that_it_could_mean():
    hint = LOOSE.hint("llama3.2", make_fleet(ollama("llama3.2:1b", "llama3.2:3b", "llama3.1:8b")))

    assert hint.text == "2 models differ from it in their tag alone: name 'llama3.2:1b' or 'llama3.2:3b'."
    assert hint.context == {"did_you_mean": ("llama3.2:1b", "llama3.2:3b")}


def test_models_that_an_alias_could_mean_differ_from_what_it_leads_to():
    naming = Naming({"big": ("qwen3",)}, loose_tags=True)

    hint = naming.hint("big", make_fleet(ollama("qwen3:4b", "qwen3:8b")))

    assert hint.text == "2 models differ from 'qwen3' in their tag alone: name 'qwen3:4b' or 'qwen3:8b'."


def test_one_model_under_two_names_is_named_once():
    fleet = make_fleet(make_backend("gpu-1", models=["mistral"]), with_spellings("mistral:latest"))

    assert Naming().hint("mistrl", fleet).names == ("mistral",)
