"""What OpenAI's requests need of a model."""

import base64
import json

import pytest

from nexus.domain.request import Requirements
from nexus.wire.openai import PROTOCOL

PATHS = {endpoint.path: endpoint for endpoint in PROTOCOL.endpoints if endpoint.is_modelled}
IMAGE = "data:image/png;base64," + base64.b64encode(bytes(30_000)).decode()
USER = {"role": "user", "content": "hello"}


def understood(path="/v1/chat/completions", **members):
    return PROTOCOL.understand(PATHS[path], json.dumps({"model": "m", **members}, separators=(",", ":")).encode())


def parts(*some):
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, *some]}]}


def test_a_plain_chat_needs_nothing_special():
    assert understood(messages=[USER]) == Requirements(model="m", prompt_tokens=1)


def test_only_a_streamed_answer_is_streamed():
    assert [understood(stream=stream).is_stream for stream in (True, False, None)] == [True, False, False]


@pytest.mark.parametrize(
    ("path", "format_", "is_stream"),
    [
        ("/v1/audio/speech", "sse", True),
        ("/v1/audio/speech", "audio", False),
        ("/v1/audio/speech", ["sse"], False),
        ("/v1/chat/completions", "sse", False),
    ],
)
def test_speech_is_streamed_by_its_own_member(path, format_, is_stream):
    assert understood(path, stream_format=format_).is_stream is is_stream


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("length", [0, 40, 4000])
def test_the_prompt_is_estimated_by_its_text(count, length):
    understanding = understood(messages=[{"role": "user", "content": "x" * length}] * count)

    assert understanding.prompt_tokens == pytest.approx(count * length / 4, abs=count)


def test_the_members_order_and_spaces_do_not_change_the_estimate_much():
    message = {"role": "assistant", "content": "x" * 4000, "name": "n"}
    spaced = json.dumps({"messages": [message] * 10, "model": "m"}, indent=2).encode()

    assert PROTOCOL.understand(PATHS["/v1/chat/completions"], spaced).prompt_tokens == pytest.approx(10_000, rel=0.05)


def test_tools_count_as_prompt():
    tool = {"type": "function", "function": {"name": "f", "description": "x" * 4000}}

    assert understood(messages=[USER], tools=[tool]).prompt_tokens == pytest.approx(1000, rel=0.05)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": IMAGE}},
        {"type": "input_audio", "input_audio": {"data": IMAGE.partition(",")[2], "format": "wav"}},
        {"type": "file", "file": {"file_data": IMAGE}},
    ],
)
def test_files_do_not_count_as_prompt(part):
    assert understood(**parts(part)).prompt_tokens < 60


def test_text_about_base64_counts_as_prompt():
    text = 'write: background: url(data:image/png;base64, "data" : "' + "some words " * 400

    assert understood(messages=[{"role": "user", "content": [{"type": "text", "text": text}]}]).prompt_tokens > 1000


@pytest.mark.parametrize("type_", ["image_url", "input_image", "image"])
@pytest.mark.parametrize("spaces", [(",", ":"), (" , ", " : ")])
def test_an_image_needs_vision(type_, spaces):
    body = json.dumps({"model": "m", **parts({"type": type_, "image_url": "http://x"})}, separators=spaces).encode()

    assert PROTOCOL.understand(PATHS["/v1/chat/completions"], body).needs_vision


@pytest.mark.parametrize("text", ['{"type":"image_url"}', '"type": "image"', "an image_url"])
def test_text_about_images_needs_no_vision(text):
    assert not understood(messages=[{"role": "user", "content": text}]).needs_vision
    assert not understood(**parts({"type": "text", "text": text})).needs_vision


def test_an_image_in_a_response_s_input_needs_vision():
    content = [{"type": "input_text", "text": "what?"}, {"type": "input_image", "image_url": IMAGE}]

    needed = understood("/v1/responses", input=[{"role": "user", "content": content}])

    assert (needed.needs_vision, needed.prompt_tokens < 60) == (True, True)


