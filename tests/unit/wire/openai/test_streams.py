"""Streams of OpenAI's API."""

import json

import openai
import pytest

from nexus.domain.request import TokenUsage
from nexus.error_codes import IN_STREAM_CODES

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
DONE = b"data: [DONE]\n\n"


def sse(*contents, name=None):
    event = f"event: {name}\n" if name else ""
    return b"".join(f"{event}data: {json.dumps(content)}\n\n".encode() for content in contents)


def chunk(finish_reason=None, *, usage=None, **delta):
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return sse(
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    )


def usage_chunk(prompt, completion):
    return sse({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}})


@pytest.mark.parametrize(
    "block",
    [
        b": keep-alive\n\n",
        b":\n\n",
        chunk(role="assistant", content=""),
        chunk(role="assistant", content=None),
        chunk(role="assistant"),
        chunk(role="assistant", content="", refusal=None, tool_calls=[]),
        sse({"choices": [], "prompt_filter_results": []}),
        usage_chunk(5, 0),
        DONE,
    ],
)
def test_a_lifecycle_chunk_is_no_content(opened, block):
    assert not opened(CHAT, block).has_content


@pytest.mark.parametrize(
    "block",
    [
        chunk(content="hi"),
        chunk(role="assistant", content="hi"),
        chunk(reasoning="hm"),
        chunk(reasoning_content="hm"),
        chunk(tool_calls=[{"index": 0}]),
        chunk("stop"),
        sse({"something": "else"}),
        b"data: not JSON\n\n",
        b"data: \xff\xfe\n\n",
        b"data: " + b"[" * 5000 + b"\n\n",
    ],
)
def test_every_other_chunk_is_content(opened, block):
    scan = opened(CHAT, chunk(role="assistant", content=""), block)

    assert (scan.has_content, scan.has_error) == (True, False)


def test_the_text_of_a_completion_is_content(opened):
    assert [opened(COMPLETIONS, sse({"choices": [{"text": text}]})).has_content for text in ("", "hi")] == [False, True]


def test_comments_are_no_data(opened):
    scan = opened(CHAT, b": ping\n\n: ping\r\n\r\n")
    before = scan.data_blocks
    scan.feed(b": data\n\ndata: {}\n\n")

    assert (before, scan.data_blocks) == (0, 1)


@pytest.mark.parametrize(
    ("blocks", "is_finished", "closing"),
    [
        ([chunk(content="hi"), chunk("stop"), DONE], True, b""),
        ([chunk(content="hi"), chunk("stop"), usage_chunk(1, 1), DONE], True, b""),
        ([chunk("stop") + DONE[:-1]], True, DONE),
        ([chunk("stop").replace(b"\n", b"\r\n"), DONE.replace(b"\n", b"\r\n")], True, b""),
        ([chunk(content="hi"), chunk("stop")], True, DONE),
        ([chunk("length", content="hi"), usage_chunk(1, 1), b": ping\n\n"], True, DONE),
        ([chunk("stop")[:-1]], True, chunk("stop") + DONE),
        ([chunk(content="hi")], False, b""),
        ([chunk("stop")[:-9]], False, b""),
        ([chunk("stop"), chunk(content="more")], False, b""),
        ([chunk("stop"), sse({"error": {"message": "m"}})], False, b""),
        ([chunk(content="data: [DONE]\n\n")], False, b""),
        ([], False, b""),
    ],
)
def test_a_chat_ends_with_its_marker_or_finish_reason(opened, blocks, is_finished, closing):
    scan = opened(CHAT, *blocks)

    assert (scan.is_finished(), scan.closing()) == (is_finished, closing)


def test_a_chat_with_two_choices_is_not_finished_by_one(opened):
    first = sse({"choices": [{"index": 0, "finish_reason": "stop"}]})
    second = sse({"choices": [{"index": 1, "delta": {"content": "x"}}]})

    assert not opened(CHAT, first, second).is_finished()


