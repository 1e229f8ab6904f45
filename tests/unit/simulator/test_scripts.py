"""A script is played in each API, whole and streamed, as far as the request allows."""

import json

import aiohttp
import anthropic
import ollama
import openai
import pytest

from nexus.simulator import CallTool, Say, SimulatedModel, Think
from tests.support.answer_readers import READERS

QUESTION = [{"role": "user", "content": "hello there"}]
SCHEMA = {"type": "object", "properties": {"z": {"type": "string"}}}
SCRIPT = (
    Think("let me see"),
    Say("I look at both"),
    CallTool("weather", '{"z":"Oslo","a": 1}'),
    CallTool("clock"),
)
ARGUMENTS = {"z": "Oslo", "a": 1}
CHAT_TOOLS = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("weather", "clock")]
FLAT_TOOLS = [{"type": "function", "name": name, "parameters": SCHEMA} for name in ("weather", "clock")]
MESSAGES_TOOLS = [{"name": name, "input_schema": SCHEMA} for name in ("weather", "clock")]
MODEL = SimulatedModel("m", capabilities=("completion", "tools", "thinking"))


@pytest.fixture
async def scripted(simulate):
    async def start(kind="generic", *, is_strict=True, script=SCRIPT):
        return await simulate(kind=kind, models=(MODEL,), script=script, is_strict=is_strict)

    return start


async def ask_openai(simulator, **more):
    async with openai.AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="k", max_retries=0) as client:
        return await client.chat.completions.create(model="m", messages=QUESTION, **more)


@pytest.mark.parametrize(("kind", "field"), [("generic", "reasoning_content"), ("vllm", "reasoning")])
async def test_chat_has_thoughts_text_and_both_calls(scripted, kind, field):
    answer = await ask_openai(await scripted(kind), tools=CHAT_TOOLS)

    (choice,) = answer.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "I look at both")
    assert getattr(choice.message, field) == "let me see"
    assert [call.function.arguments for call in choice.message.tool_calls] == ['{"z":"Oslo","a": 1}', "{}"]
    assert len({call.id for call in choice.message.tool_calls}) == 2
    assert answer.usage.completion_tokens_details.reasoning_tokens == 3


async def test_a_streamed_chat_says_the_same(scripted):
    simulator = await scripted()
    async with (
        openai.AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="k") as client,
        client.chat.completions.stream(model="m", messages=QUESTION, tools=CHAT_TOOLS) as stream,
    ):
        final = await stream.get_final_completion()

    message = final.choices[0].message
    assert (message.content, message.reasoning_content) == ("I look at both", "let me see")
    assert [call.function.arguments for call in message.tool_calls] == ['{"z":"Oslo","a": 1}', "{}"]
    assert [call.function.name for call in message.tool_calls] == ["weather", "clock"]


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("kind", ["generic", "vllm"])
async def test_a_response_has_an_item_for_each(scripted, kind, is_stream):
    simulator = await scripted(kind)
    wanted = {"input": "hello", "tools": FLAT_TOOLS, "reasoning": {"effort": "low", "summary": "auto"}}
    async with openai.AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="k") as client:
        if is_stream:
            async with client.responses.stream(model="m", **wanted) as stream:
                kinds = [event.type async for event in stream]
                answer = await stream.get_final_response()
        else:
            kinds, answer = [], await client.responses.create(model="m", **wanted)

    thoughts, text, *calls = answer.output
    part = thoughts.summary if kind == "generic" else thoughts.content
    assert part[0].text == "let me see"
    assert text.content[0].text == "I look at both"
    assert [call.arguments for call in calls] == ['{"z":"Oslo","a": 1}', "{}"]
    assert len({item.id for item in answer.output}) == len({call.call_id for call in calls}) + 2 == 4
    assert answer.usage.output_tokens_details.reasoning_tokens == 3
    assert kinds.count("response.output_item.added") == kinds.count("response.output_item.done") == 4 * is_stream


