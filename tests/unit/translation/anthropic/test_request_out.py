"""Requests to Anthropic's API."""

import json

import msgspec
import pytest

from nexus.translation.anthropic import DIALECT
from nexus.translation.anthropic.request_out import JSON_ONLY
from nexus.translation.chat import (
    ChatRequest,
    File,
    Image,
    JsonFormat,
    Message,
    OneTool,
    Reasoning,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from nexus.translation.dialect import Target

HI = (Message("user", (Text("hi"),)),)
TOOL = Tool("f", "does it", msgspec.Raw(b'{"type": "object", "properties":{"b":{},"a":{}}}'))
CALLED = (
    *HI,
    Message("assistant", (Text("I do"), ToolCall("call_a", "f", '{"b" : 1.0}'))),
    Message("user", (ToolResult("call_a", (Text("done"),)),)),
)


def encoded(model="claude-sonnet-4-5", **fields):
    """Return the body and what was lost."""
    fields.setdefault("messages", HI)
    request = DIALECT.encode_request(ChatRequest(model="m", **fields), Target(model=model))
    return json.loads(request.body), request.lost


def with_limit(limit):
    chat = ChatRequest(model="m", messages=HI, max_tokens=limit, reasoning=Reasoning(budget_tokens=8000))
    request = DIALECT.encode_request(chat, Target(model="claude-sonnet-4-5"))
    return json.loads(request.body), request.lost


def said(text):
    return {"type": "text", "text": text}


def messages_of(*messages):
    return encoded(messages=messages)[0]["messages"]


def blocks_of(*parts):
    return messages_of(Message("user", parts))[0]["content"]


def test_a_question_is_a_model_a_limit_and_messages():
    assert encoded() == (
        {
            "model": "claude-sonnet-4-5",
            "max_tokens": 32_000,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        },
        (),
    )


@pytest.mark.parametrize(
    ("model", "asked", "known", "sent"),
    [
        ("qwen3", 5, 9, 5),
        ("qwen3", None, 9, 9),
        ("qwen3", None, None, 8192),
        ("claude-3-haiku-20240307", None, None, 4096),
        ("claude-opus-4-1", None, None, 32_000),
        ("claude-sonnet-5", None, None, 32_000),
    ],
)
def test_there_is_always_a_limit_of_the_answer(model, asked, known, sent):
    chat = ChatRequest(model="m", messages=HI, max_tokens=asked)

    body = json.loads(DIALECT.encode_request(chat, Target(model=model, max_tokens=known)).body)

    assert body["max_tokens"] == sent


# messages


def test_system_messages_are_gathered_at_the_beginning():
    body, _ = encoded(messages=(Message("system", (Text("a"),)), *HI, Message("system", (Text("b"),))))

    assert body["system"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert [message["role"] for message in body["messages"]] == ["user"]


def test_a_system_message_alone_is_the_users():
    body, _ = encoded(messages=(Message("system", (Text("a"),)),))

    assert "system" not in body
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "a"}]}]


def test_messages_of_the_same_side_are_one():
    messages = messages_of(*HI, *HI, Message("assistant", (Text("a"),)), *HI)

    assert [(message["role"], len(message["content"])) for message in messages] == [
        ("user", 2),
        ("assistant", 1),
        ("user", 1),
    ]


def test_the_first_message_is_the_users():
    messages = messages_of(Message("assistant", (Text("a"),)), *HI)

    assert [message["role"] for message in messages] == ["user", "assistant", "user"]


def test_empty_texts_and_messages_are_left_out():
    messages = messages_of(*HI, Message("assistant", (Text(""),)), Message("user", (Text("a"), Text(" \n"))))

    assert messages == [
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "a"}]},
    ]


def test_an_answer_to_continue_ends_without_white_space():
    messages = messages_of(*HI, Message("assistant", (Text("The answer is \n"),)))

    assert messages[-1]["content"] == [{"type": "text", "text": "The answer is"}]


def test_images_are_sources():
    png = "iVBORw0KGgo="

    assert blocks_of(Image(data="AAAA", media_type="image/webp"), Image(data=png), Image(url="https://host/a.png")) == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": "AAAA"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png}},
        {"type": "image", "source": {"type": "url", "url": "https://host/a.png"}},
    ]


def test_files_are_documents():
    files = (
        File(data="AAAA", media_type="application/pdf", name="t"),
        File(url="https://host/a.pdf"),
        File(text="words", media_type="text/plain"),
        File(data="d29yZHM=", media_type="text/markdown"),
    )

    assert blocks_of(*files) == [
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"},
            "title": "t",
        },
        {"type": "document", "source": {"type": "url", "url": "https://host/a.pdf"}},
        {"type": "document", "source": {"type": "text", "data": "words", "media_type": "text/plain"}},
        {"type": "document", "source": {"type": "text", "data": "words", "media_type": "text/plain"}},
    ]


