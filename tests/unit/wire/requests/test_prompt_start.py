"""The beginning of the last user message, for logs."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.wire.requests import multipart
from nexus.wire.requests.prompt_start import prompt_start

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
USER = {"role": "user", "content": "hello"}

BODIES = {
    "the last user message": {"messages": [{"role": "user", "content": "before"}, USER]},
    "an answer after it": {"messages": [USER, {"role": "assistant", "content": "hi"}]},
    "parts": {"messages": [{"role": "user", "content": [IMAGE, {"type": "text", "text": "hello"}]}]},
    "a result of a tool after it": {
        "messages": [
            USER,
            {"role": "assistant", "content": [{"type": "tool_use", "input": {"q": "no"}}]},
            {"role": "user", "content": [{"type": "tool_result", "content": "no"}]},
        ]
    },
    "ollama with images": {"messages": [{"role": "user", "content": "hello", "images": ["AAAA"]}]},
    "a prompt": {"prompt": "hello", "system": "no"},
    "several prompts": {"prompt": ["before", "hello"]},
    "an input": {"input": "hello", "instructions": "no"},
    "input items": {"input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]},
    "a bare input part": {"input": [{"type": "input_text", "text": "hello"}]},
    "a query": {"query": "hello", "documents": ["no"]},
}


@pytest.mark.parametrize("case", BODIES)
def test_the_last_user_message_is_found(case):
    assert prompt_start(json.dumps(BODIES[case]).encode(), 100) == "hello"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {"messages": [{"role": "system", "content": "rules"}]},
        {"messages": [{"role": "user", "content": [IMAGE]}]},
        {"messages": 7},
        {"input": [[1, 2, 3]]},
        {"prompt": [1, 2, 3]},
    ],
)
def test_where_there_is_no_text_nothing_is_shown(body):
    assert prompt_start(json.dumps(body).encode(), 100) == ""


def test_characters_are_counted_and_not_bytes():
    body = json.dumps({"prompt": "é" * 200}).encode()

    assert prompt_start(body, 100) == "é" * 100


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text(), st.lists).map(
        lambda value: json.dumps({"messages": value, "input": value}).encode()
    )
)
def test_it_never_raises(body):
    assert isinstance(prompt_start(body, 100), str)


def test_the_prompt_of_a_form_is_found():
    body = b'--b\r\ncontent-disposition: form-data; name="prompt"\r\n\r\nh\xc3\xa9llo\r\n--b--\r\n'

    assert multipart.prompt_start(body, b"multipart/form-data; boundary=b", 2) == "hé"


def test_a_form_without_a_prompt_shows_nothing():
    body = b'--b\r\ncontent-disposition: form-data; name="file"; filename="x"\r\n\r\nsecret\r\n--b--\r\n'

    assert multipart.prompt_start(body, b"multipart/form-data; boundary=b", 100) == ""
