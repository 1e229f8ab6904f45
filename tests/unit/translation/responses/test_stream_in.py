"""Streams and answers of backends with the Responses API."""

import json

import pytest

from nexus.translation.events import (
    End,
    Failure,
    Finish,
    Signature,
    Start,
    TextPart,
    ThinkingPart,
    ToolArguments,
    ToolBegin,
    ToolEnd,
    Usage,
)
from nexus.translation.ordering import Ordering
from nexus.translation.responses import DIALECT
from nexus.wire.streams.event import Event

CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get", "arguments": '{"a":1}'}
MESSAGE = {"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "hello"}]}
THOUGHTS = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]}
USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
}
CREATED = {"type": "response.created", "response": {"id": "resp_1", "model": "m", "output": []}}
COMPLETED = {"type": "response.completed", "response": {"id": "resp_1", "status": "completed", "output": []}}


def read(*events):
    """Return what a stream of these events says, in order."""
    decoder, ordering = DIALECT.open_decoder(), Ordering("call_1a")
    return [found for event in events for found in ordering.add(decoder.decode(Event(b"", json.dumps(event).encode())))]


def _added(item, index=0):
    return {"type": "response.output_item.added", "output_index": index, "item": {**item, "arguments": ""}}


def _done(item, index=0):
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def _event(type_, index=0, **members):
    return {"type": f"response.{type_}", "output_index": index, **members}


def test_each_delta_is_passed_on_and_nothing_twice():
    events = read(
        CREATED,
        _event("reasoning_summary_part.added", summary_index=0),
        _event("reasoning_summary_text.delta", delta="h"),
        _event("reasoning_summary_text.delta", delta="m"),
        _event("reasoning_summary_text.done", text="hm"),
        _done(THOUGHTS),
        _event("output_text.delta", 1, delta="hel"),
        _event("output_text.delta", 1, delta="lo"),
        _event("output_text.done", 1, text="hello"),
        _done(MESSAGE, 1),
        _added(CALL, 2),
        _event("function_call_arguments.delta", 2, delta='{"a"'),
        _event("function_call_arguments.delta", 2, delta=":1}"),
        _event("function_call_arguments.done", 2, arguments='{"a":1}'),
        _done(CALL, 2),
        {**COMPLETED, "response": {"status": "completed", "output": [THOUGHTS, MESSAGE, CALL], "usage": USAGE}},
    )

    assert events == [
        Start("resp_1", "m"),
        ThinkingPart("h"),
        ThinkingPart("m"),
        TextPart("hel"),
        TextPart("lo"),
        ToolBegin(2, "call_1", "get"),
        ToolArguments(2, '{"a"'),
        ToolArguments(2, ":1}"),
        ToolEnd(2),
        Usage(10, 5, 4, None, 2),
        Finish("tool_calls"),
        Usage(10, 5, 4, None, 2),
        End(),
    ]


@pytest.mark.parametrize(
    "events",
    [
        (_added(CALL), _event("function_call_arguments.done", arguments='{"a":1}'), _done(CALL)),
        (_added(CALL), _done(CALL)),
        (_done(CALL),),
        (_added(CALL), {**COMPLETED, "response": {"output": [CALL]}}),
        ({**COMPLETED, "response": {"output": [CALL]}},),
    ],
    ids=["arguments.done", "added, done", "done", "added, completed", "completed"],
)
def test_arguments_that_come_late_are_passed_on_once(events):
    found = read(CREATED, *events, COMPLETED)

    assert [type(event) for event in found] == [Start, ToolBegin, ToolArguments, ToolEnd, Finish, Usage, End]
    assert (found[1].id, found[1].name, found[2].text) == ("call_1", "get", '{"a":1}')


def test_an_item_at_another_place_of_the_last_output_is_not_passed_on_twice():
    found = read(
        CREATED,
        _event("output_text.delta", 1, delta="hello"),
        _done(MESSAGE, 1),
        _added(CALL, 2),
        _done(CALL, 2),
        {**COMPLETED, "response": {"output": [MESSAGE, CALL]}},
    )

    assert [event.text for event in found if isinstance(event, TextPart)] == ["hello"]
    assert len([event for event in found if isinstance(event, ToolBegin)]) == 1


