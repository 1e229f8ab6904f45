"""Requests to backends with the Responses API."""

import json

import msgspec
import pytest
from openai.types.responses import ResponseInputItem
from pydantic import TypeAdapter

from nexus.errors import RequestError
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
from nexus.translation.responses import DIALECT

ITEMS = TypeAdapter(list[ResponseInputItem])


def _encoded(*messages, **members):
    chat = ChatRequest(model="m", messages=messages, **members)
    return DIALECT.encode_request(chat, Target(model="backend's"))


def _body(*messages, **members):
    body = json.loads(_encoded(*messages, **members).body)
    ITEMS.validate_python(body["input"])
    return body


def _user(*parts):
    return Message("user", parts)


def _assistant(*parts):
    return Message("assistant", parts)


def test_a_request_keeps_nothing_on_the_server():
    assert _body(_user(Text("hi"))) == {
        "model": "backend's",
        "input": [{"type": "message", "role": "user", "content": "hi"}],
        "store": False,
    }


def test_the_first_system_messages_are_the_instructions():
    body = _body(
        Message("system", (Text("a"), Text("b"))),
        Message("system", (Text("c"),)),
        _user(Text("hi")),
        Message("system", (Text("d"),)),
    )

    assert body["instructions"] == "a\n\nb\n\nc"
    assert [(item["role"], item["content"]) for item in body["input"]] == [("user", "hi"), ("system", "d")]


def test_calls_and_results_are_items():
    body = _body(
        _user(Text("hi")),
        _assistant(Text("I look."), ToolCall("call_1", "get", '{"b": 1,"a":2}'), ToolCall("call_2", "get", "{}")),
        _user(
            ToolResult("call_2", (Text("no"),), is_error=True), ToolResult("call_1", (Text("a"), Text("b"))), Text("go")
        ),
    )

    assert body["input"][1:] == [
        {"type": "message", "role": "assistant", "content": "I look."},
        {"type": "function_call", "call_id": "call_1", "name": "get", "arguments": '{"b": 1,"a":2}'},
        {"type": "function_call", "call_id": "call_2", "name": "get", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "a\nb"},
        {"type": "function_call_output", "call_id": "call_2", "output": "Error:\nno"},
        {"type": "message", "role": "user", "content": "go"},
    ]


def test_results_without_ids_belong_to_the_calls_of_their_tool():
    body = _body(
        _assistant(ToolCall("", "get", "{}"), ToolCall("", "put", "{}")),
        _user(ToolResult("", (Text("b"),), "put"), ToolResult("", (Text("a"),), "get")),
    )

    assert [(item["call_id"], item.get("output")) for item in body["input"]] == [
        ("call_1", None),
        ("call_2", None),
        ("call_1", "a"),
        ("call_2", "b"),
    ]


def test_a_call_without_a_result_gets_an_empty_one_if_the_conversation_goes_on():
    call = _assistant(ToolCall("call_1", "get", "{}"))

    assert _body(call, _user(Text("stop")))["input"][1] == {
        "type": "function_call_output",
        "call_id": "call_1",
        "output": "",
    }
    assert len(_body(call)["input"]) == 1


def test_a_result_without_a_call_is_shown_by_the_user():
    assert _body(_user(ToolResult("call_9", (Text("found"),))))["input"] == [
        {"type": "message", "role": "user", "content": "found"}
    ]


def test_custom_tools_are_carried_as_they_are():
    grammar = b'{"type":"grammar","grammar":{"syntax":"lark","definition":"start: /.+/"}}'
    tool = Tool("apply_patch", kind="custom", grammar=msgspec.Raw(grammar))
    body = _body(
        _assistant(ToolCall("call_1", "apply_patch", "a\nb", kind="custom")),
        _user(ToolResult("call_1", (Text("ok"),))),
        tools=(tool,),
        tool_choice=OneTool("apply_patch"),
    )

    assert body["tools"] == [
        {
            "type": "custom",
            "name": "apply_patch",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
        }
    ]
    assert body["tool_choice"] == {"type": "custom", "name": "apply_patch"}
    assert [item["type"] for item in body["input"]] == ["custom_tool_call", "custom_tool_call_output"]
    assert body["input"][0]["input"] == "a\nb"


