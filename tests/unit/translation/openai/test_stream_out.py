"""Streams to clients; the chunks are those of OpenAI's API."""

import msgspec
import pytest
from openai.types.chat import ChatCompletionChunk

from nexus.translation.dialect import AnswerContext
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
from nexus.translation.openai import DIALECT
from tests.support.chat_dialect import CONTEXT, written

CALLS = (
    TextPart("both"),
    ToolBegin(3, "toolu_a", "one"),
    ToolArguments(3, '{"x":1}'),
    ToolEnd(3),
    ToolBegin(5, "toolu_b", "two"),
    ToolEnd(5),
)


def deltas(events):
    return [each["choices"][0]["delta"] for each in written(events) if each != "[DONE]" and each["choices"]]


@pytest.mark.parametrize("events", [(Start(), TextPart("hi"), End()), (*CALLS, Usage(3, 4), End())])
def test_every_chunk_is_one_of_openais(events):
    for each in written(events)[:-1]:
        assert ChatCompletionChunk.model_validate(each, strict=True).model == "gpt"


def test_the_role_comes_first_and_once():
    assert deltas((Start("msg_1", "claude"), TextPart("hi"), End())) == [
        {"role": "assistant", "content": ""},
        {"content": "hi"},
        {},
    ]


def test_ids_are_of_this_dialect_and_one_for_the_whole_stream():
    chunks = written((Start("msg_1", "claude"), TextPart("hi"), End()))

    assert {"chatcmpl-r1"} == {each["id"] for each in chunks[:-1]}


def test_the_index_of_the_choice_is_0_whatever_block_the_text_is_in():
    assert {0} == {each["choices"][0]["index"] for each in written((*CALLS, End()))[:-2]}


def test_calls_have_an_index_from_0_on_and_their_id_once():
    calls = [delta["tool_calls"][0] for delta in deltas((*CALLS, End())) if "tool_calls" in delta]

    assert [each["index"] for each in calls] == [0, 0, 1, 1]
    assert [each.get("id") for each in calls] == ["toolu_a", None, "toolu_b", None]
    assert [each["function"]["arguments"] for each in calls] == ["", '{"x":1}', "", "{}"]


def test_text_and_a_call_end_as_tool_calls():
    last = written((*CALLS, Finish("stop"), End()))[-2]

    assert last["choices"][0]["finish_reason"] == "tool_calls"


def test_thoughts_come_under_both_names():
    assert {"reasoning_content": "hm", "reasoning": "hm"} in deltas((Start(), ThinkingPart("hm"), End()))


def test_signatures_and_encrypted_thoughts_are_left_out():
    events = (Start(), ThinkingPart("hm"), Signature("c2ln"), RedactedThinking("eA=="), TextPart("hi"), End())

    assert b"c2ln" not in msgspec.json.encode(written(events))
    assert len(deltas(events)) == 4


def test_usage_has_a_chunk_without_choices_if_the_client_wants_it():
    events = (Start(), TextPart("hi"), Usage(10, 4, 6, 2, 1), End())

    usage = written(events)[-2]

    assert usage["choices"] == []
    assert usage["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 6},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }


def test_usage_has_no_chunk_if_the_client_does_not_want_it():
    context = msgspec.structs.replace(CONTEXT, wants_usage=False)

    assert all("usage" not in each for each in written((Start(), Usage(10, 4), End()), context))


def test_usage_that_no_backend_reported_is_not_made_up():
    assert all("usage" not in each for each in written((Start(), TextPart("hi"), End())))


def test_the_end_mark_comes_once_and_nothing_after_it():
    chunks = written((Start(), TextPart("hi"), End(), TextPart("late"), End()))

    assert chunks.count("[DONE]") == 1
    assert chunks[-1] == "[DONE]"


def test_a_failure_ends_the_stream_without_a_finish():
    chunks = written((Start(), TextPart("hi"), Failure(503, "full", "overloaded"), TextPart("late")))

    error = {"message": "full", "type": "server_error", "param": None, "code": "overloaded"}
    assert [{"error": error}, "[DONE]"] == chunks[2:]
    assert all(each["choices"][0]["finish_reason"] is None for each in chunks[:2])


def test_a_ping_is_a_comment():
    assert DIALECT.open_encoder(CONTEXT).ping() == b": ping\n\n"


def test_a_call_of_a_custom_tool_has_plain_input():
    context = AnswerContext(model="gpt", id="r1", created=7, custom_tools=frozenset({"patch"}))

    chunks = written((ToolBegin(0, "c", "patch"), ToolArguments(0, "*** Begin"), ToolEnd(0), End()), context)

    calls = [each["choices"][0]["delta"]["tool_calls"][0] for each in chunks[1:3]]
    assert calls[0] == {"index": 0, "id": "c", "type": "custom", "custom": {"name": "patch", "input": ""}}
    assert calls[1] == {"index": 0, "custom": {"input": "*** Begin"}}


@pytest.mark.parametrize("text", ['"quoted" \\ \n', "\u2028é😀", "data: x\n\n"])
def test_text_is_escaped(text):
    assert {"content": text} in deltas((Start(), TextPart(text), End()))
