"""Similar names of models: the same stem first, then the same letters."""

import time
from random import Random

import pytest

from nexus.domain.model_names import MAX_COMPARED, NameIndex, index_of, stem, untagged


@pytest.mark.parametrize(
    ("name", "stem_of_it"),
    [
        ("llama3.2", "llama32"),
        ("llama3.2:3b", "llama32"),
        ("Llama-3.2", "llama32"),
        ("meta-llama/Llama-3-8B", "llama38b"),
        ("llama-3-8b-q4_K_M", "llama38b"),
        ("llama-3-8b-Q4_0.gguf", "llama38b"),
        ("Qwen3-32B-AWQ", "qwen332b"),
        ("qwen3-32b-4bit", "qwen332b"),
        ("mistral-small-w4a16", "mistralsmall"),
        ("registry:5000/team/model", "model"),
        # A name that only looks like a quantisation.
        ("phi-3-m", "phi3m"),
        ("awq", "awq"),
        ("q4", "q4"),
        ("", ""),
        ("日本", ""),
    ],
)
def test_the_stem_of_a_name_is_what_people_remember(name, stem_of_it):
    assert stem(name) == stem_of_it


@pytest.mark.parametrize(
    ("name", "base"),
    [("m", "m"), ("M:8b", "m"), ("registry:5000/team/m", "registry:5000/team/m"), ("host:1/m:8b", "host:1/m")],
)
def test_a_tag_follows_the_last_slash(name, base):
    assert untagged(name) == base


@pytest.mark.parametrize(
    ("name", "known", "near"),
    [
        ("llama3.2", ["llama3.1:8b", "llama3.2:3b"], ["llama3.2:3b"]),
        ("llama3.2:3b", ["llama3.2:1b", "llama3.2:30b"], ["llama3.2:30b", "llama3.2:1b"]),
        ("lama3.2", ["llama3.2:3b", "qwen3"], ["llama3.2:3b"]),
        ("LLAMA-3", ["llama-3"], ["llama-3"]),
        ("meta-llama/Llama-3-8B", ["llama-3-8b"], ["llama-3-8b"]),
        ("llama-3-8b", ["meta-llama/Llama-3-8B"], ["meta-llama/Llama-3-8B"]),
        ("llama-3-8b-instruct", ["llama-3-8b-instruct-q4_K_M"], ["llama-3-8b-instruct-q4_K_M"]),
        ("llama-3-8b", ["llama-3-8b-instruct-q4_K_M"], ["llama-3-8b-instruct-q4_K_M"]),
        ("gpt-5", ["llama3", "qwen3", "nomic-embed-text"], []),
        ("", ["llama3"], []),
        ("日本", ["日本語"], []),
    ],
)
def test_near_names_share_the_stem_or_else_most_letters(name, known, near):
    assert list(NameIndex(known).near(name)) == near


def test_names_that_differ_in_the_tag_alone_are_found():
    known = NameIndex(["llama3.2:3b", "llama3.2", "LLaMA3.2:1B", "llama3.2-vision:11b", "org/llama3.2:3b"])

    assert known.tagged_otherwise("llama3.2:70b") == ("llama3.2:3b", "llama3.2", "LLaMA3.2:1B")


def test_the_index_of_the_same_names_is_built_once():
    assert index_of(("a", "b")) is index_of(("a", "b"))


@pytest.mark.parametrize("shared", ["", "llama3.2:"])
def test_ten_thousand_names_do_not_make_a_comparison_slow(shared):
    chance = Random(1)
    known = tuple(f"{shared}{chance.choice(['qwen', 'gemma', 'phi'])}-{n}-{n % 97}b-instruct" for n in range(10_000))
    index = index_of(known)
    index.near("warm-up")

    started = time.process_time()
    near = [index.near(f"{shared}qwen-{n}-6b-instrukt") for n in range(20)]
    spent_s = time.process_time() - started

    assert all(0 < len(names) <= MAX_COMPARED for names in near)
    assert spent_s / 20 < 0.05


def test_a_name_made_to_be_slow_is_not():
    index = index_of(tuple(f"a{'a' * (n % 70)}{n}" for n in range(2000)))
    index.near("warm-up")

    started = time.process_time()
    index.near("_q4" * 10_000 + "!")
    index.near("a" * 100_000)

    assert time.process_time() - started < 0.5
