"""The openai library, with its base URL changed and nothing else."""

import json
import struct
import time
from base64 import b64decode
from itertools import pairwise

import openai
import pytest
from pydantic import BaseModel

from nexus.simulator import SimulatedModel
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until

QUESTION = [{"role": "user", "content": "hello there"}]
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}


class City(BaseModel):
    name: str
    population: int
    rivers: list[str]


@pytest.mark.parametrize(("model", "name"), [("llama3", "gpu-1"), ("org/mixtral", "gpu-2"), ("gemma", "laptop")])
def test_a_chat_is_answered_by_who_has_the_model(openai_client, model, name):
    reply = openai_client.chat.completions.create(model=model, messages=QUESTION)

    assert reply.choices[0].message.content.startswith(f"{name}: you said hello there")
    assert reply.usage.completion_tokens == 16
    assert reply.model == model


@pytest.mark.parametrize("model", ["llama3", "qwen3", "gemma"])
def test_a_chat_streams_with_its_usage_last(openai_client, model):
    stream = openai_client.chat.completions.create(
        model=model, messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "you said hello there" in text
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 16


def test_tokens_come_as_they_are_made(simulate, start_nexus):
    slow = simulate(tokens_per_s=20, answer_tokens=8)
    client = openai.OpenAI(base_url=f"{start_nexus(table_of(slow)).url}/v1", api_key="unused")

    arrivals = [
        time.monotonic()
        for chunk in client.chat.completions.create(model="llama3", messages=QUESTION, stream=True)
        if chunk.choices[0].delta.content
    ]
    client.close()

    assert arrivals[-1] - arrivals[0] > 0.25
    assert max(after - before for before, after in pairwise(arrivals)) < 0.2


def test_a_tool_is_called_whole_and_streamed(openai_client):
    reply = openai_client.chat.completions.create(model="llama3", messages=QUESTION, tools=[TOOL])
    stream = openai_client.chat.completions.create(model="llama3", messages=QUESTION, tools=[TOOL], stream=True)
    deltas = [chunk.choices[0].delta for chunk in stream]

    called = reply.choices[0].message.tool_calls[0]
    assert reply.choices[0].finish_reason == "tool_calls"
    assert (called.function.name, json.loads(called.function.arguments)) == ("weather", {"city": "gpu-1", "days": 1})
    pieces = [delta.tool_calls[0].function.arguments for delta in deltas if delta.tool_calls]
    assert "".join(pieces) == called.function.arguments


def test_an_answer_fits_a_schema(openai_client):
    parsed = openai_client.chat.completions.parse(model="llama3", messages=QUESTION, response_format=City)
    plain = openai_client.chat.completions.create(
        model="llama3", messages=QUESTION, response_format={"type": "json_object"}
    )

    assert parsed.choices[0].message.parsed == City(name="gpu-1", population=1, rivers=["gpu-1"])
    assert json.loads(plain.choices[0].message.content) == {"answer": "gpu-1"}


def test_a_schema_streams_through_the_library_s_own_helper(openai_client):
    with openai_client.chat.completions.stream(model="llama3", messages=QUESTION, response_format=City) as stream:
        final = stream.get_final_completion()

    assert final.choices[0].message.parsed.name == "gpu-1"


def test_text_is_completed_whole_and_streamed(openai_client):
    whole = openai_client.completions.create(model="llama3", prompt="once upon")
    streamed = openai_client.completions.create(model="llama3", prompt="once upon", stream=True)

    assert whole.choices[0].text.startswith("gpu-1: you said once upon")
    assert "".join(chunk.choices[0].text for chunk in streamed) == whole.choices[0].text


def test_vectors_come_as_floats_and_as_base64(openai_client):
    floats = openai_client.embeddings.create(model="llama3", input=["one", "two"], encoding_format="float")
    packed = openai_client.embeddings.create(model="llama3", input=["one", "two"], encoding_format="base64")
    chosen = openai_client.embeddings.create(model="llama3", input="one")

    for plain, base64 in zip(floats.data, packed.data, strict=True):
        assert list(struct.unpack("<8f", b64decode(base64.embedding))) == plain.embedding
    assert chosen.data[0].embedding == pytest.approx(floats.data[0].embedding)


def test_a_response_comes_whole_and_streamed(openai_client):
    whole = openai_client.responses.create(model="llama3", input="hello there")
    events = list(openai_client.responses.create(model="llama3", input="hello there", stream=True))

    assert whole.output_text.startswith("gpu-1: you said hello there")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == whole.output_text


def test_a_response_fits_a_schema_and_calls_a_tool(openai_client):
    tool = {"type": "function", "name": "weather", "parameters": WEATHER, "strict": False}

    parsed = openai_client.responses.parse(model="llama3", input="hi", text_format=City)
    called = openai_client.responses.create(model="llama3", input="hi", tools=[tool])

    assert parsed.output_parsed.name == "gpu-1"
    assert json.loads(called.output[0].arguments) == {"city": "gpu-1", "days": 1}


def test_models_are_listed_over_the_fleet_and_looked_up(openai_client):
    rows = {model.id: model for model in openai_client.models.list()}
    again = {model.id: model for model in openai_client.models.list()}
    one = openai_client.models.retrieve("org/mixtral")

    assert {"llama3", "whisper", "qwen3", "org/mixtral", "gpt-4o"} < set(rows)
    assert any(name.startswith("gemma") for name in rows)
    assert rows["qwen3"].backends == ["gpu-2"]
    assert rows["qwen3"].context_length == 8192
    assert {name: row.created for name, row in rows.items()} == {name: row.created for name, row in again.items()}
    assert one.id == "org/mixtral"


def test_a_model_that_nobody_has_is_not_there_to_be_looked_up(openai_client):
    with pytest.raises(openai.NotFoundError) as raised:
        openai_client.models.retrieve("nope")

    assert raised.value.code == "model_not_found"


def test_sound_is_heard_whichever_field_comes_first(openai_client):
    heard = openai_client.audio.transcriptions.create(model="whisper", file=("a.wav", b"\r\n--\x00\xff" * 50))
    plain = openai_client.audio.transcriptions.create(model="whisper", file=b"\x00" * 10, response_format="text")

    assert heard.text == "gpu-1: heard 300 bytes"
    assert plain.strip() == "gpu-1: heard 10 bytes"


def test_speech_and_pictures_pass_as_the_bytes_they_are(openai_client):
    spoken = openai_client.audio.speech.create(model="llama3", voice="alloy", input="hello")
    with openai_client.audio.speech.with_streaming_response.create(
        model="llama3", voice="alloy", input="hello"
    ) as streamed:
        pieces = b"".join(streamed.iter_bytes())
    drawn = openai_client.images.generate(model="llama3", prompt="a cat")

    assert len(spoken.content) == 4096
    assert pieces == spoken.content
    assert b64decode(drawn.data[0].b64_json).startswith(b"\x89PNG")


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model_is_the_library_s_own_error(openai_client, stream):
    with pytest.raises(openai.NotFoundError) as raised:
        openai_client.chat.completions.create(model="nope", messages=QUESTION, stream=stream)

    assert raised.value.code == "model_not_found"
    assert raised.value.param == "model"
    assert "nope" in raised.value.body["message"]
    assert "llama3" in raised.value.body["message"]


def test_a_model_that_calls_no_tools_is_left_to_its_server_to_refuse(simulate, start_nexus):
    talker = simulate(kind="ollama", models=(SimulatedModel("talker", 4096, ("completion",)),))
    client = openai.OpenAI(base_url=f"{start_nexus(table_of(talker)).url}/v1", api_key="unused", max_retries=0)

    with client, pytest.raises(openai.BadRequestError, match="does not support tools"):
        client.chat.completions.create(model="talker", messages=QUESTION, tools=[TOOL])


def test_a_model_that_the_operator_says_calls_no_tools_is_not_asked_to(simulate, start_nexus):
    talker = simulate(models=("talker",))
    table = table_of(talker) + "[backends.models.talker]\ntools = false\n"
    client = openai.OpenAI(base_url=f"{start_nexus(table).url}/v1", api_key="unused", max_retries=0)

    with client, pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="talker", messages=QUESTION, tools=[TOOL])

    assert raised.value.code == "capability_mismatch"
    assert not talker.received("/v1/chat/completions")


