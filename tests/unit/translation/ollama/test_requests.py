"""Ollama's requests: what its library sends is read, and what is written is what its server takes."""

import json

import msgspec
import pytest
from ollama._types import ChatRequest as LibraryChat
from ollama._types import GenerateRequest as LibraryCompletion
from ollama._types import Image as LibraryImage

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
from nexus.translation.conversion import About
from nexus.translation.dialect import Target
from nexus.translation.dialects import convert
from nexus.translation.ollama import COMPLETION_DIALECT, DIALECT

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ABOUT = About(model="m", id="r1", created=1_700_000_000)
HI = {"role": "user", "content": "hi"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather",
        "parameters": {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "integer"}}},
    },
}


def read(dialect=DIALECT, **fields):
    return dialect.decode_request(json.dumps(fields).encode())


def refusal(dialect=DIALECT, **fields):
    with pytest.raises(RequestError) as raised:
        read(dialect, **fields)
    return raised.value


def messages(*given):
    return read(model="m", messages=given).messages


def written(*parts, role="user", target=Target(model="b"), **fields):  # noqa: B008 - frozen
    chat = ChatRequest(model="m", messages=(Message(role, parts or (Text("hi"),)),), **fields)
    encoded = DIALECT.encode_request(chat, target)
    return json.loads(encoded.body), encoded.lost


