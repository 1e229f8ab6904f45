"""What a simulator says fits what was asked for."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.simulator.replies import Ask, Tool, compose, detokenize, sample, tokenize

SCALARS = st.sampled_from(
    [
        ({"type": "string"}, str),
        ({"type": "integer", "minimum": 7}, int),
        ({"type": "number"}, float),
        ({"type": "boolean"}, bool),
        ({"type": "null"}, type(None)),
        ({"type": ["string", "null"]}, str),
        ({"enum": ["a", "b"]}, str),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, int),
        ({"$ref": "#/$defs/Inner"}, dict),
    ]
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=5), SCALARS, max_size=5))
def test_a_sample_has_each_property_in_its_type(properties):
    schema = {
        "type": "object",
        "properties": {name: inner for name, (inner, _) in properties.items()},
        "$defs": {"Inner": {"properties": {"x": {"type": "array", "items": {"type": "integer"}}}}},
    }

    value = sample(schema, "gpu-1")

    assert {name: type(inner) for name, inner in value.items()} == {
        name: kind for name, (_, kind) in properties.items()
    }


def test_a_schema_that_contains_itself_comes_to_an_end():
    schema = {"$ref": "#/$defs/Node", "$defs": {"Node": {"properties": {"next": {"$ref": "#/$defs/Node"}}}}}

    assert sample(schema, "gpu-1")["next"]["next"]


def test_strings_and_arrays_keep_their_bounds():
    schema = {
        "properties": {
            "long": {"type": "string", "minLength": 10},
            "short": {"type": "string", "maxLength": 2},
            "many": {"type": "array", "minItems": 3, "items": {"const": 1}},
        }
    }

    assert sample(schema, "gpu-1") == {"long": "gpu-1.....", "short": "gp", "many": [1, 1, 1]}


@settings(max_examples=50)
@given(st.text().filter(lambda text: "\0" not in text))
def test_tokens_spell_the_text(text):
    assert detokenize(tokenize(text)) == text


@settings(max_examples=50)
@given(st.text(), st.integers(1, 40), st.integers(1, 40))
def test_an_answer_names_its_speaker_and_keeps_to_the_shorter_limit(said, limit, usual):
    reply = compose(Ask(last_words=said, max_tokens=limit), "gpu-1", usual)

    assert reply.text.startswith("gpu-1:")
    assert len(reply.tokens) == min(limit, usual)


def test_a_tools_arguments_fit_its_parameters():
    tool = Tool("weather", {"properties": {"city": {"type": "string"}}})

    reply = compose(Ask(tools=(tool,), max_tokens=1), "gpu-1", 16)

    assert json.loads(reply.text) == {"city": "gpu-1"}
