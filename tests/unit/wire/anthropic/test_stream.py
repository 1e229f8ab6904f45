"""Streams of Anthropic's API."""

import json

import anthropic
import pytest

from nexus.domain.request import TokenUsage
from nexus.error_codes import IN_STREAM_CODES

PATH = "/v1/messages"


def event(type_, **members):
    return f"event: {type_}\ndata: {json.dumps({'type': type_, **members})}\n\n".encode()


START = event(
    "message_start",
    message={
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "cache_read_input_tokens": 20, "output_tokens": 1},
    },
)
BLOCK = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
DELTA = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "error"})
END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 7})
STOP = event("message_stop")


def test_content_comes_with_the_first_delta(opened):
    scan = opened(PATH, START, event("ping"), BLOCK)
    before = scan.has_content
    scan.feed(DELTA)

    assert (before, scan.has_content, scan.has_error) == (False, True, False)


def test_a_message_is_finished_by_its_stop(opened):
    assert [opened(PATH, START, DELTA, END, *last).is_finished() for last in ([], [STOP], [STOP, event("ping")])] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("blocks", [[START, BLOCK, DELTA, END, STOP], [START + BLOCK + DELTA + END + STOP]])
def test_the_usage_is_read_from_both_ends(opened, blocks):
    assert opened(PATH, *blocks).usage() == TokenUsage(25, 7)


def test_a_truncated_message_has_the_usage_reported_so_far(opened):
    assert opened(PATH, START, BLOCK, DELTA).usage() == TokenUsage(25, 1)


def test_the_end_may_correct_the_beginning(opened):
    end = event("message_delta", usage={"input_tokens": 9, "output_tokens": 7})

    assert opened(PATH, START, DELTA, end).usage() == TokenUsage(9, 7)


def test_an_implausible_usage_is_ignored(opened):
    assert opened(PATH, START, DELTA, event("message_delta", usage={"output_tokens": -7})).usage() is None


BARE = b'event: error\ndata: {"code":503,"message":"m","type":"unavailable_error"}\n\n'


@pytest.mark.parametrize(
    ("first", "status", "type_"),
    [
        (event("error", error={"type": "overloaded_error", "message": "m"}), 503, "overloaded_error"),
        (event("error", error={"type": "rate_limit_error", "message": "m"}), 429, "rate_limit_error"),
        (event("error", error={"type": "api_error", "message": "m"}), 502, "api_error"),
        (BARE, 503, "unavailable_error"),
        (b"event: error\ndata: oh no\n\n", 502, "api_error"),
    ],
)
def test_a_stream_that_begins_with_an_error_stands_for_a_status(opened, first, status, type_):
    scan = opened(PATH, first)
    found, body = scan.first_error()

    assert (found, json.loads(body)["type"], json.loads(body)["error"]["type"]) == (status, "error", type_)
    assert scan.has_error


@pytest.mark.parametrize("error", [event("error", error={"type": "api_error", "message": "m"}), BARE])
def test_an_error_that_comes_later_is_seen(opened, error):
    scan = opened(PATH, START, DELTA, error)

    assert (scan.has_error, scan.first_error(), scan.is_finished()) == (True, None, False)


@pytest.mark.parametrize("code", sorted(IN_STREAM_CODES))
def test_the_library_raises_our_failures(opened, anthropic_client, code):
    client = anthropic_client(START + BLOCK + DELTA + opened(PATH).failure(code, "the backend left"))

    with pytest.raises(anthropic.APIStatusError, match="the backend left") as raised:
        list(client.messages.create(model="m", messages=[], max_tokens=5, stream=True))

    assert raised.value.body["error"]["code"] == code