def test_thoughts_of_other_providers_are_never_sent():
    answer = Message("assistant", (Thinking("hm", signature="c2ln"), Thinking(redacted="x"), Thinking("b"), Text("a")))

    body, lost = encoded(messages=(*HI, answer))

    assert body["messages"][1]["content"] == [{"type": "text", "text": "a"}]
    assert lost == ("messages.thinking",)


def test_thoughts_come_back_to_the_provider_that_signed_them():
    """Another dialect's client has carried them; the API wants them back between calls."""
    message = {"content": [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"}, {"type": "redacted_thinking", "data": "x"},
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
    ]}  # fmt: skip
    _, thought, signed, redacted, *_ = DIALECT.decode_answer(json.dumps(message).encode())
    parts = Thinking(thought.text, signed.signature), Thinking(redacted=redacted.data), ToolCall("a", "f", "{}")
    messages = (*HI, Message("assistant", parts), Message("user", (ToolResult("a", ()),)))

    body, lost = encoded(messages=messages, reasoning=Reasoning(effort="low"))

    assert body["messages"][1]["content"] == message["content"]
    assert (body["thinking"]["type"], lost) == ("enabled", ())


# tools


def test_tools_keep_the_bytes_of_their_schema():
    chat = ChatRequest(model="m", messages=HI, tools=(TOOL, Tool("g", is_strict=True)))

    body = DIALECT.encode_request(chat, Target(model="m")).body

    assert b'"input_schema":{"type": "object", "properties":{"b":{},"a":{}}}' in body
    assert json.loads(body)["tools"][1] == {"name": "g", "input_schema": {"type": "object"}, "strict": True}


def test_arguments_keep_every_byte():
    body = DIALECT.encode_request(ChatRequest(model="m", messages=CALLED), Target(model="m")).body

    assert b'{"type":"tool_use","id":"call_a","name":"f","input":{"b" : 1.0}}' in body


@pytest.mark.parametrize("arguments", ["", " "])
def test_a_call_without_arguments_has_an_empty_object(arguments):
    messages = (*HI, Message("assistant", (ToolCall("a", "f", arguments),)))

    assert messages_of(*messages)[1]["content"][0]["input"] == {}


def test_results_of_tools_are_first_in_one_message():
    calls = Message("assistant", (ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}")))
    results = [Message("user", (ToolResult(id_, (Text(id_),), is_error=id_ == "b"),)) for id_ in "ab"]

    assert messages_of(*HI, calls, results[0], results[1], *HI)[2:] == [
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": [said("a")]},
                {"type": "tool_result", "tool_use_id": "b", "content": [said("b")], "is_error": True},
                said("hi"),
            ],
        }
    ]


def test_a_result_may_have_images():
    calls = Message("assistant", (ToolCall("a", "f", "{}"),))
    result = Message("user", (ToolResult("a", (Image(url="https://host/a.png"),)),))

    [block] = messages_of(*HI, calls, result)[2]["content"]
    assert block["content"] == [{"type": "image", "source": {"type": "url", "url": "https://host/a.png"}}]


