"""Streams to clients of the Responses API."""

import openai
import pytest

from nexus.translation.dialect import AnswerContext
from nexus.translation.events import (
    End,
    Failure,
    Finish,
    RedactedThinking,
    Signature,
    Start,
    TextPart,
    ThinkingPart,
    ToolArguments,
    ToolBegin,
    ToolEnd,
    Usage,
)
from nexus.translation.responses import DIALECT

CONTEXT = AnswerContext(model="gpt", id="1a", created=0)
CALL = (ToolBegin(0, "call_a", "get"), ToolArguments(0, '{"b": 1,'), ToolArguments(0, ' "a": 2}'), ToolEnd(0))
ANSWER = (
    Start("chatcmpl-1", "backend's"),
    ThinkingPart("I ca"),
    ThinkingPart("ll."),
    TextPart("Here"),
    TextPart(" it\nis"),
    *CALL,
    ToolBegin(1, "call_b", "get"),
    Finish("stop"),
    Usage(10, 5, cached_tokens=4),
    End(),
)


def types_of(events):
    return [event["type"].removeprefix("response.") for event in events]


def test_the_lifecycle_is_whole_and_numbered(streamed, events_of, context_of):
    events = events_of(streamed(*ANSWER, context=context_of(reasoning={"summary": "auto"})))

    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert types_of(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]


def test_every_event_of_an_item_names_its_place(streamed, events_of):
    events = events_of(streamed(*ANSWER))

    places = {(event["output_index"], event["item_id"]) for event in events if "item_id" in event}
    assert places == {(0, "rs_1a_0"), (1, "msg_1a_1"), (2, "fc_a"), (3, "fc_b")}
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert {(index, item["id"]) for index, item in enumerate(done)} == places


def test_the_last_event_has_the_full_output_and_usage(streamed, events_of):
    events = events_of(streamed(*ANSWER))

    response = events[-1]["response"]
    assert response["output"] == [e["item"] for e in events if e["type"] == "response.output_item.done"]
    assert response["model"] == "gpt"
    assert response["id"] == events[0]["response"]["id"]
    assert response["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 15,
    }


def test_the_client_library_accumulates_the_stream(streamed, client_of, context_of):
    body = streamed(*ANSWER, context=context_of(reasoning={"summary": "auto"}))

    with client_of(body).responses.stream(model="gpt", input="hi") as stream:
        response = stream.get_final_response()

    thoughts, message, *calls = response.output
    assert [part.text for part in thoughts.summary] == ["I call."]
    assert message.content[0].text == "Here it\nis"
    assert response.output_text == "Here it\nis"
    assert [(call.call_id, call.name, call.arguments) for call in calls] == [
        ("call_a", "get", '{"b": 1, "a": 2}'),
        ("call_b", "get", "{}"),
    ]


def test_thoughts_are_streamed_though_no_summary_was_asked_for(streamed, events_of):
    events = events_of(streamed(Start(), ThinkingPart("a"), ThinkingPart("b")))

    assert types_of(events)[-2:] == ["reasoning_text.delta", "reasoning_text.delta"]


def test_each_event_is_sent_at_once(events_of):
    encoder = DIALECT.open_encoder(CONTEXT)
    encoder.encode([Start()])

    for text in ("a", "b", "c"):
        assert events_of(encoder.encode([TextPart(text)]))[-1]["delta"] == text


