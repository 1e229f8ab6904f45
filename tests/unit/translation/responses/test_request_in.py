"""Requests of clients of the Responses API."""

import msgspec
import pytest

from nexus.errors import RequestError
from nexus.translation.chat import (
    File,
    Image,
    KnownAs,
    Message,
    OneTool,
    Reasoning,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from nexus.translation.custom_tools import as_functions
from nexus.translation.dialect import Target
from nexus.translation.dialects import DIALECTS, translations
from nexus.translation.responses import DIALECT

GET = {"type": "function", "name": "get", "parameters": {"type": "object"}}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get", "arguments": '{"b": 1, "a": 2}'}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "found"}


def _user(*parts):
    return Message("user", parts)


def test_a_text_is_the_message_of_a_user(decoded):
    chat = decoded(input="hi", instructions="be brief", stream=True)

    assert chat.messages == (Message("system", (Text("be brief"),)), _user(Text("hi")))
    assert chat.is_stream
    assert chat.wants_usage


def test_items_of_one_turn_are_one_message(decoded):
    items = [
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        CALL,
        {**CALL, "call_id": "call_2"},
        RESULT,
        {**RESULT, "call_id": "call_2", "output": [{"type": "input_text", "text": "a"}]},
        {"role": "developer", "content": [{"type": "input_text", "text": "go on"}]},
    ]

    chat = decoded(input=items)

    assert chat.messages == (
        _user(Text("hi")),
        Message(
            "assistant",
            (
                Thinking("hm"),
                Text("I look."),
                ToolCall("call_1", "get", '{"b": 1, "a": 2}'),
                ToolCall("call_2", "get", '{"b": 1, "a": 2}'),
            ),
        ),
        _user(ToolResult("call_1", (Text("found"),)), ToolResult("call_2", (Text("a"),))),
        Message("system", (Text("go on"),)),
    )
    assert chat.lost == ()


def test_a_result_without_its_call_is_shown_as_text(decoded):
    chat = decoded(input=[RESULT, {"role": "user", "content": "hi"}])

    assert chat.messages == (_user(Text("found")), _user(Text("hi")))


def test_the_second_result_of_a_call_is_dropped_and_listed(decoded):
    chat = decoded(input=[CALL, RESULT, RESULT])

    assert chat.messages[1:] == (_user(ToolResult("call_1", (Text("found"),))),)
    assert chat.lost == ("input.function_call_output",)


def test_a_call_without_arguments_has_an_empty_object(decoded):
    [message] = decoded(input=[{**CALL, "arguments": ""}]).messages

    assert message.parts == (ToolCall("call_1", "get", "{}"),)


def test_images_and_files_are_carried(decoded):
    content = [
        {"type": "input_image", "image_url": "data:image/png;base64,AAEC", "detail": "auto"},
        {"type": "input_image", "image_url": "https://example.com/a.png"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,AAEC", "filename": "a.pdf"},
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
    ]

    [message] = decoded(input=[{"role": "user", "content": content}]).messages

    assert message.parts == (
        Image("AAEC", "image/png"),
        Image(url="https://example.com/a.png"),
        File("AAEC", "application/pdf", name="a.pdf"),
        File(url="https://example.com/a.pdf"),
    )


def test_schemas_keep_their_bytes(decoded):
    body = b'{"model":"m","input":"hi","tools":[{"type":"function","name":"get","parameters":{"b" : 1,\n"a":2.50}}]}'

    [tool] = DIALECT.decode_request(body).tools

    assert bytes(tool.schema) == b'{"b" : 1,\n"a":2.50}'


def test_tools_of_servers_are_dropped_and_listed(decoded):
    container = {"type": "shell", "environment": {"type": "container_auto"}}
    chat = decoded(input="hi", tools=[GET, {"type": "web_search"}, {"type": "mcp", "server_label": "a"}, container])

    assert [tool.name for tool in chat.tools] == ["get"]
    assert chat.lost == ("tools.mcp", "tools.shell", "tools.web_search")


@pytest.mark.parametrize("choice", ["required", {"type": "web_search"}, {"type": "mcp", "server_label": "a"}])
def test_a_tool_of_a_server_that_must_be_called_is_refused(decoded, choice):
    with pytest.raises(RequestError) as raised:
        decoded(input="hi", tools=[{"type": "web_search"}], tool_choice=choice)

    assert (raised.value.code, raised.value.param) == ("not_translatable", "tool_choice")


@pytest.mark.parametrize(
    ("choice", "names", "expected"),
    [
        ("auto", ["get", "put"], "auto"),
        ("none", ["get", "put"], "none"),
        ("required", ["get", "put"], "required"),
        ({"type": "function", "name": "put"}, ["get", "put"], OneTool("put")),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get"}]},
            ["get"],
            "required",
        ),
    ],
)
def test_the_choice_of_tools_is_carried(decoded, choice, names, expected):
    chat = decoded(input="hi", tools=[GET, {**GET, "name": "put"}], tool_choice=choice)

    assert [tool.name for tool in chat.tools] == names
    assert chat.tool_choice == expected


def test_tools_in_namespaces_have_names_of_their_own(decoded):
    long = "mcp__a_server_with_a_rather_long_name_of_an_operator__"
    inner = [GET, {"type": "custom", "name": "run"}]
    chat = decoded(
        input=[{**CALL, "namespace": "clock"}],
        tools=[{"type": "namespace", "name": name, "tools": inner} for name in ("clock", "functions", long)],
    )

    assert [tool.name for tool in chat.tools[:4]] == ["clock__get", "clock__run", "get", "run"]
    assert chat.tools[0].known_as == KnownAs("get", "clock")
    assert chat.tools[2].known_as is None
    assert chat.messages[0].parts[0].name == "clock__get"
    assert all(len(tool.name) <= 64 for tool in chat.tools)
    assert len({tool.name for tool in chat.tools}) == 6


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("previous_response_id", "resp_1"),
        ("conversation", {"id": "conv_1"}),
        ("prompt", {"id": "pmpt_1"}),
        ("background", True),
    ],
)
def test_what_another_server_keeps_is_refused_with_the_remedy(decoded, name, value):
    with pytest.raises(RequestError) as raised:
        decoded(input="hi", **{name: value})

    assert (raised.value.code, raised.value.param) == ("not_translatable", name)
    assert ";" in raised.value.message


