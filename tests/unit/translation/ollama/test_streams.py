"""Ollama's streams and answers, as its own library reads them."""

import json

import ollama
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
from nexus.translation.ollama import COMPLETION_DIALECT, DIALECT, answer_out
from nexus.translation.ordering import Ordering
from nexus.wire.streams.event import Event

CONTEXT = AnswerContext(model='the "model" 100%', id="r1", created=1_700_000_000)
CREATED = "2023-11-14T22:13:20Z"


def decoded(*lines):
    decoder = DIALECT.open_decoder()
    return [event for line in lines for event in decoder.decode(Event(b"", json.dumps(line).encode()))]


def encoded(*events, dialect=DIALECT):
    return dialect.open_encoder(CONTEXT).encode(Ordering("call_r1").add(events))


def lines_of(content):
    return [json.loads(line) for line in content.splitlines()]


def chat(**message):
    return {"model": "m", "message": {"role": "assistant", **message}, "done": False}


CALL = {"function": {"index": 0, "name": "weather", "arguments": {"z": 1, "a": [{"c": "é"}]}}}
LAST = {**chat(content=""), "done": True, "done_reason": "stop", "prompt_eval_count": 26, "eval_count": 298}
SAID = (Start("x", "y"), TextPart("hi"), Finish("stop"), Usage(26, 298), End())
WEATHER = (ToolBegin(0, "c1", "weather"), ToolArguments(0, '{"city":"Rome"}'), ToolEnd(0))


class TestReading:
    def test_a_line_is_a_part_of_the_answer(self):
        events = decoded(chat(thinking="hm", content=""), chat(content="Hel"), chat(content="lo"), LAST)

        assert events == [
            Start(model="m"),
            ThinkingPart("hm"),
            TextPart("Hel"),
            TextPart("lo"),
            Finish("stop"),
            Usage(26, 298),
            End(),
        ]

    def test_a_line_of_several_kinds_is_split(self):
        assert decoded(chat(thinking="hm", content="hi", tool_calls=[CALL]))[1:3] == [
            ThinkingPart("hm"),
            TextPart("hi"),
        ]

    def test_a_last_line_may_have_text(self):
        assert TextPart("!") in decoded({**LAST, "message": {"role": "assistant", "content": "!"}})

    def test_calls_in_one_line_or_in_several_are_calls_of_their_own(self):
        events = decoded(chat(content="", tool_calls=[CALL, CALL]), chat(content="", tool_calls=[CALL]))

        assert [event.index for event in events if isinstance(event, ToolBegin)] == [0, 1, 2]

    def test_arguments_keep_their_bytes(self):
        line = (
            b'{"message":{"tool_calls":[{"id":"c1","function":{"name":"f","arguments":{"b" : 1.0, "a":"\\u00e9"}}}]}}'
        )

        events = list(DIALECT.open_decoder().decode(Event(b"", line)))

        assert events[1:] == [ToolBegin(0, "c1", "f"), ToolArguments(0, '{"b" : 1.0, "a":"\\u00e9"}'), ToolEnd(0)]

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [('"{\\"a\\":1}"', '{"a":1}'), ("null", ""), ("{}", ""), ('{"a":"\xff"}', '{"a":"\ufffd"}')],
    )
    def test_other_arguments_are_read_as_they_are_meant(self, arguments, text):
        line = f'{{"message":{{"tool_calls":[{{"function":{{"name":"f","arguments":{arguments}}}}}]}}}}'

        events = list(DIALECT.open_decoder().decode(Event(b"", line.encode("latin-1"))))

        assert ToolArguments(0, text) in events

    def test_an_answer_that_is_cut_short_says_so_even_with_a_call(self):
        events = decoded(chat(content="", tool_calls=[CALL]), {**LAST, "done_reason": "length"})

        assert Finish("length") in Ordering("c").add(events)

    def test_a_prompt_from_the_cache_has_no_count(self):
        without = {name: value for name, value in LAST.items() if name != "prompt_eval_count"}

        assert Usage(None, 298) in decoded(without)
        assert Usage(None, 298) in decoded({**LAST, "prompt_eval_count": 0})

    def test_an_absurd_count_is_none(self):
        assert Usage(None, None) in decoded({**LAST, "prompt_eval_count": "26", "eval_count": -1})

    def test_an_error_ends_the_stream(self):
        events = decoded(chat(content="hi"), {"error": "an error was encountered while running the model"})

        assert events[-1] == Failure(502, "an error was encountered while running the model")

    def test_a_stream_without_its_last_line_has_no_end(self):
        assert End() not in decoded(chat(content="hi"))

    @pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"message":1}', b'"\xff"', b'{"message":{"content":{}}}'])
    def test_what_cannot_be_read_is_skipped(self, content):
        assert list(DIALECT.open_decoder().decode(Event(b"", content))) == []

    def test_a_whole_answer_has_the_same_events(self):
        answer = {**LAST, "message": {"role": "assistant", "content": "hi", "thinking": "hm", "tool_calls": [CALL]}}

        assert DIALECT.decode_answer(json.dumps(answer).encode()) == decoded(answer)

    @pytest.mark.parametrize(
        "answer", [{"error": "no"}, {**LAST, "error": "no"}, {"embeddings": []}, chat(content="hi"), {"done": True}]
    )
    def test_what_is_no_whole_answer_is_refused(self, answer):
        with pytest.raises(ValueError, match="no chat"):
            DIALECT.decode_answer(json.dumps(answer).encode())


