import json

import pytest

from nexus.translation.tool_arguments import as_object, input_arguments


@pytest.mark.parametrize("text", ['{"b": 1, "a": {"x" : "\\u00e9"}}', "{}", ' {"a":\n1} '])
def test_an_object_keeps_its_bytes(text):
    assert as_object(text) == text


@pytest.mark.parametrize("text", ["", "  \n"])
def test_no_arguments_are_an_empty_object(text):
    assert as_object(text) == "{}"


@pytest.mark.parametrize("text", ['{"path": "a', '{"a":1}{"b":2}', "[1]", "null", "*** Begin Patch\n"])
def test_what_is_no_object_becomes_an_argument(text):
    assert json.loads(as_object(text)) == {"input": text}


def test_the_input_of_a_custom_tool_is_never_read_as_an_object():
    assert input_arguments("{}") == '{"input":"{}"}'
