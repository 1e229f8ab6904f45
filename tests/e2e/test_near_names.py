"""A model's name that is nearly right: what the client is told, and what ``routing.loose_tags`` makes of it."""

import json
import time

import ollama
import openai
import pytest

from nexus.simulator import SimulatedModel
from nexus.testing.client import ask
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until

QUESTION = [{"role": "user", "content": "hello there"}]
LOOSE = "[routing]\nloose_tags = true\n"


@pytest.fixture
def fleet_of(simulate, start_nexus):
    """Start an Ollama with models of these names, and a proxy before it."""

    def start(*models, config="", kind="ollama"):
        simulator = simulate(name="mac", kind=kind, models=tuple(SimulatedModel(m, 8192) for m in models))
        return start_nexus(config + table_of(simulator)).url, simulator

    return start


def openai_at(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)


@pytest.mark.parametrize(
    "name", ["llama3.2", "llama3.2:1b", "lama3.2", "LLaMA-3.2", "meta-llama/Llama-3.2", "llama3.2-q4_K_M"]
)
def test_the_openai_library_is_told_what_was_meant(fleet_of, name):
    url, _ = fleet_of("llama3.2:3b", "qwen3:8b")

    with openai_at(url) as client, pytest.raises(openai.NotFoundError) as chat:
        client.chat.completions.create(model=name, messages=QUESTION)
    with openai_at(url) as client, pytest.raises(openai.NotFoundError) as shown:
        client.models.retrieve(name)

    for raised in (chat.value, shown.value):
        assert (raised.code, raised.param) == ("model_not_found", "model")
        assert "Did you mean 'llama3.2:3b'?" in raised.body["message"]
    assert chat.value.response.json()["context"] == {"did_you_mean": ["llama3.2:3b"]}


def test_the_ollama_library_is_told_what_was_meant(fleet_of):
    client = ollama.Client(fleet_of("llama3.2:3b")[0])

    for call in (lambda: client.chat("lama3.2", QUESTION), lambda: client.show("lama3.2")):
        with pytest.raises(ollama.ResponseError, match=r"Did you mean 'llama3\.2:3b'\?") as raised:
            call()
        assert raised.value.status_code == 404
    client.close()


def test_a_loose_tag_is_taken_as_an_alias(fleet_of):
    url, mac = fleet_of("llama3.2:3b", config=LOOSE)

    with openai_at(url) as client:
        reply = client.chat.completions.create(model="llama3.2", messages=QUESTION)
        streamed = list(client.chat.completions.create(model="llama3.2", messages=QUESTION, stream=True))
        shown = client.models.retrieve("llama3.2")

    assert json.loads(mac.received("/v1/chat/completions")[-1].body)["model"] == "llama3.2:3b"
    assert {reply.model, *(chunk.model for chunk in streamed)} == {"llama3.2"}
    assert shown.id == "llama3.2"


def test_a_loose_tag_serves_the_ollama_library(fleet_of):
    client = ollama.Client(fleet_of("llama3.2:3b", config=LOOSE)[0])

    assert client.chat("llama3.2:1b", QUESTION).model == "llama3.2:1b"
    assert "completion" in client.show("llama3.2").capabilities
    client.close()


def test_a_loose_tag_that_could_mean_two_models_is_refused_with_both(fleet_of):
    url, mac = fleet_of("llama3.2:3b", "llama3.2:1b", config=LOOSE)

    with openai_at(url) as client, pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="llama3.2", messages=QUESTION)

    assert raised.value.code == "model_not_found"
    assert "name 'llama3.2:1b' or 'llama3.2:3b'" in raised.value.body["message"]
    assert mac.received("/v1/chat/completions") == ()


def test_explaining_says_what_was_meant_and_what_a_loose_tag_leads_to(fleet_of, command):
    strict = command("explain", "--model", "lama3.2", "--url", fleet_of("llama3.2:3b")[0]).stdout

    assert "reject: 404 model_not_found: Model 'lama3.2' not found. Did you mean 'llama3.2:3b'?" in strict


def test_explaining_a_loose_tag_shows_what_it_leads_to(fleet_of, command):
    told = command("explain", "--model", "llama3.2", "--url", fleet_of("llama3.2:3b", config=LOOSE)[0]).stdout

    assert "llama3.2 (resolves to llama3.2:3b)" in told
    assert "route: mac as llama3.2:3b" in told


def test_thousands_of_models_do_not_make_unknown_ones_slow(fleet_of):
    url, _ = fleet_of(*(f"org-{n % 40}/model-{n}-{n % 90}b" for n in range(2000)), kind="vllm")
    until(lambda: ask(url, "/v1/models/org-1/model-1-1b").status == 200)
    ask(url, "/v1/chat/completions", b'{"model":"model-12-instrukt","messages":[]}')

    started = time.monotonic()
    replies = [ask(url, "/v1/chat/completions", b'{"model":"modell-%d-b","messages":[]}' % n) for n in range(20)]
    spent_s = time.monotonic() - started

    assert {reply.status for reply in replies} == {404}, replies[0].body
    assert "Did you mean" in replies[0].json()["error"]["message"]
    assert spent_s / 20 < 0.5
