"""Odd requests that servers of the client's dialect take are taken, and say the same to backends of another one."""

import json

import pytest

from nexus.translation.conversion import About
from nexus.translation.dialect import Target
from nexus.translation.dialects import convert
from nexus.translation.quirks import quirks_of

HI = {"role": "user", "content": "hi"}
F, G = ({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in "fg")
PDF = "data:application/pdf;base64,JVBERi0="


def translated(client, backend, members, *, kind="", model="m"):
    """Return the body that the backend gets, and what is lost."""
    body = json.dumps({"model": "m", "messages": [HI], **members}).encode()
    target = Target(model=model, quirks=quirks_of(kind))
    conversion = convert(client, backend, body, target, About(model="m", id="1", created=1))
    return json.loads(conversion.body), conversion.lost


def from_chat(backend, members, **of):
    return translated("openai.chat", backend, members, **of)


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (["a", {"type": "text", "text": "b"}], "a\nb"),
        ([{"text": "a"}], "a"),
        ([{"type": "text", "text": None}, {"type": "text", "text": "a"}], "a"),
    ],
)
def test_parts_of_a_message_may_be_short_or_empty(content, texts):
    asked, _ = from_chat("ollama.chat", {"messages": [{"role": "user", "content": content}]})

    assert asked["messages"] == [{"role": "user", "content": texts}]


def test_a_function_may_have_the_form_of_the_responses_api():
    flat = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
    choice = {"type": "function", "name": "f"}

    asked, lost = from_chat("anthropic.messages", {"tools": [flat], "tool_choice": choice})

    assert asked["tools"] == [{"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": True}]
    assert asked["tool_choice"] == {"type": "tool", "name": "f"}
    assert lost == ()


@pytest.mark.parametrize(("mode", "choice"), [("auto", {"type": "auto"}), ("required", {"type": "any"})])
def test_only_the_allowed_tools_are_offered(mode, choice):
    allowed = {"mode": mode, "tools": [{"type": "function", "function": {"name": "g"}}]}

    asked, _ = from_chat(
        "anthropic.messages",
        {"tools": [F, G], "tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}},
    )

    assert [tool["name"] for tool in asked["tools"]] == ["g"]
    assert asked["tool_choice"] == choice


def test_a_whole_number_may_have_a_fraction_of_zero():
    asked, _ = from_chat("ollama.chat", {"seed": 1.0, "max_tokens": 2.0})

    assert asked["options"] == {"num_predict": 2, "seed": 1}


@pytest.mark.parametrize(
    ("client", "members"),
    [
        ("openai.chat", {"stop": ["", "a", "\n"]}),
        ("ollama.chat", {"options": {"stop": ["", "a", "\n"]}, "stream": False}),
    ],
)
def test_stops_that_anthropic_refuses_are_left_out_and_named(client, members):
    asked, lost = translated(client, "anthropic.messages", members)

    assert asked["stop_sequences"] == ["a"]
    assert [name.removeprefix("options.") for name in lost] == ["stop"]


def test_an_empty_stop_stops_nothing():
    assert "stop" not in translated("anthropic.messages", "openai.chat", {"stop_sequences": [""]})[0]
    assert "text" not in from_chat("openai.responses", {"stop": ""})[0]


@pytest.mark.parametrize(("top_k", "sent"), [(-1, None), (0, None), (5, 5)])
def test_a_limit_to_all_tokens_is_none_at_anthropics_api(top_k, sent):
    asked, lost = from_chat("anthropic.messages", {"top_k": top_k})

    assert asked.get("top_k") == sent
    assert lost == ()


def test_a_limit_of_tokens_is_named_where_the_model_takes_none():
    assert from_chat("anthropic.messages", {"top_k": 5}, model="claude-opus-5")[1] == ("top_k",)


def test_names_of_tools_that_anthropic_refuses_are_replaced():
    tool = {"type": "function", "function": {"name": "w\u00e9tter.heute"}}
    choice = {"type": "function", "function": {"name": "w\u00e9tter.heute"}}

    asked, _ = from_chat("anthropic.messages", {"tools": [tool], "tool_choice": choice}, kind="anthropic")

    [sent] = asked["tools"]
    assert sent["name"].startswith("w_tter_heute_")
    assert sent["name"] == asked["tool_choice"]["name"]


def test_a_system_prompt_alone_is_the_input():
    asked, _ = from_chat("openai.responses", {"messages": [{"role": "system", "content": "be"}]})

    assert asked["input"] == [{"role": "system", "content": "be", "type": "message"}]
    assert "instructions" not in asked


@pytest.mark.parametrize("kind", ["vllm", "sglang", "llamacpp"])
@pytest.mark.parametrize(
    ("client", "members"),
    [
        ("ollama.chat", {"think": True}),
        ("anthropic.messages", {"thinking": {"type": "enabled"}}),
        ("anthropic.messages", {"thinking": {"type": "adaptive"}}),
    ],
)
def test_thoughts_without_an_effort_are_switched_on(client, members, kind):
    asked, _ = translated(client, "openai.chat", members, kind=kind)

    assert asked["chat_template_kwargs"] == {"enable_thinking": True}


@pytest.mark.parametrize(("name", "sent"), [(None, "file.pdf"), ("My Report", "My Report.pdf"), ("a.pdf", "a.pdf")])
def test_a_file_has_a_name_with_an_extension(name, sent):
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    document = {"type": "document", "source": source, "title": name}
    messages = {"messages": [{"role": "user", "content": [document]}]}

    chat, _ = translated("anthropic.messages", "openai.chat", messages)
    response, _ = translated("anthropic.messages", "openai.responses", messages)

    assert chat["messages"][0]["content"] == [{"type": "file", "file": {"filename": sent, "file_data": PDF}}]
    assert response["input"][0]["content"] == [{"type": "input_file", "filename": sent, "file_data": PDF}]


def test_arguments_of_ollamas_clients_may_be_a_string():
    call = {"function": {"name": "f", "arguments": '{"b": 2.50, "a": 1}'}}
    messages = [HI, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "r"}]

    asked, _ = translated("ollama.chat", "openai.chat", {"messages": messages})

    assert asked["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"b": 2.50, "a": 1}'


@pytest.mark.parametrize(
    ("kind", "asked_for", "sent"),
    [("openai", "max", "high"), ("openai", "minimal", "low"), ("", "xhigh", "high"), ("", "low", "low")],
)
def test_an_effort_that_no_server_of_the_api_knows_is_the_next_one(kind, asked_for, sent):
    asked, _ = from_chat("openai.responses", {"reasoning_effort": asked_for}, kind=kind)

    assert asked["reasoning"] == {"effort": sent}


def test_no_thoughts_are_named_where_they_cannot_be_switched_off():
    asked, lost = from_chat("openai.responses", {"reasoning_effort": "none"}, kind="openai")

    assert "reasoning" not in asked
    assert lost == ("reasoning_effort",)
