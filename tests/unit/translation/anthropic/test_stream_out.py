"""Streams to Anthropic's clients."""

import anthropic
import pytest

from nexus.translation.anthropic import DIALECT
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

QUESTION = {"model": "gpt", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}
CALL = (ToolBegin(0, "call_a", "get"), ToolArguments(0, '{"b": 1,'), ToolArguments(0, ' "a": 2}'), ToolEnd(0))


def blocks_of(events):
    """Return each step of the blocks in *events*: the index with the type of what began, came or ended."""
    steps = []
    for name, document in events:
        if name == "content_block_start":
            steps.append((document["index"], document["content_block"]["type"]))
        elif name == "content_block_delta":
            steps.append((document["index"], document["delta"]["type"]))
        elif name == "content_block_stop":
            steps.append((document["index"], "stop"))
    return steps


def test_the_message_starts_at_once_with_an_estimate_of_the_prompt(streamed, events_of):
    [(name, document)] = events_of(streamed(Start("chatcmpl-1", "backend's")))

    assert name == document["type"] == "message_start"
    assert document["message"] == {
        "id": "msg_1a",
        "type": "message",
        "role": "assistant",
        "model": "gpt",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 7,
            "output_tokens": 0,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        },
    }


def test_each_name_of_an_event_is_its_type(streamed, events_of):
    stream = streamed(ThinkingPart("a"), TextPart("b"), *CALL, Finish("stop"), End())

    assert all(name == document["type"] for name, document in events_of(stream))


def test_a_part_of_a_text_is_one_delta(streamed, events_of):
    stream = streamed(Start(), TextPart('say "hi"\n'), TextPart(" é🙂"))

    assert events_of(stream)[1:] == [
        (
            "content_block_start",
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        ),
        (
            "content_block_delta",
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 'say "hi"\n'}},
        ),
        (
            "content_block_delta",
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " é🙂"}},
        ),
    ]


def test_a_block_is_closed_before_the_next_one_and_indices_step(streamed, events_of):
    """Clients refuse thoughts in a block of text, and blocks that overlap."""
    stream = streamed(
        ThinkingPart("a"), TextPart("b"), ThinkingPart("c"), *CALL, ToolBegin(1, "d", "put"), Finish("stop"), End()
    )

    assert blocks_of(events_of(stream)) == [
        (0, "thinking"),
        (0, "thinking_delta"),
        (0, "stop"),
        (1, "text"),
        (1, "text_delta"),
        (1, "stop"),
        (2, "thinking"),
        (2, "thinking_delta"),
        (2, "stop"),
        (3, "tool_use"),
        (3, "input_json_delta"),
        (3, "input_json_delta"),
        (3, "stop"),
        (4, "tool_use"),
        (4, "input_json_delta"),
        (4, "stop"),
    ]


def test_thoughts_are_closed_before_a_call_that_follows_without_text(streamed, events_of):
    stream = streamed(ThinkingPart("a"), *CALL)

    assert blocks_of(events_of(stream))[2:4] == [(0, "stop"), (1, "tool_use")]


def test_an_answer_of_calls_has_no_empty_block_of_text(streamed, events_of):
    stream = streamed(Start(), *CALL, Finish("stop"), End())

    assert not any(kind == "text" for _, kind in blocks_of(events_of(stream)))


def test_only_a_call_has_an_input(streamed, events_of):
    stream = streamed(ThinkingPart("a"), TextPart("b"), *CALL)

    begun = [document["content_block"] for name, document in events_of(stream) if name == "content_block_start"]
    assert begun == [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "call_a", "name": "get", "input": {}},
    ]


def test_arguments_keep_every_byte_and_the_order_of_their_keys(streamed, events_of):
    stream = streamed(*CALL)

    parts = [document["delta"]["partial_json"] for name, document in events_of(stream) if "delta" in document]
    assert parts == ['{"b": 1,', ' "a": 2}']


def test_interleaved_calls_come_one_after_the_other(streamed, events_of):
    stream = streamed(
        ToolBegin(0, "a", "f"), ToolBegin(1, "b", "g"), ToolArguments(1, '{"y":'), ToolArguments(0, '{"x":1}'),
        ToolArguments(1, "2}"), Finish("tool_calls"), End(),
    )  # fmt: skip

    inputs = {}
    for _, document in events_of(stream):
        if "delta" in document and "index" in document:
            inputs[document["index"]] = inputs.get(document["index"], "") + document["delta"]["partial_json"]
    assert inputs == {0: '{"x":1}', 1: '{"y":2}'}


