"""Errors of Nexus, in each protocol and as read by its client library."""

import json

import anthropic
import ollama
import openai
import pytest

from nexus.error_codes import REPLY_CODES
from nexus.errors import RequestError
from nexus.wire.errors.context import context_exceeded
from nexus.wire.protocols import PROTOCOLS

CONTEXT = {"available_backends": ["gpu-1"], "required_tier": 3}
JSON = "application/json"


def encoded(protocol, error):
    return json.loads(PROTOCOLS[protocol].encode_error(error, "req-1"))


@pytest.mark.parametrize(
    ("code", "type_"),
    [
        ("invalid_json", "invalid_request_error"),
        ("invalid_api_key", "invalid_request_error"),
        ("model_not_found", "invalid_request_error"),
        ("upstream_rate_limited", "rate_limit_error"),
        ("bad_gateway", "server_error"),
        ("queue_full", "server_error"),
        ("ttft_timeout", "server_error"),
    ],
)
def test_openai_s_type_follows_the_code(code, type_):
    assert encoded("openai", RequestError(code, "what to do", param="model")) == {
        "error": {"message": "what to do", "type": type_, "param": "model", "code": code}
    }


def test_the_context_is_encoded_beside_the_error():
    error = RequestError("no_healthy_backend", "m", context=CONTEXT)

    assert encoded("openai", error) == {
        "error": {"message": "m", "type": "service_unavailable", "param": None, "code": "no_healthy_backend"},
        "context": CONTEXT,
    }
    assert encoded("anthropic", error)["context"] == CONTEXT
    assert encoded("ollama", error) == {"error": "m", "code": "no_healthy_backend", "context": CONTEXT}


@pytest.mark.parametrize(
    ("code", "type_"),
    [
        ("invalid_value", "invalid_request_error"),
        ("invalid_api_key", "authentication_error"),
        ("forbidden", "permission_error"),
        ("model_not_found", "not_found_error"),
        ("too_large", "request_too_large"),
        ("upstream_rate_limited", "rate_limit_error"),
        ("internal_error", "api_error"),
        ("bad_gateway", "api_error"),
        ("overloaded", "overloaded_error"),
        ("ttft_timeout", "timeout_error"),
    ],
)
def test_anthropic_s_type_follows_the_status(code, type_):
    body = encoded("anthropic", RequestError(code, "m"))

    assert (body["type"], body["error"]["type"], body["request_id"]) == ("error", type_, "req-1")


LOWER = "decrease input length or `max_tokens`"
TOO_LONG = {"context_length": 1024, "prompt_tokens": 1500, "needed_tokens": 1500}


@pytest.mark.parametrize(
    ("protocol", "context", "message"),
    [
        ("openai", TOO_LONG, "This model's maximum context length is 1024 tokens."),
        ("anthropic", TOO_LONG, "prompt is too long: 1500 tokens > 1024 maximum"),
        (
            "anthropic",
            {"context_length": 1024, "prompt_tokens": 24, "needed_tokens": 2024},
            f"input length and `max_tokens` exceed context limit: 24 + 2000 > 1024, {LOWER}",
        ),
        ("ollama", TOO_LONG, "the input length exceeds the context length"),
        ("anthropic", {"own": "facts"}, "This model's maximum context length is 1024 tokens."),
        ("ollama", None, "This model's maximum context length is 1024 tokens."),
    ],
)
def test_a_long_prompt_has_the_message_of_each_protocol(protocol, context, message):
    error = RequestError(
        "context_length_exceeded", "This model's maximum context length is 1024 tokens.", context=context
    )

    body = encoded(protocol, error)

    assert (body["error"] if protocol == "ollama" else body["error"]["message"]) == message
    assert context_exceeded(400, PROTOCOLS[protocol].encode_error(error, "r")) is not None


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_control_characters_in_a_message_are_escaped(protocol):
    body = PROTOCOLS[protocol].encode_error(RequestError("not_found", "a\x1b[31m\u202eb\ud800\n" + "x" * 5000), "r")

    assert b"\\\\x1b[31m\\\\u202eb\\\\ud800\\\\n" in body
    assert len(body) < 2300


@pytest.mark.parametrize("code", sorted(REPLY_CODES))
def test_the_libraries_read_every_error(code, openai_client, anthropic_client, ollama_client):
    error = RequestError(code, "what to do", context=CONTEXT)
    bodies = {name: protocol.encode_error(error, "req-1") for name, protocol in PROTOCOLS.items()}

    with pytest.raises(openai.APIStatusError, match="what to do") as raised:
        openai_client(bodies["openai"], status=error.status, content_type=JSON).models.list()
    with pytest.raises(anthropic.APIStatusError, match="what to do"):
        anthropic_client(bodies["anthropic"], status=error.status, content_type=JSON).models.list()
    with pytest.raises(ollama.ResponseError) as told:
        ollama_client(bodies["ollama"], status=error.status, content_type=JSON).list()

    assert (raised.value.code, raised.value.status_code, raised.value.type is not None) == (code, error.status, True)
    assert told.value.error == "what to do"
