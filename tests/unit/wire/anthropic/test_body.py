"""What Anthropic's requests need of a model."""

import base64
import json

import pytest

from nexus.wire.anthropic import PROTOCOL

MESSAGES = PROTOCOL.endpoints[0]
SOURCE = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(bytes(30_000)).decode()}


def understood(**members):
    return PROTOCOL.understand(MESSAGES, json.dumps({"model": "m", **members}, separators=(",", ":")).encode())


def test_the_limit_and_the_stream_are_read():
    needed = understood(max_tokens=100, stream=True)

    assert (needed.max_tokens, needed.is_stream) == (100, True)


def test_system_messages_and_tools_are_the_prompt():
    messages = [{"role": "user", "content": "x" * 400}]

    needed = understood(messages=messages, system="y" * 400, tools=[{"name": "n" * 400}])

    assert needed.prompt_tokens == pytest.approx(300, abs=10)


def test_an_image_needs_vision_and_is_no_prompt():
    image = {"type": "image", "source": SOURCE}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [image]}

    needed = [understood(messages=[{"role": "user", "content": [part]}]) for part in (image, result)]

    assert [(n.needs_vision, n.prompt_tokens < 60) for n in needed] == [(True, True)] * 2


def test_a_document_needs_no_vision():
    content = [{"type": "document", "source": {"type": "text", "data": "some words " * 400}}]

    needed = understood(messages=[{"role": "user", "content": content}])

    assert (needed.needs_vision, needed.prompt_tokens > 1000) == (False, True)


@pytest.mark.parametrize(("tools", "needs"), [([{"name": "f"}], True), ([], False), (None, False)])
def test_tools_are_needed_when_some_are_offered(tools, needs):
    assert understood(tools=tools).needs_tools is needs


def test_a_schema_for_the_answer_needs_json():
    format_ = {"type": "json_schema", "schema": {"type": "object"}}

    assert understood(output_format=format_).needs_json
    assert understood(output_config={"format": format_}).needs_json
    assert not understood(output_config={"effort": "low"}).needs_json
