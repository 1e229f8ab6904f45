"""What Ollama's requests need of a model."""

import base64
import json

import pytest

from nexus.wire.ollama import PROTOCOL

PATHS = {endpoint.path: endpoint for endpoint in PROTOCOL.endpoints}
IMAGE = base64.b64encode(bytes(30_000)).decode()


def understood(path="/api/chat", **members):
    return PROTOCOL.understand(PATHS[path], json.dumps({"model": "m", **members}, separators=(",", ":")).encode())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/chat", [True, True, False, True]),
        ("/api/generate", [True, True, False, True]),
        ("/api/embed", [True, False, False, False]),
    ],
)
def test_answers_are_streamed_unless_asked_otherwise(path, expected):
    answers = [
        understood(path, stream=True),
        understood(path),
        understood(path, stream=False),
        understood(path, stream=None),
    ]

    assert [needed.is_stream for needed in answers] == expected


def test_an_image_needs_vision_and_is_no_prompt():
    message = {"role": "user", "content": "what is it?", "images": [IMAGE, IMAGE]}

    chat = understood(messages=[message, message])
    generate = understood("/api/generate", prompt="what is it?", images=[IMAGE])

    assert (chat.needs_vision, generate.needs_vision) == (True, True)
    assert (chat.prompt_tokens < 40, generate.prompt_tokens) == (True, 2)


def test_an_empty_list_of_images_needs_no_vision():
    assert not understood(messages=[{"role": "user", "content": "x", "images": []}], images=[]).needs_vision


@pytest.mark.parametrize(("format_", "needs"), [("json", True), ({"type": "object"}, True), ("", False), (None, False)])
def test_a_format_needs_json(format_, needs):
    assert understood(format=format_).needs_json is needs


def test_no_format_needs_no_json():
    assert not understood().needs_json


@pytest.mark.parametrize(
    ("options", "limit"), [({"num_predict": 9}, 9), ({"num_predict": -1}, None), ({}, None), (None, None)]
)
def test_the_limit_of_the_answer_is_an_option(options, limit):
    assert understood(options=options).max_tokens == limit


def test_tools_are_needed_when_some_are_offered():
    assert [understood(tools=tools).needs_tools for tools in ([{"type": "function"}], [], None)] == [True, False, False]


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings"])
def test_embeddings_are_needed_where_they_are_asked_for(path):
    needed = understood(path, input=["x" * 400, "x" * 40])

    assert (needed.needs_embeddings, needed.prompt_tokens) == (True, 100)


def test_all_that_the_model_reads_is_counted():
    needed = understood("/api/generate", prompt="x" * 400, system="y" * 400, suffix="z" * 400, context=[1] * 50)

    assert needed.prompt_tokens == 350


@pytest.mark.parametrize(
    ("path", "members"),
    [
        ("/api/generate", {}),
        ("/api/generate", {"prompt": "", "keep_alive": 0}),
        ("/api/generate", {"prompt": None, "images": [], "context": None, "suffix": ""}),
        ("/api/chat", {"messages": []}),
        ("/api/chat", {"keep_alive": -1, "options": {"num_ctx": 4096}}),
    ],
)
def test_a_call_that_only_loads_a_model_asks_for_no_answer(path, members):
    assert understood(path, **members).answers == 0


@pytest.mark.parametrize(
    ("path", "members"),
    [
        ("/api/generate", {"prompt": "x"}),
        ("/api/generate", {"Prompt": "x"}),
        ("/api/generate", {"prompt": "", "PROMPT": "x"}),
        ("/api/generate", {"\u00e9": 1}),
        ("/api/generate", {"images": [IMAGE]}),
        ("/api/generate", {"context": [1]}),
        ("/api/chat", {"messages": [{"role": "user", "content": "x"}]}),
        ("/api/embed", {"input": []}),
    ],
)
def test_all_other_calls_ask_for_an_answer(path, members):
    assert understood(path, **members).answers == 1


@pytest.mark.parametrize("name", [r"prom\u0070t", "messa\u017fes"])
def test_another_spelling_of_a_member_may_ask_for_an_answer(name):
    body = f'{{"model":"m","{name}":"x"}}'.encode()

    assert PROTOCOL.understand(PATHS["/api/generate"], body).answers == 1
