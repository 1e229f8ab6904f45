"""The client libraries that people use are content with what the simulators say."""

import asyncio
import json
import ssl
import struct
from base64 import b64decode

import anthropic
import ollama
import openai
import pytest
import trustme
from pydantic import BaseModel

QUESTION = [{"role": "user", "content": "hello there"}]
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
OPENAI_TOOL = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
TEXT_KINDS = ("generic", "ollama", "vllm", "llamacpp", "sglang", "lmstudio")


class City(BaseModel):
    name: str
    population: int
    is_capital: bool
    rivers: list[str]


@pytest.fixture
async def openai_client(simulate):
    clients = []

    async def connect(**settings):
        simulator = await simulate(**settings)
        client = openai.AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="secret", max_retries=0)
        clients.append(client)
        return simulator, client

    yield connect
    for client in clients:
        await client.close()


@pytest.fixture
async def anthropic_client(simulate):
    clients = []

    async def connect(**settings):
        simulator = await simulate(**settings)
        client = anthropic.AsyncAnthropic(base_url=simulator.url, api_key="secret", max_retries=0)
        clients.append(client)
        return simulator, client

    yield connect
    for client in clients:
        await client.close()


@pytest.fixture
async def ollama_client(simulate):
    async def connect(**settings):
        simulator = await simulate(kind="ollama", **settings)
        client = ollama.AsyncClient(simulator.url)
        opened.append(client)
        return simulator, client

    opened = []
    yield connect
    for client in opened:
        await client.close()


@pytest.mark.parametrize("kind", TEXT_KINDS)
async def test_openai_chats_with_every_kind(openai_client, kind):
    _, client = await openai_client(kind=kind)

    reply = await client.chat.completions.create(model="llama3", messages=QUESTION)

    assert reply.choices[0].message.content.startswith("gpu-1: you said hello there")
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.completion_tokens == 16


@pytest.mark.parametrize("kind", TEXT_KINDS)
async def test_openai_streams_from_every_kind_with_the_usage_last(openai_client, kind):
    _, client = await openai_client(kind=kind)

    stream = await client.chat.completions.create(
        model="llama3", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.startswith("gpu-1: you said hello there")
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 16


async def test_the_same_question_gets_the_same_answer(openai_client):
    _, client = await openai_client()

    replies = [await client.chat.completions.create(model="llama3", messages=QUESTION) for _ in range(2)]

    assert replies[0].choices == replies[1].choices


async def test_an_answer_stops_at_the_limit_that_the_client_set(openai_client):
    _, client = await openai_client()

    reply = await client.chat.completions.create(model="llama3", messages=QUESTION, max_tokens=3)

    assert reply.choices[0].message.content == "gpu-1: you said"
    assert reply.choices[0].finish_reason == "length"


async def test_openai_gets_a_call_of_the_first_tool_whole_and_streamed(openai_client):
    _, client = await openai_client()

    reply = await client.chat.completions.create(model="llama3", messages=QUESTION, tools=[OPENAI_TOOL])
    stream = await client.chat.completions.create(model="llama3", messages=QUESTION, tools=[OPENAI_TOOL], stream=True)
    deltas = [chunk.choices[0].delta async for chunk in stream]

    called = reply.choices[0].message.tool_calls[0]
    assert reply.choices[0].finish_reason == "tool_calls"
    assert (called.function.name, json.loads(called.function.arguments)) == ("weather", {"city": "gpu-1", "days": 1})
    pieces = [delta.tool_calls[0].function.arguments for delta in deltas if delta.tool_calls]
    assert "".join(pieces) == called.function.arguments


async def test_a_tool_result_is_answered_in_words(openai_client):
    _, client = await openai_client()
    result = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}

    reply = await client.chat.completions.create(model="llama3", messages=[*QUESTION, result], tools=[OPENAI_TOOL])

    assert reply.choices[0].message.content.startswith("gpu-1:")


async def test_openai_parses_a_structured_answer(openai_client):
    _, client = await openai_client()

    reply = await client.chat.completions.parse(model="llama3", messages=QUESTION, response_format=City)

    assert reply.choices[0].message.parsed == City(name="gpu-1", population=1, is_capital=True, rivers=["gpu-1"])


