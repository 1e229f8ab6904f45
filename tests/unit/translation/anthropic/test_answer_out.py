"""Whole answers to Anthropic's clients."""

import json

import pytest

from nexus.translation.anthropic import DIALECT
from nexus.translation.dialect import AnswerContext
from nexus.translation.events import (
    End,
    Finish,
    Signature,
    Start,
    TextPart,
    ThinkingPart,
    ToolArguments,
    ToolBegin,
    ToolEnd,
    Usage,
)

QUESTION = {"model": "gpt", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}
CONTEXT = AnswerContext(model="gpt", id="1a", created=0)
END = (Finish("stop"), End())


def test_an_answer_is_one_message(written):
    message = written(Start("chatcmpl-1", "backend's"), TextPart("a"), TextPart("b"), Usage(9, 2), *END)

    assert message == {
        "id": "msg_1a",
        "type": "message",
        "role": "assistant",
        "model": "gpt",
        "content": [{"type": "text", "text": "ab"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 9,
            "output_tokens": 2,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        },
    }


def test_text_beside_an_empty_list_of_calls_is_kept(written):
    assert written(TextPart("a"), *END)["stop_reason"] == "end_turn"


def test_thoughts_text_and_calls_are_blocks_in_their_order(written):
    message = written(ThinkingPart("a"), TextPart("b"), ToolBegin(0, "x", "f"), ToolBegin(1, "y", "g"), *END)

    assert message["content"] == [
        {"type": "thinking", "thinking": "a", "signature": ""},
        {"type": "text", "text": "b"},
        {"type": "tool_use", "id": "x", "name": "f", "input": {}},
        {"type": "tool_use", "id": "y", "name": "g", "input": {}},
    ]
    assert message["stop_reason"] == "tool_use"


def test_a_signature_ends_its_thoughts(written):
    message = written(Signature("d.1"), ThinkingPart("a"), Signature("d.2"), ThinkingPart("b"), *END)

    assert message["content"] == [
        {"type": "thinking", "thinking": "", "signature": "d.1"},
        {"type": "thinking", "thinking": "a", "signature": "d.2"},
        {"type": "thinking", "thinking": "b", "signature": ""},
    ]


def test_arguments_keep_every_byte():
    events = (Start(), ToolBegin(0, "x", "f"), ToolArguments(0, '{"b" : 1.0,"a":"\\u00e9"}'), ToolEnd(0), *END)

    body = DIALECT.encode_answer(events, CONTEXT)

    assert b'"input":{"b" : 1.0,"a":"\\u00e9"}' in body


@pytest.mark.parametrize("text", ['{"path": "a', "[1]", '{"a":1}{"b":2}'])
def test_arguments_that_are_no_object_are_shown_as_they_came(written, text):
    [call] = written(ToolBegin(0, "x", "f"), ToolArguments(0, text), *END)["content"]

    assert call["input"] == {"input": text}


def test_an_empty_answer_has_no_blocks(written):
    assert written(Start(), *END)["content"] == []


def test_an_estimate_stands_for_what_the_backend_did_not_count(written):
    usage = written(TextPart("x" * 41), *END)["usage"]

    assert (usage["input_tokens"], usage["output_tokens"]) == (7, 11)


def test_the_client_library_reads_it(written, client_of):
    body = json.dumps(written(ThinkingPart("a"), TextPart("b"), ToolBegin(0, "x", "f"), *END)).encode()

    message = client_of(body, "application/json").messages.create(**QUESTION)

    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
