"""Streams of backends; each test is named after what must happen, where other proxies were reported to fail."""

import pytest

from nexus.translation.events import (
    End,
    Failure,
    Finish,
    Start,
    TextPart,
    ThinkingPart,
    ToolArguments,
    ToolBegin,
    ToolEnd,
    Usage,
)
from tests.support.chat_dialect import chunk, ordered, read

DONE = b"[DONE]"


def call(index=0, **members):
    function = {name: members.pop(name) for name in ("name", "arguments") if name in members}
    return {"tool_calls": [{"index": index, **members, "function": function}]}


def calls_in(events):
    """Return the calls as their id, name and whole arguments."""
    begun = {event.index: event for event in events if isinstance(event, ToolBegin)}
    texts = dict.fromkeys(begun, "")
    for event in events:
        if isinstance(event, ToolArguments):
            texts[event.index] += event.text
    return [(begun[index].id, begun[index].name, texts[index]) for index in begun]


def test_text_comes_through_and_the_end_is_said():
    events = read([chunk({"role": "assistant", "content": ""}), chunk({"content": "hi"}), chunk({}, "stop"), DONE])

    assert [Start("chatcmpl-b", "llama"), TextPart("hi"), Finish("stop"), End()] == events


def test_text_with_an_empty_list_of_calls_stays_text():
    events = ordered([chunk({"content": "hi", "tool_calls": []}), chunk({}, "stop"), DONE])

    assert TextPart("hi") in events
    assert not [event for event in events if isinstance(event, ToolBegin)]
    assert Finish("stop") in events


def test_arguments_in_the_first_chunk_of_a_call_are_kept():
    events = ordered([chunk(call(id="c1", name="get", arguments='{"a":1}')), chunk({}, "tool_calls"), DONE])

    assert calls_in(events) == [("c1", "get", '{"a":1}')]


def test_arguments_before_the_name_wait_for_it():
    events = ordered([chunk(call(arguments='{"a"')), chunk(call(id="c1", name="get", arguments=":1}")), DONE])

    assert calls_in(events) == [("c1", "get", '{"a":1}')]


@pytest.mark.parametrize("arguments", ["", None])
def test_a_call_without_arguments_has_an_empty_object(arguments):
    events = ordered([chunk(call(id="c1", name="now", arguments=arguments)), chunk({}, "tool_calls"), DONE])

    assert calls_in(events) == [("c1", "now", "{}")]


def test_interleaved_calls_are_one_after_the_other():
    events = ordered(
        [
            chunk(call(0, id="a", name="one", arguments='{"x"')),
            chunk(call(1, id="b", name="two", arguments='{"y"')),
            chunk(call(0, arguments=":1}")),
            chunk(call(1, arguments=":2}")),
            chunk({}, "tool_calls"),
            DONE,
        ]
    )

    assert calls_in(events) == [("a", "one", '{"x":1}'), ("b", "two", '{"y":2}')]
    kinds = [type(event) for event in events if isinstance(event, (ToolBegin, ToolEnd))]
    assert [ToolBegin, ToolEnd, ToolBegin, ToolEnd] == kinds


def test_calls_with_one_index_and_different_ids_are_different_calls():
    events = ordered(
        [
            chunk(call(0, id="a", name="one", arguments='{"x":1}')),
            chunk(call(0, id="b", name="one", arguments="{}")),
            DONE,
        ]
    )

    assert calls_in(events) == [("a", "one", '{"x":1}'), ("b", "one", "{}")]


def test_calls_without_an_index_are_told_apart():
    first, second = call(None, name="one", arguments='{"x":1}'), call(None, name="two", arguments='{"y"')

    events = ordered([chunk(first), chunk(second), chunk(call(None, arguments=":2}")), DONE])

    assert [(name, text) for _, name, text in calls_in(events)] == [("one", '{"x":1}'), ("two", '{"y":2}')]


def test_an_id_that_is_repeated_in_each_chunk_is_one_call():
    pieces = [call(0, id="a", name="one", arguments=text) for text in ('{"x"', ":1}")]

    assert calls_in(ordered([*map(chunk, pieces), DONE])) == [("a", "one", '{"x":1}')]