async def test_a_json_object_is_json(openai_client):
    _, client = await openai_client()

    reply = await client.chat.completions.create(
        model="llama3", messages=QUESTION, response_format={"type": "json_object"}
    )

    assert json.loads(reply.choices[0].message.content) == {"answer": "gpu-1"}


async def test_openai_completes_text(openai_client):
    _, client = await openai_client()

    reply = await client.completions.create(model="llama3", prompt="once upon")
    stream = await client.completions.create(model="llama3", prompt="once upon", stream=True)
    streamed = "".join([chunk.choices[0].text async for chunk in stream])

    assert reply.choices[0].text.startswith("gpu-1: you said once upon")
    assert streamed == reply.choices[0].text


async def test_openai_gets_the_same_vectors_as_floats_and_as_base64(openai_client):
    _, client = await openai_client()

    floats = await client.embeddings.create(model="llama3", input=["one", "two"], encoding_format="float")
    packed = await client.embeddings.create(model="llama3", input=["one", "two"], encoding_format="base64")

    for plain, base64 in zip(floats.data, packed.data, strict=True):
        assert list(struct.unpack("<8f", b64decode(base64.embedding))) == plain.embedding
    assert floats.data[0].embedding != floats.data[1].embedding


async def test_openai_streams_a_response_to_its_end(openai_client):
    _, client = await openai_client()

    whole = await client.responses.create(model="llama3", input="hello there")
    events = [event async for event in await client.responses.create(model="llama3", input="hello there", stream=True)]

    assert whole.output_text.startswith("gpu-1: you said hello there")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == whole.output_text


async def test_a_response_that_is_cut_short_says_so(openai_client):
    _, client = await openai_client()

    whole = await client.responses.create(model="llama3", input="hi", max_output_tokens=16)
    cut = await client.responses.create(model="llama3", input="hi", max_output_tokens=2)

    assert whole.usage.output_tokens == 16
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")


async def test_a_response_calls_a_tool_and_fits_a_schema(openai_client):
    _, client = await openai_client()
    tool = {"type": "function", "name": "weather", "parameters": WEATHER, "strict": False}

    called = await client.responses.create(model="llama3", input="hi", tools=[tool])
    parsed = await client.responses.parse(model="llama3", input="hi", text_format=City)
    stream = await client.responses.create(model="llama3", input="hi", tools=[tool], stream=True)
    events = [event async for event in stream]

    assert json.loads(called.output[0].arguments) == {"city": "gpu-1", "days": 1}
    assert parsed.output_parsed.name == "gpu-1"
    assert events[-1].response.output[0].arguments == called.output[0].arguments


async def test_openai_lists_models_and_looks_one_up(openai_client):
    _, client = await openai_client(models=("llama3", "qwen3"))

    listed = await client.models.list()
    one = await client.models.retrieve("qwen3")

    assert [model.id for model in listed.data] == ["llama3", "qwen3"]
    assert one.id == "qwen3"


async def test_openai_hears_speaks_and_draws(openai_client):
    _, client = await openai_client()

    heard = await client.audio.transcriptions.create(model="llama3", file=("a.wav", b"\r\n--\x00\xff" * 50))
    spoken = await client.audio.speech.create(model="llama3", voice="alloy", input="hello")
    drawn = await client.images.generate(model="llama3", prompt="a cat")

    assert heard.text == "gpu-1: heard 300 bytes"
    assert len(spoken.content) == 4096
    assert b64decode(drawn.data[0].b64_json).startswith(b"\x89PNG")


async def test_openai_raises_what_it_raises_for_a_model_that_is_not_there(openai_client):
    _, client = await openai_client(kind="vllm")

    with pytest.raises(openai.NotFoundError) as raised:
        await client.chat.completions.create(model="nope", messages=QUESTION)

    assert raised.value.body["message"] == "The model `nope` does not exist. Valid aliases: llama3."
    assert raised.value.body["code"] == 404


async def test_a_wrong_key_is_refused_and_the_right_one_is_not(openai_client):
    _, stranger = await openai_client(api_key="other")
    _, friend = await openai_client(api_key="secret")

    with pytest.raises(openai.AuthenticationError):
        await stranger.models.list()
    listed = await friend.models.list()

    assert listed.data[0].id == "llama3"