@pytest.mark.parametrize(
    ("members", "needs"),
    [
        ({"tools": [{"type": "function"}]}, True),
        ({"functions": [{"name": "f"}]}, True),
        ({"tools": []}, False),
        ({"tools": None}, False),
        ({"functions": [], "tools": []}, False),
        ({"tool_choice": "auto"}, False),
    ],
)
def test_tools_are_needed_when_some_are_offered(members, needs):
    assert understood(**members).needs_tools is needs


@pytest.mark.parametrize(
    ("members", "needs"),
    [
        ({"response_format": {"type": "json_object"}}, True),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, True),
        ({"response_format": {"json_schema": {}, "type": "json_schema"}}, True),
        ({"response_format": {"type": "text"}}, False),
        ({"response_format": "b64_json"}, False),
        ({"response_format": None}, False),
        ({"text": {"format": {"type": "json_schema"}}}, True),
        ({"text": {"format": {"type": "text"}}}, False),
    ],
)
def test_json_is_needed_when_it_is_asked_for(members, needs):
    assert understood(**members).needs_json is needs


@pytest.mark.parametrize(
    ("members", "limit"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_completion_tokens": 6, "max_tokens": 5}, 6),
        ({"max_completion_tokens": 5, "max_tokens": 6}, 6),
        ({"max_output_tokens": 7}, None),
        ({"max_tokens": -1}, None),
        ({"max_tokens": 0}, None),
        ({"max_tokens": None}, None),
        ({}, None),
    ],
)
def test_the_limit_of_the_answer_is_read_whatever_it_is_called(members, limit):
    assert understood(**members).max_tokens == limit


@pytest.mark.parametrize(
    ("members", "limit"),
    [({"max_output_tokens": 7}, 7), ({"max_output_tokens": 7, "max_tokens": 1}, 7), ({"max_tokens": 1}, None)],
)
def test_a_limit_of_another_endpoint_is_ignored(members, limit):
    assert understood("/v1/responses", **members).max_tokens == limit


@pytest.mark.parametrize(
    ("text_input", "tokens"),
    [
        ("x" * 400, 100),
        (["x" * 400, "x" * 40], 100),
        ([], 0),
        ([1, 2, 3], 3),
        ([[1, 2, 3], [4]], 3),
    ],
)
def test_of_many_inputs_the_longest_must_fit(text_input, tokens):
    needed = understood("/v1/embeddings", input=text_input)

    assert (needed.prompt_tokens, needed.needs_embeddings) == (tokens, True)


def test_a_reranked_query_must_fit_beside_the_longest_document():
    assert understood("/v1/rerank", query="x" * 40, documents=["y" * 400, "y" * 80]).prompt_tokens == 110


def test_prompts_of_a_text_completion_are_answered_separately():
    assert understood("/v1/completions", prompt=["x" * 400] * 5).prompt_tokens == 100


@pytest.mark.parametrize(
    ("path", "members", "further", "answers"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}, 0, 1),
        ("/v1/chat/completions", {"n": 5}, 0, 5),
        ("/v1/chat/completions", {"n": 0}, 0, 1),
        ("/v1/chat/completions", {"n": 2.0}, 0, 2),
        ("/v1/completions", {"prompt": "x", "n": 2, "best_of": 7}, 0, 7),
        ("/v1/completions", {"prompt": ["x" * 400, "y" * 40, "z" * 80], "n": 2}, 30, 6),
        ("/v1/completions", {"prompt": [1, 2, 3]}, 0, 1),
        ("/v1/completions", {"prompt": [[1, 2, 3], [4, 5]]}, 2, 2),
        ("/v1/embeddings", {"input": ["x" * 40] * 100}, 990, 100),
        ("/v1/rerank", {"query": "x" * 40, "documents": ["y" * 400, "y" * 80]}, 20, 2),
        ("/v1/images/generations", {"prompt": "x", "n": 10}, 0, 10),
    ],
)
def test_prompts_and_choices_multiply_the_answers(path, members, further, answers):
    needed = understood(path, **members)

    assert (needed.further_prompt_tokens, needed.answers) == (further, answers)


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize", "/v1/audio/speech"])
def test_inputs_that_no_model_reads_count_no_tokens(path):
    assert understood(path, prompt="x" * 4000, input="y" * 4000).prompt_tokens == 0