@pytest.mark.parametrize(
    "item",
    [
        {"type": "item_reference", "id": "msg_1"},
        {"id": "msg_1"},
        {"type": "compaction", "encrypted_content": "x"},
        {"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}]},
        {"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}]},
    ],
)
def test_items_that_refer_to_another_server_are_refused(decoded, item):
    with pytest.raises(RequestError) as raised:
        decoded(input=[item])

    assert raised.value.code == "not_translatable"
    assert raised.value.param.startswith("input.")


def test_what_asks_for_nothing_is_neither_refused_nor_listed(decoded):
    chat = decoded(
        input="hi",
        previous_response_id=None,
        background=False,
        store=False,
        truncation="disabled",
        include=["reasoning.encrypted_content"],
        metadata={"a": "b"},
        stream_options={"include_obfuscation": False},
        service_tier="auto",
        context_management=[],
    )

    assert chat.lost == ()


def test_other_members_are_listed(decoded):
    chat = decoded(input="hi", store=True, truncation="auto", top_logprobs=3, include=["a"], client_metadata={"a": 1})

    assert chat.lost == ("client_metadata", "include", "store", "top_logprobs", "truncation")


def test_members_of_members_are_listed(decoded):
    chat = decoded(input="hi", reasoning={"effort": "low", "context": "all_turns", "mode": None}, text={"a": 1})

    assert chat.lost == ("reasoning.context", "text.a")


def test_items_of_tools_that_servers_run_are_listed(decoded):
    chat = decoded(
        input=[{"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}]
    )

    assert chat.messages == ()
    assert chat.lost == ("input.web_search_call",)


def test_the_format_of_the_answer_is_carried(decoded):
    format_ = {"type": "json_schema", "name": "plan", "schema": {"type": "object"}, "strict": True}
    chat = decoded(input="hi", text={"format": format_, "verbosity": "low"})

    assert (chat.format.name, bytes(chat.format.schema), chat.format.is_strict) == ("plan", b'{"type": "object"}', True)
    assert chat.verbosity == "low"
    assert decoded(input="hi", text={"format": {"type": "json_object"}}).format.schema is None
    assert decoded(input="hi", text={"format": {"type": "text"}}).format is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"effort": "high", "summary": "auto"}, Reasoning(is_on=True, effort="high")),
        ({"effort": "none"}, Reasoning(is_on=False)),
        ({"summary": "auto"}, Reasoning()),
    ],
)
def test_the_effort_is_carried(decoded, given, expected):
    assert decoded(input="hi", reasoning=given).reasoning == expected