@pytest.mark.parametrize("kind", TEXT_KINDS)
async def test_anthropic_talks_to_every_kind_whole_and_streamed(anthropic_client, kind):
    _, client = await anthropic_client(kind=kind)

    whole = await client.messages.create(model="llama3", max_tokens=64, messages=QUESTION)
    async with client.messages.stream(model="llama3", max_tokens=64, messages=QUESTION) as stream:
        streamed = await stream.get_final_message()

    assert whole.content[0].text.startswith("gpu-1: you said hello there")
    assert streamed.content[0].text == whole.content[0].text
    assert (streamed.stop_reason, streamed.usage.output_tokens) == ("end_turn", 16)


async def test_anthropic_gets_a_tool_call_whole_and_streamed(anthropic_client):
    _, client = await anthropic_client()
    tools = [{"name": "weather", "input_schema": WEATHER}]

    whole = await client.messages.create(model="llama3", max_tokens=64, messages=QUESTION, tools=tools)
    async with client.messages.stream(model="llama3", max_tokens=64, messages=QUESTION, tools=tools) as stream:
        streamed = await stream.get_final_message()

    assert whole.stop_reason == streamed.stop_reason == "tool_use"
    assert whole.content[0].input == streamed.content[0].input == {"city": "gpu-1", "days": 1}


async def test_anthropic_counts_tokens(anthropic_client):
    _, client = await anthropic_client()

    counted = await client.messages.count_tokens(model="llama3", messages=QUESTION)

    assert counted.input_tokens == 3


async def test_anthropic_raises_what_it_raises_for_a_model_that_is_not_there(anthropic_client):
    _, client = await anthropic_client()

    with pytest.raises(anthropic.NotFoundError) as raised:
        await client.messages.create(model="nope", max_tokens=1, messages=QUESTION)

    assert raised.value.body["error"]["type"] == "not_found_error"


async def test_ollama_chats_and_generates_whole_and_streamed(ollama_client):
    _, client = await ollama_client()

    chat = await client.chat("llama3", QUESTION)
    lines = [line async for line in await client.chat("llama3", QUESTION, stream=True)]
    generated = await client.generate("LLAMA3:latest", "hello there")

    assert chat.message.content.startswith("gpu-1: you said hello there")
    assert "".join(line.message.content for line in lines) == chat.message.content
    assert (lines[-1].done, lines[-1].done_reason, lines[-1].eval_count) == (True, "stop", 16)
    assert generated.response == chat.message.content


async def test_ollama_gets_tool_calls_and_structured_answers(ollama_client):
    _, client = await ollama_client()

    called = await client.chat("llama3", QUESTION, tools=[OPENAI_TOOL])
    streamed = [line async for line in await client.chat("llama3", QUESTION, tools=[OPENAI_TOOL], stream=True)]
    structured = await client.chat("llama3", QUESTION, format=City.model_json_schema())

    assert called.message.tool_calls[0].function.arguments == {"city": "gpu-1", "days": 1}
    assert streamed[0].message.tool_calls == called.message.tool_calls
    assert City.model_validate_json(structured.message.content).name == "gpu-1"


async def test_ollama_embeds_in_both_forms(ollama_client):
    _, client = await ollama_client()

    new = await client.embed("llama3", ["one", "two"])
    old = await client.embeddings("llama3", "one")

    assert new.embeddings[0] == old.embedding


async def test_ollama_lists_shows_loads_and_unloads_models(ollama_client):
    _, client = await ollama_client()

    listed = await client.list()
    shown = await client.show("llama3")
    unloaded = await client.generate("llama3", keep_alive=0)
    rest = await client.ps()
    loaded = await client.generate("llama3")
    back = await client.ps()

    assert listed.models[0].model == "llama3:latest"
    assert shown.modelinfo["llama.context_length"] == 8192
    assert "tools" in shown.capabilities
    assert (unloaded.done_reason, len(rest.models)) == ("unload", 0)
    assert (loaded.done_reason, len(back.models)) == ("load", 1)


async def test_ollama_raises_what_it_raises_for_a_model_that_is_not_there(ollama_client):
    _, client = await ollama_client()

    with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as raised:
        await client.chat("nope", QUESTION)

    assert raised.value.status_code == 404


async def test_tls_is_spoken_when_there_is_a_certificate(simulate):
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    simulator = await simulate(tls=server)

    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port, ssl=client)
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert simulator.url.startswith("https://")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