def test_a_prompt_that_is_too_long_is_refused_in_the_engine_s_own_words(openai_client):
    with pytest.raises(openai.BadRequestError, match="This model's maximum context length is 8192 tokens") as raised:
        openai_client.chat.completions.create(model="qwen3", messages=[{"role": "user", "content": "word " * 20_000}])

    assert raised.value.type == "BadRequestError"


def test_a_prompt_of_token_ids_that_is_too_long_is_refused_in_openai_s_words(fleet, openai_client):
    with pytest.raises(openai.BadRequestError, match="maximum context length is 8192 tokens") as raised:
        openai_client.completions.create(model="qwen3", prompt=[1] * 9000)

    assert raised.value.code == "context_length_exceeded"
    assert not fleet.vllm.received("/v1/completions")


def test_a_prompt_in_another_script_is_not_taken_for_longer_than_it_is(openai_client):
    reply = openai_client.chat.completions.create(
        model="qwen3", messages=[{"role": "user", "content": "слово " * 2900}]
    )

    assert reply.usage.prompt_tokens < 8192


def test_a_client_that_closes_its_stream_stops_the_server_at_once(simulate, start_nexus):
    slow = simulate(tokens_per_s=20, answer_tokens=2000)
    nexus = start_nexus(table_of(slow))
    client = openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0)
    stream = client.chat.completions.create(model="llama3", messages=QUESTION, stream=True)
    next(stream)
    next(stream)

    left_at = time.monotonic()
    stream.close()
    (record,) = until(lambda: slow.aborted)
    client.close()

    assert record.client_left - left_at < 0.1
    (line,) = nexus.wait_for_log("exchange_finished")
    assert (line["ending"], line["termination"]) == ("client_left", "CD")
    assert nexus.get_json("/admin/backends")["backends"][0]["pending_requests"] == 0


def test_a_client_that_times_out_before_the_first_token_stops_the_server_too(simulate, start_nexus):
    slow = simulate(ttft_s=30)
    nexus = start_nexus(table_of(slow))
    client = openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0, timeout=0.3)

    with client, pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="llama3", messages=QUESTION)
    left_at = time.monotonic()
    (record,) = until(lambda: slow.aborted)

    assert record.client_left - left_at < 0.1