class TestWriting:
    def test_a_stream_has_a_line_for_each_part(self):
        content = encoded(Start(), ThinkingPart("hm"), Signature("s"), RedactedThinking("r"), *SAID[1:])

        head = {"model": CONTEXT.model, "created_at": CREATED}
        assert lines_of(content) == [
            {**head, "message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False},
            {**head, "message": {"role": "assistant", "content": "hi"}, "done": False},
            {
                **head,
                "message": {"role": "assistant", "content": ""},
                "done": True,
                "done_reason": "stop",
                "prompt_eval_count": 26,
                "eval_count": 298,
            },
        ]

    def test_ollamas_library_reads_each_line(self):
        content = encoded(
            Start(), ThinkingPart("hm"), TextPart("hi"), *WEATHER, Finish("tool_calls"), Usage(1, 2), End()
        )

        parts = [ollama.ChatResponse.model_validate(line) for line in lines_of(content)]

        assert "".join(part.message.content or "" for part in parts) == "hi"
        assert parts[2].message.tool_calls[0].function.arguments == {"city": "Rome"}
        assert parts[-1].done
        assert parts[-1].eval_count == 2

    def test_a_call_is_written_once_it_is_whole(self):
        encoder = DIALECT.open_encoder(CONTEXT)

        assert encoder.encode(WEATHER[:2]) == b""
        (line,) = lines_of(encoder.encode(WEATHER[2:]))
        function = {"index": 0, "name": "weather", "arguments": {"city": "Rome"}}
        assert line["message"]["tool_calls"] == [{"id": "c1", "function": function}]

    def test_interleaved_calls_are_written_one_after_the_other(self):
        begun = (ToolBegin(3, "c3", "f"), ToolBegin(5, "c5", "g"))
        texts = (ToolArguments(5, '{"b":'), ToolArguments(3, '{"a":'), ToolArguments(5, "2}"), ToolArguments(3, "1}"))

        lines = lines_of(encoded(*begun, *texts, End()))

        functions = [line["message"]["tool_calls"][0]["function"] for line in lines[:2]]
        assert functions == [
            {"index": 0, "name": "f", "arguments": {"a": 1}},
            {"index": 1, "name": "g", "arguments": {"b": 2}},
        ]

    def test_a_call_without_arguments_has_an_empty_object(self):
        assert b'"arguments":{}' in encoded(ToolBegin(0, "c", "f"), End())

    def test_arguments_keep_their_bytes_but_for_line_ends(self):
        content = encoded(ToolBegin(0, "c", "f"), ToolArguments(0, '{"b": "\\n",\r\n "a" : 1.0}\n'), End())

        assert b'"arguments":{"b": "\\n", "a" : 1.0}}' in content
        assert content.count(b"\n") == 2

    def test_a_call_that_is_cut_short_is_not_written(self):
        content = encoded(ToolBegin(0, "c", "f"), ToolArguments(0, '{"a'), Finish("length"), End())

        (line,) = lines_of(content)
        assert line["done_reason"] == "length"
        assert "tool_calls" not in line["message"]

    @pytest.mark.parametrize("arguments", ['{"a', "[1]", '{"a":1}{"b":2}'])
    def test_a_malformed_call_fails_as_it_does_on_ollama(self, arguments):
        events = (TextPart("hi"), ToolBegin(0, "c", "f"), ToolArguments(0, arguments), Finish("tool_calls"), End())

        lines = lines_of(encoded(*events))

        assert lines[-1]["error"].startswith("error parsing tool call")
        assert not any(line.get("done") for line in lines)
        with pytest.raises(ValueError, match="error parsing tool call"):
            DIALECT.encode_answer(Ordering("c").add(events), CONTEXT)

    def test_a_call_that_is_too_long_for_a_line_fails(self, monkeypatch):
        monkeypatch.setattr(answer_out, "MAX_CALL_CHARACTERS", 20)
        events = (ToolBegin(0, "c", "f"), ToolArguments(0, '{"a":"aaaaaaa'), ToolArguments(0, 'aaaaaaa"}'), End())

        (line,) = lines_of(encoded(*events))

        assert line["error"].startswith("error parsing tool call")

    def test_an_error_in_the_stream_is_its_last_line(self):
        encoder = DIALECT.open_encoder(CONTEXT)
        encoder.encode([TextPart("hi")])

        content = encoder.encode([Failure(502, "it broke", "stream_truncated")])

        assert content == b'{"error":"it broke","code":"stream_truncated"}\n'
        assert encoder.encode([End()]) == b""

    def test_unknown_counts_are_left_out(self):
        assert "prompt_eval_count" not in lines_of(encoded(End()))[-1]

    def test_nothing_keeps_a_silent_stream_open(self):
        assert DIALECT.open_encoder(CONTEXT).ping() == b""

    def test_a_whole_answer_is_one_document(self):
        said = (Start(), ThinkingPart("hm"), TextPart("h"), TextPart("i"), *WEATHER, Usage(1, 2), End())

        answer = DIALECT.encode_answer(Ordering("c").add(said), CONTEXT)

        read = ollama.ChatResponse.model_validate_json(answer)
        assert (read.message.thinking, read.message.content, read.done_reason) == ("hm", "hi", "stop")
        assert read.message.tool_calls[0].function.name == "weather"
        assert (read.prompt_eval_count, read.eval_count, read.created_at) == (1, 2, CREATED)
        assert b"\n" not in answer


class TestCompletion:
    def test_a_stream_has_its_text_in_another_place(self):
        content = encoded(Start(), ThinkingPart("hm"), *SAID[1:], dialect=COMPLETION_DIALECT)

        parts = [ollama.GenerateResponse.model_validate(line) for line in lines_of(content)]
        assert [(part.thinking, part.response, part.done) for part in parts] == [
            ("hm", "", False),
            (None, "hi", False),
            (None, "", True),
        ]

    def test_a_whole_answer_has_it_too(self):
        answer = COMPLETION_DIALECT.encode_answer(Ordering("c").add(SAID), CONTEXT)

        read = ollama.GenerateResponse.model_validate_json(answer)
        assert (read.response, read.done, read.eval_count) == ("hi", True, 298)


class TestErrors:
    @pytest.mark.parametrize(
        ("body", "message", "code"),
        [
            (b'{"error":"model \'x\' not found"}', "model 'x' not found", ""),
            (b'{"error":{"message":"no","code":"c"}}', "no", "c"),
            (b'{"error":"no","code":"queue_full"}', "no", "queue_full"),
            (b"404 page not found\n", "404 page not found", ""),
            (b"", "the backend answered with status 404", ""),
            (b'{"error":{}}', "the backend answered with status 404", ""),
            (b"\xff", "\ufffd", ""),
        ],
    )
    def test_any_body_is_read(self, body, message, code):
        assert DIALECT.decode_error(404, body) == Failure(404, message, code)

    def test_a_prompt_that_is_too_long_is_the_clients_mistake(self):
        (failure,) = decoded({"error": "the input length exceeds the context length"})

        assert failure.status == 400

    def test_ollamas_library_reads_an_error(self):
        body = DIALECT.encode_error(Failure(404, "model 'x' not found", "model_not_found"), "id")

        assert ollama.ResponseError(body.decode(), 404).error == "model 'x' not found"
