"""Requests without a model, and the endpoints of single engines, through a started proxy."""

import http.client
import json

import openai
import pytest

from nexus.simulator import Status
from nexus.testing.client import ask
from nexus.testing.fleets import table_of

QUESTION = [{"role": "user", "content": "hello"}]
RESTRICTED = '\n[[routing.policies]]\nmodel_pattern = "secret*"\nprivacy = "restricted"\n'


def sent(simulator, path):
    return [record.body for record in simulator.received(path)]


@pytest.mark.parametrize(
    "body", [{"messages": QUESTION}, {"messages": QUESTION, "model": None}, {"model": "", "messages": QUESTION}]
)
@pytest.mark.parametrize("kind", ["vllm", "llamacpp"])
def test_the_one_model_answers_and_the_body_goes_on_as_it_came(simulate, start_nexus, kind, body):
    engine = simulate(kind=kind)
    wire = json.dumps(body).encode()

    reply = ask(start_nexus(table_of(engine)).url, "/v1/chat/completions", wire)

    assert reply.status == 200
    assert sent(engine, "/v1/chat/completions") == [wire]


@pytest.mark.parametrize(
    ("body", "wire"),
    [
        (b'{"messages": []}', b'{"model":"qwen3","messages": []}'),
        (b'{"messages": [], "model" : null}', b'{"messages": [], "model" : "qwen3"}'),
        (b'{ "model":"","messages":[]}', b'{ "model":"qwen3","messages":[]}'),
    ],
)
@pytest.mark.parametrize("kind", ["ollama", "vllm"])
def test_the_default_model_is_named_to_a_backend_that_needs_it(simulate, start_nexus, kind, body, wire):
    engine = simulate(kind=kind, models=("llama3", "qwen3"))
    nexus = start_nexus(f'[routing]\ndefault_model = "qwen3"\n{table_of(engine)}')

    reply = ask(nexus.url, "/v1/chat/completions", body)

    assert reply.status == 200
    # An Ollama knows it by a name of its own.
    assert [body.replace(b":latest", b"") for body in sent(engine, "/v1/chat/completions")] == [wire]


def test_a_form_without_a_model_is_given_one(simulate, start_nexus):
    engine = simulate(kind="ollama", models=("whisper",))
    part = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=XX"}

    reply = ask(start_nexus(table_of(engine)).url, "/v1/audio/transcriptions", part + b"--XX--\r\n", headers=headers)

    assert reply.status == 200
    (body,) = sent(engine, "/v1/audio/transcriptions")
    assert body.endswith(part + b"--XX--\r\n")
    assert b'name="model"\r\n\r\nwhisper' in body


def test_of_several_models_the_client_has_to_name_one(fleet):
    reply = ask(fleet.url, "/v1/chat/completions", {"messages": QUESTION})

    error = reply.json()["error"]
    assert (reply.status, error["code"], error["param"]) == (400, "invalid_value", "model")
    assert "routing.default_model" in error["message"]


@pytest.fixture
def engines(simulate, start_nexus):
    """Start one engine of each kind that has endpoints of its own, and a proxy before them."""
    kinds = ("llamacpp", "vllm", "sglang", "ollama")
    engines = {kind: simulate(name=kind, kind=kind, models=(f"{kind}-model",)) for kind in kinds}
    return start_nexus("".join(table_of(engine) for engine in engines.values())), engines


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/completion", {"prompt": "hello", "n_predict": 3}, "llamacpp"),
        ("/completion", {"prompt": "hello", "n_predict": 3, "stream": True}, "llamacpp"),
        ("/infill", {"input_prefix": "a", "input_suffix": "b", "n_predict": 3}, "llamacpp"),
        ("/embedding", {"content": "hello"}, "llamacpp"),
        ("/apply-template", {"messages": QUESTION}, "llamacpp"),
        ("/v1/chat/completions/input_tokens", {"messages": QUESTION, "model": "llamacpp-model"}, "llamacpp"),
        ("/v1/responses/input_tokens", {"input": "hello"}, "llamacpp"),
        ("/v1/reranking", {"query": "a", "documents": ["a", "b"], "model": "llamacpp-model"}, "llamacpp"),
        ("/pooling", {"input": "hello"}, "vllm"),
        ("/classify", {"input": "hello", "model": "vllm-model"}, "vllm"),
        ("/v2/rerank", {"query": "a", "documents": ["a", "b"], "model": "vllm-model"}, "vllm"),
        ("/v2/embed", {"texts": ["hello"], "model": "vllm-model"}, "vllm"),
        ("/generate", {"text": "hello", "sampling_params": {"max_new_tokens": 3}}, "sglang"),
    ],
)
def test_an_engines_own_endpoint_is_carried_to_it_byte_for_byte(engines, path, body, kind):
    nexus, simulators = engines
    wire = json.dumps(body).encode()

    reply = ask(nexus.url, path, wire)

    assert (reply.status, reply.headers["X-Nexus-Backend"]) == (200, kind)
    assert wire in [record.body for record in simulators[kind].requests if record.request.header("X-Nexus-Hops")]