def test_ids_have_only_characters_that_the_api_accepts():
    calls = Message("assistant", (ToolCall("functions.f:0", "f", "{}"),))
    result = Message("user", (ToolResult("functions.f:0", ()),))

    messages = messages_of(*HI, calls, result)

    assert messages[1]["content"][0]["id"] == messages[2]["content"][0]["tool_use_id"] == "functions_2ef_3a0"


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({}, None),
        ({"parallel_tools": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"parallel_tools": True}, None),
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none", "parallel_tools": False}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        (
            {"tool_choice": OneTool("f"), "parallel_tools": False},
            {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_a_choice_of_tools_is_carried(fields, choice):
    assert encoded(tools=(TOOL,), **fields)[0].get("tool_choice") == choice
    assert "tool_choice" not in encoded(**fields)[0]


# how the model answers


@pytest.mark.parametrize(
    ("model", "reasoning", "thinking", "config"),
    [
        ("claude-sonnet-4-5-20250929", Reasoning(effort="high"), {"type": "enabled", "budget_tokens": 16384}, None),
        ("claude-3-7-sonnet-20250219", Reasoning(is_on=True), {"type": "enabled", "budget_tokens": 8192}, None),
        ("glm-4.7", Reasoning(budget_tokens=3000), {"type": "enabled", "budget_tokens": 3000}, None),
        ("claude-opus-4-20250514", Reasoning(effort="max"), {"type": "enabled", "budget_tokens": 23999}, None),
        ("claude-opus-4-6", Reasoning(effort="xhigh"), {"type": "adaptive"}, {"effort": "high"}),
        ("claude-opus-4-6", Reasoning(effort="max"), {"type": "adaptive"}, {"effort": "max"}),
        ("anthropic.claude-sonnet-4-6-v1:0", Reasoning(effort="minimal"), {"type": "adaptive"}, {"effort": "low"}),
        ("claude-opus-4.7", Reasoning(effort="xhigh"), {"type": "adaptive"}, {"effort": "xhigh"}),
        ("claude-sonnet-5", Reasoning(is_on=True), {"type": "adaptive"}, None),
        ("claude-fable-5", Reasoning(effort="low"), {"type": "adaptive"}, {"effort": "low"}),
        ("claude-sonnet-4-5", Reasoning(), None, None),
        ("claude-sonnet-4-5", Reasoning(is_on=False), {"type": "disabled"}, None),
        ("claude-opus-4-7", Reasoning(is_on=False), None, None),
        ("claude-sonnet-5", Reasoning(is_on=False), {"type": "disabled"}, None),
    ],
)
def test_thinking_is_asked_for_as_the_model_takes_it(model, reasoning, thinking, config):
    body, lost = encoded(model, reasoning=reasoning)

    assert (body.get("thinking"), body.get("output_config"), lost) == (thinking, config, ())


def test_a_budget_is_less_than_the_limit_of_the_answer():
    body, lost = with_limit(4096)

    assert (body["thinking"]["budget_tokens"], lost) == (3071, ())


def test_a_budget_below_the_least_is_left_out_and_listed():
    body, lost = with_limit(1000)

    assert ("thinking" in body, lost) == (False, ("reasoning_effort",))


@pytest.mark.parametrize("choice", ["required", OneTool("f")])
def test_a_model_that_must_call_a_tool_does_not_think(choice):
    body, lost = encoded(tools=(TOOL,), tool_choice=choice, reasoning=Reasoning(effort="high"))

    assert ("thinking" in body, lost) == (False, ("reasoning_effort",))


def test_a_model_that_wants_its_thoughts_back_does_not_think_between_calls():
    older, lost = encoded(messages=CALLED, reasoning=Reasoning(effort="high"))
    newer, _ = encoded("claude-opus-4-6", messages=CALLED, reasoning=Reasoning(effort="high"))
    later, _ = encoded(messages=(*CALLED, Message("assistant", (Text("a"),)), *HI), reasoning=Reasoning(effort="high"))

    assert ("thinking" in older, lost) == (False, ("reasoning_effort",))
    assert "thinking" in newer
    assert "thinking" in later


def test_thoughts_that_cannot_be_switched_off_are_listed():
    assert encoded("claude-mythos-5", reasoning=Reasoning(is_on=False))[1] == ("reasoning_effort",)


@pytest.mark.parametrize(
    ("model", "fields", "sent", "lost"),
    [
        ("m", {"temperature": 0.5, "top_k": 3}, {"temperature": 0.5, "top_k": 3}, ()),
        ("m", {"top_p": 0.5}, {"top_p": 0.5}, ()),
        ("m", {"temperature": 0.5, "top_p": 0.5}, {"temperature": 0.5}, ("top_p",)),
        ("m", {"temperature": 0.5, "top_p": 1}, {"temperature": 0.5}, ()),
        ("m", {"temperature": 1.5}, {"temperature": 1}, ("temperature",)),
        ("claude-opus-4-7", {"temperature": 0.5, "top_k": 3}, {}, ("temperature", "top_k")),
        ("claude-opus-4-7", {"temperature": 1}, {}, ()),
        ("claude-sonnet-4-5", {"temperature": 0.5, "reasoning": Reasoning(effort="low")}, {}, ("temperature",)),
    ],
)
def test_sampling_is_carried_as_far_as_the_model_takes_it(model, fields, sent, lost):
    body, left_out = encoded(model, **fields)

    assert {name: body[name] for name in ("temperature", "top_p", "top_k") if name in body} == sent
    assert left_out == lost


def test_a_schema_for_the_answer_keeps_its_bytes():
    chat = ChatRequest(model="m", messages=HI, format=JsonFormat(msgspec.Raw(b'{"type" : "object"}'), "n", True))

    body = DIALECT.encode_request(chat, Target(model="m")).body

    assert b'"output_config":{"format":{"schema":{"type" : "object"},"type":"json_schema"}}' in body


def test_any_json_is_asked_for_in_words():
    body, lost = encoded(format=JsonFormat())

    assert body["system"] == [{"type": "text", "text": JSON_ONLY}]
    assert lost == ("response_format",)


def test_stops_the_stream_and_the_user_are_carried():
    body, _ = encoded(stop=("END", "\n"), is_stream=True, user="u")

    assert (body["stop_sequences"], body["stream"], body["metadata"]) == (["END"], True, {"user_id": "u"})


def test_what_has_no_place_is_listed():
    _, lost = encoded(seed=1, presence_penalty=0.5, frequency_penalty=0.5, cache_key="k", keep_alive=msgspec.Raw(b"5"))

    assert lost == ("frequency_penalty", "keep_alive", "presence_penalty", "prompt_cache_key", "seed")


def test_what_claude_code_asks_comes_through_unchanged(agent):
    """Decoded and encoded again, for the same API, all but signed thoughts is there."""
    chat = agent("claude_code_other_model")

    request = DIALECT.encode_request(chat, Target(model="claude-opus-4-7"))

    again = DIALECT.decode_request(request.body)
    assert [m.role for m in again.messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert (again.tools, again.reasoning, again.max_tokens) == (chat.tools, chat.reasoning, chat.max_tokens)