def test_limits_and_sampling_are_carried(decoded):
    chat = decoded(input="hi", max_output_tokens=5, temperature=0, top_p=0.5, parallel_tool_calls=False, user="u")

    assert (chat.max_tokens, chat.temperature, chat.top_p, chat.parallel_tools, chat.user) == (5, 0.0, 0.5, False, "u")


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": 1}, "input"),
        ({"input": [{"role": "user", "content": 1}]}, "input"),
        ({"input": [{"role": "robot", "content": "hi"}]}, "input"),
        ({"input": "hi", "temperature": "hot"}, "temperature"),
        ({"input": "hi", "tools": [{"type": "function"}]}, "tools"),
        ({"input": "hi", "tool_choice": "sometimes"}, "tool_choice"),
    ],
)
def test_what_every_server_refuses_is_refused(decoded, members, param):
    with pytest.raises(RequestError) as raised:
        decoded(**members)

    assert (raised.value.code, raised.value.param) == ("invalid_value", param)


@pytest.mark.parametrize("body", [b"[]", b"{", b"", b'{"a":"\xff"}x'])
def test_a_body_that_is_no_object_is_refused(body):
    with pytest.raises(RequestError, match="JSON"):
        DIALECT.decode_request(body)


def test_encrypted_content_of_another_server_is_dropped_and_listed(decoded):
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}

    chat = decoded(input=[item, {"role": "user", "content": "hi"}])

    assert chat.messages == (_user(Text("hi")),)
    assert chat.lost == ("input.encrypted_content",)


@pytest.mark.parametrize("name", ["codex", "codex_custom_tool", "codex_tool_search", "codex_tools_in_input"])
def test_nothing_of_codex_is_refused_and_each_call_has_its_result(agent, name):
    chat = agent(name)

    parts = [part for message in chat.messages for part in message.parts]
    calls = [part.id for part in parts if isinstance(part, ToolCall)]
    assert calls == [part.call_id for part in parts if isinstance(part, ToolResult)]
    assert chat.cache_key
    assert chat.tools


def test_codex_applies_patches_with_a_custom_tool(agent):
    chat = agent("codex_custom_tool")

    [tool] = [tool for tool in chat.tools if tool.name == "apply_patch"]
    assert (tool.kind, b'"lark"' in bytes(tool.grammar)) == ("custom", True)
    [call] = [part for m in chat.messages for part in m.parts if isinstance(part, ToolCall) and part.kind == "custom"]
    assert call.arguments.startswith("*** Begin Patch\n")


def test_tools_that_codex_found_or_put_into_the_input_are_declared(agent):
    found = {tool.name: tool for tool in agent("codex_tool_search").tools}
    in_input = {tool.name: tool for tool in agent("codex_tools_in_input").tools}

    assert found["tool_search"].known_as == KnownAs("tool_search", type="tool_search")
    assert found["multi_agent_v1__spawn_agent"].known_as == KnownAs("spawn_agent", "multi_agent_v1")
    assert in_input["exec"].kind == "custom"
    assert in_input["collaboration__list_agents"].known_as == KnownAs("list_agents", "collaboration")


def test_calls_of_a_shell_and_patches_are_calls_of_functions(decoded):
    items = [
        {
            "type": "local_shell_call",
            "id": "lsh_1",
            "call_id": "call_1",
            "action": {"type": "exec", "command": ["ls"], "env": {}},
            "status": "completed",
        },
        {"type": "local_shell_call_output", "id": "call_1", "output": "a.txt"},
        {"type": "apply_patch_call", "call_id": "call_2", "operation": {"type": "delete_file", "path": "a"}},
        {"type": "apply_patch_call_output", "call_id": "call_2", "status": "completed"},
    ]

    messages = decoded(input=items, tools=[{"type": "local_shell"}, {"type": "apply_patch"}]).messages

    assert [part for message in messages for part in message.parts] == [
        ToolCall("call_1", "local_shell", '{"type": "exec", "command": ["ls"], "env": {}}'),
        ToolResult("call_1", (Text("a.txt"),)),
        ToolCall("call_2", "apply_patch", '{"type": "delete_file", "path": "a"}'),
        ToolResult("call_2", (Text("completed"),)),
    ]


@pytest.mark.parametrize("name", ["codex", "codex_custom_tool", "codex_tool_search", "codex_tools_in_input"])
@pytest.mark.parametrize("other", translations()["openai.responses"])
def test_what_codex_asks_can_be_said_in_every_other_dialect(agent, name, other):
    chat = as_functions(agent(name))

    body = msgspec.json.decode(DIALECTS[other].encode_request(chat, Target(model="qwen3")).body)

    assert len(body["tools"]) == len(chat.tools)
    assert b"custom" not in msgspec.json.encode([tool.get("type") for tool in body["tools"]])
