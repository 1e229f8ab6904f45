"""Writes Ollama's answers: one document, or a stream of lines of which each has whole tool calls."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from nexus.translation.dialect import AnswerContext
from nexus.translation.events import (
    AnswerEvent,
    End,
    Failure,
    Finish,
    Reason,
    TextPart,
    ThinkingPart,
    ToolArguments,
    ToolBegin,
    ToolEnd,
    Usage,
)
from nexus.translation.ollama.errors import encode_error
from nexus.translation.tool_arguments import as_object, is_object
from nexus.wire.streams.event_buffer import MAX_EVENT_BYTES


class Form(msgspec.Struct, frozen=True):
    """Where the parts of an answer stand in a line."""

    head: bytes
    """What comes before the text."""
    tail: bytes
    """What comes after the text, the thoughts and the calls."""


CHAT: Final = Form(b'"message":{"role":"assistant","content":', b"}")
GENERATE: Final = Form(b'"response":', b"")

MAX_CALL_CHARACTERS: Final = MAX_EVENT_BYTES
"""The limit of the arguments of one call, which stand in one line."""
MALFORMED_CALL: Final = "error parsing tool call: the model wrote arguments that are no JSON object"
"""As Ollama reports it."""


class LineEncoder:
    """One stream."""

    __slots__ = ("_answer", "_is_over", "_text_head", "_text_tail", "_thinking_head")

    def __init__(self, context: AnswerContext, form: Form) -> None:
        start = _start(context)
        self._answer = _Answer(form)
        self._text_head = start + form.head
        self._thinking_head = start + form.head + b'"","thinking":'
        self._text_tail = form.tail + b',"done":false}\n'
        self._is_over = False

    def encode(self, events: Iterable[AnswerEvent]) -> bytes:
        lines: list[bytes] = []
        for event in events:
            kind = type(event)
            if kind is TextPart:
                lines += self._text_head, _encode(event.text), self._text_tail  # type: ignore[union-attr]
            elif kind is ThinkingPart:
                lines += self._thinking_head, _encode(event.text), self._text_tail  # type: ignore[union-attr]
            else:
                lines += self._other(event)
        return b"".join(lines)

    def ping(self) -> bytes:
        return b""

    def _other(self, event: AnswerEvent) -> Iterable[bytes]:
        answer = self._answer
        if self._is_over:
            return ()
        if isinstance(event, Failure):
            self._is_over = True
            return encode_error(event, ""), b"\n"
        answer.add(event)
        if isinstance(event, ToolEnd) and answer.calls:
            calls = answer.take_calls()
            return self._text_head, b'"","tool_calls":[', calls, b"]", self._text_tail
        if isinstance(event, End):
            self._is_over = True
            if answer.is_malformed:
                return encode_error(Failure(500, MALFORMED_CALL), ""), b"\n"
            return self._text_head, b'""', answer.form.tail, answer.end(), b"\n"
        return ()


def encode_answer(events: Sequence[AnswerEvent], context: AnswerContext, form: Form) -> bytes:
    """Write a whole answer. :raises ValueError: the model called a tool with arguments that are no JSON object."""
    answer = _Answer(form)
    for event in events:
        answer.add(event)
    texts = [event.text for event in events if type(event) is TextPart]
    thoughts = [event.text for event in events if type(event) is ThinkingPart]
    if answer.is_malformed:
        raise ValueError(MALFORMED_CALL)
    thinking = b',"thinking":' + _encode("".join(thoughts)) if thoughts else b""
    calls = b',"tool_calls":[' + answer.take_calls() + b"]" if answer.calls else b""
    text = _encode("".join(texts))
    return b"".join((_start(context), form.head, text, thinking, calls, form.tail, answer.end()))


class _Answer:
    """The parts of an answer that are not written yet."""

    __slots__ = (
        "_begin",
        "_call_characters",
        "_call_text",
        "_calls_begun",
        "_has_malformed_call",
        "_reason",
        "_usage",
        "calls",
        "form",
    )

    def __init__(self, form: Form) -> None:
        self.form = form
        self.calls: list[bytes] = []
        """Whole calls."""
        self._begin = ToolBegin(0)
        self._call_characters = 0
        self._call_text: list[str] = []
        self._calls_begun = 0
        self._has_malformed_call = False
        self._reason: Reason = "stop"
        self._usage = Usage()

    @property
    def is_malformed(self) -> bool:
        """Whether a call is no JSON, although the model wrote it to its end."""
        return self._has_malformed_call and self._reason != "length"

    def add(self, event: AnswerEvent) -> None:
        match event:
            case ToolBegin():
                self._begin = event
                self._call_characters = 0
                self._call_text.clear()
            case ToolArguments():
                self._call_characters += len(event.text)
                if self._call_characters <= MAX_CALL_CHARACTERS:
                    self._call_text.append(event.text)
            case ToolEnd():
                self._end_call()
            case Finish():
                self._reason = event.reason
            case Usage():
                self._usage = event
            case _:
                # Signatures are of no use to other providers, and the rest is written elsewhere.
                pass

    def take_calls(self) -> bytes:
        calls, self.calls = self.calls, []
        return b",".join(calls)

    def end(self) -> bytes:
        """Return the members that end the answer, and the brace."""
        usage = self._usage
        prompt = b"" if usage.input_tokens is None else b',"prompt_eval_count":%d' % usage.input_tokens
        output = b"" if usage.output_tokens is None else b',"eval_count":%d' % usage.output_tokens
        reason = b"length" if self._reason == "length" else b"stop"
        return b',"done":true,"done_reason":"%b"%b%b}' % (reason, prompt, output)

    def _end_call(self) -> None:
        text = "".join(self._call_text)
        is_too_long = self._call_characters > MAX_CALL_CHARACTERS
        if is_too_long or (text and not text.isspace() and not is_object(text)):
            self._has_malformed_call = True
            return
        # Line ends can only stand between the tokens of JSON, and would end the line of the answer.
        arguments = as_object(text).translate(_WITHOUT_LINE_ENDS).encode()
        begin, index = self._begin, self._calls_begun
        self._calls_begun += 1
        self.calls.append(
            b'{"id":%b,"function":{"index":%d,"name":%b,"arguments":%b}}'
            % (_encode(begin.id), index, _encode(begin.name), arguments)
        )


_WITHOUT_LINE_ENDS: Final = {ord("\r"): None, ord("\n"): None}
_encode: Final = msgspec.json.Encoder().encode


def _start(context: AnswerContext) -> bytes:
    """Return the first members of a document or line, and the comma after them."""
    created = datetime.fromtimestamp(context.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    return b'{"model":%b,"created_at":"%b",' % (_encode(context.model), created)