async def test_a_message_has_a_block_for_each(scripted):
    simulator = await scripted()
    wanted = {"max_tokens": 2000, "messages": QUESTION, "tools": MESSAGES_TOOLS}
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    async with anthropic.AsyncAnthropic(base_url=simulator.url, api_key="k") as client:
        whole = await client.messages.create(model="m", **wanted, **thinking)
        async with client.messages.stream(model="m", **wanted, **thinking) as stream:
            indexes = [event.index async for event in stream if event.type == "content_block_start"]
            streamed = await stream.get_final_message()

    for message in (whole, streamed):
        thought, text, weather, clock = message.content
        assert (thought.thinking, text.text) == ("let me see", "I look at both")
        assert thought.signature.startswith("simulated-")
        assert (weather.input, clock.input) == (ARGUMENTS, {})
        assert message.stop_reason == "tool_use"
    assert indexes == [0, 1, 2, 3]


@pytest.mark.parametrize("is_stream", [False, True])
async def test_ollama_sends_each_call_whole(scripted, is_stream):
    async with ollama.AsyncClient((await scripted("ollama")).url) as client:
        answer = await client.chat("m", QUESTION, tools=CHAT_TOOLS, think=True, stream=is_stream)
        lines = [line async for line in answer] if is_stream else [answer]
    messages = [line.message for line in lines]

    assert "".join(message.thinking or "" for message in messages) == "let me see"
    assert "".join(message.content for message in messages) == "I look at both"
    calls = [call.function for message in messages for call in message.tool_calls or ()]
    assert [(call.name, call.arguments) for call in calls] == [("weather", ARGUMENTS), ("clock", {})]


READ = {
    "openai.chat": ("/v1/chat/completions", "generic", {"messages": QUESTION, "tools": CHAT_TOOLS}),
    "openai.responses": (
        "/v1/responses",
        "generic",
        {"input": "hello", "tools": FLAT_TOOLS, "reasoning": {"summary": "auto"}},
    ),
    "anthropic.messages": (
        "/v1/messages",
        "generic",
        {"messages": QUESTION, "tools": MESSAGES_TOOLS, "max_tokens": 2000, "thinking": {"type": "adaptive"}},
    ),
    "ollama.chat": ("/api/chat", "ollama", {"messages": QUESTION, "tools": CHAT_TOOLS, "think": True}),
}
"""By endpoint: its path, a kind that has it, and the members of a request."""


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("endpoint", READ)
async def test_a_script_keeps_to_the_documents_of_its_api(scripted, endpoint, is_stream):
    path, kind, body = READ[endpoint]
    simulator = await scripted(kind)
    async with aiohttp.ClientSession() as session:
        response = await session.post(simulator.url + path, json={"model": "m", "stream": is_stream, **body})
        wire = await response.read()

    reading = READERS[endpoint][is_stream](wire)

    thought, text, *calls = reading["blocks"]
    assert (thought, text) == ({"thinking": "let me see"}, {"text": "I look at both"})
    assert [(call["tool"], json.loads(call["arguments"] or "{}")) for call in calls] == [
        ("weather", ARGUMENTS),
        ("clock", {}),
    ]


async def test_only_what_the_request_allows_is_played(scripted):
    simulator = await scripted()

    plain = await ask_openai(simulator, reasoning_effort="none")
    single = await ask_openai(simulator, tools=CHAT_TOOLS, parallel_tool_calls=False)
    cut = await ask_openai(simulator, tools=CHAT_TOOLS, max_tokens=7)

    assert (plain.choices[0].finish_reason, plain.choices[0].message.tool_calls) == ("stop", None)
    assert not hasattr(plain.choices[0].message, "reasoning_content")
    assert len(single.choices[0].message.tool_calls) == 1
    assert cut.choices[0].finish_reason == "length"