@pytest.mark.parametrize(
    ("finish", "reason", "sequence"),
    [
        (Finish("stop"), "end_turn", None),
        (Finish("stop", "END"), "stop_sequence", "END"),
        (Finish("length"), "max_tokens", None),
        (Finish("content_filter"), "refusal", None),
    ],
)
def test_the_reason_has_anthropics_name(streamed, events_of, finish, reason, sequence):
    events = dict(events_of(streamed(TextPart("a"), finish, End())))

    assert events["message_delta"]["delta"] == {"stop_reason": reason, "stop_sequence": sequence}


def test_a_turn_with_a_call_ends_for_the_call_whatever_the_backend_says(streamed, events_of):
    events = dict(events_of(streamed(TextPart("I look"), *CALL, Finish("stop"), End())))

    assert events["message_delta"]["delta"]["stop_reason"] == "tool_use"


def test_a_call_that_is_cut_short_ends_for_its_length(streamed, events_of):
    events = dict(events_of(streamed(ToolBegin(0, "a", "f"), ToolArguments(0, '{"x"'), Finish("length"), End())))

    assert events["message_delta"]["delta"]["stop_reason"] == "max_tokens"


def test_the_prompt_is_counted_without_what_a_cache_took_part_in(streamed, events_of):
    usage = Usage(100, 20, cached_tokens=60, cache_write_tokens=30, reasoning_tokens=15)

    events = dict(events_of(streamed(TextPart("a"), Finish("stop"), usage, End())))

    assert events["message_delta"]["usage"] == {
        "input_tokens": 10,
        "output_tokens": 20,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 60,
        "output_tokens_details": {"thinking_tokens": 15},
    }


def test_an_estimate_stands_for_what_the_backend_did_not_count(streamed, events_of):
    events = dict(events_of(streamed(TextPart("x" * 41), Finish("stop"), End())))

    usage = events["message_delta"]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (7, 11)


def test_an_empty_answer_is_a_message_without_blocks(streamed, client_of):
    stream = streamed(Start(), Finish("stop"), End())

    with client_of(stream).messages.stream(**QUESTION) as received:
        assert received.get_final_message().content == []


def test_an_error_ends_the_stream_without_a_stop(streamed, events_of):
    events = events_of(streamed(TextPart("a"), Failure(503, "no slots", "overloaded")))

    assert [name for name, _ in events][-1] == "error"
    assert events[-1][1] == {"type": "error", "error": {"type": "overloaded_error", "message": "no slots"}}
    assert "message_stop" not in dict(events)


def test_the_client_library_raises_an_error_of_the_stream(streamed, client_of):
    stream = streamed(TextPart("partial"), Failure(502, "broken", "bad_gateway"))

    with client_of(stream).messages.stream(**QUESTION) as received, pytest.raises(anthropic.APIStatusError) as raised:
        received.get_final_message()

    assert "broken" in str(raised.value)


def test_a_signature_ends_its_thoughts(streamed, client_of):
    stream = streamed(
        Signature("d.1"), ThinkingPart("a"), Signature("d.2"), ThinkingPart("b"), Finish("stop"), End()
    )  # fmt: skip

    with client_of(stream).messages.stream(**QUESTION) as received:
        blocks = received.get_final_message().content
    assert [(block.thinking, block.signature) for block in blocks] == [("", "d.1"), ("a", "d.2"), ("b", "")]


def test_encrypted_thoughts_of_other_providers_are_left_out(streamed):
    with_them = streamed(ThinkingPart("a"), RedactedThinking("x"), TextPart("b"), End())

    assert with_them == streamed(ThinkingPart("a"), TextPart("b"), End())


def test_a_ping_begins_a_message_that_has_not_begun(events_of):
    encoder = DIALECT.open_encoder(AnswerContext(model="m", id="1", created=0))

    sent = [encoder.ping(), encoder.ping(), encoder.encode([Start(), TextPart("a")])]

    assert [[name for name, _ in events_of(stream)] for stream in sent] == [
        ["message_start", "ping"],
        ["ping"],
        ["content_block_start", "content_block_delta"],
    ]


def test_the_client_library_reads_every_kind_of_block(streamed, client_of):
    stream = streamed(
        ThinkingPart("hm"), ThinkingPart("m"), TextPart("I "), TextPart("look"), *CALL, ToolBegin(3, "call_b", "put"),
        Finish("tool_calls"), Usage(20, 9), End(),
    )  # fmt: skip

    with client_of(stream).messages.stream(**QUESTION) as received:
        message = received.get_final_message()

    thinking, text, get, put = message.content
    assert (thinking.thinking, thinking.signature, text.text) == ("hmm", "", "I look")
    assert (get.id, get.name, get.input, list(get.input)) == ("call_a", "get", {"b": 1, "a": 2}, ["b", "a"])
    assert (put.name, put.input) == ("put", {})
    assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == ("tool_use", 20, 9)
