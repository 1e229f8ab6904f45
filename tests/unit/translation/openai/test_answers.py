"""Whole answers."""

import json

import pytest
from openai.types.chat import ChatCompletion

from nexus.translation.dialect import AnswerContext
from nexus.translation.events import (
    End,
    Finish,
    Start,
    TextPart,
    ThinkingPart,
    ToolArguments,
    ToolBegin,
    ToolEnd,
    Usage,
)
from nexus.translation.openai import DIALECT
from nexus.translation.openai.answer_in import decode_answer
from nexus.translation.ordering import Ordering
from tests.support.chat_dialect import CONTEXT


def answer(message, finish="stop", **members):
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return json.dumps({"id": "chatcmpl-b", "model": "llama", "choices": [choice], **members}).encode()


def encoded(*events, context=CONTEXT):
    return json.loads(DIALECT.encode_answer(Ordering("call_r1").add(events), context))


def test_a_text_is_read():
    body = answer({"content": "hi"}, usage={"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7})

    expected = (Start("chatcmpl-b", "llama"), TextPart("hi"), Finish("stop"), Usage(3, 4), End())
    assert expected == decode_answer(body)


def test_calls_are_read_with_their_arguments_as_they_are():
    calls = [
        {"id": "a", "type": "function", "function": {"name": "one", "arguments": '{"b": 1, "a": 2}'}},
        {"id": "b", "type": "function", "function": {"name": "two", "arguments": ""}},
    ]

    events = Ordering("c").add(decode_answer(answer({"content": None, "tool_calls": calls}, "stop")))

    assert [ToolArguments(0, '{"b": 1, "a": 2}'), ToolArguments(1, "{}")] == [
        event for event in events if isinstance(event, ToolArguments)
    ]
    assert Finish("tool_calls") in events


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_thoughts_are_read(name):
    assert ThinkingPart("hm") in decode_answer(answer({"content": "hi", name: "hm"}))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"error":{"message":"full"}}',
        answer({"content": ""}, "error"),
    ],
)
def test_what_is_no_answer_is_no_empty_success(body):
    with pytest.raises(ValueError, match=r".+"):
        decode_answer(body)


def test_an_answer_is_written_as_openai_writes_it():
    events = (
        Start("msg", "claude"),
        ThinkingPart("hm"),
        TextPart("h"),
        TextPart("i"),
        Usage(3, 4),
        Finish("stop"),
        End(),
    )

    document = encoded(*events)

    completion = ChatCompletion.model_validate(document, strict=True)
    assert completion.choices[0].message.content == "hi"
    assert completion.usage.total_tokens == 7
    assert {"hm"} == {document["choices"][0]["message"][name] for name in ("reasoning", "reasoning_content")}
    assert (completion.id, completion.model, completion.created) == ("chatcmpl-r1", "gpt", 7)


def test_calls_are_written_without_a_text():
    document = encoded(ToolBegin(0, "a", "one"), ToolArguments(0, '{"x": 1}'), ToolEnd(0), End())

    message = document["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "a", "function": {"name": "one", "arguments": '{"x": 1}'}, "type": "function"}
    ]
    assert document["choices"][0]["finish_reason"] == "tool_calls"


def test_an_answer_without_anything_has_an_empty_text():
    assert encoded(Start(), End())["choices"][0]["message"]["content"] == ""


def test_a_call_of_a_custom_tool_has_plain_input():
    context = AnswerContext(model="gpt", id="r1", created=7, custom_tools=frozenset({"patch"}))

    document = encoded(ToolBegin(0, "c", "patch"), ToolArguments(0, "*** Begin"), ToolEnd(0), End(), context=context)

    (call,) = document["choices"][0]["message"]["tool_calls"]
    assert call == {"id": "c", "type": "custom", "custom": {"name": "patch", "input": "*** Begin"}}
