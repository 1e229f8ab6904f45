"""A composed request has the wanted properties, at every endpoint that can express them."""

import pytest

from nexus.errors import RequestError
from nexus.wire.composing import SampleRequest, compose, form_type, with_model
from nexus.wire.protocols import ENDPOINTS, PROTOCOLS
from nexus.wire.requests import multipart

JSON_ENDPOINTS = [endpoint for endpoint in ENDPOINTS.values() if endpoint.body == "json"]
FORMS = [endpoint for endpoint in ENDPOINTS.values() if endpoint.body == "multipart"]
CHATS = ("/v1/chat/completions", "/v1/responses", "/api/chat", "/v1/messages")
UNMEASURED = ("openai.speech", "openai.tokenize", "openai.detokenize")
"""Endpoints whose prompts the context does not limit."""


def understood(endpoint, body):
    return PROTOCOLS[endpoint.protocol].understand(endpoint, body)


@pytest.mark.parametrize("endpoint", JSON_ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_a_request_to_every_endpoint_names_the_model(endpoint):
    content_type, body = compose(endpoint, SampleRequest(model="org/llama3:8b"))

    assert content_type == b"application/json"
    assert understood(endpoint, body).model == "org/llama3:8b"
    assert understood(endpoint, body).prompt_tokens == 0


@pytest.mark.parametrize("endpoint", [e for e in JSON_ENDPOINTS if e.name not in UNMEASURED], ids=lambda e: e.name)
@pytest.mark.parametrize("needs_tools", [True, False])
def test_the_prompt_has_the_wanted_length(endpoint, needs_tools):
    _, body = compose(endpoint, SampleRequest(model="m", prompt_tokens=9000, needs_tools=needs_tools))

    assert understood(endpoint, body).prompt_tokens == 9000


@pytest.mark.parametrize("path", CHATS)
def test_a_chat_can_ask_for_everything(path):
    endpoint = ENDPOINTS[path]
    wanted = SampleRequest(
        model="m", prompt_tokens=100, max_tokens=77, needs_vision=True, needs_tools=True, needs_json=True
    )

    asked = understood(endpoint, compose(endpoint, wanted)[1])

    assert (asked.prompt_tokens, asked.max_tokens) == (100, 77)
    assert (asked.needs_vision, asked.needs_tools, asked.needs_json) == (True, True, True)


@pytest.mark.parametrize("path", [*CHATS, "/api/generate"])
@pytest.mark.parametrize("need", ["needs_vision", "needs_tools", "needs_json"])
def test_a_composed_request_asks_for_nothing_else(path, need):
    endpoint = ENDPOINTS[path]

    asked = understood(endpoint, compose(endpoint, SampleRequest(model="m", **{need: True}))[1])

    assert [name for name in ("needs_vision", "needs_tools", "needs_json") if getattr(asked, name)] == [need]


@pytest.mark.parametrize("endpoint", FORMS, ids=lambda endpoint: endpoint.name)
def test_a_form_names_the_model(endpoint):
    content_type, body = compose(endpoint, SampleRequest(model="whisper"))

    assert multipart.understand(endpoint, body, content_type).model == "whisper"
    changed = with_model(endpoint, content_type, body, "other")
    assert multipart.understand(endpoint, changed, form_type(changed)).model == "other"


def test_a_form_names_only_the_model():
    with pytest.raises(RequestError, match="can only name the model"):
        compose(FORMS[0], SampleRequest(model="whisper", needs_json=True))


@pytest.mark.parametrize("body", [b'{"model": "a", "messages": []}', b'{"messages": []}'])
def test_the_model_of_a_body_is_replaced(body):
    endpoint = ENDPOINTS["/v1/chat/completions"]

    assert understood(endpoint, with_model(endpoint, b"application/json", body, "b")).model == "b"


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"a": ' + b"[" * 100_000, b"\xff"])
def test_an_unreadable_body_is_returned_unchanged(body):
    endpoint = ENDPOINTS["/v1/chat/completions"]

    assert with_model(endpoint, b"application/json", body, "b") == body
    with pytest.raises(RequestError):
        understood(endpoint, body)