@pytest.mark.parametrize(("reason", "detail"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_that_was_cut_short_is_incomplete(streamed, events_of, reason, detail):
    events = events_of(streamed(Start(), TextPart("a"), *CALL[:2], Finish(reason), End()))

    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["incomplete_details"] == {"reason": detail}
    assert [item["status"] for item in events[-1]["response"]["output"]] == ["completed", "incomplete"]


def test_a_failure_has_the_full_response(streamed, events_of):
    events = events_of(streamed(Start(), TextPart("a"), Failure(502, "the backend broke", "server_error")))

    response = events[-1]["response"]
    assert events[-1]["type"] == "response.failed"
    assert response["status"] == "failed"
    assert response["error"] == {"code": "server_error", "message": "the backend broke"}
    assert [item["status"] for item in response["output"]] == ["incomplete"]


def test_a_failure_before_the_start_begins_with_a_response(streamed, events_of):
    assert types_of(events_of(streamed(Failure(503, "busy", "server_error")))) == ["created", "in_progress", "failed"]


def test_a_failed_stream_has_no_final_response_for_the_client_library(streamed, client_of):
    body = streamed(Start(), TextPart("a"), Failure(502, "the backend broke"))

    with client_of(body).responses.stream(model="gpt", input="hi") as stream, pytest.raises(RuntimeError):
        stream.get_final_response()


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Failure(400, "This model's maximum context length is 4096 tokens."), "context_length_exceeded"),
        (Failure(429, "slow down", "overloaded"), "rate_limit_exceeded"),
        (Failure(429, "pay first", "insufficient_quota"), "insufficient_quota"),
        (Failure(400, "no such role"), "invalid_prompt"),
        (Failure(500, "oops"), "server_error"),
        (Failure(502, "ended", "stream_truncated"), "stream_truncated"),
    ],
)
def test_the_code_of_a_failure_is_one_that_agents_know(streamed, failure, code):
    stream = streamed(Start(), failure).decode()

    assert f'"error":{{"code":"{code}"' in stream


def test_a_ping_repeats_that_the_response_is_in_progress(events_of):
    encoder = DIALECT.open_encoder(CONTEXT)
    assert encoder.ping() == b""
    begun = events_of(encoder.encode([Start()]))

    [ping] = events_of(encoder.ping())

    assert ping == {**begun[-1], "sequence_number": 2}
    encoder.encode([Finish("stop"), End()])
    assert encoder.ping() == b""


def test_the_response_repeats_the_request(streamed, events_of, context_of):
    tools = [{"type": "function", "name": "get", "parameters": {"type": "object"}, "strict": False}]
    asked = {"instructions": "be brief", "metadata": {"a": "b"}, "tools": tools, "temperature": 0.5, "top_p": None}

    events = events_of(streamed(Start(), context=context_of(**asked)))

    response = events[0]["response"]
    assert {name: response[name] for name in asked} == asked
    assert response["tool_choice"] == "auto"


def test_a_request_with_line_ends_keeps_the_events_whole(streamed, events_of):
    body = b'{"model": "m",\n "metadata": {\r\n"a": "b"}}'
    context = AnswerContext(model="gpt", id="1a", created=0, request=DIALECT.decode_request(body))

    events = events_of(streamed(Start(), context=context))

    assert events[0]["response"]["metadata"] == {"a": "b"}


def test_a_custom_tool_is_called_with_plain_input(streamed, client_of, context_of):
    context = context_of(tools=[{"type": "custom", "name": "apply_patch"}])
    patch = '*** Begin Patch\n+"a"\n'
    body = streamed(
        Start(), ToolBegin(0, "call_a", "apply_patch"), ToolArguments(0, patch), Finish("stop"), End(), context=context
    )

    with client_of(body).responses.stream(model="gpt", input="hi") as stream:
        events = list(stream)

    [call] = events[-1].response.output
    assert (call.type, call.id, call.call_id, call.input) == ("custom_tool_call", "ctc_a", "call_a", patch)
    assert [event.delta for event in events if event.type == "response.custom_tool_call_input.delta"] == [patch]


def test_a_tool_in_a_namespace_is_called_by_both_names(streamed, events_of, context_of):
    inner = {"type": "function", "name": "list_agents", "parameters": {"type": "object"}}
    context = context_of(
        tools=[{"type": "namespace", "name": "collaboration", "description": "Agents.", "tools": [inner]}]
    )
    events = events_of(
        streamed(Start(), ToolBegin(0, "call_a", "collaboration__list_agents"), Finish("stop"), End(), context=context)
    )

    [call] = events[-1]["response"]["output"]
    assert (call["namespace"], call["name"], call["arguments"]) == ("collaboration", "list_agents", "{}")