class TestReading:
    def test_what_ollamas_library_sends_is_read(self):
        sent = LibraryChat(
            model="m",
            messages=[{"role": "system", "content": "be kind"}, {**HI, "images": [PNG]}],
            tools=[WEATHER],
            stream=True,
            think="low",
            format={"type": "object"},
            options={"num_predict": 5, "temperature": 0.5, "top_k": 3, "top_p": 0.1, "seed": 7, "stop": ["x", "y"]},
            keep_alive="5m",
        )

        chat = DIALECT.decode_request(json.dumps(sent.model_dump(exclude_none=True)).encode())

        assert chat.messages == (
            Message("system", (Text("be kind"),)),
            Message("user", (Image(data=PNG, media_type="image/png"), Text("hi"))),
        )
        assert [(tool.name, tool.description) for tool in chat.tools] == [("weather", "Tell the weather")]
        assert chat.is_stream
        assert chat.wants_usage
        assert chat.reasoning == Reasoning(is_on=True, effort="low")
        assert chat.format == JsonFormat(schema=msgspec.Raw(b'{"type": "object"}'))
        assert (chat.max_tokens, chat.temperature, chat.top_k, chat.top_p, chat.seed) == (5, 0.5, 3, 0.1, 7)
        assert chat.stop == ("x", "y")
        assert chat.keep_alive == msgspec.Raw(b'"5m"')
        assert chat.lost == ()

    def test_the_bytes_of_a_schema_stay(self):
        body = b'{"messages":[{"role":"user"}],"tools":[{"function":{"name":"f","parameters":{"b" :1,"a":1.0}}}]}'

        assert bytes(DIALECT.decode_request(body).tools[0].schema) == b'{"b" :1,"a":1.0}'

    @pytest.mark.parametrize(
        ("stream", "is_stream"), [({}, True), ({"stream": None}, True), ({"stream": False}, False)]
    )
    def test_a_chat_is_a_stream_unless_it_says_otherwise(self, stream, is_stream):
        assert read(model="m", messages=[HI], **stream).is_stream is is_stream

    @pytest.mark.parametrize("limit", [-1, -2, 0, None])
    def test_no_limit_is_none(self, limit):
        assert read(messages=[HI], options={"num_predict": limit}).max_tokens is None

    def test_a_whole_number_may_have_a_point(self):
        assert read(messages=[HI], options={"num_predict": 5.0, "seed": 3.0, "top_k": 2.5}).top_k == 2

    def test_a_model_is_unloaded_after_the_answer(self):
        assert read(messages=[HI], keep_alive=0).keep_alive == msgspec.Raw(b"0")

    @pytest.mark.parametrize(
        ("think", "reasoning"),
        [
            (None, Reasoning()),
            (True, Reasoning(is_on=True)),
            (False, Reasoning(is_on=False)),
            ("max", Reasoning(is_on=True, effort="max")),
        ],
    )
    def test_thinking_is_read(self, think, reasoning):
        assert read(messages=[HI], think=think).reasoning == reasoning

    @pytest.mark.parametrize(("format_", "read_format"), [("json", JsonFormat()), ("", None), (None, None)])
    def test_a_format_is_read(self, format_, read_format):
        assert read(messages=[HI], format=format_).format == read_format

    def test_what_no_other_dialect_has_is_listed(self):
        chat = read(
            messages=[HI],
            logprobs=True,
            top_logprobs=2,
            truncate=False,
            new={"a": 1},
            options={"num_ctx": 1, "mirostat": 0, "numa": None},
        )

        assert chat.lost == ("logprobs", "new", "options.mirostat", "options.num_ctx", "top_logprobs")

    @pytest.mark.parametrize("role", ["system", "assistant"])
    def test_an_image_that_no_other_dialect_lets_a_role_show_is_listed(self, role):
        chat = read(messages=[{"role": role, "content": "a", "images": [PNG]}])

        assert (chat.messages, chat.lost) == ((Message(role, (Text("a"),)),), ("messages.images",))

    def test_tools_inside_options_are_listed_as_ollama_ignores_them(self):
        chat = read(messages=[HI], options={"tools": [WEATHER]})

        assert (chat.tools, chat.lost) == ((), ("options.tools",))

    @pytest.mark.parametrize("given", [[], None])
    def test_loading_a_model_is_not_translated(self, given):
        error = refusal(model="m", messages=given, keep_alive=0)

        assert (error.code, error.param) == ("not_translatable", "messages")

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"think": "true"}, "think"),
            ({"think": 1}, "think"),
            ({"format": "xml"}, "format"),
            ({"options": {"seed": "x"}}, "options.seed"),
            ({"messages": [{**HI, "content": []}]}, "messages[0].content"),
            ({"messages": "hi"}, "messages"),
        ],
    )
    def test_what_ollama_refuses_is_refused(self, fields, param):
        error = refusal(**{"messages": [HI], **fields})

        assert (error.code, error.param) == ("invalid_value", param)

    def test_a_role_that_only_some_templates_know_is_not_translated(self):
        error = refusal(messages=[HI, {"role": "control", "content": "thinking"}])

        assert (error.code, error.param) == ("not_translatable", "messages[1].role")

    def test_a_message_without_content_stays_a_message(self):
        assert messages({"role": "User"}, {"role": "assistant"}) == (
            Message("user", (Text(""),)),
            Message("assistant", (Text(""),)),
        )


def call(name, *, id_="", **arguments):
    return {**({"id": id_} if id_ else {}), "function": {"name": name, "arguments": arguments}}


def calling(*calls, **fields):
    return {"role": "assistant", "content": "", "tool_calls": calls, **fields}


def result(content, **fields):
    return {"role": "tool", "content": content, **fields}


