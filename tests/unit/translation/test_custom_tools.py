import json
from itertools import pairwise

import msgspec
import pytest

from nexus.translation.chat import ChatRequest, Message, Text, Tool, ToolCall
from nexus.translation.custom_tools import Unwrapping, as_functions
from nexus.translation.events import ToolArguments, ToolBegin, ToolEnd

GRAMMAR = '{"type":"grammar","syntax":"lark","definition":"start: /.+/"}'
PATCH = '*** Begin Patch\n+"é\\ud83d\\😀"\n*** End Patch'


def _input_of(arguments, cuts=()):
    unwrapping = Unwrapping(frozenset({"apply_patch"}))
    edges = [0, *sorted(cuts), len(arguments)]
    pieces = [arguments[a:b] for a, b in pairwise(edges)]
    events = [ToolBegin(0, "c", "apply_patch"), *(ToolArguments(0, piece) for piece in pieces), ToolEnd(0)]
    return "".join(event.text for event in unwrapping.add(events) if isinstance(event, ToolArguments))


def test_a_custom_tool_becomes_a_function_that_describes_its_grammar():
    tool = Tool("apply_patch", "Edits files.", kind="custom", grammar=msgspec.Raw(GRAMMAR.encode()))
    call = ToolCall("call_1", "apply_patch", "a\nb", kind="custom")

    chat = as_functions(ChatRequest(model="m", messages=(Message("assistant", (Text("t"), call)),), tools=(tool,)))

    assert chat.tools[0].kind == "function"
    assert "lark grammar:\nstart: /.+/" in chat.tools[0].description
    assert msgspec.json.decode(chat.tools[0].schema)["required"] == ["input"]
    assert chat.messages[0].parts == (Text("t"), ToolCall("call_1", "apply_patch", '{"input":"a\\nb"}'))


def test_a_request_without_custom_tools_stays_the_same_object():
    chat = ChatRequest(model="m", messages=(Message("user", (Text("t"),)),), tools=(Tool("read"),))

    assert as_functions(chat) is chat


@pytest.mark.parametrize("is_ascii", [True, False])
def test_the_input_is_unwrapped_wherever_the_arguments_are_cut(is_ascii):
    arguments = json.dumps({"input": PATCH.replace("\\ud83d", "")}, ensure_ascii=is_ascii)

    for size in (1, 2, 3, 5, 7):
        assert _input_of(arguments, range(size, len(arguments), size)) == PATCH.replace("\\ud83d", "")


def test_the_input_is_passed_on_as_it_comes():
    unwrapping = Unwrapping(frozenset({"apply_patch"}))
    unwrapping.add([ToolBegin(0, "c", "apply_patch")])

    passed = [unwrapping.add([ToolArguments(0, text)]) for text in ('{"inp', 'ut": "*** Be', "gin\\", 'nPatch"', "}")]

    texts = [[event.text for event in events] for events in passed]
    assert texts == [[], ["*** Be"], ["gin"], ["\nPatch"], []]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("{}", ""),
        ('{"patch": "a\\nb"}', "a\nb"),
        ("*** Begin Patch", "*** Begin Patch"),
        ('{"input": 1}', '{"input": 1}'),
        ('{"input": "a", "workdir": "/"}', "a"),
        ('{"input": "cut of', "cut of"),
        ('{"a": "x", "b": "y"}', '{"a": "x", "b": "y"}'),
    ],
)
def test_what_the_model_wrote_otherwise_is_not_lost(arguments, text):
    assert _input_of(arguments) == text
    assert _input_of(arguments, range(1, len(arguments))) == text


def test_other_tools_keep_their_arguments():
    events = [ToolBegin(1, "c", "read"), ToolArguments(1, '{"input": "a"}'), ToolEnd(1)]

    assert Unwrapping(frozenset({"apply_patch"})).add(events) == events