def test_schemas_keep_their_bytes_and_are_not_made_strict():
    tool = Tool("get", "Gets.", msgspec.Raw(b'{"b" : 1,"a":2.50}'))

    encoded = _encoded(_user(Text("hi")), tools=(tool, Tool("put", is_strict=True)), tool_choice="required")

    assert b'"parameters":{"b" : 1,"a":2.50},"strict":false' in encoded.body
    assert b'"parameters":{"type":"object","properties":{}},"strict":true' in encoded.body
    assert b'"tool_choice":"required"' in encoded.body


def test_images_and_files_are_parts():
    [item] = _body(
        _user(
            Text("see"),
            Image("AAEC", "image/gif"),
            Image(url="https://example.com/a.png"),
            File("JVBERi0x", name="a.pdf"),
            File(url="https://example.com/a.pdf"),
            File(text="plain"),
        )
    )["input"]

    assert item["content"] == [
        {"type": "input_text", "text": "see"},
        {"type": "input_image", "image_url": "data:image/gif;base64,AAEC", "detail": "auto"},
        {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0x"},
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
        {"type": "input_text", "text": "plain"},
    ]


def test_an_image_in_a_result_stays_there():
    body = _body(
        _assistant(ToolCall("call_1", "shot", "{}")),
        _user(ToolResult("call_1", (Text("a"), Image("AAEC", "image/png")))),
    )

    assert [part["type"] for part in body["input"][1]["output"]] == ["input_text", "input_image"]


def test_thoughts_go_back_only_to_the_server_that_encrypted_them():
    encoded = _encoded(
        _assistant(Thinking("a", "responses.rs_1.gAAA=="), Text("b")),
        _assistant(Thinking("foreign", "sig"), Text("c")),
        _user(Text("d")),
    )

    assert json.loads(encoded.body)["input"][0] == {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "a"}],
        "encrypted_content": "gAAA==",
    }
    assert b"foreign" not in encoded.body
    assert encoded.lost == ("messages.thinking",)


@pytest.mark.parametrize(
    ("asked", "reasoning", "is_included"),
    [
        (Reasoning(), None, False),
        (Reasoning(is_on=False), {"effort": "none"}, False),
        (Reasoning(effort="low"), {"effort": "low"}, True),
        (Reasoning(is_on=True, budget_tokens=4096), {"effort": "medium", "summary": "auto"}, True),
        (Reasoning(is_on=True), {"summary": "auto"}, True),
    ],
)
def test_thoughts_are_asked_for(asked, reasoning, is_included):
    body = _body(_user(Text("hi")), reasoning=asked)

    assert body.get("reasoning") == reasoning
    assert ("include" in body) == is_included


def test_the_format_of_the_answer_is_carried():
    schema = msgspec.Raw(b'{"type":"object"}')

    assert _body(_user(Text("hi")), format=JsonFormat(schema, is_strict=True), verbosity="low")["text"] == {
        "format": {"type": "json_schema", "name": "answer", "schema": {"type": "object"}, "strict": True},
        "verbosity": "low",
    }
    assert _body(_user(Text("hi")), format=JsonFormat())["text"] == {"format": {"type": "json_object"}}


def test_what_has_no_place_is_listed():
    encoded = _encoded(_user(Text("hi")), seed=1, top_k=5, presence_penalty=0.5, frequency_penalty=0, max_tokens=1)

    assert encoded.lost == ("max_tokens", "presence_penalty", "seed", "top_k")
    assert json.loads(encoded.body)["max_output_tokens"] == 16


def test_stop_sequences_are_refused():
    with pytest.raises(RequestError, match="'stop' cannot be translated"):
        _encoded(_user(Text("hi")), stop=("END",))