async def test_the_answer_to_a_result_is_text(scripted):
    simulator = await scripted()
    call = {"id": "call_1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    turns = [*QUESTION, {"role": "assistant", "tool_calls": [call]}]
    turns.append({"role": "tool", "tool_call_id": "call_1", "content": "noon"})

    async with openai.AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="k") as client:
        answer = await client.chat.completions.create(model="m", messages=turns, tools=CHAT_TOOLS)

    assert answer.choices[0].message.content.startswith("gpu-1: you said hello there")


async def test_images_are_counted(scripted):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    simulator = await scripted(script=())
    async with openai.AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="k") as client:
        text = {"type": "text", "text": "look"}
        answer = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": [text, image, image]}]
        )

    assert answer.choices[0].message.content.startswith("gpu-1: you said look with 2 images")


def a_call(arguments="{}"):
    return {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}


def an_answered(call):
    return [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c1", "content": "x"}]


USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "x"}
FUNCTION_CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
REFUSED = {
    "a chat with an unknown field": ("/v1/chat/completions", {"messages": QUESTION, "top_k": 1}),
    "a chat with a call that is not answered": (
        "/v1/chat/completions",
        {"messages": [*QUESTION, {"role": "assistant", "tool_calls": [a_call()]}, *QUESTION]},
    ),
    "a chat with a result of no call": (
        "/v1/chat/completions",
        {"messages": [*QUESTION, {"role": "tool", "tool_call_id": "c1", "content": "x"}]},
    ),
    "a chat with empty arguments": ("/v1/chat/completions", {"messages": [*QUESTION, *an_answered(a_call(""))]}),
    "a chat with an image of a tool": (
        "/v1/chat/completions",
        {"messages": [*QUESTION, {"role": "system", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    ),
    "a response with a nested tool": ("/v1/responses", {"input": "x", "tools": CHAT_TOOLS}),
    "a response with text of a chat": (
        "/v1/responses",
        {"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
    ),
    "a response with a call that is not answered": ("/v1/responses", {"input": [FUNCTION_CALL]}),
    "a response with an id of a message": ("/v1/responses", {"input": [{**FUNCTION_CALL, "id": "msg_1"}]}),
    "a message with an unknown field": ("/v1/messages", {"messages": QUESTION, "seed": 1}),
    "a message of the system": ("/v1/messages", {"messages": [*QUESTION, {"role": "system", "content": "x"}]}),
    "a message with an empty text": (
        "/v1/messages",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]},
    ),
    "a message with a text before the result": (
        "/v1/messages",
        {
            "messages": [
                *QUESTION,
                {"role": "assistant", "content": [USE]},
                {"role": "user", "content": [{"type": "text", "text": "x"}, RESULT]},
            ]
        },
    ),
    "a message with a call that is not answered": (
        "/v1/messages",
        {"messages": [*QUESTION, {"role": "assistant", "content": [USE]}, *QUESTION]},
    ),
    "a message with a foreign signature": (
        "/v1/messages",
        {
            "messages": [
                *QUESTION,
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": "other"}]},
                *QUESTION,
            ]
        },
    ),
    "a message with too large a budget": (
        "/v1/messages",
        {"messages": QUESTION, "thinking": {"type": "enabled", "budget_tokens": 2000}},
    ),
    "a message too hot": ("/v1/messages", {"messages": QUESTION, "temperature": 1.5}),
}
"""By what is wrong: the path, and the members of the body."""


@pytest.mark.parametrize("wrong", REFUSED)
async def test_a_strict_cloud_refuses(scripted, connect, wrong):
    path, body = REFUSED[wrong]
    wire = await connect(await scripted())

    limit = {} if path == "/v1/responses" else {"max_tokens": 100}
    await wire.ask(path, json.dumps({"model": "m", **limit, **body}).encode())

    assert (await wire.head()).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "message",
    [{"images": ["data:image/png;base64,aGk="]}, {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}],
)
async def test_a_strict_ollama_refuses(scripted, connect, message):
    wire = await connect(await scripted("ollama"))

    await wire.ask("/api/chat", json.dumps({"model": "m", "messages": [{"role": "user", **message}]}).encode())

    assert (await wire.head()).startswith(b"HTTP/1.1 400")
