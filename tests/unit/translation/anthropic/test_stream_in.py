"""Streams of Anthropic's API, and its whole answers, which say the same."""

import json

import pytest

from nexus.translation.anthropic import DIALECT
from nexus.translation.events import (
    End,
    Failure,
    Finish,
    RedactedThinking,
    Signature,
    Start,
    TextPart,
    ThinkingPart,
    ToolArguments,
    ToolBegin,
    ToolEnd,
    Usage,
)
from nexus.wire.streams.event import Event


def decoded(*documents, named=True):
    decoder = DIALECT.open_decoder()
    events = (Event(d["type"].encode() if named else b"", json.dumps(d).encode()) for d in documents)
    return [answer for event in events for answer in decoder.decode(event)]


def begun(index, **block):
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index, **members):
    return {"type": "content_block_delta", "index": index, "delta": members}


def ended(index):
    return {"type": "content_block_stop", "index": index}


def finished(reason, sequence=None, **usage):
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": sequence}, "usage": usage}


START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "model": "claude",
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 20,
            "cache_read_input_tokens": 30,
            "output_tokens": 1,
        },
    },
}


@pytest.mark.parametrize("named", [True, False])
def test_each_kind_of_block_is_read(named):
    events = decoded(
        START,
        {"type": "ping"},
        begun(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="hm"),
        delta(0, type="signature_delta", signature="c2ln"),
        ended(0),
        begun(1, type="redacted_thinking", data="x"),
        ended(1),
        begun(2, type="text", text=""),
        delta(2, type="text_delta", text="I look"),
        delta(2, type="citations_delta", citation={"cited_text": "a"}),
        ended(2),
        begun(3, type="tool_use", id="toolu_1", name="get", input={}),
        delta(3, type="input_json_delta", partial_json=""),
        delta(3, type="input_json_delta", partial_json='{"b": 1,'),
        delta(3, type="input_json_delta", partial_json=' "a": 2}'),
        ended(3),
        finished("tool_use", output_tokens=9),
        {"type": "message_stop"},
        named=named,
    )

    assert events == [
        Start("msg_1", "claude"),
        Usage(60, 1, 30, 20),
        ThinkingPart("hm"),
        Signature("anthropic.c2ln"),
        RedactedThinking("anthropic.x"),
        TextPart("I look"),
        ToolBegin(3, "toolu_1", "get"),
        ToolArguments(3, '{"b": 1,'),
        ToolArguments(3, ' "a": 2}'),
        ToolEnd(3),
        Finish("tool_calls"),
        Usage(60, 9, 30, 20),
        End(),
    ]


def test_arguments_that_come_at_once_count_unless_parts_follow():
    at_once = decoded(begun(0, type="tool_use", id="a", name="f", input={"x": 1}), ended(0))
    both = decoded(
        begun(0, type="tool_use", id="a", name="f", input={"x": 1}), delta(0, partial_json='{"x":1}'), ended(0)
    )

    assert at_once == [ToolBegin(0, "a", "f"), ToolArguments(0, '{"x": 1}'), ToolEnd(0)]
    assert both == [ToolBegin(0, "a", "f"), ToolArguments(0, '{"x":1}'), ToolEnd(0)]


def test_a_call_without_arguments_has_none():
    assert decoded(
        begun(0, type="tool_use", id="a", name="f", input={}), delta(0, partial_json=""), ended(0)
    ) == [ToolBegin(0, "a", "f"), ToolEnd(0)]  # fmt: skip


def test_arguments_after_the_end_of_a_call_are_not_hidden():
    """They would end up in no call, so the answer must fail."""
    events = decoded(begun(0, type="tool_use", id="a", name="f"), ended(0), delta(0, partial_json="{}"))

    assert events[-1] == ToolArguments(0, "{}")


def test_tools_that_the_api_runs_itself_are_skipped():
    assert decoded(
        begun(0, type="server_tool_use", id="s", name="web_search", input={}),
        delta(0, type="input_json_delta", partial_json='{"query":"a"}'),
        ended(0),
        begun(1, type="web_search_tool_result", tool_use_id="s", content=[{"type": "web_search_result"}]),
        ended(1),
        begun(2, type="text", text=""),
        delta(2, type="text_delta", text="b"),
    ) == [TextPart("b")]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", Finish("stop")),
        ("pause_turn", Finish("stop")),
        ("max_tokens", Finish("length")),
        ("model_context_window_exceeded", Finish("length")),
        ("tool_use", Finish("tool_calls")),
        ("refusal", Finish("content_filter")),
        ("a_new_one", Finish("stop")),
    ],
)
def test_the_reason_is_read(reason, finish):
    assert decoded(finished(reason, output_tokens=1))[0] == finish


def test_a_stop_sequence_is_read():
    assert decoded(finished("stop_sequence", "END"))[0] == Finish("stop", "END")


def test_the_end_of_the_stream_corrects_the_prompt():
    [*_, usage] = decoded(
        START, finished(None, input_tokens=40, output_tokens=5, output_tokens_details={"thinking_tokens": 3})
    )

    assert usage == Usage(90, 5, 30, 20, 3)


def test_an_error_is_a_failure():
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}

    assert decoded(error) == decoded(error, named=False) == [Failure(503, "busy", "overloaded_error")]


@pytest.mark.parametrize(
    "content", [b'{"type":"error","message":"busy"}', b"busy", b'{"message":"busy"}', b'{"error":"busy"}']
)
def test_an_error_without_its_wrapper_is_a_failure(content):
    [failure] = DIALECT.open_decoder().decode(Event(b"error", content))

    assert (failure.status, failure.message) == (502, "busy")


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"type":"content_block_delta","delta":5}', b'{"type":"new"}', b""])
def test_what_cannot_be_read_is_skipped(content):
    assert list(DIALECT.open_decoder().decode(Event(b"", content))) == []


# whole answers


def test_a_whole_answer_has_the_same_events():
    body = (
        b'{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":['
        b'{"type":"thinking","thinking":"hm","signature":"c2ln"},{"type":"redacted_thinking","data":"x"},'
        b'{"type":"text","text":"I look"},{"type":"server_tool_use","id":"s","name":"web_search","input":{}},'
        b'{"type":"tool_use","id":"toolu_1","name":"get","input":{"b" : 1.0}}],'
        b'"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":5,"output_tokens":9}}'
    )

    assert DIALECT.decode_answer(body) == (
        Start("msg_1", "claude"),
        ThinkingPart("hm"),
        Signature("anthropic.c2ln"),
        RedactedThinking("anthropic.x"),
        TextPart("I look"),
        ToolBegin(4, "toolu_1", "get"),
        ToolArguments(4, '{"b" : 1.0}'),
        ToolEnd(4),
        Finish("tool_calls"),
        Usage(5, 9),
        End(),
    )


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"type":"error","error":{}}', b'{"content":"a"}'])
def test_what_is_no_message_is_refused(body):
    with pytest.raises(ValueError, match="no message"):
        DIALECT.decode_answer(body)


def test_arguments_with_invalid_utf_8_are_passed_on_with_marks():
    block = b'{"type":"tool_use","id":"t","name":"get","input":{"a":"\xff"}}'
    [_, arguments, *_] = DIALECT.decode_answer(b'{"content":[%b]}' % block)[1:]
    stream = DIALECT.open_decoder()
    stream.decode(Event(b"", b'{"type":"content_block_start","index":0,"content_block":%b}' % block))

    assert arguments == ToolArguments(0, '{"a":"\N{REPLACEMENT CHARACTER}"}')
    assert arguments in stream.decode(Event(b"", b'{"type":"content_block_stop","index":0}'))
