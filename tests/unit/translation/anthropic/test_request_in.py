"""Requests of Anthropic's clients."""

import json

import pytest

from nexus.errors import RequestError
from nexus.translation.anthropic import DIALECT
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

TOOL = {"name": "get", "description": "gets", "input_schema": {"type": "object", "properties": {"b": {}, "a": {}}}}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}


def parts_of(request):
    [message] = request.messages
    return message.parts


# the system prompt


def test_blocks_of_the_system_prompt_are_parts_of_one_message(decoded):
    request = decoded(
        system=[{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"}]
    )

    assert request.messages == (Message("system", (Text("a"), Text("b"))),)
    assert request.lost == ("cache_control",)


def test_a_system_message_stays_between_the_others(decoded):
    messages = [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}, {"role": "user", "content": "c"}]

    assert [message.role for message in decoded(messages=messages).messages] == ["user", "system", "user"]


def test_the_line_for_anthropics_accounts_is_left_out(decoded):
    request = decoded(
        system=[{"type": "text", "text": "x-anthropic-billing-header: cc_version=2;"}, {"type": "text", "text": "b"}]
    )

    assert request.messages == (Message("system", (Text("b"),)),)
    assert request.lost == ("x-anthropic-billing-header",)


# content


def test_images_are_carried_as_bytes_or_by_their_url(said):
    request = said([PNG, {"type": "image", "source": {"type": "url", "url": "https://host/a.png"}}])

    assert parts_of(request) == (Image(data="AAAA", media_type="image/png"), Image(url="https://host/a.png"))


@pytest.mark.parametrize(
    ("document", "parts"),
    [
        (
            {"source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}, "title": "t"},
            (File(data="AAAA", media_type="application/pdf", name="t"),),
        ),
        (
            {"source": {"type": "url", "url": "https://host/a.pdf"}, "context": "of 1999"},
            (Text("of 1999"), File(url="https://host/a.pdf", media_type="application/pdf")),
        ),
        (
            {"source": {"type": "text", "media_type": "text/plain", "data": "words"}},
            (File(text="words", media_type="text/plain"),),
        ),
        ({"source": {"type": "content", "content": [{"type": "text", "text": "a"}]}}, (Text("a"),)),
        ({"source": {"type": "content", "content": "a"}}, (Text("a"),)),
    ],
)
def test_documents_are_carried(said, document, parts):
    assert parts_of(said([{"type": "document", **document}])) == parts


@pytest.mark.parametrize("kind", ["document", "image", "container_upload"])
def test_a_file_that_only_anthropic_has_is_refused(said, kind):
    block = {"type": kind, "source": {"type": "file", "file_id": "file_1"}, "file_id": "file_1"}

    with pytest.raises(RequestError, match="base64") as raised:
        said([block])

    assert (raised.value.code, raised.value.param) == ("not_translatable", "messages")


def test_results_of_a_search_are_text(said):
    block = {
        "type": "search_result",
        "title": "t",
        "source": "https://host",
        "content": [{"type": "text", "text": "a"}],
    }

    assert parts_of(said([{**block, "citations": {"enabled": True}}])) == (Text("t\nhttps://host"), Text("a"))


def test_arguments_keep_every_byte():
    body = (
        b'{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":'
        b'[{"type":"tool_use","id":"toolu_1","name":"f","input":{"b" : 1.0, "a":"\\u00e9"}}]}]}'
    )

    [message] = DIALECT.decode_request(body).messages

    assert message.parts == (ToolCall("toolu_1", "f", '{"b" : 1.0, "a":"\\u00e9"}'),)


def test_a_call_without_arguments_has_an_empty_object(said):
    block = {"type": "tool_use", "id": "t", "name": "f", "input": {}}

    assert parts_of(said([block], "assistant")) == (ToolCall("t", "f", "{}"),)


def test_the_result_of_a_tool_keeps_its_blocks_and_images(said):
    block = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "text", "text": "a"}, PNG],
        "is_error": True,
    }

    assert parts_of(said([block])) == (
        ToolResult("t", (Text("a"), Image(data="AAAA", media_type="image/png")), is_error=True),
    )


@pytest.mark.parametrize(("content", "parts"), [("a", (Text("a"),)), (None, ()), ([], ()), ("", ())])
def test_the_result_of_a_tool_may_be_text_or_nothing(said, content, parts):
    assert parts_of(said([{"type": "tool_result", "tool_use_id": "t", "content": content}])) == (
        ToolResult("t", parts),
    )


def test_signed_thoughts_are_dropped_and_unsigned_ones_kept(said):
    signed = {"type": "thinking", "thinking": "a", "signature": "c2ln"}
    request = said(
        [signed, {"type": "redacted_thinking", "data": "x"}, {"type": "thinking", "thinking": "b", "signature": ""}],
        "assistant",
    )

    assert parts_of(request) == (Thinking("b"),)
    assert request.lost == ("messages.redacted_thinking", "messages.thinking")


def test_thoughts_that_another_dialect_has_marked_are_carried_back_to_it(said):
    block = {"type": "thinking", "thinking": "", "signature": "responses.rs_1.abc"}

    assert parts_of(said([block], "assistant")) == (Thinking("", "responses.rs_1.abc"),)


def test_blocks_of_tools_that_the_provider_ran_are_dropped_and_listed(said):
    used = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "a"}}
    found = {
        "type": "web_search_tool_result",
        "tool_use_id": "s",
        "content": [{"type": "web_search_result", "url": "u"}],
    }

    request = said([used, found, {"type": "text", "text": "b"}], "assistant")

    assert parts_of(request) == (Text("b"),)
    assert request.lost == ("messages.server_tool_use", "messages.web_search_tool_result")


# tools