def test_an_engines_own_stream_ends_as_it_ends_there(engines):
    nexus, _ = engines

    reply = ask(nexus.url, "/completion", {"prompt": "hello", "n_predict": 3, "stream": True})

    assert reply.body.endswith(b"\n\n")
    assert b'"stop":true' in reply.body.split(b"\n\n")[-2]
    assert b"error" not in reply.body


@pytest.mark.parametrize("path", ["/completion", "/generate"])
def test_an_engines_own_stream_that_is_cut_never_looks_finished(engines, path):
    nexus, simulators = engines
    simulators["llamacpp" if path == "/completion" else "sglang"].faults.set(
        Status(status=200, body='data: {"content":"a","text":"a"}\n\n', headers={"Content-Type": "text/event-stream"})
    )

    with pytest.raises(http.client.IncompleteRead) as cut:
        ask(nexus.url, path, {"prompt": "hello", "text": "hello", "stream": True})

    assert b'"code":"stream_truncated"' in cut.value.partial


def test_what_could_be_restricted_stays_in_the_house_when_it_names_no_model(simulate, start_nexus):
    house = simulate(name="house", models=("llama3",))
    cloud = simulate(name="cloud", models=("llama3",))
    tables = table_of(house, type="generic", priority=99) + table_of(cloud, type="generic", zone="open", priority=0)
    nexus = start_nexus(tables + RESTRICTED)

    with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0) as client:
        for _ in range(5):
            file = client.files.create(file=b"canary", purpose="user_data")
            client.files.retrieve(file.id)
            client.files.list()
            client.moderations.create(input="canary")
            client.conversations.create(items=[{"type": "message", "role": "user", "content": "canary"}])
            with pytest.raises(openai.NotFoundError):
                client.responses.retrieve("resp_unknown")

    assert [record.path for record in cloud.requests if record.request.header("X-Nexus-Hops")] == []


def test_where_only_a_cloud_could_take_it_it_is_refused(simulate, start_nexus):
    cloud = simulate(name="cloud", models=("llama3",))
    nexus = start_nexus(table_of(cloud, type="generic", zone="open") + RESTRICTED)

    with (
        openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0) as client,
        pytest.raises(openai.InternalServerError) as refused,
    ):
        client.files.create(file=b"canary", purpose="user_data")

    assert (refused.value.status_code, refused.value.code) == (503, "rejected_by_policy")
    reasons = refused.value.response.json()["context"]["rejection_reasons"]
    assert [reason["reason"] for reason in reasons] == [
        "Agent privacy zone Open violates Restricted policy for model '*'"
    ]


def test_what_a_model_without_a_policy_has_made_can_be_had_again(simulate, start_nexus):
    cloud = simulate(name="cloud", models=("llama3",))
    nexus = start_nexus(table_of(cloud, type="generic", zone="open") + RESTRICTED)

    with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0) as client:
        made = client.responses.create(model="llama3", input="hello")

        assert client.responses.retrieve(made.id).id == made.id


def test_the_highest_tier_that_any_policy_demands_holds_for_what_names_no_model(simulate, start_nexus):
    weak, strong = simulate(name="weak", models=("llama3",)), simulate(name="strong", models=("llama3",))
    tables = table_of(weak, type="generic", tier=1, priority=0) + table_of(strong, type="generic", tier=4, priority=99)
    nexus = start_nexus(f'{tables}\n[[routing.policies]]\nmodel_pattern = "big*"\nmin_tier = 4\n')

    with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0) as client:
        for _ in range(3):
            client.files.create(file=b"{}", purpose="user_data")

    assert [record.path for record in weak.requests if record.request.header("X-Nexus-Hops")] == []