class TestHistory:
    def test_results_without_ids_belong_to_the_calls_of_their_tools(self):
        history = messages(
            HI,
            calling(call("f", a=1), call("g"), call("f", a=2), thinking="hm"),
            result("g's", tool_name="g"),
            result("f's first", tool_name="f"),
            result("f's second", tool_name="f"),
            {"role": "user", "content": "and?"},
        )

        assert history[1:] == (
            Message(
                "assistant",
                (
                    Thinking("hm"),
                    ToolCall("call_1_0", "f", '{"a": 1}'),
                    ToolCall("call_1_1", "g", "{}"),
                    ToolCall("call_1_2", "f", '{"a": 2}'),
                ),
            ),
            Message(
                "user",
                (
                    ToolResult("call_1_1", (Text("g's"),), name="g"),
                    ToolResult("call_1_0", (Text("f's first"),), name="f"),
                    ToolResult("call_1_2", (Text("f's second"),), name="f"),
                ),
            ),
            Message("user", (Text("and?"),)),
        )

    def test_results_without_names_are_in_the_order_of_the_calls(self):
        history = messages(calling(call("f"), call("g")), result("1"), result("2"))

        assert [part.call_id for part in history[1].parts] == ["call_0_0", "call_0_1"]

    def test_made_ids_are_the_same_in_the_next_turn(self):
        first = messages(HI, calling(call("f")), result("1"))
        second = messages(HI, calling(call("f")), result("1"), calling(call("f")), result("2"))

        assert second[: len(first)] == first

    def test_ids_of_the_client_are_kept(self):
        history = messages(
            calling(call("f", id_="a"), call("f", id_="b")),
            result("b's", tool_call_id="b"),
            result("", tool_call_id="a"),
        )

        assert [part.call_id for part in history[1].parts] == ["b", "a"]

    def test_an_id_that_the_client_dropped_from_the_call_is_found_by_the_tool(self):
        history = messages(calling(call("f"), call("g")), result("g's", tool_call_id="call_x1", tool_name="g"))

        assert history[1].parts[0].call_id == "call_0_1"

    def test_a_result_of_an_unknown_id_keeps_it(self):
        history = messages(calling(call("f", id_="a")), result("b's", tool_call_id="b", tool_name="f"))

        assert history[1].parts == (ToolResult("b", (Text("b's"),), name="f"),)

    def test_a_result_without_a_call_is_a_text_of_the_user(self):
        history = messages(HI, result("orphan"), result("another"))

        assert history[1:] == (Message("user", (Text("orphan"),)), Message("user", (Text("another"),)))

    def test_a_result_may_have_images(self):
        history = messages(calling(call("f")), result("seen", images=["/9j/x"]))

        assert history[1].parts[0].parts == (Image(data="/9j/x", media_type="image/jpeg"), Text("seen"))


class TestCompletion:
    def test_what_ollamas_library_sends_is_a_chat(self):
        sent = LibraryCompletion(
            model="m",
            prompt="hi",
            system="be kind",
            images=[LibraryImage(value=PNG)],
            think=True,
            stream=False,
            suffix="",
            raw=False,
        )

        chat = COMPLETION_DIALECT.decode_request(json.dumps(sent.model_dump(exclude_none=True)).encode())

        assert chat.messages == (
            Message("system", (Text("be kind"),)),
            Message("user", (Image(data=PNG, media_type="image/png"), Text("hi"))),
        )
        assert (chat.is_stream, chat.reasoning.is_on, chat.lost) == (False, True, ())

    @pytest.mark.parametrize(
        ("name", "value"), [("raw", True), ("template", "{{ .Prompt }}"), ("suffix", "}"), ("context", [1, 2])]
    )
    def test_what_only_ollama_can_do_is_not_translated(self, name, value):
        error = refusal(COMPLETION_DIALECT, prompt="hi", **{name: value})

        assert (error.code, error.param) == ("not_translatable", name)

    def test_loading_a_model_is_not_translated(self):
        assert refusal(COMPLETION_DIALECT, model="m", prompt="").param == "prompt"

    def test_what_no_other_dialect_has_is_listed(self):
        assert read(COMPLETION_DIALECT, prompt="hi", steps=4, options={"num_gpu": 1}).lost == (
            "options.num_gpu",
            "steps",
        )


