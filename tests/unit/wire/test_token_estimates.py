"""Estimates of usage that a backend does not report."""

import json

import pytest

from nexus.domain.request import Requirements, TokenUsage
from nexus.wire.protocols import ENDPOINTS, PROTOCOLS
from nexus.wire.token_estimates import estimated_usage, is_uncounted, tokens_of
from tests.support.dialects import DIALECTS

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "waits", "for", "long"]


def opened(path, *blocks):
    endpoint = ENDPOINTS[path]
    scan = PROTOCOLS[endpoint.protocol].open_stream(endpoint)
    for block in blocks:
        scan.feed(block)
    return scan


def chat_stream(pieces, end="\n\n"):
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    deltas = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in pieces), {}]
    chunks = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}]}
        for delta in deltas
    ]
    return [f"data: {json.dumps(chunk)}{end}".encode() for chunk in chunks] + [f"data: [DONE]{end}".encode()]


@pytest.mark.parametrize("count", [1, 2, 5, 500])
def test_a_stream_of_a_token_per_event_has_as_many(count):
    events = chat_stream(f" {WORDS[place % len(WORDS)]}" for place in range(count))

    one_by_one, at_once = opened("/v1/chat/completions", *events), opened("/v1/chat/completions", b"".join(events))

    assert one_by_one.estimated_tokens() == at_once.estimated_tokens() == count


def test_long_events_are_estimated_by_their_size():
    piece = " ".join(WORDS * 5)

    scan = opened("/v1/chat/completions", *chat_stream([piece] * 20))

    assert scan.estimated_tokens() == pytest.approx(20 * tokens_of(piece), rel=0.05)


def test_other_line_ends_count_too():
    events = chat_stream(WORDS, end="\r\n\r\n")

    assert opened("/v1/chat/completions", *events).estimated_tokens() == pytest.approx(len(WORDS), abs=2)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_the_tokens_of_each_protocol_s_stream_are_estimated(dialect):
    assert opened(dialect.path, *dialect.events).estimated_tokens() == pytest.approx(2, abs=1)


def test_an_answer_without_text_has_no_tokens():
    assert opened("/v1/chat/completions").estimated_tokens() == 0
    assert opened("/v1/chat/completions", *chat_stream([])).estimated_tokens() == 0


@pytest.mark.parametrize(
    ("usage", "answers", "is_missing"),
    [(None, 1, True), (TokenUsage(), 1, True), (TokenUsage(), 0, False), (TokenUsage(1), 1, False)],
)
def test_zero_is_no_count_where_something_was_answered(usage, answers, is_missing):
    assert is_uncounted(usage, Requirements(model="m", answers=answers)) is is_missing


def test_an_estimate_is_marked_as_one():
    wanted = Requirements(model="m", prompt_tokens=7, further_prompt_tokens=2)

    chat = estimated_usage(ENDPOINTS["/v1/chat/completions"], wanted, 5)
    vectors = estimated_usage(ENDPOINTS["/v1/embeddings"], wanted, 5)

    assert chat == TokenUsage(9, 5, is_estimated=True)
    assert vectors == TokenUsage(9, 0, is_estimated=True)
    assert estimated_usage(ENDPOINTS["/v1/audio/speech"], wanted, 5) is None
    assert estimated_usage(ENDPOINTS["/v1/messages/count_tokens"], wanted, 0) is None


def test_llama_cpp_s_own_endpoint_reports_tokens_too():
    last = {"content": "", "stop": True, "timings": {"cache_n": 1, "prompt_n": 2, "predicted_n": 3}}

    scan = opened("/completion", b'data: {"content":"a","stop":false}\n\n', f"data: {json.dumps(last)}\n\n".encode())

    assert scan.usage() == TokenUsage(3, 3)


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcde", 2), ("слово", 3), ("\ud800", 1)])
def test_a_whole_text_is_estimated_by_its_bytes(text, tokens):
    assert tokens_of(text) == tokens
