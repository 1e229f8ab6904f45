"""Coding agents do a task through Nexus, with a server that does not speak their protocol."""

import pytest

from nexus.testing.fleets import backend_table
from tests.support.coding_agents import Agents
from tests.support.coding_apis import CHAT, OLLAMA
from tests.support.coding_model import WANTED, serving
from tests.support.process import run_nexus

TASK = "Write a greeting into greeting.txt."
MODELS = ("qwen3-coder", "claude-sonnet-4-5", "gpt-5.5", "gpt-6.2-sol")

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def chat_only(project):
    """A server that knows chat completions, and nothing else of OpenAI's API."""
    with serving(CHAT, MODELS, project) as server:
        yield server


@pytest.fixture
def ollama_only(project):
    """An Ollama whose adapters for other APIs are not used."""
    with serving(OLLAMA, MODELS, project) as server:
        yield server


@pytest.fixture
def nexus(request, tmp_path):
    """Start a proxy in front of one server."""

    def start(server, **keys):
        return run_nexus(tmp_path, backend_table("gpu", server.url, **keys))

    return start


def assert_task_is_done(said, project, server):
    assert (project / "greeting.txt").read_text() == WANTED
    assert "The file is written." in said
    assert server.refused == []


def translations(proxy):
    lines = proxy.wait_for_log("exchange_finished", count=3)
    assert {(line["status_code"], line["ending"], line["stream"]) for line in lines} == {(200, "finished", True)}
    return {line["translated"] for line in lines}


# Claude Code sends models that it does not know other fields than its own.
@pytest.mark.parametrize("model", ["qwen3-coder", "claude-sonnet-4-5"])
def test_claude_code_works_on_a_server_that_knows_only_chat_completions(agents, project, chat_only, nexus, model):
    with nexus(chat_only, type="generic") as proxy:
        said = agents.claude_code(proxy.url, model, TASK, project)

        assert translations(proxy) == {"anthropic->openai"}
    assert_task_is_done(said, project, chat_only)


def test_claude_code_works_on_an_ollama(agents, project, ollama_only, nexus):
    with nexus(ollama_only, type="ollama", protocols=["ollama"]) as proxy:
        said = agents.claude_code(proxy.url, "qwen3-coder", TASK, project)

        assert translations(proxy) == {"anthropic->ollama"}
    assert_task_is_done(said, project, ollama_only)


# Codex offers a shell, the tool apply_patch, or a tool that runs JavaScript, depending on the model.
@pytest.mark.parametrize("model", ["qwen3-coder", "gpt-5.5", "gpt-6.2-sol"])
def test_codex_works_on_a_server_that_knows_only_chat_completions(agents, project, chat_only, nexus, model):
    with nexus(chat_only, type="generic") as proxy:
        said = agents.codex(proxy.url, model, TASK, project)

        assert translations(proxy) == {"responses->openai"}
    assert_task_is_done(said, project, chat_only)
    # Once it has said that it does not know the path, it is asked at the other one.
    assert chat_only.elsewhere == ["/v1/responses"]


def test_codex_works_on_an_ollama(agents, project, ollama_only, nexus):
    with nexus(ollama_only, type="ollama", protocols=["ollama"]) as proxy:
        said = agents.codex(proxy.url, "qwen3-coder", TASK, project)

        assert translations(proxy) == {"responses->ollama"}
    assert_task_is_done(said, project, ollama_only)


@pytest.mark.parametrize("agent", [Agents.claude_code, Agents.codex])
def test_an_agent_asks_again_when_an_answer_breaks_off(agents, project, chat_only, nexus, agent):
    chat_only.breaks = 1

    with nexus(chat_only, type="generic") as proxy:
        said = agent(agents, proxy.url, "qwen3-coder", TASK, project)

        lines = proxy.wait_for_log("exchange_finished", count=4)

    assert_task_is_done(said, project, chat_only)
    assert [line["ending"] for line in lines] == ["backend_failed", "finished", "finished", "finished"]