def test_the_last_usage_counts(opened):
    scan = opened(CHAT, usage_chunk(5, 1), chunk(content='"prompt_tokens": 99'), usage_chunk(5, 7), chunk("stop"), DONE)

    assert scan.usage() == TokenUsage(5, 7)


@pytest.mark.parametrize("lie", [-1, 10**12, "many", "12", 1.5, True, {}])
def test_an_implausible_usage_is_ignored(opened, lie):
    assert opened(CHAT, chunk(content="hi"), usage_chunk(lie, 3), DONE).usage() is None


def test_llama_cpp_s_timings_serve_as_a_usage(opened):
    timings = {"cache_n": 90, "prompt_n": 10, "predicted_n": 7, "predicted_per_second": 50.0}
    last = sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "timings": timings})

    assert opened(CHAT, chunk(content="hi"), last, DONE).usage() == TokenUsage(100, 7)
    assert opened(CHAT, chunk(content="hi"), last, usage_chunk(100, 8), DONE).usage() == TokenUsage(100, 8)


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}, TokenUsage(10, 5)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 95}, TokenUsage(10, 85)),
        ({"prompt_tokens": 10, "total_tokens": 10}, TokenUsage(10)),
        ({"total_tokens": 12}, TokenUsage(12)),
    ],
)
def test_a_total_above_its_parts_includes_thoughts(opened, usage, counted):
    assert (
        opened(
            CHAT,
            chunk(content="hi"),
            sse({"choices": [], "usage": usage | {"prompt_tokens": usage.get("prompt_tokens")}}),
        ).usage()
        == counted
    )


@pytest.mark.parametrize(
    "block",
    [chunk(content="hi", usage=None), b'data: {"usage":{"prompt_tokens":NaN}}\n\n', b'data: {"prompt_tokens"\n\n'],
)
def test_no_usage_is_none(opened, block):
    assert opened(CHAT, block).usage() is None


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"message": "m", "type": "x", "code": 500}, 500),
        ({"message": "m", "code": 429}, 429),
        ({"message": "m", "code": "503"}, 503),
        ({"message": "m", "code": 529}, 503),
        ({"message": "m", "code": 200}, 502),
        ({"message": "m", "code": True}, 502),
        ({"message": "m", "type": "overloaded_error"}, 503),
        ({"message": "m", "type": "rate_limit_error"}, 429),
        ({"message": "m", "code": "rate_limit_exceeded"}, 429),
        ({"message": "m", "type": "BadRequestError"}, 400),
        ({"message": "m", "type": "server_error", "code": None}, 502),
        ("just text", 502),
        ([1], 502),
    ],
)
def test_a_stream_that_begins_with_an_error_stands_for_a_status(opened, error, status):
    scan = opened(CHAT, b": ping\n\n", sse({"error": error}) + DONE)

    assert scan.first_error() == (status, json.dumps({"error": error}).encode())
    assert (scan.has_error, scan.has_content) == (True, False)


def test_an_error_that_comes_later_is_no_first_error(opened):
    scan = opened(CHAT, chunk(role="assistant"), sse({"error": {"message": "m"}}))

    assert (scan.has_error, scan.first_error()) == (True, None)


@pytest.mark.parametrize("block", [sse({"error": None, "choices": []}), chunk(content='{"error":"x"}')])
def test_the_word_error_is_no_error(opened, block):
    assert not opened(CHAT, block).has_error


@pytest.mark.parametrize("code", sorted(IN_STREAM_CODES))
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_the_library_raises_our_failures(opened, openai_client, path, code):
    scan = opened(path, chunk(content="hi"))
    client = openai_client(chunk(content="hi") + scan.failure(code, "the backend left"))
    create = client.chat.completions.create if path == CHAT else client.completions.create
    asked = {"messages": []} if path == CHAT else {"prompt": "x"}

    with pytest.raises(openai.APIError, match="the backend left") as raised:
        list(create(model="m", stream=True, **asked))

    assert (raised.value.code, raised.value.type) == (code, "upstream_error")


