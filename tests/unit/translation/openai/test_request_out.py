"""Requests to backends; each test is named after what must happen."""

import json

import msgspec
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
    Tool,
    ToolCall,
    ToolResult,
)
from nexus.translation.quirks import QUIRKS
from nexus.translation.signed_ids import SKIP, signed
from tests.support.chat_dialect import sent

HI = Message("user", (Text("hi"),))
ENGINES = ("generic", "vllm", "sglang", "llamacpp")


def system(text):
    return Message("system", (Text(text),))


def asked(*calls, text=()):
    return Message("assistant", (*text, *calls))


def results(*parts):
    return Message("user", parts)


def result(id_, text, **members):
    return ToolResult(id_, (Text(text),), **members)


def roles(body):
    return [message["role"] for message in body["messages"]]


def raw(schema):
    return msgspec.Raw(json.dumps(schema).encode())


def schema_sent(schema, kind="google"):
    return sent(HI, tools=(Tool("f", schema=raw(schema)),), kind=kind)["tools"][0]["function"]["parameters"]


# messages


def test_text_is_sent_as_a_string():
    body = sent(Message("user", (Text("a"), Text("b"))))

    assert body["messages"] == [{"role": "user", "content": "a\nb"}]


@pytest.mark.parametrize("kind", ENGINES)
def test_engines_get_one_system_message_at_the_beginning(kind):
    body = sent(system("one"), system("two"), HI, system("late"), kind=kind)

    first, second = body["messages"]
    assert first == {"role": "system", "content": "one\ntwo"}
    assert second["role"] == "user"
    assert "hi" in second["content"]
    assert "late" in second["content"]


@pytest.mark.parametrize("kind", ENGINES)
def test_a_late_system_message_does_not_change_what_precedes_it(kind):
    before = sent(system("one"), HI, asked(text=(Text("yes"),)), HI, kind=kind)
    after = sent(
        system("one"), HI, asked(text=(Text("yes"),)), HI, asked(text=(Text("ok"),)), system("late"), kind=kind
    )

    assert before["messages"] == after["messages"][: len(before["messages"])]


def test_openai_gets_system_messages_where_they_are():
    assert roles(sent(HI, system("late"), HI, kind="openai")) == ["user", "system", "user"]


def test_results_come_directly_after_their_calls_and_before_any_text():
    calls = asked(ToolCall("a", "f", "{}"), ToolCall("b", "g", "{}"), text=(Text("wait"),))

    body = sent(HI, calls, results(Text("and now?"), result("b", "B"), result("a", "A")))

    assert roles(body) == ["user", "assistant", "tool", "tool", "user"]
    assert [(each["tool_call_id"], each["content"]) for each in body["messages"][2:4]] == [("a", "A"), ("b", "B")]
    assert body["messages"][4]["content"] == "and now?"
    assert body["messages"][1]["content"] == "wait"


def test_a_result_that_came_late_is_moved_to_its_call():
    body = sent(HI, asked(ToolCall("a", "f", "{}")), HI, results(result("a", "A")))

    assert roles(body) == ["user", "assistant", "tool", "user"]
    assert body["messages"][2]["content"] == "A"


def test_a_repeated_result_is_sent_once():
    body = sent(HI, asked(ToolCall("a", "f", "{}")), results(result("a", "A"), result("a", "A")), HI)

    assert roles(body) == ["user", "assistant", "tool", "user"]


def test_a_result_without_a_call_is_text_of_its_user():
    body = sent(results(result("gone", "A"), Text("hi")))

    assert body["messages"] == [{"role": "user", "content": "A\nhi"}]


def test_a_call_without_a_result_gets_an_empty_one_if_the_conversation_goes_on():
    body = sent(HI, asked(ToolCall("a", "f", "{}")), HI)

    assert body["messages"][2] == {"role": "tool", "content": "", "tool_call_id": "a"}
    assert roles(sent(HI, asked(ToolCall("a", "f", "{}")))) == ["user", "assistant"]


def test_results_without_ids_go_to_the_calls_with_their_names():
    calls = asked(ToolCall("", "f", "{}"), ToolCall("", "g", "{}"))

    body = sent(calls, results(result("", "G", name="g"), result("", "F", name="f")))

    made = [call["id"] for call in body["messages"][0]["tool_calls"]]
    assert len(set(made)) == 2
    assert [*zip(made, "FG", strict=True)] == [(each["tool_call_id"], each["content"]) for each in body["messages"][1:]]


def test_made_ids_are_the_same_in_the_next_turn():
    history = (HI, asked(ToolCall("", "f", "{}")), results(result("", "F")))

    first, second = sent(*history)["messages"], sent(*history, asked(ToolCall("", "f", "{}")))["messages"]

    assert first == second[: len(first)]


