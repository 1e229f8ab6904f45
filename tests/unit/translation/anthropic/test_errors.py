"""Anthropic's errors."""

import json

import anthropic
import pytest

from nexus.translation.anthropic import DIALECT
from nexus.translation.events import Failure

QUESTION = {"model": "gpt", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("status", "type_"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "overloaded_error"),
    ],
)
def test_the_type_follows_from_the_status(status, type_):
    error = json.loads(DIALECT.encode_error(Failure(status, "no"), "req_1"))

    assert error == {"type": "error", "error": {"type": type_, "message": "no"}, "request_id": "req_1"}


def test_a_prompt_that_is_too_long_has_the_words_that_agents_look_for():
    failure = Failure(400, "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens")

    error = json.loads(DIALECT.encode_error(failure, "r"))["error"]

    assert error["message"].startswith("prompt is too long: This model's maximum")


def test_the_client_library_raises_it(client_of):
    body = DIALECT.encode_error(Failure(404, "no model"), "r")

    with pytest.raises(anthropic.NotFoundError, match="no model"):
        client_of(body, "application/json", 404).messages.create(**QUESTION)


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (
            b'{"type":"error","error":{"type":"rate_limit_error","message":"slow down"},"request_id":"r"}',
            Failure(429, "slow down", "rate_limit_error"),
        ),
        (b'{"error":"down"}', Failure(429, "down")),
        (b'{"message":"down"}', Failure(429, "down")),
        (b" busy\n", Failure(429, "busy")),
        (b"", Failure(429, "the backend answered with status 429")),
        (b'{"error":{"message":5}}', Failure(429, "the backend answered with status 429")),
        (b"\xff\xfe", Failure(429, "\ufffd\ufffd")),
    ],
)
def test_whatever_a_backend_sends_is_read_as_an_error(body, failure):
    assert DIALECT.decode_error(429, body) == failure
