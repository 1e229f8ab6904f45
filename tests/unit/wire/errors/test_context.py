"""Engines' errors that a prompt exceeds the context."""

import json

import pytest

from nexus.wire.errors.context import WORDINGS, ContextExceeded, context_exceeded

each_wording = pytest.mark.parametrize("wording", WORDINGS, ids=lambda wording: wording.said_by)

BODIES = {
    "nested": lambda text: {"error": {"message": text, "type": "x", "param": None, "code": 400}},
    "a text": lambda text: {"error": text},
    "flat": lambda text: {"object": "error", "message": text, "code": 400},
    "Anthropic's": lambda text: {"type": "error", "error": {"type": "invalid_request_error", "message": text}},
}

LIMITS = {
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens ": 4096,
    "'max_tokens' or 'max_completion_tokens' is too large: 8000. This model's maximum context length is 4096 tokens and"
    " your request has 2778 input tokens (8000 > 4096 - 2778). None": 4096,
    "Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total of": 8192,
    "The input (5000 tokens) is longer than the model's context length (2048 tokens).": 2048,
    "request (5000 tokens) exceeds the available context size (1024 tokens), try increasing it": 1024,
    "the request exceeds the available context size, try increasing it": None,
    "prompt is too long: 205148 tokens > 200000 maximum": 200000,
    "Your input exceeds the context window of this model. Please adjust your input and try again.": None,
    "the input length exceeds the context length": None,
}


@each_wording
@pytest.mark.parametrize("shape", BODIES.values(), ids=BODIES)
def test_each_engine_s_words_are_recognised(wording, shape):
    assert context_exceeded(400, json.dumps(shape(wording.example)).encode()) is not None


@pytest.mark.parametrize(("text", "limit"), LIMITS.items())
def test_the_context_that_the_engine_names_is_read(text, limit):
    assert context_exceeded(400, json.dumps({"error": {"message": text}}).encode()) == ContextExceeded(limit)


def test_llama_cpp_names_its_context_beside_the_text():
    error = {"code": 400, "message": "too long", "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 8}

    assert context_exceeded(400, json.dumps({"error": error}).encode()) == ContextExceeded(8)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "temperature must be at most 2",
        "messages: field required",
        "The model `m` does not exist.",
        "Unknown field: context",
        "Invalid 'messages[0].content': string too long. Expected a string with maximum length 10.",
    ],
)
def test_another_error_is_not_mistaken_for_it(text):
    assert context_exceeded(400, json.dumps({"error": {"message": text}}).encode()) is None


@pytest.mark.parametrize("status", [200, 401, 403, 404, 429, 503])
@each_wording
def test_another_status_is_no_context_error(wording, status):
    assert context_exceeded(status, wording.example.encode()) is None