def test_a_long_id_is_shortened_alike_at_the_call_and_at_its_result():
    long = "toolu_" + "x" * 60

    history = (HI, asked(ToolCall(long, "f", "{}")), results(result(long, "A")))

    _, call, answer = sent(*history, kind="openai")["messages"]

    assert call["tool_calls"][0]["id"] == answer["tool_call_id"]
    assert len(answer["tool_call_id"]) <= 40
    assert sent(*history, kind="vllm")["messages"][2]["tool_call_id"] == long


@pytest.mark.parametrize(
    ("kind", "is_said"), [("vllm", True), ("sglang", True), ("llamacpp", False), ("openai", False)]
)
def test_the_beginning_of_an_answer_is_continued(kind, is_said):
    body = sent(HI, asked(text=(Text("{"),)), kind=kind)

    expected = (True, False) if is_said else (None, None)
    assert (body.get("continue_final_message"), body.get("add_generation_prompt")) == expected
    assert "continue_final_message" not in sent(HI, asked(text=(Text("yes"),)), HI, kind=kind)


def test_images_of_a_result_follow_in_a_users_message():
    shown = ToolResult("a", (Text("seen"), Image("iVBORw0KGgo")))

    body = sent(HI, asked(ToolCall("a", "f", "{}")), results(shown, Text("what is it?")))

    assert roles(body) == ["user", "assistant", "tool", "user"]
    assert body["messages"][2]["content"] == "seen"
    assert body["messages"][3]["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo"}},
        {"type": "text", "text": "what is it?"},
    ]


def test_several_blocks_of_a_result_are_one_text():
    shown = ToolResult("a", (Text("one"), Text("two")))

    assert sent(asked(ToolCall("a", "f", "{}")), results(shown))["messages"][1]["content"] == "one\ntwo"


@pytest.mark.parametrize(("text", "expected"), [("no file", "Error: no file"), ("Error: no file", "Error: no file")])
def test_a_failed_result_says_so(text, expected):
    body = sent(asked(ToolCall("a", "f", "{}")), results(result("a", text, is_error=True)))

    assert body["messages"][1]["content"] == expected


def test_arguments_keep_their_text():
    arguments = '{"b": 1,\n "a": 2.50}'

    assert sent(asked(ToolCall("a", "f", arguments)))["messages"][0]["tool_calls"][0]["function"] == {
        "name": "f",
        "arguments": arguments,
    }


def test_calls_alone_have_no_text():
    assert sent(asked(ToolCall("a", "f", "{}")))["messages"][0]["content"] is None


def test_a_file_is_sent_as_a_data_url():
    body = sent(Message("user", (File("JVBERi0", name="a.pdf"), File(text="plain"))))

    assert body["messages"][0]["content"] == [
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0"}},
        {"type": "text", "text": "plain"},
    ]


def test_a_file_at_a_url_is_refused():
    with pytest.raises(RequestError, match="data") as caught:
        sent(Message("user", (File(url="https://x/a.pdf"),)))

    assert caught.value.code == "not_translatable"


@pytest.mark.parametrize(
    ("kind", "member"), [("vllm", "reasoning"), ("sglang", "reasoning_content"), ("llamacpp", "reasoning_content")]
)
def test_engines_get_unsigned_thoughts_of_the_history(kind, member):
    message = sent(HI, asked(text=(Thinking("hm"), Text("yes"))), kind=kind)["messages"][1]

    assert {"role": "assistant", "content": "yes", member: "hm"} == message


@pytest.mark.parametrize("kind", ["generic", "openai", "google", "azure"])
def test_other_providers_get_no_thoughts(kind):
    body = sent(HI, asked(text=(Thinking("hm"), Text("yes"))), kind=kind)

    assert body["messages"][1] == {"role": "assistant", "content": "yes"}
    assert body["lost"] == ("messages.thinking",)


@pytest.mark.parametrize("kind", QUIRKS)
def test_signed_thoughts_never_leave_their_provider(kind):
    body = sent(HI, asked(text=(Thinking("hm", "c2ln"), Thinking(redacted="eA=="), Text("yes"))), kind=kind)

    assert body["messages"][1] == {"role": "assistant", "content": "yes"}


# fields


