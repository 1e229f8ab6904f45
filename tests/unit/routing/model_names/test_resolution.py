"""Aliases: at most three hops, real models first, several models under one name."""

import pytest

from nexus.domain.naming import Naming
from nexus.routing.model_names.resolution import resolve
from nexus.testing.builders import make_backend, make_fleet

FLEET = make_fleet(make_backend("gpu-1", models=["llama3"]), make_backend("gpu-2", models=["qwen3"]))


def offered(resolution):
    return {name: own_name for name, (_, own_name) in resolution.candidates.items()}


@pytest.mark.parametrize(
    ("aliases", "resolved"),
    [
        ({"gpt-4": "llama3"}, "llama3"),
        ({"gpt-4": "b", "b": "llama3"}, "llama3"),
        ({"gpt-4": "b", "b": "c", "c": "llama3"}, "llama3"),
        ({"gpt-4": "b", "b": "c", "c": "d", "d": "llama3"}, "d"),
    ],
)
def test_at_most_three_hops_are_followed(aliases, resolved):
    assert resolve("gpt-4", FLEET, Naming.of(aliases)).model == resolved


def test_a_real_model_wins_over_an_alias_of_its_name():
    resolution = resolve("llama3", FLEET, Naming.of({"llama3": "qwen3"}))

    assert offered(resolution) == {"gpu-1": "llama3"}


def test_a_real_model_on_the_way_ends_the_way():
    assert resolve("gpt-4", FLEET, Naming.of({"gpt-4": "llama3", "llama3": "qwen3"})).model == "llama3"


def test_an_alias_of_several_models_asks_each_backend_for_what_it_has():
    resolution = resolve("any", FLEET, Naming.of({"any": ("phi", "qwen3", "llama3")}))

    assert offered(resolution) == {"gpu-2": "qwen3", "gpu-1": "llama3"}
    assert resolution.model == "qwen3"


def test_a_backend_that_has_several_of_them_is_asked_for_the_first():
    fleet = make_fleet(make_backend(models=["qwen3", "llama3"]))

    assert offered(resolve("any", fleet, Naming.of({"any": ("llama3", "qwen3")}))) == {"gpu-1": "llama3"}


def test_a_circle_ends():
    assert resolve("a", FLEET, Naming.of({"a": "b", "b": "a"})).candidates == {}


def test_a_name_on_the_way_is_a_name_of_the_model_too():
    resolution = resolve("gpt-4", FLEET, Naming.of({"gpt-4": ("small", "big"), "small": "llama3", "big": "qwen3"}))

    assert resolution.names == ("gpt-4", "llama3", "small", "big", "qwen3")
    assert resolution.names_by_model == (("llama3",), ("qwen3",))


def test_all_names_of_the_model_are_known_for_policies():
    fleet = make_fleet(make_backend(models=["Secret:latest"], kind="ollama"))

    resolution = resolve("open", fleet, Naming.of({"open": "SECRET"}))

    assert resolution.names == ("open", "SECRET", "Secret:latest")
    assert resolution.names_by_model == (("SECRET", "Secret:latest"),)


def test_a_name_that_stands_for_nothing_is_itself():
    resolution = resolve("gpt-4", FLEET, Naming())

    assert (resolution.model, resolution.candidates) == ("gpt-4", {})


ONE = {"kind": "llamacpp", "models": ["qwen3"], "any_model": "alone"}


def test_a_backend_that_takes_any_name_and_is_alone_is_asked_for_its_own_model():
    resolution = resolve("gpt-4", make_fleet(make_backend("cpp", **ONE)), Naming())

    assert offered(resolution) == {"cpp": "qwen3"}
    assert set(resolution.names) == {"gpt-4", "qwen3"}


def test_beside_another_backend_it_is_asked_for_what_it_lists():
    fleet = make_fleet(make_backend("cpp", **ONE), make_backend("gpu-1"))

    assert offered(resolve("gpt-4", fleet, Naming())) == {}


def test_a_backend_that_always_takes_any_name_is_asked_for_the_name_as_it_was_sent():
    gateway = make_backend("gateway", models=["qwen3"], any_model="always")
    fleet = make_fleet(gateway, make_backend("gpu-1"))
    naming = Naming.of({"gpt-4": "llama3"})

    assert offered(resolve("anything", fleet, naming)) == {"gateway": "anything"}
    assert offered(resolve("gpt-4", fleet, naming)) == {"gpu-1": "llama3"}
    assert offered(resolve("llama3", fleet, naming)) == {"gpu-1": "llama3"}