class TestWriting:
    def test_a_request_is_what_ollamas_library_would_send(self):
        body, lost = written(
            Image(data=PNG, media_type="image/png"),
            Text("hi"),
            Text("there"),
            is_stream=True,
            tools=(
                Tool(
                    "weather", "Tell the weather", msgspec.Raw(json.dumps(WEATHER["function"]["parameters"]).encode())
                ),
            ),
            tool_choice="auto",
            max_tokens=5,
            temperature=0.5,
            stop=("x",),
            keep_alive=msgspec.Raw(b'"5m"'),
            format=JsonFormat(),
        )

        sent = LibraryChat(
            model="b",
            messages=[{"role": "user", "content": "hi\nthere", "images": [PNG]}],
            stream=True,
            tools=[WEATHER],
            options={"num_predict": 5, "temperature": 0.5, "stop": ["x"]},
            keep_alive="5m",
            format="json",
        )
        assert body == sent.model_dump(exclude_none=True)
        assert lost == ()

    def test_a_plain_request_has_nothing_else(self):
        assert written() == ({"model": "b", "messages": [HI], "stream": False}, ())

    def test_a_late_system_message_is_marked_in_the_users_turn_as_some_models_see_the_first_only(self):
        said = (
            Message("system", (Text("be kind"),)),
            Message("system", (Text("be brief"),)),
            Message("user", (Text("hi"), Image(data=PNG))),
            Message("system", (Text("be bold"),)),
            Message("user", (Text("and?"),)),
        )

        body = json.loads(DIALECT.encode_request(ChatRequest(model="m", messages=said), Target(model="b")).body)

        assert body["messages"] == [
            {"role": "system", "content": "be kind\nbe brief"},
            {
                "role": "user",
                "content": "hi\n<system-reminder>\nbe bold\n</system-reminder>\nand?",
                "images": [PNG],
            },
        ]

    @pytest.mark.parametrize("thinking", [Thinking("hm", signature="s"), Thinking(redacted="r")])
    def test_signed_thoughts_are_left_out_and_listed(self, thinking):
        body, lost = written(thinking, Text("hi"), role="assistant")

        assert body["messages"] == [{"role": "assistant", "content": "hi"}]
        assert lost == ("messages.thinking",)

    def test_calls_keep_their_bytes(self):
        call_ = ToolCall("c1", "f", '{"b" : 1.0, "a": "\\u00e9"}')
        chat = ChatRequest(model="m", messages=(Message("assistant", (Thinking("hm"), call_)),))

        body = DIALECT.encode_request(chat, Target(model="b")).body

        assert b'"arguments":{"b" : 1.0, "a": "\\u00e9"}' in body
        (message,) = json.loads(body)["messages"]
        assert (message["content"], message["thinking"], message["tool_calls"][0]["id"]) == ("", "hm", "c1")

    @pytest.mark.parametrize(("arguments", "sent"), [("", {}), ('{"a', {"input": '{"a'}), ("[1]", {"input": "[1]"})])
    def test_malformed_arguments_are_an_object(self, arguments, sent):
        body, _ = written(ToolCall("c1", "f", arguments), role="assistant")

        assert body["messages"][0]["tool_calls"][0]["function"]["arguments"] == sent

    def test_results_are_messages_of_their_own_before_the_users_text(self):
        history = (
            Message("assistant", (ToolCall("c1", "f", "{}"), ToolCall("c2", "g", "{}"))),
            Message(
                "user",
                (
                    Text("and?"),
                    ToolResult("c1", (Text("1"), Text("2"))),
                    ToolResult("c2", (Text("no such file"),), is_error=True),
                ),
            ),
        )

        body = json.loads(DIALECT.encode_request(ChatRequest(model="m", messages=history), Target(model="b")).body)

        assert body["messages"][1:] == [
            {"role": "tool", "content": "1\n2", "tool_name": "f", "tool_call_id": "c1"},
            {"role": "tool", "content": "Error: no such file", "tool_name": "g", "tool_call_id": "c2"},
            {"role": "user", "content": "and?"},
        ]

    def test_the_first_of_two_results_of_a_call_counts(self):
        turn = (
            Message("assistant", (ToolCall("c0", "f", "{}"),)),
            Message("user", (ToolResult("c0", (Text("1"),)), ToolResult("c0", (Text("2"),)))),
        )

        body = json.loads(DIALECT.encode_request(ChatRequest(model="m", messages=turn * 2), Target(model="b")).body)

        assert [message["content"] for message in body["messages"]] == ["", "1", "", "1"]

    def test_an_image_in_a_result_follows_in_a_message_of_the_user(self):
        body, _ = written(ToolResult("c1", (Text("seen"), Image(data=PNG)), name="f"))

        assert body["messages"] == [
            {"role": "tool", "content": "seen", "tool_name": "f", "tool_call_id": "c1"},
            {"role": "user", "content": "", "images": [PNG]},
        ]

    def test_a_text_file_is_a_text(self):
        body, _ = written(Text("read this"), File(text="# Title", name="a.md"))

        assert body["messages"][0]["content"] == "read this\n# Title"

    @pytest.mark.parametrize(
        ("part", "remedy"),
        [
            (Image(url="https://example.org/a.png"), "data: URL"),
            (File(data="JVBERi0=", media_type="application/pdf"), "send its text"),
        ],
    )
    def test_what_ollama_cannot_read_is_not_translated(self, part, remedy):
        with pytest.raises(RequestError, match=remedy) as raised:
            written(part)

        assert (raised.value.code, raised.value.param) == ("not_translatable", "messages")

    @pytest.mark.parametrize("choice", ["required", OneTool("f")])
    def test_a_call_cannot_be_forced(self, choice):
        with pytest.raises(RequestError) as raised:
            written(tools=(Tool("f"),), tool_choice=choice)

        assert (raised.value.code, raised.value.param) == ("not_translatable", "tool_choice")

    def test_a_forbidden_call_has_no_tools(self):
        body, lost = written(tools=(Tool("f"),), tool_choice="none", parallel_tools=False)

        assert "tools" not in body
        assert lost == ()

    def test_a_tool_without_arguments_has_a_schema(self):
        body, _ = written(tools=(Tool("f"),))

        assert body["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}}

    def test_a_custom_tool_is_a_function_with_one_text(self):
        body = {
            "input": [{"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": "*** Begin"}],
            "tools": [{"type": "custom", "name": "patch"}],
        }

        asked = convert("openai.responses", "ollama.chat", json.dumps(body).encode(), Target(model="b"), ABOUT)

        written_body = json.loads(asked.body)
        assert written_body["tools"][0]["function"]["parameters"]["required"] == ["input"]
        assert written_body["messages"][0]["tool_calls"][0]["function"]["arguments"] == {"input": "*** Begin"}

    def test_what_ollama_has_no_place_for_is_listed(self):
        _, lost = written(
            tools=(Tool("f", is_strict=True),),
            parallel_tools=False,
            user="u",
            cache_key="k",
            reasoning=Reasoning(budget_tokens=1024),
        )

        assert lost == (
            "budget_tokens",
            "parallel_tool_calls",
            "prompt_cache_key",
            "strict",
            "user",
        )

    @pytest.mark.parametrize(
        ("effort", "level"),
        [("minimal", "low"), ("low", "low"), ("medium", "medium"), ("high", "high"), ("xhigh", "high"), ("max", "max")],
    )
    def test_an_effort_is_a_level_of_thinking(self, effort, level):
        body, lost = written(reasoning=Reasoning(effort=effort), target=Target(model="b", thinks=True))

        assert (body["think"], lost) == (level, ())

    @pytest.mark.parametrize("thinks", [None, False])
    def test_a_model_that_may_not_think_is_not_asked_to_as_ollama_would_refuse(self, thinks):
        body, lost = written(reasoning=Reasoning(is_on=True, effort="high"), target=Target(model="b", thinks=thinks))

        assert "think" not in body
        assert lost == ("reasoning_effort",)

    def test_any_model_can_be_asked_not_to_think(self):
        assert written(reasoning=Reasoning(is_on=False, effort="high"))[0]["think"] is False

    def test_thinking_without_an_effort_is_what_ollama_does_by_itself(self):
        assert written(reasoning=Reasoning(is_on=True)) == written()
