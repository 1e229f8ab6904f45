"""What coding agents really send can be read, and said in every other dialect."""

import json
from pathlib import Path

import pytest

from nexus.errors import RequestError
from nexus.translation.chat import ToolCall, ToolResult
from nexus.translation.conversion import About
from nexus.translation.dialect import Target
from nexus.translation.dialects import DIALECTS, convert, translations
from tests.support.coding_apis import CHAT, OLLAMA

FOLDER = Path(__file__).with_name("agents")
ENDPOINTS = {
    "/v1/messages": "anthropic.messages",
    "/v1/messages/count_tokens": "anthropic.count_tokens",
    "/v1/responses": "openai.responses",
}
TASKS = {
    "claude_code": "anthropic.messages",
    "claude_code_first_turn": "anthropic.messages",
    "claude_code_other_model": "anthropic.messages",
    "codex": "openai.responses",
    "codex_custom_tool": "openai.responses",
    "codex_tool_search": "openai.responses",
    "codex_tools_in_input": "openai.responses",
}
PAIRS = [(name, other) for name, endpoint in TASKS.items() for other in translations()[endpoint]]
TARGET = Target(model="qwen3")
ABOUT = About(model="qwen3-coder", id="0", created=0)


def recorded(name):
    """Return the endpoint of a recorded request, and its body."""
    request = json.loads((FOLDER / f"{name}.json").read_text())
    return ENDPOINTS[request["path"].partition("?")[0]], json.dumps(request["body"]).encode()


def parts_of(name):
    endpoint, body = recorded(name)
    return [part for message in DIALECTS[endpoint].decode_request(body).messages for part in message.parts]


@pytest.mark.parametrize("name", TASKS)
def test_every_call_of_an_agent_keeps_its_result(name):
    parts = parts_of(name)

    calls = [part.id for part in parts if isinstance(part, ToolCall)]

    # Results come in the order in which the tools finished.
    assert sorted(calls) == sorted(part.call_id for part in parts if isinstance(part, ToolResult))
    assert len(calls) >= (0 if "first_turn" in name else 2)


@pytest.mark.parametrize(("name", "other"), PAIRS)
def test_a_request_of_an_agent_can_be_said_in_another_dialect(name, other):
    endpoint, body = recorded(name)

    said = DIALECTS[other].decode_request(convert(endpoint, other, body, TARGET, ABOUT).body)

    assert said.model == "qwen3"
    assert said.is_stream
    assert [tool.name for tool in said.tools] == [tool.name for tool in DIALECTS[endpoint].decode_request(body).tools]
    called = [part.name for message in said.messages for part in message.parts if isinstance(part, ToolCall)]
    assert called == [part.name for part in parts_of(name) if isinstance(part, ToolCall)]


@pytest.mark.parametrize(("other", "api"), [("openai.chat", CHAT), ("ollama.chat", OLLAMA)])
@pytest.mark.parametrize("name", TASKS)
def test_the_strictest_servers_accept_the_request_of_an_agent(name, other, api):
    endpoint, body = recorded(name)

    accepted = api.read(json.loads(convert(endpoint, other, body, TARGET, ABOUT).body))

    assert accepted.is_stream
    assert len(accepted.results) == sum(isinstance(part, ToolResult) for part in parts_of(name))


@pytest.mark.parametrize(
    ("name", "tools"),
    [
        ("codex", {"multi_agent_v1__close_agent"}),
        ("codex_tool_search", {"tool_search", "apply_patch", "multi_agent_v1__spawn_agent"}),
        ("codex_tools_in_input", {"exec", "wait", "collaboration__list_agents"}),
    ],
)
def test_tools_of_codex_are_offered_wherever_it_puts_them(name, tools):
    endpoint, body = recorded(name)

    assert tools <= {tool.name for tool in DIALECTS[endpoint].decode_request(body).tools}


def test_a_search_that_only_the_provider_can_make_is_refused():
    endpoint, body = recorded("claude_code_web_search")

    with pytest.raises(RequestError) as raised:
        convert(endpoint, "openai.chat", body, TARGET, ABOUT)

    assert (raised.value.code, raised.value.param) == ("not_translatable", "tool_choice")


def test_the_tokens_of_a_tool_are_counted_by_an_engine():
    endpoint, body = recorded("claude_code_count_tokens")

    counted = convert(endpoint, "openai.tokenize", body, TARGET, ABOUT)

    assert b"skill" in counted.body
