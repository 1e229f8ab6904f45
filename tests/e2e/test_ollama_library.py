"""The ollama library, with its host changed and nothing else."""

import time

import ollama
import pytest
from pydantic import BaseModel

from nexus.testing.client import ask
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until

QUESTION = [{"role": "user", "content": "hello there"}]
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "weather", "description": "tells it", "parameters": WEATHER}}


class City(BaseModel):
    name: str
    population: int


def test_a_chat_is_answered_whole_and_streamed(ollama_client):
    whole = ollama_client.chat("gemma", QUESTION)
    lines = list(ollama_client.chat("gemma", QUESTION, stream=True))

    assert whole.message.content.startswith("laptop: you said hello there")
    assert "".join(line.message.content for line in lines) == whole.message.content
    assert (lines[-1].done, lines[-1].done_reason, lines[-1].eval_count) == (True, "stop", 16)


@pytest.mark.parametrize("name", ["gemma", "gemma:latest", "GEMMA:latest"])
def test_a_model_goes_by_each_name_that_ollama_knows_it_by(ollama_client, name):
    assert ollama_client.generate(name, "hello there").response.startswith("laptop: you said hello there")


def test_text_is_generated_as_a_stream(ollama_client):
    lines = list(ollama_client.generate("gemma", "hello there", stream=True))

    assert "".join(line.response for line in lines).startswith("laptop: you said hello there")
    assert lines[-1].done


def test_a_tool_is_called_whole_and_streamed(ollama_client):
    whole = ollama_client.chat("gemma", QUESTION, tools=[TOOL])
    streamed = list(ollama_client.chat("gemma", QUESTION, tools=[TOOL], stream=True))

    assert whole.message.tool_calls[0].function.arguments == {"city": "laptop", "days": 1}
    assert streamed[0].message.tool_calls == whole.message.tool_calls


def test_an_answer_fits_a_schema(ollama_client):
    reply = ollama_client.chat("gemma", QUESTION, format=City.model_json_schema())

    assert City.model_validate_json(reply.message.content) == City(name="laptop", population=1)


def test_vectors_come_in_both_forms(ollama_client):
    new = ollama_client.embed("nomic-embed-text", ["one", "two"])
    old = ollama_client.embeddings("nomic-embed-text", "one")

    assert len(new.embeddings) == 2
    assert new.embeddings[0] == old.embedding


def test_models_are_listed_shown_and_said_to_be_loaded(ollama_client):
    ollama_client.chat("gemma", QUESTION)

    listed = {row.model for row in ollama_client.list().models}
    shown = ollama_client.show("gemma")
    running = ollama_client.ps()

    assert {"gemma:latest", "llama3", "gpt-4o"} <= listed
    assert shown.capabilities == ["completion", "tools"]
    assert "gemma:latest" in {row.model for row in running.models}


def test_a_model_that_nobody_has_is_not_there_to_be_shown(ollama_client):
    with pytest.raises(ollama.ResponseError) as raised:
        ollama_client.show("nope")

    assert raised.value.status_code == 404


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model_is_the_library_s_own_error(ollama_client, stream):
    with pytest.raises(ollama.ResponseError) as raised:
        list(ollama_client.chat("nope", QUESTION, stream=stream))

    assert raised.value.status_code == 404
    assert "nope" in raised.value.error


def test_a_model_that_only_openai_s_servers_have_answers_in_translation(fleet, ollama_client):
    reply = ollama_client.chat("llama3", QUESTION)

    assert reply.message.content.startswith("gpu-1: you said hello there")
    assert fleet.gpu.requests[-1].path == "/v1/chat/completions"


@pytest.mark.parametrize("change", ["pull", "push", "create", "copy", "delete"])
def test_nobody_changes_a_server_through_the_proxy(fleet, ollama_client, change):
    words = {"copy": ("gemma", "other"), "create": ("other", None, "gemma")}.get(change, ("gemma",))

    with pytest.raises(ollama.ResponseError) as raised:
        getattr(ollama_client, change)(*words)

    assert raised.value.status_code == 404
    assert not fleet.laptop.received(f"/api/{change}")


def test_the_greeting_is_the_one_that_clients_look_for(fleet):
    got = ask(fleet.url, "/")
    head = ask(fleet.url, "/", method="HEAD")
    version = ask(fleet.url, "/api/version")

    assert (got.status, got.body) == (200, b"Ollama is running")
    assert got.headers["Content-Type"].startswith("text/plain")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "17")
    assert version.json()["version"]


def test_a_browser_gets_the_status_page_instead(fleet):
    page = ask(fleet.url, "/", headers={"Accept": "text/html,application/xhtml+xml"})

    assert page.status == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert all(simulator.name.encode() in page.body for simulator in fleet.simulators)


def test_a_client_that_leaves_its_stream_stops_the_server_at_once(simulate, start_nexus):
    slow = simulate(kind="ollama", tokens_per_s=20, answer_tokens=2000)
    client = ollama.Client(start_nexus(table_of(slow)).url)
    stream = client.chat("llama3", QUESTION, stream=True)
    next(stream)

    left_at = time.monotonic()
    stream.close()
    (record,) = until(lambda: slow.aborted)
    client.close()

    assert record.client_left - left_at < 0.1