def response_event(type_, **members):
    return sse({"type": type_, "sequence_number": 4, **members}, name=type_)


CREATED = response_event("response.created", response={"id": "r", "error": None})
DELTA = response_event("response.output_text.delta", delta="hi")


def ended(how, **members):
    usage = {"input_tokens": 3, "output_tokens": 4}
    return response_event(f"response.{how}", response={"id": "r", "error": None, "usage": usage, **members})


def test_a_lifecycle_event_of_a_response_is_no_content(opened):
    types = [
        "created",
        "queued",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_summary_part.added",
    ]
    scan = opened(RESPONSES, *(response_event(f"response.{type_}") for type_ in types))
    before = scan.has_content
    scan.feed(DELTA)

    assert (before, scan.has_content) == (False, True)


@pytest.mark.parametrize("how", ["completed", "incomplete"])
def test_a_response_is_finished_by_its_last_event(opened, how):
    scan = opened(RESPONSES, CREATED, DELTA, ended(how))

    assert (scan.is_finished(), scan.closing(), scan.has_error, scan.usage()) == (True, b"", False, TokenUsage(3, 4))


def test_a_response_without_a_last_event_is_not_finished(opened):
    assert not opened(RESPONSES, CREATED, DELTA).is_finished()


@pytest.mark.parametrize(
    "event",
    [
        ended("failed", error={"code": "server_error", "message": "m"}),
        response_event("error", code="x", message="m"),
        sse({"type": "error", "error": {"message": "m"}}),
        sse({"error": {"message": "m"}}),
    ],
)
def test_a_failed_response_is_an_error(opened, event):
    assert opened(RESPONSES, CREATED, event).has_error


@pytest.mark.parametrize(
    ("event", "status", "error"),
    [
        (ended("failed", error={"code": "rate_limit_exceeded", "message": "m"}), 429, "rate_limit_exceeded"),
        (sse({"error": {"code": 400, "message": "m"}}), 400, 400),
        (sse({"type": "error", "code": "server_error", "message": "m"}), 502, "server_error"),
    ],
)
def test_a_response_that_begins_with_an_error_stands_for_a_status(opened, event, status, error):
    found, body = opened(RESPONSES, event).first_error()

    assert (found, json.loads(body)["error"]["code"]) == (status, error)


def test_events_without_a_type_inside_go_by_their_name(opened):
    scan = opened(RESPONSES, sse({"response": {}}, name="response.completed"))

    assert scan.is_finished()


def test_the_library_raises_the_failure_of_a_response(opened, openai_client):
    scan = opened(RESPONSES, CREATED, DELTA)
    client = openai_client(CREATED + DELTA + scan.failure("stream_truncated", "the backend left"))

    with pytest.raises(openai.APIError, match="the backend left") as raised:
        list(client.responses.create(model="m", input="x", stream=True))

    assert raised.value.code == "stream_truncated"


def test_the_failure_of_a_response_is_also_an_event_of_its_own(opened):
    failure = json.loads(opened(RESPONSES, CREATED).failure("c", "m").split(b"data: ")[1])

    assert {
        "type": "error",
        "code": "c",
        "message": "m",
        "param": None,
        "sequence_number": 5,
    }.items() <= failure.items()


@pytest.mark.parametrize(
    ("blocks", "is_finished"),
    [
        ([sse({"type": "transcript.text.delta", "delta": "x"})], False),
        ([sse({"type": "transcript.text.delta"}), sse({"type": "transcript.text.done"})], True),
        ([sse({"type": "speech.audio.delta"}), sse({"type": "speech.audio.done"}), DONE], True),
        ([sse({"type": "image_generation.partial_image"}), sse({"type": "image_generation.completed"})], True),
    ],
)
def test_other_streams_end_with_a_done_or_completed_event(opened, blocks, is_finished):
    assert opened("/v1/audio/speech", *blocks).is_finished() is is_finished
