"""Patterns over model names."""

import pytest

from nexus.routing.model_names.globs import compile_glob, covers


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("llama3", "llama3", True),
        ("llama3", "llama3:8b", False),
        ("llama*", "llama3:8b", True),
        ("llama*", "Llama3", False),
        ("*", "", True),
        ("*/mixtral*", "org/team/mixtral-8x7b", True),
        ("org*", "org/model", True),
        ("gpt-?", "gpt-4", True),
        ("gpt-?", "gpt-45", False),
        ("gpt-[34]", "gpt-3", True),
        ("gpt-[!34]", "gpt-3", False),
        ("{gpt,claude}-*", "claude-3", True),
        ("{gpt,claude}-*", "llama-3", False),
        ("{gpt-{3,4},o1}", "gpt-4", True),
        ("{gpt-{3,4},o1}", "o1", True),
        ("a{,b}", "a", True),
        ("[{]x", "{x", True),
        ("a.b", "axb", False),
        ("a\nb", "a\nb", True),
    ],
)
def test_a_pattern_matches_whole_names(pattern, name, matches):
    assert bool(compile_glob(pattern).match(name)) is matches


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [("", "empty"), ("{a,b", "'{' has no '}'"), ("a}", "'}' has no '{'"), ("[ab", r"'\[' has no '\]'")],
)
def test_what_is_no_pattern_is_refused(pattern, complaint):
    with pytest.raises(ValueError, match=complaint):
        compile_glob(pattern)


def test_a_long_name_is_judged_at_once():
    assert not compile_glob("*a*a*a*a*a*a*a*b").match("a" * 20_000)


@pytest.mark.parametrize(
    ("earlier", "later", "is_covered"),
    [
        ("*", "llama*", True),
        ("llama*", "llama3", True),
        ("llama*", "llama3*", True),
        ("llama*", "{llama3,llama4}", True),
        ("llama*", "{llama3,qwen}", False),
        ("llama3*", "llama*", False),
        ("{a*,b*}", "b?", True),
        ("a?", "a*", False),
        ("*a*", "[ab]*", False),
        ("a?", "a?", True),
    ],
)
def test_a_pattern_is_covered_when_all_that_it_matches_is_matched_before(earlier, later, is_covered):
    assert covers(earlier, later) is is_covered