@pytest.mark.parametrize(
    ("tool", "arguments", "item"),
    [
        (
            {"type": "local_shell"},
            '{"command": ["ls"]}',
            {"type": "local_shell_call", "action": {"type": "exec", "env": {}, "command": ["ls"]}},
        ),
        ({"type": "shell"}, '{"commands": ["ls"]}', {"type": "shell_call", "action": {"commands": ["ls"]}}),
        (
            {"type": "apply_patch"},
            '{"type": "delete_file",\n"path": "a"}',
            {"type": "apply_patch_call", "operation": {"type": "delete_file", "path": "a"}},
        ),
        (
            {"type": "tool_search", "execution": "client"},
            '{"query": "agent"}',
            {"type": "tool_search_call", "execution": "client", "arguments": {"query": "agent"}},
        ),
    ],
)
def test_a_tool_with_a_fixed_name_is_called_by_an_item_of_its_own(
    streamed, events_of, context_of, tool, arguments, item
):
    context = context_of(tools=[tool])

    events = events_of(
        streamed(
            Start(),
            ToolBegin(0, "call_a", tool["type"]),
            ToolArguments(0, arguments),
            Finish("stop"),
            End(),
            context=context,
        )
    )

    [call] = events[-1]["response"]["output"]
    assert call == {"id": "fc_a", "status": "completed", "call_id": "call_a", **item}
    assert types_of(events)[2:] == ["output_item.added", "output_item.done", "completed"]


@pytest.mark.parametrize("summary", ["auto", None])
def test_a_signature_goes_to_the_client_and_comes_back(streamed, events_of, decoded, context_of, summary):
    events = events_of(
        streamed(
            Start(),
            ThinkingPart("a"),
            Signature("sig=="),
            RedactedThinking("xx"),
            TextPart("b"),
            Finish("stop"),
            End(),
            context=context_of(reasoning={"summary": summary}),
        )
    )

    output = events[-1]["response"]["output"]
    # Codex sends no raw thoughts back.
    [message] = decoded(input=[{**item, "content": None} if "summary" in item else item for item in output]).messages
    assert [(part.text, part.signature, part.redacted) for part in message.parts[:2]] == [
        ("a", "sig==", ""),
        ("", "", "xx"),
    ]


@pytest.mark.parametrize(("include", "is_kept"), [(["reasoning.encrypted_content"], True), ([], False)])
def test_thoughts_come_back_if_the_client_asks_for_what_it_can_send(
    streamed, events_of, decoded, context_of, include, is_kept
):
    events = events_of(
        streamed(Start(), ThinkingPart("hm é"), Finish("stop"), End(), context=context_of(include=include))
    )

    [item] = events[-1]["response"]["output"]
    messages = decoded(input=[{**item, "content": None}]).messages
    assert [part.text for message in messages for part in message.parts] == (["hm é"] if is_kept else [])


def test_an_answer_without_usage_reports_all_of_its_members(streamed, events_of):
    usage = events_of(streamed(Start(), Finish("stop"), End()))[-1]["response"]["usage"]

    assert usage["total_tokens"] == usage["output_tokens_details"]["reasoning_tokens"] == 0


def test_ids_have_the_prefix_of_their_type_and_no_other_character(streamed, events_of):
    long = "toolu_" + 'x%d"' * 40
    events = events_of(streamed(Start("msg_01"), ToolBegin(0, long, "get"), Finish("stop"), End()))

    response = events[-1]["response"]
    assert response["id"] == "resp_01"
    assert response["output"][0]["id"].startswith("fc_x_d_")
    assert len(response["output"][0]["id"]) == 64
    assert response["output"][0]["call_id"] == long


def test_a_whole_answer_is_the_last_response_of_the_stream(streamed, written, events_of):
    whole = written(*ANSWER)

    assert whole.model_dump(mode="json", exclude_unset=True) == events_of(streamed(*ANSWER))[-1]["response"]


def test_the_client_library_raises_the_error_of_a_status(client_of):
    body = DIALECT.encode_error(Failure(429, "slow down"), "req_1")

    with pytest.raises(openai.RateLimitError) as raised:
        client_of(body, "application/json", 429).responses.create(model="gpt", input="hi")

    assert raised.value.code == "rate_limit_exceeded"
