"""Requests of clients; each test is named after what must happen."""

import json

import pytest

from nexus.errors import RequestError
from nexus.translation.chat import (
    File,
    Image,
    JsonFormat,
    Message,
    OneTool,
    Reasoning,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from nexus.translation.openai import DIALECT

HI = {"role": "user", "content": "hi"}


def decoded(*messages, **members):
    return DIALECT.decode_request(json.dumps({"model": "m", "messages": messages or [HI], **members}).encode())


def refusal(*messages, **members):
    with pytest.raises(RequestError) as caught:
        decoded(*messages, **members)
    return caught.value.code, caught.value.param


def test_a_plain_request():
    request = decoded({"role": "system", "content": "be kind"}, HI, stream=True, temperature=1, max_tokens=5, seed=3)

    assert (Message("system", (Text("be kind"),)), Message("user", (Text("hi"),))) == request.messages
    assert (
        request.model,
        request.is_stream,
        request.temperature,
        request.max_tokens,
        request.seed,
    ) == ("m", True, 1, 5, 3)
    assert request.lost == ()


@pytest.mark.parametrize("role", ["system", "developer"])
def test_system_messages_stay_where_they_are(role):
    request = decoded(HI, {"role": role, "content": [{"type": "text", "text": "be brief"}]}, HI)

    assert [message.role for message in request.messages] == ["user", "system", "user"]


def test_results_that_follow_each_other_are_in_one_message():
    calls = [{"id": id_, "type": "function", "function": {"name": "f", "arguments": '{"b": 1}'}} for id_ in "ab"]
    results = [{"role": "tool", "tool_call_id": id_, "content": id_} for id_ in "ba"]

    request = decoded(HI, {"role": "assistant", "content": None, "tool_calls": calls}, *results, HI)

    assert (ToolCall("a", "f", '{"b": 1}'), ToolCall("b", "f", '{"b": 1}')) == request.messages[1].parts
    assert (ToolResult("b", (Text("b"),)), ToolResult("a", (Text("a"),))) == request.messages[2].parts
    assert Message("user", (Text("hi"),)) == request.messages[3]


def test_a_call_without_arguments_has_an_empty_object():
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}

    assert (ToolCall("a", "f", "{}"),) == decoded({"role": "assistant", "tool_calls": [call]}).messages[0].parts


def test_a_custom_call_keeps_its_plain_input():
    call = {"id": "a", "type": "custom", "custom": {"name": "f", "input": "a b"}}

    parts = decoded({"role": "assistant", "tool_calls": [call]}).messages[0].parts

    assert (ToolCall("a", "f", "a b", kind="custom"),) == parts


def test_images_and_files_are_read_from_data_urls():
    content = [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "high"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
    ]

    request = decoded({"role": "user", "content": content})

    assert (
        Text("see"),
        Image("iVBO", "image/png"),
        Image(url="https://x/y.png"),
        File("JVBE", "application/pdf", name="a.pdf"),
    ) == request.messages[0].parts
    assert request.lost == ("messages.content.image_url.detail",)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_thoughts_of_the_history_are_unsigned(name):
    request = decoded({"role": "assistant", "content": "hi", name: "hm"})

    assert (Thinking("hm"), Text("hi")) == request.messages[0].parts


def test_schemas_keep_their_bytes():
    schema = b'{"b": 1, "a":2.50}'
    tool = b'{"type":"function","function":{"name":"f","parameters":%b}}' % schema

    request = DIALECT.decode_request(b'{"model":"m","messages":[],"tools":[%b]}' % tool)

    assert bytes(request.tools[0].schema) == schema


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "function": {"name": "f"}}, OneTool("f")),
        (None, None),
    ],
)
def test_the_choice_of_a_tool(given, choice):
    assert decoded(tool_choice=given).tool_choice == choice


def test_parallel_calls_can_be_switched_off():
    assert decoded(parallel_tool_calls=False).parallel_tools is False


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, JsonFormat()),
    ],
)
def test_the_format_of_the_answer(given, expected):
    assert decoded(response_format=given).format == expected


def test_a_schema_of_the_answer_keeps_its_name():
    format_ = decoded(
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": 1}, "strict": True}}
    ).format

    assert (format_.name, format_.is_strict, bytes(format_.schema)) == ("n", True, b'{"a": 1}')


@pytest.mark.parametrize(
    ("members", "reasoning"),
    [
        ({"reasoning_effort": "high"}, Reasoning(None, "high")),
        ({"reasoning_effort": "none"}, Reasoning(is_on=False)),
        ({"reasoning": {"effort": "low", "max_tokens": 9}}, Reasoning(None, "low", 9)),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, Reasoning(is_on=True, budget_tokens=9)),
        ({"thinking": {"type": "disabled"}}, Reasoning(is_on=False)),
        ({"chat_template_kwargs": {"enable_thinking": False}}, Reasoning(is_on=False)),
        ({}, Reasoning()),
    ],
)
def test_how_much_to_think(members, reasoning):
    assert decoded(**members).reasoning == reasoning


def test_what_has_no_place_is_listed_by_name():
    request = decoded(n=2, logprobs=True, top_logprobs=3, logit_bias={"1": 2}, min_p=0.1, service_tier="flex")

    assert request.lost == ("logit_bias", "logprobs", "min_p", "n", "service_tier", "top_logprobs")


def test_what_says_nothing_is_not_listed():
    request = decoded(n=1, logprobs=False, logit_bias={}, store=None, metadata={}, modalities=["text"])

    assert request.lost == ()


def test_tools_that_a_provider_runs_are_listed():
    assert decoded(tools=[{"type": "web_search"}]).lost == ("tools.web_search",)


@pytest.mark.parametrize(("given", "limit"), [(5, 5), ("5", 5), (5.0, 5), (-1, None), (None, None)])
def test_the_limit_of_an_answer(given, limit):
    assert decoded(max_completion_tokens=given).max_tokens == limit


@pytest.mark.parametrize("given", ["###", ["###"]])
def test_a_stop_string_may_stand_alone(given):
    assert decoded(stop=given).stop == ("###",)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"guided_regex": "a*"}, "guided_regex"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
    ],
)
def test_what_would_change_the_answer_is_refused(members, param):
    assert refusal(**members) == ("not_translatable", param)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "function", "content": "x"}, "messages[0].role"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "messages.content.input_audio"),
        ({"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}, "messages.content.file.file_id"),
    ],
)
def test_content_that_no_other_dialect_has_is_refused(message, param):
    assert refusal(message) == ("not_translatable", param)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    ],
)
def test_a_wrong_value_is_refused_by_name(members, param):
    with pytest.raises(RequestError) as caught:
        DIALECT.decode_request(json.dumps({"model": "m", "messages": [HI], **members}).encode())

    assert ("invalid_value", param) == (caught.value.code, caught.value.param)


@pytest.mark.parametrize("body", [b"", b"{", b'{"messages":[]}\xff'])
def test_no_json_is_refused(body):
    with pytest.raises(RequestError) as caught:
        DIALECT.decode_request(body)

    assert caught.value.code == "invalid_json"