def test_a_mixed_chunk_is_split_into_thoughts_text_and_calls():
    mixed = {"reasoning": "hm", "content": "hi", **call(id="c1", name="get", arguments="{}")}

    events = read([chunk(mixed, "tool_calls", usage={"prompt_tokens": 3, "completion_tokens": 4}), DONE])

    kinds = [Start, ThinkingPart, TextPart, ToolBegin, ToolArguments, Finish, Usage, End]
    assert kinds == [type(event) for event in events]


@pytest.mark.parametrize("names", [("reasoning",), ("reasoning_content",), ("reasoning", "reasoning_content")])
def test_thoughts_are_read_once_under_either_name(names):
    events = read([chunk(dict.fromkeys(names, "hm"))])

    assert [ThinkingPart("hm")] == events[1:]


def test_a_finish_with_calls_is_tool_calls_whatever_the_backend_calls_it():
    assert Finish("tool_calls") in ordered([chunk(call(id="a", name="f", arguments="{}")), chunk({}, "stop"), DONE])


def test_a_call_that_is_cut_short_stays_length():
    assert Finish("length") in ordered([chunk(call(id="a", name="f", arguments='{"x')), chunk({}, "length"), DONE])


def test_a_missing_role_is_no_problem():
    assert TextPart("hi") in read([chunk({"content": "hi"})])


def test_usage_in_a_chunk_without_choices_is_read():
    details = {"prompt_tokens_details": {"cached_tokens": 2}, "completion_tokens_details": {"reasoning_tokens": 1}}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, **details}

    assert Usage(3, 4, 2, None, 1) in read([chunk({"content": "hi"}, "stop"), chunk(choices=[], usage=usage), DONE])


def test_thoughts_that_only_the_total_counts_are_counted():
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 17}

    assert Usage(3, 14, None, None, 10) in read([chunk({}, "stop", usage=usage)])


def test_only_the_first_choice_is_read():
    assert [Start("", "")] == read([b'{"choices":[{"index":1,"delta":{"content":"no"}}]}'])


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ({"message": "full", "code": 503}, Failure(503, "full", "")),
        ({"message": "slow down", "type": "rate_limit_error"}, Failure(429, "slow down", "rate_limit_error")),
        ("broken", Failure(502, "broken", "")),
    ],
)
def test_an_error_in_the_stream_is_a_failure(error, failure):
    assert failure in read([chunk({"content": "hi"}), chunk(error=error)])


def test_an_error_of_an_old_engine_keeps_its_text():
    assert Failure(400, "too long", "BadRequestError") in read(
        [b'{"object":"error","message":"too long","type":"BadRequestError","code":400}']
    )


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_an_answer_that_was_broken_off_is_no_success(reason):
    assert [Failure] == [type(event) for event in read([chunk({"content": "hi"}, reason)])[2:]]


def test_a_stop_string_is_said_if_it_is_known():
    assert Finish("stop", "###") in read([b'{"choices":[{"delta":{},"finish_reason":"stop","stop_reason":"###"}]}'])


def test_a_refusal_is_text_of_a_filtered_answer():
    events = read([chunk({"refusal": "no"}), chunk({}, "stop")])

    assert [TextPart("no"), Finish("content_filter")] == events[1:]


def test_arguments_as_an_object_keep_their_bytes():
    raw = (
        b'{"choices":[{"delta":{"tool_calls":[{"id":"a","function":{"name":"f","arguments":{"b": 1,  "a": 2.50}}}]}}]}'
    )

    assert calls_in(ordered([raw, DONE])) == [("a", "f", '{"b": 1,  "a": 2.50}')]


def test_a_list_of_parts_as_content_is_thoughts_and_text():
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "hi"}]

    assert [ThinkingPart("hm"), TextPart("hi")] == read([chunk({"content": parts})])[1:]


@pytest.mark.parametrize("odd", [b"no JSON", b"[]", b"1", b'{"choices":3}', b'{"choices":[3]}', b"null"])
def test_what_cannot_be_read_is_skipped(odd):
    assert TextPart("hi") in read([odd, chunk({"content": "hi"})])


def test_googles_signature_is_kept_in_the_id():
    signature = "Cp+/AbC=="
    piece = call(id="function-call-1", name="f", arguments="{}")
    piece["tool_calls"][0]["extra_content"] = {"google": {"thought_signature": signature}}

    ((id_, _, _),) = calls_in(ordered([chunk(piece), DONE]))

    assert id_.startswith("function-call-1")
    assert id_.replace("-", "").replace("_", "").isalnum()
