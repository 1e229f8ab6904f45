"""Names of tools that a provider would refuse."""

import json
import re

import pytest

from nexus.translation.conversion import About
from nexus.translation.dialect import Target
from nexus.translation.dialects import convert
from nexus.translation.quirks import quirks_of
from nexus.wire.streams.sse import SSEFraming

LONG = "mcp__a-server-with-a-long-name__" + "get_failed_pipeline_jobs_from_merge_request"
ABOUT = About(model="m", id="r1", created=7)
CALL = {"type": "tool_use", "id": "toolu_1", "name": LONG, "input": {}}
BODY = {
    "model": "m",
    "max_tokens": 9,
    "tools": [{"name": name, "input_schema": {"type": "object"}} for name in (LONG, LONG + "2", "short")],
    "tool_choice": {"type": "tool", "name": LONG},
    "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [CALL]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "ok"}]},
    ],
}


def converted(kind):
    target = Target(model="m", quirks=quirks_of(kind))
    return convert("anthropic.messages", "openai.chat", json.dumps(BODY).encode(), target, ABOUT)


@pytest.mark.parametrize("kind", ["openai", "azure", "google"])
def test_a_provider_gets_names_that_it_takes(kind):
    body = json.loads(converted(kind).body)

    long, longer, short = (tool["function"]["name"] for tool in body["tools"])
    assert re.fullmatch("[A-Za-z0-9_-]{1,64}", long)
    assert long != longer
    assert short == "short"
    assert body["tool_choice"]["function"]["name"] == long
    assert body["messages"][1]["tool_calls"][0]["function"]["name"] == long


def test_other_servers_get_the_clients_names():
    assert LONG.encode() in converted("vllm").body


def test_the_client_gets_its_own_names():
    conversion = converted("openai")
    made = json.loads(conversion.body)["tools"][0]["function"]["name"]
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": made, "arguments": "{}"}}

    whole = conversion.answer(json.dumps({"choices": [{"message": {"tool_calls": [call]}}]}).encode())
    chunk = json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]}).encode()
    stream = conversion.stream(SSEFraming()).feed(b"data: %b\n\n" % chunk)

    for answer in (whole, stream):
        assert b'"name":"%b"' % LONG.encode() in answer
