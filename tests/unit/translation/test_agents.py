"""What coding agents really send can be read, and said in every other dialect."""

import json
from pathlib import Path

import pytest

from nexus.errors import RequestError
from nexus.translation.chat import ToolCall, ToolResult
from nexus.translation.conversion import About
from nexus.translation.dialect import Target
from nexus.translation.dialects import DIALECTS, convert, translations

FOLDER = Path(__file__).with_name("agents")
ENDPOINTS = {"/v1/messages": "anthropic.messages", "/v1/responses": "openai.responses"}
OF_CLAUDE_CODE = ("claude_code", "claude_code_first_turn", "claude_code_other_model")
PAIRS = [(name, other) for name in OF_CLAUDE_CODE for other in translations()["anthropic.messages"]]
TARGET = Target(model="qwen3")
ABOUT = About(model="qwen3-coder", id="0", created=0)


def recorded(name):
    """Return the endpoint of a recorded request, and its body."""
    request = json.loads((FOLDER / f"{name}.json").read_text())
    return ENDPOINTS[request["path"].partition("?")[0]], json.dumps(request["body"]).encode()


def parts_of(name):
    endpoint, body = recorded(name)
    return [part for message in DIALECTS[endpoint].decode_request(body).messages for part in message.parts]


@pytest.mark.parametrize("name", OF_CLAUDE_CODE)
def test_every_call_of_an_agent_keeps_its_result(name):
    parts = parts_of(name)

    calls = [part.id for part in parts if isinstance(part, ToolCall)]

    # Results come in the order in which the tools finished.
    assert sorted(calls) == sorted(part.call_id for part in parts if isinstance(part, ToolResult))
    assert len(calls) >= (0 if "first_turn" in name else 4)


@pytest.mark.parametrize(("name", "other"), PAIRS)
def test_a_request_of_an_agent_can_be_said_in_another_dialect(name, other):
    endpoint, body = recorded(name)

    said = json.loads(convert(endpoint, other, body, TARGET, ABOUT).body)

    assert said["model"] == "qwen3"
    assert said["stream"] is True
    assert len(said["tools"]) == len(json.loads(body)["tools"])


def test_a_search_that_only_the_provider_can_make_is_refused():
    endpoint, body = recorded("claude_code_web_search")

    with pytest.raises(RequestError) as raised:
        convert(endpoint, "openai.chat", body, TARGET, ABOUT)

    assert (raised.value.code, raised.value.param) == ("not_translatable", "tool_choice")