def test_events_without_places_are_told_apart_by_their_ids():
    second = {**CALL, "id": "fc_2", "call_id": "call_2"}
    found = read(
        CREATED,
        {"type": "response.output_item.added", "item": {**CALL, "arguments": ""}},
        {"type": "response.output_item.added", "item": {**second, "arguments": ""}},
        {"type": "response.function_call_arguments.delta", "item_id": "fc_2", "delta": '{"b":2}'},
        {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": '{"a":1}'},
        {"type": "response.output_item.done", "item": CALL},
        {"type": "response.output_item.done", "item": second},
        COMPLETED,
    )

    begun = {event.index: event.id for event in found if isinstance(event, ToolBegin)}
    arguments = [(begun[event.index], event.text) for event in found if isinstance(event, ToolArguments)]
    assert arguments == [("call_1", '{"a":1}'), ("call_2", '{"b":2}')]


def test_thoughts_in_two_forms_are_passed_on_once():
    found = read(
        CREATED,
        _event("reasoning_text.delta", delta="long"),
        _event("reasoning_summary_text.delta", delta="short"),
        _event("reasoning_summary_text.done", text="short"),
        _done({**THOUGHTS, "content": [{"type": "reasoning_text", "text": "long"}]}),
        COMPLETED,
    )

    assert [event.text for event in found if isinstance(event, ThinkingPart)] == ["long"]


def test_the_parts_of_a_summary_are_apart():
    found = read(
        _event("reasoning_summary_part.added", summary_index=0),
        _event("reasoning_summary_text.delta", delta="a", summary_index=0),
        _event("reasoning_summary_part.added", summary_index=1),
        _event("reasoning_summary_text.delta", delta="b", summary_index=1),
    )

    assert "".join(event.text for event in found if isinstance(event, ThinkingPart)) == "a\n\nb"


def test_each_part_that_comes_only_at_its_end_is_passed_on():
    texts = [_event("output_text.done", 1, content_index=part, text=text) for part, text in enumerate("ab")]
    thoughts = [_event("reasoning_text.done", content_index=part, text=text) for part, text in enumerate("cd")]

    found = read(CREATED, *thoughts, *texts, COMPLETED)

    assert "".join(event.text for event in found if isinstance(event, TextPart)) == "ab"
    assert "".join(event.text for event in found if isinstance(event, ThinkingPart)) == "cd"


def test_encrypted_thoughts_come_back_to_their_server():
    item = {**THOUGHTS, "encrypted_content": "gAAA=="}
    found = read(CREATED, _event("reasoning_summary_text.delta", delta="hm"), _done(item), COMPLETED)

    [signature] = [event.signature for event in found if isinstance(event, Signature)]
    assert signature == "responses.rs_1.gAAA=="


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ({"status": "incomplete"}, "length"),
        ({}, "length"),
    ],
)
def test_an_incomplete_response_was_cut_short(response, reason):
    found = read(CREATED, {"type": "response.incomplete", "response": response})

    assert found[1:] == [Finish(reason), Usage(), End()]


@pytest.mark.parametrize(
    ("event", "failure"),
    [
        (
            {
                "type": "response.failed",
                "response": {"status": "failed", "error": {"code": "rate_limit_exceeded", "message": "slow"}},
            },
            Failure(429, "slow", "rate_limit_exceeded"),
        ),
        (
            {"type": "error", "code": "server_error", "message": "oops", "param": None},
            Failure(502, "oops", "server_error"),
        ),
        ({"type": "error", "error": {"type": "server_error", "message": "oops"}}, Failure(502, "oops", "server_error")),
        ({"error": {"code": 503, "message": "busy"}}, Failure(503, "busy")),
        (
            {"type": "response.failed", "response": {"status": "failed"}},
            Failure(502, "the backend's response is failed"),
        ),
    ],
)
def test_a_failure_is_the_last_event(event, failure):
    assert read(CREATED, event, COMPLETED)[1:] == [failure]


def test_the_stream_has_not_ended_before_its_last_event():
    found = read(CREATED, _event("output_text.delta", delta="a"), _event("output_text.done", text="a"))

    assert not any(isinstance(event, End) for event in found)


@pytest.mark.parametrize(
    "content", [b"[DONE]", b"{", b"[]", b"1", b'{"type": 1}', b'{"type":"response.web_search_call"}']
)
def test_what_cannot_be_read_is_skipped(content):
    assert list(DIALECT.open_decoder().decode(Event(b"", content))) == []


def test_events_that_are_named_only_outside_of_their_data_are_read():
    event = Event(b"response.output_text.delta", b'{"delta":"a","output_index":0}')

    assert list(DIALECT.open_decoder().decode(event)) == [TextPart("a")]


def test_a_whole_answer_is_read():
    body = {
        "id": "resp_1",
        "object": "response",
        "model": "m",
        "status": "completed",
        "output": [{"type": "web_search_call", "id": "ws_1"}, THOUGHTS, MESSAGE, CALL],
        "usage": USAGE,
    }

    assert DIALECT.decode_answer(json.dumps(body).encode()) == [
        Start("resp_1", "m"),
        ThinkingPart("hm"),
        TextPart("hello"),
        ToolBegin(3, "call_1", "get"),
        ToolArguments(3, '{"a":1}'),
        ToolEnd(3),
        Usage(10, 5, 4, None, 2),
        Finish("stop"),
        End(),
    ]


def test_odd_members_of_the_last_event_do_not_make_the_answer_fail():
    odd = {"status": "completed", "output": [1, {"type": "x", "name": 1}, MESSAGE], "usage": {"input_tokens": "many"}}

    found = read(CREATED, {"type": "response.completed", "response": odd})

    assert found[1:] == [TextPart("hello"), Finish("stop"), Usage(), End()]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"object":"response","status":"queued"}', b'{"choices":[]}'])
def test_what_is_no_whole_answer_is_refused(body):
    with pytest.raises(ValueError, match="backend's"):
        DIALECT.decode_answer(body)


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (b'{"error":{"message":"no","type":"invalid_request_error","code":null}}', ("no", "invalid_request_error")),
        (b'{"error":{"message":"no","code":"bad_model"}}', ("no", "bad_model")),
        (b'{"error":"no"}', ("no", "")),
        (b'{"object":"error","message":"no","code":404}', ("no", "")),
        (b'{"detail":[{"msg":"no"}]}', ("no", "")),
        (b"upstream down", ("upstream down", "")),
        (b"", ("the backend reported an error", "")),
    ],
)
def test_errors_of_any_shape_are_read(body, failure):
    assert DIALECT.decode_error(404, body) == Failure(404, *failure)
