"""What one backend keeps for its clients: the openai and anthropic libraries find it again behind the proxy."""

import io
import json

import anthropic
import openai
import pytest

from nexus.simulator import Status
from nexus.testing.client import ask
from nexus.testing.fleets import table_of

CONFIG = """
[store]
kind = "sqlite"
path = "kept.sqlite3"

[discovery]
enabled = false
"""
CLOUD = {"type": "generic", "protocols": ["openai", "anthropic"]}


@pytest.fixture
def clouds(simulate):
    """Start two servers that keep everything, and an engine that keeps nothing."""
    return (
        simulate(name="cloud-1", models=("llama3", "gpt")),
        simulate(name="cloud-2", models=("llama3", "gpt")),
        simulate(name="laptop", kind="ollama", models=("gemma",)),
    )


@pytest.fixture
def config(clouds):
    one, two, laptop = clouds
    return CONFIG + table_of(one, **CLOUD) + table_of(two, **CLOUD) + table_of(laptop)


@pytest.fixture
def client(start_nexus, config):
    with openai.OpenAI(base_url=f"{start_nexus(config).url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_a_response_is_found_where_it_was_made(client, clouds):
    for _ in range(4):
        made = client.responses.create(model="gpt", input="hello")
        further = client.responses.create(model="gpt", input="and then?", previous_response_id=made.id)

        assert client.responses.retrieve(made.id).id == made.id
        assert client.responses.input_items.list(made.id).data
        assert client.responses.cancel(further.id).status == "cancelled"
        client.responses.delete(made.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(made.id)

    # The first request for a deleted response is the only one that goes to more than its keeper.
    for cloud in clouds[:2]:
        assert all(record.status == 200 for record in cloud.requests if record.request.method == "POST")


def test_a_streamed_response_is_found_as_well(client):
    for _ in range(4):
        events = list(client.responses.create(model="gpt", input="hello", stream=True))
        id_ = events[-1].response.id

        assert client.responses.create(model="gpt", input="more", previous_response_id=id_).status == "completed"
        assert client.responses.retrieve(id_).id == id_


def test_a_response_that_is_not_to_be_kept_is_not_remembered(client):
    made = client.responses.create(model="gpt", input="hello", store=False)

    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_a_stored_chat_is_found(client):
    question = [{"role": "user", "content": "hello"}]
    for _ in range(4):
        made = client.chat.completions.create(model="gpt", messages=question, store=True)

        assert client.chat.completions.retrieve(made.id).id == made.id
        assert client.chat.completions.messages.list(made.id).data
        assert client.chat.completions.update(made.id, metadata={"a": "b"}).metadata == {"a": "b"}
        assert client.chat.completions.delete(made.id).deleted
    assert client.chat.completions.list().data == []


def test_files_and_batches_are_found(client):
    content = json.dumps({"custom_id": "1", "html": "<html>"}).encode() * 3
    for _ in range(4):
        file = client.files.create(file=io.BytesIO(content), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")

        assert client.files.retrieve(file.id).bytes == len(content)
        assert client.files.content(file.id).read() == content
        assert client.batches.retrieve(batch.id).output_file_id == batch.output_file_id
        assert client.files.content(batch.output_file_id).read() == b"{}\n"
        assert client.batches.cancel(batch.id).status == "cancelled"
        assert client.files.delete(file.id).deleted
    assert client.files.list().object == client.batches.list().object == "list"


def test_an_upload_in_parts_is_found(client):
    for _ in range(4):
        upload = client.uploads.create(bytes=6, filename="a.jsonl", mime_type="text/jsonl", purpose="batch")
        parts = [client.uploads.parts.create(upload.id, data=data) for data in (b"one", b"two")]
        done = client.uploads.complete(upload.id, part_ids=[part.id for part in parts])

        assert client.files.content(done.file.id).read() == b"onetwo"


def test_a_conversation_sticks(client):
    for _ in range(4):
        conversation = client.conversations.create(items=[{"type": "message", "role": "user", "content": "hi"}])

        assert client.responses.create(model="gpt", input="hello", conversation=conversation.id).status == "completed"
        assert client.conversations.retrieve(conversation.id).id == conversation.id
        client.conversations.update(conversation.id, metadata={"a": "b"})
        client.conversations.delete(conversation.id)


def test_a_moderation_needs_no_model(client):
    assert client.moderations.create(input="I will kill it").results[0].flagged
    assert client.moderations.create(model="gpt", input="hello").model == "gpt"


def test_anthropics_text_completions_are_carried_whole_and_streamed(start_nexus, config):
    asked = {"model": "gpt", "prompt": "\n\nHuman: hi\n\nAssistant:", "max_tokens_to_sample": 5}
    # The library has dropped them; older ones still call.
    nexus = start_nexus(config)

    whole = ask(nexus.url, "/v1/complete", asked)
    stream = ask(nexus.url, "/v1/complete", asked | {"stream": True})

    assert whole.json()["completion"]
    assert stream.body.endswith(b'"stop_reason":"stop_sequence","stop":null}\n\n')
    assert b"error" not in stream.body


def test_anthropics_batches_are_found(start_nexus, config):
    request = {"custom_id": "one", "params": {"model": "gpt", "max_tokens": 5, "messages": []}}
    with anthropic.Anthropic(base_url=start_nexus(config).url, api_key="unused", max_retries=0) as client:
        for _ in range(4):
            batch = client.messages.batches.create(requests=[request])

            assert client.messages.batches.retrieve(batch.id).id == batch.id
            assert client.messages.batches.cancel(batch.id).id == batch.id
            client.messages.batches.delete(batch.id)


def test_what_was_made_before_the_proxy_is_looked_for(client, clouds):
    with openai.OpenAI(base_url=f"{clouds[1].url}/v1", api_key="unused") as direct:
        made = [direct.responses.create(model="gpt", input="hello").id for _ in range(4)]

    assert [client.responses.retrieve(id_).id for id_ in made] == made
    for id_ in made:
        assert client.responses.create(model="gpt", input="more", previous_response_id=id_).status == "completed"


def test_while_its_backend_fails_no_other_one_is_asked(client, clouds):
    answer = client.responses.with_raw_response.create(model="gpt", input="hello")
    keeper, other = sorted(clouds[:2], key=lambda cloud: cloud.name != answer.headers["X-Nexus-Backend"])
    keeper.faults.set(Status(status=503))
    other.requests.clear()

    with pytest.raises(openai.InternalServerError):
        client.responses.create(model="gpt", input="more", previous_response_id=answer.parse().id)

    assert [record for record in other.requests if record.request.header("X-Nexus-Hops")] == []


def test_what_no_backend_has_is_refused_in_a_backends_own_words(client):
    with pytest.raises(openai.NotFoundError, match="No object found with id 'resp_none'"):
        client.responses.retrieve("resp_none")
    with pytest.raises(openai.BadRequestError, match="Previous response with id 'resp_none' not found") as refused:
        client.responses.create(model="gpt", input="more", previous_response_id="resp_none")
    assert refused.value.code == "previous_response_not_found"


def test_what_a_backend_kept_that_has_left_is_refused_in_words_that_help(start_nexus, config, clouds, tmp_path):
    nexus = start_nexus(config)
    with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0) as client:
        made = {}
        while len(made) < 2:
            answer = client.responses.with_raw_response.create(model="gpt", input="hello")
            made[answer.headers["X-Nexus-Backend"]] = answer.parse().id
    nexus.stop()

    without_two = CONFIG + table_of(clouds[0], **CLOUD) + table_of(clouds[2])
    with openai.OpenAI(base_url=f"{start_nexus(without_two).url}/v1", api_key="unused", max_retries=0) as client:
        # What the other one keeps was read from the store.
        assert client.responses.retrieve(made["cloud-1"]).id == made["cloud-1"]
        with pytest.raises(openai.BadRequestError, match=r"'cloud-2'.* is not in the fleet any more") as refused:
            client.responses.create(model="gpt", input="more", previous_response_id=made["cloud-2"])
        assert refused.value.code == "previous_response_not_found"
        assert refused.value.param == "previous_response_id"
        with pytest.raises(openai.NotFoundError, match=r"'cloud-2'.* is not in the fleet any more") as refused:
            client.responses.retrieve(made["cloud-2"])
        assert refused.value.code == "object_not_found"


@pytest.mark.parametrize("base", ["", "/", "/v1", "/v1/", "/v1/v1", "//v1", "/v1//"])
def test_any_spelling_of_the_base_url_will_do(fleet, base):
    with openai.OpenAI(base_url=f"{fleet.url}{base}", api_key="unused", max_retries=0) as client:
        reply = client.chat.completions.create(model="llama3", messages=[{"role": "user", "content": "hello"}])

        assert reply.choices[0].message.content
        assert client.models.retrieve("org/mixtral").id == "org/mixtral"
        assert "qwen3" in [model.id for model in client.models.list()]


@pytest.mark.parametrize("base", ["", "/", "/v1", "/v1/"])
def test_any_spelling_of_anthropics_base_url_will_do(fleet, base):
    with anthropic.Anthropic(base_url=f"{fleet.url}{base}", api_key="unused", max_retries=0) as client:
        question = [{"role": "user", "content": "hello"}]

        assert client.messages.create(model="qwen3", max_tokens=9, messages=question).content
