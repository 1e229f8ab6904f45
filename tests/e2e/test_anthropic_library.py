"""The anthropic library, with its base URL changed and nothing else."""

import time

import anthropic
import pytest

from nexus.testing.fleets import table_of
from nexus.testing.waiting import until

QUESTION = [{"role": "user", "content": "hello there"}]
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOLS = [{"name": "weather", "description": "tells it", "input_schema": WEATHER}]
SPEAKERS = [("qwen3", "gpu-2"), ("gemma", "laptop")]


@pytest.mark.parametrize(("model", "name"), SPEAKERS)
def test_a_message_is_answered_whole_and_streamed(anthropic_client, model, name):
    whole = anthropic_client.messages.create(model=model, max_tokens=64, messages=QUESTION)
    with anthropic_client.messages.stream(model=model, max_tokens=64, messages=QUESTION) as stream:
        text = "".join(stream.text_stream)
        streamed = stream.get_final_message()

    assert whole.content[0].text.startswith(f"{name}: you said hello there")
    assert text == streamed.content[0].text == whole.content[0].text
    assert (streamed.stop_reason, streamed.usage.output_tokens) == ("end_turn", 16)


def test_a_stream_s_events_come_in_their_order(anthropic_client):
    events = anthropic_client.messages.create(model="qwen3", max_tokens=64, messages=QUESTION, stream=True)

    kinds = [event.type for event in events]

    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) <= {"content_block_delta", "ping"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_a_tool_is_called_whole_and_streamed(anthropic_client):
    whole = anthropic_client.messages.create(model="qwen3", max_tokens=64, messages=QUESTION, tools=TOOLS)
    with anthropic_client.messages.stream(model="qwen3", max_tokens=64, messages=QUESTION, tools=TOOLS) as stream:
        streamed = stream.get_final_message()

    assert whole.stop_reason == streamed.stop_reason == "tool_use"
    assert whole.content[0].input == streamed.content[0].input == {"city": "gpu-2", "days": 1}


def test_tokens_are_counted(anthropic_client):
    counted = anthropic_client.messages.count_tokens(model="qwen3", messages=QUESTION)

    assert counted.input_tokens == 3


def test_models_are_listed_in_its_own_shape(anthropic_client):
    page = anthropic_client.models.list()
    one = anthropic_client.models.retrieve("qwen3")

    assert "qwen3" in {model.id for model in page}
    assert page.has_more is False
    assert (one.id, one.type) == ("qwen3", "model")


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model_is_the_library_s_own_error(anthropic_client, stream):
    with pytest.raises(anthropic.NotFoundError) as raised:
        anthropic_client.messages.create(model="nope", max_tokens=1, messages=QUESTION, stream=stream)

    error = raised.value.body["error"]
    assert raised.value.body["type"] == "error"
    assert (error["type"], error["code"]) == ("not_found_error", "model_not_found")
    assert raised.value.request_id is None or raised.value.body["request_id"]


def test_a_model_that_only_openai_s_servers_have_answers_in_translation(anthropic_client):
    raw = anthropic_client.messages.with_raw_response.create(model="llama3", max_tokens=8, messages=QUESTION)
    message = raw.parse()

    assert raw.headers["x-nexus-translated"] == "anthropic->openai"
    assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "max_tokens")
    assert message.content[0].text
    assert message.usage.output_tokens == 8


def test_a_server_s_own_refusal_passes_as_it_is(anthropic_client, fleet):
    with pytest.raises(anthropic.BadRequestError) as raised:
        anthropic_client.messages.create(model="qwen3", max_tokens=1, messages="no list at all")

    assert raised.value.body["error"]["type"] == "invalid_request_error"


def test_a_client_that_leaves_its_stream_stops_the_server_at_once(simulate, start_nexus):
    slow = simulate(kind="vllm", tokens_per_s=20, answer_tokens=2000)
    client = anthropic.Anthropic(base_url=start_nexus(table_of(slow)).url, api_key="unused", max_retries=0)

    with client.messages.stream(model="llama3", max_tokens=2000, messages=QUESTION) as stream:
        next(stream.text_stream)
        left_at = time.monotonic()
    (record,) = until(lambda: slow.aborted)
    client.close()

    assert record.client_left - left_at < 0.1