def test_usage_is_always_asked_for_in_a_stream():
    assert sent(HI, is_stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in sent(HI)


@pytest.mark.parametrize(
    ("kind", "name"), [("generic", "max_tokens"), ("vllm", "max_tokens"), ("openai", "max_completion_tokens")]
)
def test_the_limit_has_the_providers_name(kind, name):
    body = sent(HI, kind=kind, max_tokens=5)

    assert body[name] == 5
    assert len({"max_tokens", "max_completion_tokens"} & body.keys()) == 1


def test_parallel_calls_stay_switched_off():
    assert sent(HI, tools=(Tool("f"),), parallel_tools=False)["parallel_tool_calls"] is False


def test_fields_about_tools_are_only_sent_with_tools():
    body = sent(HI, parallel_tools=False, tool_choice="auto")

    assert not {"tools", "tool_choice", "parallel_tool_calls"} & body.keys()


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("required", "required"), ("none", "none"), (OneTool("f"), {"type": "function", "function": {"name": "f"}})],
)
def test_the_choice_of_a_tool(choice, expected):
    assert sent(HI, tools=(Tool("f"),), tool_choice=choice)["tool_choice"] == expected


def test_a_tool_without_a_schema_takes_an_empty_object():
    function = sent(HI, tools=(Tool("f", "does f"),))["tools"][0]["function"]

    assert function == {"name": "f", "description": "does f", "parameters": {"type": "object", "properties": {}}}


def test_the_format_of_the_answer():
    assert sent(HI, format=JsonFormat())["response_format"] == {"type": "json_object"}
    assert sent(HI, format=JsonFormat(raw({"a": 1}), "", is_strict=True))["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"a": 1}, "strict": True},
    }


def test_json_without_a_schema_is_asked_for_with_one_where_that_is_needed():
    assert sent(HI, kind="lmstudio", format=JsonFormat())["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}},
    }


@pytest.mark.parametrize(
    ("kind", "model", "reasoning", "is_sent"),
    [
        ("openai", "o3", Reasoning(), False),
        ("openai", "gpt-5-mini", Reasoning(), False),
        ("openai", "gpt-5.1", Reasoning(), True),
        ("openai", "gpt-5.1", Reasoning(effort="low"), False),
        ("openai", "gpt-4o", Reasoning(effort="low"), True),
        ("vllm", "gpt-oss-20b", Reasoning(effort="low"), True),
    ],
)
def test_models_that_cannot_be_sampled_get_no_temperature(kind, model, reasoning, is_sent):
    body = sent(HI, kind=kind, model=model, reasoning=reasoning, temperature=0.5, top_p=0.9)

    assert ({"temperature", "top_p"} <= body.keys()) is is_sent
    assert ({"temperature", "top_p"} <= set(body["lost"])) is not is_sent
    assert sent(HI, kind=kind, model=model, temperature=1)["temperature"] == 1


def test_what_a_backend_does_not_take_is_left_out_and_listed():
    fields = {"top_k": 5, "cache_key": "k", "verbosity": "low", "keep_alive": msgspec.Raw(b"5"), "seed": 1}

    assert sent(HI, **fields)["lost"] == ("keep_alive", "prompt_cache_key", "top_k", "verbosity")
    assert sent(HI, kind="openai", **fields)["lost"] == ("keep_alive", "top_k")
    assert sent(HI, kind="vllm", **fields)["top_k"] == 5
    assert "seed" in sent(HI, kind="google", **fields)["lost"]


def test_a_long_id_of_a_user_is_hashed_for_openai():
    long = "user_" + "x" * 100

    assert len(sent(HI, user=long, kind="openai")["user"]) == 64
    assert sent(HI, user="me", kind="openai")["user"] == "me"
    assert sent(HI, user=long)["user"] == long


@pytest.mark.parametrize(
    ("kind", "model", "reasoning", "effort"),
    [
        ("openai", "gpt-5.1", Reasoning(effort="max"), "high"),
        ("openai", "o3", Reasoning(is_on=True, budget_tokens=4096), "medium"),
        ("openai", "gpt-4o", Reasoning(effort="high"), None),
        ("openai", "gpt-5-chat-latest", Reasoning(effort="high"), None),
        ("openai", "gpt-5.1", Reasoning(is_on=False), None),
        ("google", "gemini-3-pro", Reasoning(effort="xhigh"), "high"),
        ("google", "gemini-2.5-flash", Reasoning(is_on=False), "low"),
        ("google", "gemini-2.0-flash", Reasoning(effort="high"), None),
        ("generic", "llama", Reasoning(effort="high"), None),
        ("vllm", "gpt-oss-20b", Reasoning(effort="minimal"), "low"),
    ],
)
def test_the_effort_is_said_in_the_words_of_the_provider(kind, model, reasoning, effort):
    body = sent(HI, kind=kind, model=model, reasoning=reasoning)

    assert body.get("reasoning_effort") == effort
    assert ("reasoning_effort" in body["lost"]) is (effort is None)


