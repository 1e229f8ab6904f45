"""Signed thoughts that a client of another dialect carries through a conversation."""

import json

import pytest

from nexus.translation.conversion import About
from nexus.translation.dialect import Target
from nexus.translation.dialects import convert

ABOUT = About(model="m", id="1", created=0)
TOOLS = [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}]
ASKED = {"model": "m", "tools": TOOLS, "include": ["reasoning.encrypted_content"], "store": False}
HI = {"type": "message", "role": "user", "content": "hi"}
BLOCKS = [
    {"type": "thinking", "thinking": "hm\n\nwell", "signature": "c2ln"},
    {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
]
MESSAGE = json.dumps({"content": BLOCKS, "stop_reason": "tool_use"}).encode()


def asked(items, backend):
    body = json.dumps({**ASKED, "input": items}).encode()
    return convert("openai.responses", backend, body, Target(model="claude-sonnet-4-5"), ABOUT)


@pytest.fixture
def history():
    """What a client of the Responses API sends after a call by a model of Anthropic's."""
    output = json.loads(asked([HI], "anthropic.messages").answer(MESSAGE))["output"]
    call = next(item for item in output if item["type"] == "function_call")
    return [HI, *output, {"type": "function_call_output", "call_id": call["call_id"], "output": "done"}]


def test_they_come_back_to_the_provider_unchanged(history):
    sent = json.loads(asked(history, "anthropic.messages").body)

    assert sent["messages"][1] == {"role": "assistant", "content": BLOCKS}


def test_they_go_to_no_other_provider(history):
    assert b"c2ln" not in asked(history, "openai.chat").body