def test_schemas_keep_every_byte():
    schema = b'{"type" : "object", "properties":{"b":{}, "a":{}}}'
    body = b'{"model":"m","max_tokens":1,"messages":[],"tools":[{"name":"f","input_schema":%b}]}' % schema

    [tool] = DIALECT.decode_request(body).tools

    assert bytes(tool.schema) == schema


def test_server_tools_without_a_schema_are_dropped_and_listed(decoded):
    request = decoded(tools=[SEARCH, TOOL])

    assert [tool.name for tool in request.tools] == ["get"]
    assert request.lost == ("tools.web_search_20250305",)


def test_a_choice_of_server_tools_alone_is_no_choice(decoded):
    request = decoded(tools=[SEARCH], tool_choice={"type": "auto", "disable_parallel_tool_use": True})

    assert (request.tools, request.tool_choice, request.parallel_tools) == ((), None, None)


@pytest.mark.parametrize("choice", [{"type": "tool", "name": "web_search"}, {"type": "any"}])
def test_a_server_tool_that_must_be_called_is_refused(decoded, choice):
    with pytest.raises(RequestError) as raised:
        decoded(tools=[SEARCH], tool_choice=choice)

    assert (raised.value.code, raised.value.param) == ("not_translatable", "tool_choice")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "get"}, OneTool("get")),
        (None, None),
    ],
)
def test_a_choice_of_tools_is_carried(decoded, choice, expected):
    assert decoded(tools=[TOOL], tool_choice=choice).tool_choice == expected


def test_parallel_calls_can_be_switched_off(decoded):
    request = decoded(tools=[TOOL], tool_choice={"type": "auto", "disable_parallel_tool_use": True})

    assert request.parallel_tools is False


# how the model answers


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, Reasoning()),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, Reasoning(True, None, 2000)),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, Reasoning(True, "high")),
        ({"thinking": {"type": "disabled"}}, Reasoning(False)),
        ({"output_config": {"effort": "max"}}, Reasoning(None, "max")),
    ],
)
def test_thinking_and_effort_are_carried(decoded, members, expected):
    assert decoded(**members).reasoning == expected


@pytest.mark.parametrize("place", ["output_config", "output_format"])
def test_the_format_of_the_answer_is_carried(decoded, place):
    format_ = {"type": "json_schema", "schema": {"b": 1, "a": 2}}

    request = decoded(**{place: {"format": format_} if place == "output_config" else format_})

    assert isinstance(request.format, JsonFormat)
    assert json.loads(bytes(request.format.schema)) == {"b": 1, "a": 2}


def test_numbers_stops_and_the_user_are_carried(decoded):
    request = decoded(
        max_tokens=5.0,
        temperature=1,
        top_p=0.5,
        top_k=3,
        stop_sequences=["END"],
        stream=True,
        metadata={"user_id": "u"},
    )

    assert (request.max_tokens, request.temperature, request.top_p, request.top_k) == (5, 1, 0.5, 3)
    assert (request.stop, request.is_stream, request.user, request.wants_usage) == (("END",), True, "u", True)


def test_every_other_member_is_listed_unless_it_is_null(decoded):
    unknown = {"context_management": {"edits": []}, "service_tier": "auto", "betas": ["a"], "container": None}
    config = {"effort": None, "task_budget": 5}
    thinking = {"type": "adaptive", "display": "omitted"}

    request = decoded(**unknown, output_config=config, thinking=thinking, metadata={"user_id": "u", "a": 1})

    assert request.lost == (
        "betas", "context_management", "metadata.a", "output_config.task_budget", "service_tier",
        "thinking.display",
    )  # fmt: skip


def test_a_promise_about_the_place_is_refused(decoded):
    with pytest.raises(RequestError) as raised:
        decoded(inference_geo="eu")

    assert (raised.value.code, raised.value.param) == ("not_translatable", "inference_geo")


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": "a"}, "messages"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"tools": [TOOL], "tool_choice": {"type": "some"}}, "tool_choice"),
    ],
)
def test_what_anthropic_refuses_is_refused(decoded, members, param):
    with pytest.raises(RequestError) as raised:
        decoded(**members)

    assert (raised.value.code, raised.value.param) == ("invalid_value", param)


@pytest.mark.parametrize(
    ("body", "code"), [(b"{", "invalid_json"), (b"[]", "invalid_value"), (b'{"model":"\xff"}', "invalid_json")]
)
def test_a_body_that_is_no_object_is_refused(body, code):
    with pytest.raises(RequestError) as raised:
        DIALECT.decode_request(body)

    assert raised.value.code == code


def test_an_error_names_the_type_that_a_member_must_have(decoded):
    with pytest.raises(RequestError) as raised:
        decoded(messages="a")

    assert raised.value.message == "'messages': expected `array`, got `str`"


# what agents send


def test_a_third_turn_of_claude_code_is_carried(agent):
    request = agent("claude_code")

    assert [message.role for message in request.messages] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert [type(part) for part in request.messages[2].parts] == [Text, ToolCall, ToolCall]
    assert isinstance(request.messages[3].parts[1].parts[0], Image)
    assert request.messages[5].parts[-1].is_error
    assert request.reasoning == Reasoning(True, None, 31999)
    assert request.lost == ("cache_control", "context_management", "messages.thinking", "x-anthropic-billing-header")


def test_claude_code_with_another_model_is_carried(agent):
    request = agent("claude_code_other_model")

    assert [message.role for message in request.messages[:3]] == ["system", "user", "system"]
    assert request.reasoning == Reasoning(True, "high")


def test_a_search_of_claude_code_is_refused_with_a_reason(agent):
    with pytest.raises(RequestError, match="input_schema"):
        agent("claude_code_web_search")