@pytest.mark.parametrize(("kind", "thinks"), [("generic", True), ("vllm", False), ("openai", False)])
def test_the_effort_is_sent_to_models_that_are_known_to_think(kind, thinks):
    body = sent(HI, kind=kind, model="gpt-5", thinks=thinks, reasoning=Reasoning(effort="high"))

    assert ("reasoning_effort" in body) is thinks
    assert ("reasoning_effort" in body["lost"]) is not thinks


@pytest.mark.parametrize("is_on", [True, False])
def test_engines_switch_thoughts_in_the_template(is_on):
    body = sent(HI, kind="vllm", reasoning=Reasoning(is_on, "high" if is_on else None))

    assert body["chat_template_kwargs"] == {"enable_thinking": is_on}
    assert body.get("reasoning_effort") == ("high" if is_on else None)


def test_nothing_is_said_about_thoughts_unless_the_client_does():
    for kind in QUIRKS:
        assert not {"reasoning_effort", "chat_template_kwargs"} & sent(HI, kind=kind).keys()


# Google


def test_google_gets_its_signature_back():
    id_ = signed("function-call-1", "Cp+/AbC==")

    _, call, answer = sent(HI, asked(ToolCall(id_, "f", "{}")), results(result(id_, "A")), kind="google")["messages"]

    assert call["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "Cp+/AbC=="}}
    assert call["tool_calls"][0]["id"] == answer["tool_call_id"] == "function-call-1"


def test_google_gets_the_mark_for_calls_that_it_has_not_signed():
    calls = sent(asked(ToolCall("a", "f", "{}"), ToolCall("b", "g", "{}")), kind="google")["messages"][0]["tool_calls"]

    assert [call["extra_content"]["google"]["thought_signature"] for call in calls] == [SKIP, SKIP]


def test_google_signs_only_the_first_of_parallel_calls():
    calls = asked(ToolCall(signed("a", "c2ln"), "f", "{}"), ToolCall("b", "g", "{}"))

    first, second = sent(calls, kind="google")["messages"][0]["tool_calls"]

    assert first["extra_content"] == {"google": {"thought_signature": "c2ln"}}
    assert "extra_content" not in second


def test_googles_signature_is_sent_to_no_other_provider():
    body = sent(asked(ToolCall(signed("a", "c2ln"), "f", "{}")), kind="openai")

    assert body["messages"][0]["tool_calls"] == [
        {"id": "a", "function": {"name": "f", "arguments": "{}"}, "type": "function"}
    ]


def test_other_providers_get_schemas_byte_for_byte():
    schema = {
        "$schema": "x",
        "$defs": {"d": {}},
        "properties": {"a": {"$ref": "#/$defs/d"}},
        "additionalProperties": False,
    }

    assert schema_sent(schema, "openai") == schema


def test_google_gets_schemas_without_references():
    schema = {
        "$schema": "x",
        "type": "object",
        "$defs": {"Point": {"type": "object", "properties": {"x": {"type": "number"}}, "additionalProperties": False}},
        "properties": {"at": {"$ref": "#/$defs/Point", "description": "where"}, "any": {}, "list": {"type": "array"}},
        "required": ["at", "gone"],
        "additionalProperties": False,
    }

    assert schema_sent(schema) == {
        "type": "object",
        "properties": {
            "at": {"type": "object", "properties": {"x": {"type": "number"}}, "description": "where"},
            "any": {"type": "string"},
            "list": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["at"],
    }


def test_google_gets_other_words_for_what_it_does_not_know():
    schema = {
        "type": "object",
        "properties": {
            "maybe": {"type": ["string", "null"], "format": "uri"},
            "one": {"const": "x"},
            "either": {"oneOf": [{"type": "integer"}, {"type": "string"}]},
            "same": {"allOf": [{"type": "boolean"}], "description": "d"},
        },
    }

    assert schema_sent(schema)["properties"] == {
        "maybe": {"type": "string", "nullable": True},
        "one": {"type": "string", "enum": ["x"]},
        "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "same": {"type": "boolean", "description": "d"},
    }


def test_a_schema_that_refers_to_itself_ends():
    schema = {"type": "object", "properties": {"next": {"$ref": "#"}}}

    assert schema_sent(schema)["properties"]["next"]["properties"]["next"] == {"type": "object"}


def test_references_that_multiply_end():
    schema = {"properties": {"a": {"$ref": "#/$defs/0"}}, "$defs": {}}
    for depth in range(40):
        schema["$defs"][str(depth)] = {"anyOf": [{"$ref": f"#/$defs/{depth + 1}"}] * 2}

    assert len(json.dumps(schema_sent(schema))) < 5_000_000
